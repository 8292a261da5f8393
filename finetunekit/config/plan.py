"""What a run will do, as values: the components chosen, their options, and which plugin gave them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finetunekit.config.sections import RunConfig
from finetunekit.config.training_sections import FitStage, SolveStage
from finetunekit.config.yaml_source import KeyPath, dump_yaml, show_path
from finetunekit.plugins.files import PluginFile
from finetunekit.types import BackboneSpec, Options, PixelContract, Registered

EXECUTOR, TUNE = "executor", "tune"
NO_PART_OF_A_RUN = {EXECUTOR, TUNE}
"""Keys of the configuration that are in no run folder: where a run was carried out, and what was searched, are no part of what it is."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A component of this run: what is registered, with its options and every default filled in."""

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
class PlannedStage:
    """One stage.

    Attributes:
        config: What was asked of it.
        freeze: Its freezing policy; None if the stage is solved, which freezes the whole backbone.
    """

    config: FitStage | SolveStage
    freeze: Chosen | None


@dataclass(frozen=True, slots=True)
class PlannedNetwork:
    """What a network is built from.

    Attributes:
        backbone: Pretrained network.
        head: Classification head.
        size_px: Side of its input.
        name: Of the configuration.
        members: Networks whose probabilities are averaged; empty: it is one network, of this backbone and this head.
    """

    backbone: Chosen
    head: Chosen
    size_px: int
    name: str
    members: tuple[PlannedMember, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedMember:
    """One network of several that answer together.

    Attributes:
        network: What it is built from.
        contract: What it is fed by; None: by what all of them are fed.
        crop_px: Side of the centre of the common square that it sees, which is then resized to its own size.
        seed: Its run's.
        folder: That its run was started from, where relative paths of its configuration begin.
    """

    network: PlannedNetwork
    contract: PixelContract | None
    crop_px: int
    seed: int
    folder: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run will do, decided before anything heavy is loaded.

    Attributes:
        config: What was asked, defaults filled in.
        source: The preset's name or path.
        data_source: Lists the photos.
        stand_in: Lists the photos if `data.root` does not exist; None if that is an error.
        backbone: Pretrained network.
        parts: The backbones that it joins; empty if it is a single one.
        head: Classification head.
        augment: Augmentations in order.
        stages: Stages in order.
        reports: Reporters in order.
        track: Trackers in order.
        exports: Exporters in order.
        executor: Where its runs are carried out; this is not part of what a run is.
        plugin_files: Plugin files that it names, as they were when loaded.
    """

    config: RunConfig
    source: str
    data_source: Chosen
    stand_in: Chosen | None
    backbone: Chosen
    parts: tuple[Chosen, ...]
    head: Chosen
    augment: tuple[Chosen, ...]
    stages: tuple[PlannedStage, ...]
    reports: tuple[Chosen, ...]
    track: tuple[Chosen, ...]
    exports: tuple[Chosen, ...]
    executor: Chosen
    plugin_files: tuple[PluginFile, ...]

    @property
    def is_carried_out_here(self) -> bool:
        """Whether its executor is the default: this process."""
        return bool(self.executor.name == RunConfig.model_fields[EXECUTOR].default.name)

    @property
    def network(self) -> PlannedNetwork:
        """What its network is built from."""
        return PlannedNetwork(self.backbone, self.head, self.config.pixels.size_px, self.config.name)

    @property
    def spec(self) -> BackboneSpec:
        """What is known of the backbone without building it."""
        spec = self.backbone.registered.spec
        assert spec is not None  # PluginHost refuses a backbone without one
        return spec

    def on_devices(self, devices: int) -> Plan:
        """The same plan, trained on another number of devices."""
        train = self.config.train.model_copy(update={"devices": devices})
        return dataclasses.replace(self, config=self.config.model_copy(update={"train": train}))

    def epochs_before(self, number: int) -> int:
        """Epochs that stages before this one are given, whether or not they end early; the stage's own begin there."""
        return sum(stage.config.epochs for stage in self.stages[:number])

    def components(self) -> Iterator[Chosen]:
        """Every component of a run in the order of the flow."""
        yield self.data_source
        if self.stand_in:
            yield self.stand_in
        yield from self.parts or (self.backbone,)
        yield self.head
        yield from self.augment
        yield from (stage.freeze for stage in self.stages if stage.freeze)
        yield from self.reports
        yield from self.track
        yield from self.exports

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `plan.json` and `--json`."""
        return {
            "source": self.source,
            "config": self.config.model_dump(mode="json", exclude=NO_PART_OF_A_RUN),
            "components": [component.to_dict() for component in self.components()],
            "plugin_files": [file.to_dict() for file in self.plugin_files],
        }


def config_text(plan: Plan) -> str:
    """What `config.yaml` of a run holds."""
    return dump_yaml(plan.config.model_dump(mode="json", exclude_none=True, exclude=NO_PART_OF_A_RUN))
