"""What will happen: every component chosen, every default filled in, and which plugin gave it. No Keras, no photos."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from finetunekit.config.joined_backbone import join_backbones
from finetunekit.config.plan import EXECUTOR, Chosen, Plan, PlannedNetwork, PlannedStage
from finetunekit.config.preset import Document, read_document
from finetunekit.config.sections import RunConfig
from finetunekit.config.training_sections import FitStage, kind_of_stage
from finetunekit.config.validation_errors import describe_problems, line_order
from finetunekit.config.yaml_source import KeyPath, place_of, show_path
from finetunekit.errors import ConfigError, PluginError, UnknownComponentError
from finetunekit.plugins.host import PluginHost, load_plugins
from finetunekit.system.formatting import one_line
from finetunekit.system.progress import Progress
from finetunekit.system.secrets import has_password


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
    backbone, parts = chooser.backbone(values)
    head = chooser.component("head", ("head",), values.get("head"))
    augment = chooser.each("augmentation", ("augment",), values.get("augment"))
    stages = values.get("stages")
    freeze = tuple(
        chooser.component("freezing policy", ("stages", i, "freeze"), _policy(stage))
        for i, stage in enumerate(stages if isinstance(stages, list) else ())
    )
    reports = chooser.each("reporter", ("reports",), values.get("reports"))
    track = chooser.each("tracker", ("track",), values.get("track"))
    chooser.refuse_secrets(track)
    exports = chooser.each("exporter", ("export", "to"), _map(values.get("export")).get("to"))
    executor = chooser.component("executor", (EXECUTOR,), _executor(values))
    chooser.refuse_secrets((executor,))
    if config is not None and backbone is not None:
        _check_size(config, backbone, document, problems)
        config = _with_backbones_pixels(config, backbone)
    if problems or config is None:
        raise ConfigError(sorted(problems, key=line_order))
    return Plan(
        config=config,
        source=document.source,
        data_source=_sure(source),
        stand_in=stand_in,
        backbone=_sure(backbone),
        parts=parts,
        head=_sure(head),
        augment=tuple(map(_sure, augment)),
        stages=tuple(
            PlannedStage(stage, _sure(policy) if isinstance(stage, FitStage) else None)
            for stage, policy in zip(config.stages, freeze, strict=True)
        ),
        reports=tuple(map(_sure, reports)),
        track=tuple(map(_sure, track)),
        exports=tuple(map(_sure, exports)),
        executor=_sure(executor),
        plugin_files=tuple(host.files),
    )


def plan_network(document: Document, host: PluginHost) -> PlannedNetwork:
    """What the network of a document is built from, whatever else it names.

    Raises:
        ConfigError: With every problem of the document's sections, its backbone or its head, one a line.
    """
    problems: list[str] = []
    config = _check_config(document, problems)
    chooser = _Chooser(document, host, problems)
    backbone, _ = chooser.backbone(document.values)
    head = chooser.component("head", ("head",), document.values.get("head"))
    if problems or config is None:
        raise ConfigError(sorted(problems, key=line_order))
    return PlannedNetwork(_sure(backbone), _sure(head), config.pixels.size_px, config.name)


def _sure(chosen: Chosen | None) -> Chosen:
    """A component that could not be chosen has left a problem behind, and no plan is made then."""
    assert chosen is not None
    return chosen


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _policy(stage: Any) -> Any:
    """What a stage says of freezing; None where it is solved."""
    default = {"name": FitStage.model_fields["freeze"].default.name}
    return _map(stage).get("freeze", default) if kind_of_stage(stage) == "fit" else None


def _executor(values: Mapping[str, Any]) -> Any:
    return values.get(EXECUTOR) or {"name": RunConfig.model_fields[EXECUTOR].default.name}


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


def _with_backbones_pixels(config: RunConfig, backbone: Chosen) -> RunConfig:
    """What of the pixels is the backbone's own, filled in where nothing else is named: the crop, and the size of a joined one."""
    pixels, spec, filled = config.pixels, backbone.registered.spec, dict(config.pixels)
    assert spec is not None  # PluginHost refuses a backbone without one
    if pixels.fit == "crop" and pixels.crop_pct is None:
        filled["crop_pct"] = spec.crop_pct
    if config.backbones and "size_px" not in pixels.model_fields_set:
        filled["size_px"] = spec.native_size_px
    section = type(pixels).model_construct(_fields_set=set(pixels.model_fields_set), **filled)
    return config.model_copy(update={"pixels": section})


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

    def backbone(self, values: Mapping[str, Any]) -> tuple[Chosen | None, tuple[Chosen, ...]]:
        """The backbone, and the parts that it joins: those that `backbones` names. None where something is wrong."""
        if values.get("backbone") is None and not values.get("backbones"):
            where = place_of(self.document.places, ("backbone",)) or self.document.source
            self.problems.append(f"{where}: backbone: is required.")
        if values.get("backbones"):
            parts = self._parts(values["backbones"])
            pixels = values.get("pixels")
            pixels = pixels if isinstance(pixels, dict) else {}  # the schema has already said what is wrong with it
            return (join_backbones(parts, pixels) if parts else None), parts
        return self.component("backbone", ("backbone",), values.get("backbone")), ()

    def _parts(self, names: Any) -> tuple[Chosen, ...]:
        """None where one of them is wrong, which is among the problems then."""
        listed = names if isinstance(names, list) else []
        chosen = [
            self.choose("backbone", ("backbones", i), name, {}, ("backbones", i)) for i, name in enumerate(listed)
        ]
        found = tuple(part for part in chosen if part is not None)
        return found if len(found) == len(chosen) else ()

    def refuse_secrets(self, components: Sequence[Chosen | None]) -> None:
        """Options are written into folders of runs: a password in an address is refused, and not repeated."""
        for chosen in filter(None, components):
            for key, value in chosen.options.model_dump(mode="json").items():
                if isinstance(value, str) and has_password(value):
                    where = place_of(self.document.places, (*chosen.path, key)) or self.document.source
                    self.problems.append(
                        f"{where}: {show_path((*chosen.path, key))}: holds a password, and options are written into folders of runs. "
                        f"Leave it out here and give it in the environment variable that the {chosen.kind} reads."
                    )

    def choose(self, kind: str, path: KeyPath, name: Any, options: Any, options_path: KeyPath) -> Chosen | None:
        if not isinstance(name, str) or not isinstance(options, dict):
            return None
        where = place_of(self.document.places, (*path, "name")) or self.document.source
        try:
            registered = self.host.find(kind, name, f"{where}: {show_path(path)}")
        except UnknownComponentError as exc:
            self.problems += exc.problems
            return None
        try:
            chosen = Chosen(kind, registered, registered.options.model_validate_json(_as_json(options)), path)
            chosen.options.model_dump(mode="json")  # as plan.json needs it
            return chosen
        except pydantic.ValidationError as exc:
            self.problems += describe_problems(
                exc, registered.options, self.document.places, self.document.source, options_path
            )
        except Exception as exc:  # a validator, default or type of the plugin's own may raise anything
            label = f"{kind} '{name}' of plugin '{registered.origin.plugin}' ({registered.origin})"
            raise PluginError(f"{label}: its options failed: {type(exc).__name__}: {one_line(exc)}") from exc
        return None


def prepare(
    preset: str | Path, *, settings: Sequence[str] = (), seed: int | None = None, progress: Progress | None = None
) -> tuple[Plan, PluginHost]:
    """From a preset's name or path to a plan; nothing heavy is loaded.

    Args:
        preset: Preset name or path of a YAML file.
        settings: `a.b[0].c=VALUE` texts.
        seed: Replaces the preset's seed.
        progress: Receives warnings about broken plugins.

    Raises:
        ConfigError: With every problem, one a line.
        PluginError: If a plugin file that the run names cannot be loaded.
    """
    host = load_plugins((progress or Progress()).say)
    if seed is not None:
        settings = [*settings, f"seed={seed}"]
    document = read_document(str(preset), host.presets, settings)
    for path in document.plugin_files:
        host.load_file(path)
    return make_plan(document, host), host
