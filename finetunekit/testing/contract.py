"""What all contract checks share: the error they raise, the component they are about, and its options."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic

from finetunekit.config.plan import Chosen
from finetunekit.errors import FinetuneKitError, PluginError
from finetunekit.plugins.components import component_label
from finetunekit.system.formatting import one_line
from finetunekit.types import BackboneSpec, Builder, Options, Origin, Registered


class ContractError(PluginError):
    """A component does not keep the contract of its seam. The text says what is wrong and what is allowed, a line for each broken rule."""


class UnfitExampleError(ContractError):
    """The kit's own options, networks or photos do not fit the component: give some that do, in a test of your own."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The component that a check is about, and the rules that it was found to break.

    Attributes:
        chosen: Its builder and options.
        broken: What was found so far, a line each.
    """

    chosen: Chosen
    broken: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """How messages name it."""
        return component_label(self.chosen)

    def expect(self, is_met: object, words: str) -> None:
        """Note a rule that is broken, and go on."""
        if not is_met:
            self._note(f"{self.label}: {words}")

    def require(self, is_met: object, words: str) -> None:
        """Go on where a rule is kept, on which what follows depends.

        Raises:
            ContractError: Where it is not.
        """
        if not is_met:
            raise ContractError(f"{self.label}: {words}")

    @contextmanager
    def part(self) -> Iterator[None]:
        """A part of a check on which no other depends: where it stops at a broken rule, the others go on."""
        try:
            yield
        except UnfitExampleError:
            raise
        except ContractError as exc:
            self._note(*str(exc).splitlines())

    def settle(self) -> None:
        """End a check.

        Raises:
            ContractError: With every rule that was found broken, one a line.
        """
        if self.broken:
            raise ContractError("\n".join(self.broken))

    def _note(self, *lines: str) -> None:
        self.broken.extend(line for line in dict.fromkeys(lines) if line not in self.broken)

    def is_refusal(self, exc: BaseException) -> bool:
        """Whether the builder meant to refuse: not an exception that the engine wrapped, nor a fault that the engine found."""
        is_deliberate = isinstance(exc, FinetuneKitError) and exc.__cause__ is None
        return is_deliberate and not str(exc).startswith(self.label)

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Turn whatever is raised meanwhile into a `ContractError` that names the component and says what it was doing."""
        try:
            yield
        except ContractError:
            raise
        except FinetuneKitError as exc:
            text = one_line(exc)
            raise ContractError(text if text.startswith(self.label) else f"{self.label}: {what}: {text}") from exc
        except Exception as exc:
            raise ContractError(f"{self.label}: {what} raised {type(exc).__name__}: {one_line(exc)}") from exc


def choose(kind: str, build: Builder, options: Options | None, spec: BackboneSpec | None = None) -> Chosen:
    """A builder and its options as the engine holds them.

    Raises:
        ContractError: If the options are no `finetunekit.Options`, or break their own rules (see `check_options`).
    """
    options = Options() if options is None else options
    name = getattr(_function(build), "__name__", type(build).__name__)
    chosen = Chosen(kind, Registered(name, build, type(options), _origin(build), spec), options, ())
    check_options(chosen)
    return chosen


def _function(build: Builder) -> Any:
    return build.func if isinstance(build, functools.partial) else build


def _origin(build: Builder) -> Origin:
    module = getattr(_function(build), "__module__", "unknown")
    file = getattr(sys.modules.get(module), "__file__", None)
    return Origin(module.rpartition(".")[2], Path(file).name if file else module, None)


def check_options(chosen: Chosen) -> None:
    """Check a component's options: a strict subclass of `finetunekit.Options`, every field described, defaults in bounds.

    Raises:
        ContractError: With every rule that is broken.
    """
    subject, model = Subject(chosen), chosen.registered.options
    is_options = isinstance(model, type) and issubclass(model, Options)
    name = getattr(model, "__name__", repr(model))
    subject.require(is_options, f"its options must be a subclass of finetunekit.Options. Received: {name}")
    for key, value in Options.model_config.items():
        subject.expect(
            model.model_config.get(key) == value,
            f"{name} changes {key} of finetunekit.Options; it must stay {value!r}.",
        )
    for key, info in model.model_fields.items():
        words = f"{name}.{key} has no description. Plans and listings print it: Field(..., description='...')."
        subject.expect((info.description or "").strip(), words)
    with subject.part():
        _check_round_trip(subject, model, chosen.options)
    subject.settle()


def _check_round_trip(subject: Subject, model: type[Options], options: Options) -> None:
    """pydantic does not look at defaults until they are given: the way through JSON gives them."""
    try:
        again = model.model_validate_json(options.model_dump_json())
    except pydantic.ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        field = ".".join(map(str, error["loc"]))
        raise ContractError(
            f"{subject.label}: {model.__name__}.{field}: its value does not pass its own bounds: {error['msg']}. "
            f"Received: {error['input']!r:.80}"
        ) from exc
    subject.require(again == options, f"{model.__name__} does not come back from JSON as it went. Received: {again!r}")


def example_options(model: type[Options]) -> Options:
    """Options to check a component with: its defaults, and for required fields `Field(examples=[...])` or a value in bounds.

    Raises:
        UnfitExampleError: If no value that its rules allow was found.
    """
    schema = model.model_json_schema()
    values = {name: _example(schema["properties"][name], schema) for name in schema.get("required", ())}
    try:
        return model.model_validate_json(json.dumps(values))  # examples are written as in YAML: lists, not tuples
    except pydantic.ValidationError as exc:
        fields = ", ".join(sorted({str(error["loc"][0]) if error["loc"] else "its rules" for error in exc.errors()}))
        raise UnfitExampleError(
            f"{model.__name__}: no value to try was found for {fields}. Give one: Field(..., examples=[...])."
        ) from exc


def _example(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    if "$ref" in field:
        return _example(schema["$defs"][field["$ref"].rpartition("/")[2]], schema)
    if field.get("examples"):
        return field["examples"][0]
    if "const" in field or field.get("enum"):
        return field["const"] if "const" in field else field["enum"][0]
    if field.get("anyOf"):
        return _example(field["anyOf"][0], schema)
    return _plain_example(field, schema)


def _plain_example(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    kind = field.get("type")
    if kind in ("integer", "number"):
        return _number(field, 1 if kind == "integer" else 1.0)
    if kind == "array":
        items = field.get("prefixItems") or [field.get("items", {})] * max(1, field.get("minItems", 0))
        return tuple(_example(item, schema) for item in items)
    return {"string": "a", "boolean": False, "object": {}}.get(str(kind))


def _number(field: Mapping[str, Any], one: float) -> float:
    """1 where it is allowed, else the nearest bound, or a step inside one that is excluded."""
    step = one if isinstance(one, int) else 1e-3
    low = field.get("minimum", field.get("exclusiveMinimum", -one) + step)
    high = field.get("maximum", field.get("exclusiveMaximum", 3 * one + max(low, one)) - step)
    return type(one)(min(max(one, low), high))
