"""What will happen: every component chosen, every default filled in, and which plugin gave it. No Keras, no photos."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic

from finetunekit.config import RunConfig
from finetunekit.errors import ConfigError, UnknownComponentError
from finetunekit.plugins import PluginHost
from finetunekit.presets import Document
from finetunekit.problems import describe_problems, line_order
from finetunekit.types import BackboneSpec, Options, Registered
from finetunekit.yamls import KeyPath, place_of, show_path


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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `plan.json` and `--json`."""
        return {
            "source": self.source,
            "config": self.config.model_dump(mode="json"),
            "components": [component.to_dict() for component in self.components()],
        }


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
        raise ConfigError(sorted(problems, key=line_order))
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
