"""What will happen: every component chosen, every default filled in, and which plugin gave it. No Keras, no photos."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic

from finetunekit.config import RunConfig
from finetunekit.errors import ConfigError, UnknownComponentError, did_you_mean
from finetunekit.plugins import PluginHost
from finetunekit.presets import Document
from finetunekit.types import BackboneSpec, Options, Registered
from finetunekit.yamls import KeyPath, Places, place_of, show_path


@dataclass(frozen=True, slots=True)
class Chosen:
    """A component of this run: what is registered, and its options with every default filled in."""

    kind: str
    registered: Registered
    options: Options
    path: KeyPath

    @property
    def name(self) -> str:
        """Name in YAML."""
        return self.registered.name

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `plan.json`."""
        origin = self.registered.origin
        return {
            "path": show_path(self.path),
            "kind": self.kind,
            "name": self.name,
            "options": self.options.model_dump(mode="json"),
            "plugin": origin.plugin,
            "distribution": origin.distribution,
            "version": origin.version,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run will do, decided before anything heavy is loaded.

    Attributes:
        config: What was asked, defaults filled in.
        source: The preset's name or path.
        data_source: Lists the photos.
        stand_in: Lists them where `data.root` does not exist; None where that is an error.
        backbone: Pretrained network.
        head: Classification head.
        augment: Augmentations in order.
        freeze: Freezing policy of each stage.
        reports: Reporters in order.
    """

    config: RunConfig
    source: str
    data_source: Chosen
    stand_in: Chosen | None
    backbone: Chosen
    head: Chosen
    augment: tuple[Chosen, ...]
    freeze: tuple[Chosen, ...]
    reports: tuple[Chosen, ...]

    @property
    def spec(self) -> BackboneSpec:
        """What is known of the backbone without building it."""
        spec = self.backbone.registered.spec
        assert spec is not None  # PluginHost refuses a backbone without one
        return spec

    def components(self) -> Iterator[Chosen]:
        """Every component in the order of the flow."""
        yield self.data_source
        if self.stand_in:
            yield self.stand_in
        yield self.backbone
        yield self.head
        yield from self.augment
        yield from self.freeze
        yield from self.reports

    def lines(self) -> list[str]:
        """For a terminal: every component, option and default, and which plugin gave it."""
        return list(_lines(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `plan.json` and `--json`."""
        return {
            "source": self.source,
            "config": self.config.model_dump(mode="json"),
            "components": [component.to_dict() for component in self.components()],
        }


def _lines(plan: Plan) -> Iterator[str]:
    config = plan.config
    yield f"plan of {config.name} ({plan.source})"
    if config.description:
        yield f"  {config.description}"
    for component in plan.components():
        what = "stand-in" if component is plan.stand_in else component.kind
        yield f"{what:16}  {component.name}  from {component.registered.origin}"
        for key, value in component.options.model_dump(mode="json").items():
            given = "" if key in component.options.model_fields_set else "  (default)"
            yield f"{'':16}    {key}: {_short(value)}{given}"
    for section in ("data", "pixels", "weights", "train", "cache", "save"):
        values = getattr(config, section)
        yield section
        yield from _fields(values, "  ")
    for number, stage in enumerate(config.stages):
        yield f"stage {number + 1}: {stage.name}"
        yield f"  freeze: {stage.freeze.name}"
        yield from _fields(stage, "  ", leave_out=("name", "freeze", "optimizer"))
        yield "  optimizer"
        yield from _fields(stage.optimizer, "    ")
    yield from _fields(config, "", only=("seed", "view_seed", "deterministic", "precision"))


def _fields(
    section: pydantic.BaseModel, indent: str, *, leave_out: tuple[str, ...] = (), only: tuple[str, ...] | None = None
) -> Iterator[str]:
    for key, value in section.model_dump(mode="json").items():
        if key not in leave_out and (only is None or key in only):
            yield f"{indent}{key}: {_short(value)}{'' if key in section.model_fields_set else '  (default)'}"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def make_plan(document: Document, host: PluginHost) -> Plan:
    """Check a document against the schema and every component's own options.

    Raises:
        ConfigError: With every problem of the document, one a line.
    """
    problems: list[str] = []
    config = _check_config(document, problems)
    chooser = _Chooser(document, host, problems)
    values = document.values
    data = _map(values.get("data"))
    source = chooser.choose(
        "data source", ("data",), data.get("source", "folders"), data.get("options", {}), ("data", "options")
    )
    stand_in = (
        chooser.choose("data source", ("data",), data["otherwise"], {}, ("data",)) if data.get("otherwise") else None
    )
    backbone = chooser.component("backbone", ("backbone",), values.get("backbone"))
    head = chooser.component("head", ("head",), values.get("head"))
    augment = chooser.each("augmentation", ("augment",), values.get("augment"))
    stages = values.get("stages")
    freeze = tuple(
        chooser.component("freezing policy", ("stages", i, "freeze"), _map(stage).get("freeze", {"name": "none"}))
        for i, stage in enumerate(stages if isinstance(stages, list) else ())
    )
    reports = chooser.each("reporter", ("reports",), values.get("reports"))
    if config is not None and backbone is not None:
        _check_size(config, backbone, document, problems)
    if problems or config is None:
        raise ConfigError(sorted(problems, key=_line_order))
    return Plan(
        config=config,
        source=document.source,
        data_source=_sure(source),
        stand_in=stand_in,
        backbone=_sure(backbone),
        head=_sure(head),
        augment=tuple(map(_sure, augment)),
        freeze=tuple(map(_sure, freeze)),
        reports=tuple(map(_sure, reports)),
    )


def _line_order(problem: str) -> tuple[str, int]:
    """Problems in the order of their lines, those of `--set` last."""
    found = re.match(r"(.*?):(\d+): ", problem)
    return (found.group(1), int(found.group(2))) if found else ("~", 0)


def _sure(chosen: Chosen | None) -> Chosen:
    """A component that could not be chosen has left a problem behind, and no plan is made then."""
    assert chosen is not None
    return chosen


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _check_config(document: Document, problems: list[str]) -> RunConfig | None:
    try:
        return RunConfig.model_validate_json(_as_json(document.values))
    except pydantic.ValidationError as exc:
        problems += describe_problems(exc, RunConfig, document.places, document.source, ())
        return None


def _as_json(values: Any) -> str:
    return json.dumps(values, ensure_ascii=True)


def _check_size(config: RunConfig, backbone: Chosen, document: Document, problems: list[str]) -> None:
    spec = backbone.registered.spec
    if spec is not None and config.pixels.size_px < spec.min_size_px:
        where = place_of(document.places, ("pixels", "size_px")) or document.source
        problems.append(
            f"{where}: pixels.size_px: {spec.title} needs at least {spec.min_size_px} px. Received: {config.pixels.size_px}"
        )


class _Chooser:
    """Looks components up and validates their options, noting every problem."""

    def __init__(self, document: Document, host: PluginHost, problems: list[str]) -> None:
        self.document, self.host, self.problems = document, host, problems

    def each(self, kind: str, path: KeyPath, entries: Any) -> tuple[Chosen | None, ...]:
        return tuple(
            self.component(kind, (*path, i), entry)
            for i, entry in enumerate(entries if isinstance(entries, list) else ())
        )

    def component(self, kind: str, path: KeyPath, entry: Any) -> Chosen | None:
        """None where the schema has already said what is wrong with its shape."""
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            return None
        return self.choose(kind, path, entry["name"], {k: v for k, v in entry.items() if k != "name"}, path)

    def choose(self, kind: str, path: KeyPath, name: Any, options: Any, options_path: KeyPath) -> Chosen | None:
        if not isinstance(name, str) or not isinstance(options, dict):
            return None
        where = place_of(self.document.places, (*path, "name")) or self.document.source
        try:
            registered = self.host.find(kind, name, f"{where}: {show_path(path)}")
            return Chosen(kind, registered, registered.options.model_validate_json(_as_json(options)), path)
        except UnknownComponentError as exc:
            self.problems += exc.problems
        except pydantic.ValidationError as exc:
            self.problems += describe_problems(
                exc, registered.options, self.document.places, self.document.source, options_path
            )
        return None


def describe_problems(
    exc: pydantic.ValidationError, model: type[pydantic.BaseModel], places: Places, source: str, at: KeyPath
) -> list[str]:
    """One line a problem: place, path, what is wrong, what is allowed."""
    lines = []
    errors = exc.errors(include_url=False)
    for error in errors:
        # a list whose items are wrong counts as empty for pydantic; the items' own errors say what is wrong
        inner = [
            e for e in errors if len(e["loc"]) > len(error["loc"]) and e["loc"][: len(error["loc"])] == error["loc"]
        ]
        if error["type"] == "too_short" and inner:
            continue
        loc = tuple(
            part for part in error["loc"] if not (isinstance(part, str) and part.startswith(("function-", "union-")))
        )
        path: KeyPath = (*at, *loc)
        where = place_of(places, path) or source
        shown = show_path(path) or "the file"
        subject = where if where == f"--set {shown}" else f"{where}: {shown}"
        lines.append(f"{subject}: {_problem(error, model, loc)}")
    return lines


def _problem(error: Any, model: type[pydantic.BaseModel], loc: KeyPath) -> str:
    if error["type"] == "extra_forbidden":
        allowed = _fields_at(model, loc[:-1])
        return f"unknown {'option' if issubclass(model, Options) else 'key'}.{did_you_mean(str(loc[-1]), allowed)}"
    if error["type"] == "missing":
        return "is required."
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    received = json.dumps(error.get("input"), ensure_ascii=False, default=str)
    return f"{message}. Received: {received if len(received) <= 80 else received[:79] + '…'}"


def _fields_at(model: type[pydantic.BaseModel], path: KeyPath) -> list[str]:
    """Names allowed in the section at `path`."""
    current: Any = model
    for part in path:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part) if _is_model(current) else None
        current = _inner_model(field.annotation) if field else None
    return list(current.model_fields) if _is_model(current) else []


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, pydantic.BaseModel)


def _inner_model(annotation: Any) -> Any:
    """The section inside `X`, `X | None` or `tuple[X, ...]`."""
    if _is_model(annotation):
        return annotation
    return next((found for arg in getattr(annotation, "__args__", ()) if (found := _inner_model(arg))), None)
