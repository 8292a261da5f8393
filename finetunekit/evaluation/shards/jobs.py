"""What is asked of every photo, as plain values that travel: a backbone's features, or a finished run's predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from finetunekit.config.joined_backbone import PLUS
from finetunekit.config.pixel_contract import contract_of
from finetunekit.config.plan import Plan
from finetunekit.config.planning import prepare
from finetunekit.config.preset import setting_text
from finetunekit.plugins.host import load_plugins
from finetunekit.runs.folder import FEATURES, MODEL, FinishedRun
from finetunekit.system.environment import installed_version
from finetunekit.system.files import open_regular
from finetunekit.system.progress import Progress

BASE = "fast"
"""The preset whose pixels and precision hold where nothing else is said: photos as the backbone was scored on."""
_LIBRARIES = ("finetunekit", "tensorflow", "keras", "numpy", "pillow", "pyarrow")


@dataclass(frozen=True, slots=True)
class FeaturesJob:
    """A backbone's features, pooled to one vector a photo.

    Attributes:
        settings: `a.b=VALUE` texts over the preset `BASE`: backbone, pixels, weights, precision.
        dtype: Of the numbers that are kept; float32 keeps them as computed.
    """

    settings: tuple[str, ...]
    dtype: Literal["float32", "float16"] = "float32"

    def plan(self, progress: Progress) -> Plan:
        """What is built. No Keras, no photos.

        Raises:
            ConfigError: With every problem, one a line.
        """
        return prepare(BASE, settings=self.settings, progress=progress)[0]

    def asked(self, progress: Progress) -> dict[str, Any]:
        """What the rows follow from besides the photos, as plain values.

        Raises:
            ConfigError: With every problem of the settings, one a line.
        """
        plan = self.plan(progress)
        config, pixels = plan.config, plan.config.pixels
        return {
            "kind": "features",
            "backbone": plan.backbone.name,
            "backbone_options": plan.backbone.options.model_dump(mode="json"),
            "weights": config.weights.model_dump(mode="json"),
            "pixels": {
                **pixels.model_dump(mode="json", exclude={"check_photos"}),
                "values": asdict(contract_of(pixels, plan.spec)),
            },
            "max_photo_pixels": config.data.max_photo_pixels,
            "precision": config.precision,
            "seed": config.seed,
            "dtype": self.dtype,
            "versions": library_versions(),
        }


@dataclass(frozen=True, slots=True)
class PredictionsJob:
    """What `predict` says of each photo.

    Attributes:
        run: Path of the run folder.
        trust: Run plugin files that came with it.
        abstain_below: As `LoadedRun.predict` takes it, and so are the others.
        abstain_unlike: Give no label to photos that are unlike any training photo.
        coverage: Share of photos whose set of classes is to hold the true one; None: no sets.
        is_per_class: The same for the photos of each class.
    """

    run: str
    trust: bool = False
    abstain_below: float = 0.0
    abstain_unlike: bool = False
    coverage: float | None = None
    is_per_class: bool = False

    def asked(self, progress: Progress) -> dict[str, Any]:
        """What the rows follow from besides the photos, as plain values.

        Raises:
            RunFolderError: If the run folder cannot be read.
        """
        run = FinishedRun(Path(self.run))
        return {
            "kind": "predictions",
            "run": run.path.resolve().name,
            "model_sha256": _sha256(run.path / MODEL),
            "train_features_sha256": _sha256(run.path / FEATURES),
            "temperature": run.temperature,
            "classes": list(run.classes),
            "abstain_below": self.abstain_below,
            "abstain_unlike": self.abstain_unlike,
            "coverage": self.coverage,
            "is_per_class": self.is_per_class,
            "versions": library_versions(),
        }


Job: TypeAlias = FeaturesJob | PredictionsJob


def library_versions() -> Mapping[str, str | None]:
    """Of what computes and writes the rows; none of them is loaded."""
    return {name: installed_version(name) for name in _LIBRARIES}


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def features_job(backbone: str, *, settings: Sequence[str], dtype: Literal["float32", "float16"]) -> FeaturesJob:
    """Features of a backbone, at the size it was pretrained with unless a setting says another.

    Args:
        backbone: Registered name, or several joined by `+`.
        settings: `a.b=VALUE` texts; those of the user go over all others.
        dtype: See `FeaturesJob`.

    Raises:
        UnknownComponentError: If there is no such backbone.
    """
    parts = backbone.split(PLUS)
    chosen = [setting_text("backbone", {"name": backbone})] if len(parts) == 1 else [setting_text("backbones", parts)]
    return FeaturesJob((*chosen, *_native_size(parts, settings), *settings), dtype)


def _native_size(parts: Sequence[str], settings: Sequence[str]) -> Sequence[str]:
    """At the size of the largest; a backbone of a plugin file, which is not loaded yet, has its size set by the user."""
    known = load_plugins(lambda _: None).registries["backbone"]
    specs = [known[name].spec for name in parts if name in known]
    sizes = [spec.native_size_px for spec in specs if spec is not None]
    return [setting_text("pixels.size_px", max(sizes))] if len(sizes) == len(parts) else []
