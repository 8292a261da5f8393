"""A file of pretrained arrays → a wheel that a package index serves: for whose arrays it is, checked against the backbone first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetunekit.config.plan import Chosen, PlannedNetwork
from finetunekit.config.planning import prepare
from finetunekit.config.preset import setting_text
from finetunekit.errors import ConfigError, WeightsError
from finetunekit.models.weights.packed import Contract, distribution_of, pack_weights
from finetunekit.plugins.host import load_plugins
from finetunekit.system.progress import Progress
from finetunekit.types import BackboneSpec

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the user says of arrays; None: as it is known of the file.

    Attributes:
        licence: Of the arrays, an SPDX identifier if there is one.
        attribution: Line that must travel with them.
        pretrained_on: Data set of the pretraining.
    """

    licence: str | None = None
    attribution: str | None = None
    pretrained_on: str | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """A wheel that was written.

    Attributes:
        path: The wheel.
        package: As `weights.package` takes it.
        checksum: As `weights.checksum` takes it.
        contract: What is in it.
    """

    path: Path
    package: str
    checksum: str
    contract: Contract

    def yaml_lines(self) -> Iterator[str]:
        """What a preset says to use it."""
        options = {"name": self.contract.backbone, **self.contract.options}
        yield f"backbone: {_flow(options)}"
        yield f"pixels: {_flow({'size_px': self.contract.size_px})}"
        yield f"weights: {_flow({'package': self.package, 'checksum': self.checksum})}"


def _flow(values: Mapping[str, Any]) -> str:
    return "{" + ", ".join(setting_text(key, value).replace("=", ": ", 1) for key, value in values.items()) + "}"


def pack_file(
    name: str,
    file: Path,
    *,
    preset: str | None = None,
    settings: Sequence[str] = (),
    facts: Facts | None = None,
    version: str = "1.0",
    folder: Path = Path(),
    progress: Progress,
) -> Packed:
    """Write a wheel with the arrays of a file.

    Args:
        name: Of the arrays; without a preset also that of their backbone.
        file: Whatever `weights.path` takes.
        preset: Names the backbone with its options and the size; its plugin files are loaded.
        settings: `a.b[0].c=VALUE` texts over the preset.
        facts: Licence and origin, where the file is not one whose licence is known.
        version: Of the package.
        folder: Where the wheel is written.
        progress: Receives lines.

    Raises:
        ConfigError: If there is no such backbone or preset.
        WeightsError: If the file cannot be read, does not fit the backbone, its licence is not known, or the wheel cannot be written.
        PluginError: If the backbone cannot be built.
    """
    from finetunekit.models.weights import StoredArrays
    from finetunekit.models.weights.files import file_checksum
    from finetunekit.models.weights.user_file import read_user_file

    distribution = distribution_of(name)
    network, spec = _whose(name, preset, settings, progress)
    found = read_user_file(network.backbone.name, spec, file)
    said, known = facts or Facts(), found.provenance
    licence = said.licence or known.licence
    if licence == UNKNOWN:
        raise WeightsError(f"{file}: its licence is not known. State it: --licence 'Apache-2.0', and --attribution.")
    arrays = StoredArrays(found.path)
    _check_fit(network, spec, arrays, file, progress.say)
    contract = Contract(
        backbone=network.backbone.name,
        options=network.backbone.options.model_dump(mode="json"),
        size_px=network.size_px,
        pixels=spec.pixels,
        licence=licence,
        attribution=said.attribution or known.attribution,
        pretrained_on=said.pretrained_on or known.pretrained_on,
        origin=f"{file.name}, {known.checksum}",
        arrays_sha256=known.arrays_sha256,
    )
    path = pack_weights(name, version, arrays, contract, folder)
    return Packed(path, f"{distribution}=={version}", file_checksum(path), contract)


def _whose(
    name: str, preset: str | None, settings: Sequence[str], progress: Progress
) -> tuple[PlannedNetwork, BackboneSpec]:
    """The backbone that the arrays are for."""
    if preset is not None:
        plan, _ = prepare(preset, settings=settings, progress=progress)
        if plan.parts:
            raise ConfigError(f"{plan.source}: has several backbones; pack the arrays of one at a time.")
        return plan.network, plan.spec
    host = load_plugins(progress.say)
    if name not in host.registries["backbone"]:
        raise ConfigError(
            f"'{name}' is no backbone that is installed. Name the preset that says whose arrays these are: --preset FILE.yaml"
        )
    registered = host.find("backbone", name, "weights pack")
    spec = registered.spec
    assert spec is not None  # PluginHost refuses a backbone without one
    chosen = Chosen("backbone", registered, registered.options(), ("backbone",))
    return PlannedNetwork(chosen, chosen, spec.native_size_px, name), spec  # only the backbone is built


def _check_fit(
    network: PlannedNetwork, spec: BackboneSpec, arrays: Any, file: Path, say: Callable[[str], None]
) -> None:
    """Build the backbone and load the arrays, so that who fetches the package is spared the surprise."""
    from finetunekit.models.classifier import build_backbone
    from finetunekit.models.weights import fit_arrays
    from finetunekit.system.environment import start_tensorflow

    say(f"checking {file.name} against {network.backbone.name}")
    start_tensorflow()
    fit_arrays(build_backbone(network, "float32").model, arrays, origin=str(file), top=spec.top)
