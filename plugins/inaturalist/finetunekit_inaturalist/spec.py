"""What to fetch: classes, licences, counts. No network, no photo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pydantic
from pydantic import Field

from finetunekit import ConfigError, Options, read_options

Licence: TypeAlias = Literal["cc0", "cc-by", "cc-by-sa", "cc-by-nd", "cc-by-nc", "cc-by-nc-sa", "cc-by-nc-nd"]
Quality: TypeAlias = Literal["research", "needs_id", "casual"]
# Longest sides as in the README of github.com/inaturalist/inaturalist-open-data; the field `size` says them.
Size: TypeAlias = Literal["small", "medium", "large"]

OPEN_LICENCES: tuple[Licence, ...] = ("cc0", "cc-by", "cc-by-sa")
DEFAULT_SPEC = Path(__file__).parent / "felidae4.yaml"
#: Names that Windows keeps for devices, whatever their ending. Source: Microsoft, "Naming Files, Paths, and Namespaces".
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


class ClassSpec(Options):
    """One class."""

    taxon: str = Field(min_length=2, max_length=100, description="Scientific name; everything below it is included.")
    quality: tuple[Quality, ...] = Field(
        ("research",),
        min_length=1,
        description="Accepted quality grades. Whatever is not wild is `casual`, including house cats and zoo animals.",
    )


class Counts(Options):
    """Photos of each class."""

    train: int = Field(150, ge=1, le=100_000, description="Training photos per class.")
    valid: int = Field(50, ge=1, le=100_000, description="Validation photos per class.")
    test: int = Field(40, ge=1, le=100_000, description="Test photos per class.")

    def by_split(self) -> dict[str, int]:
        """Split → photos of each class."""
        return self.model_dump()

    def in_proportion(self, train: int) -> dict[str, int]:
        """With another number of training photos, the other splits in proportion, at least one photo each."""
        scaled = {
            split: max(1, math.floor(count * train / self.train + 0.5)) for split, count in self.by_split().items()
        }
        return scaled | {"train": train}


class FetchSpec(Options):
    """What one call of `data fetch` makes."""

    name: str = Field(
        min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the set of photos."
    )
    classes: dict[str, ClassSpec] = Field(min_length=2, max_length=1000, description="Class name → what it is.")
    counts: Counts = Field(default_factory=Counts)
    licences: tuple[Licence, ...] = Field(
        OPEN_LICENCES,
        min_length=1,
        description="Accepted licences; non-commercial ones (nc) only if you name them.",
    )
    size: Size = Field("medium", description="Long side: small 240, medium 500, large 1024 pixels.")
    min_side_px: int = Field(100, ge=1, le=1024, description="Photos with a shorter side are skipped.")
    per_observer: int = Field(3, ge=1, le=1000, description="Maximum number of photos of one class from one observer.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the split of observers.")

    @pydantic.field_validator("classes")
    @classmethod
    def _check_labels(cls, classes: dict[str, ClassSpec]) -> dict[str, ClassSpec]:
        for label in classes:
            check_label(label)
        folded = [label.casefold() for label in classes]
        if len(set(folded)) < len(folded):
            raise ValueError("class names must differ in more than case")
        return classes


def check_label(label: str) -> None:
    """A class name that can be the name of a folder on any system.

    Raises:
        ValueError: If it cannot.
    """
    has_bad_letter = any(c in '/\\<>:"|?*' or not c.isprintable() for c in label)
    is_device = label.partition(".")[0].strip().casefold() in _DEVICES
    if not label or len(label) > 80 or has_bad_letter or is_device or label != label.strip(" .") or label[0] in ".-":
        raise ValueError(
            f"'{label[:80]}' cannot be the name of a folder: 1 to 80 letters, no separator, no dot or dash in front"
        )


def read_spec(path: Path | None = None, changes: Mapping[str, Any] | None = None) -> FetchSpec:
    """Read a specification, and put what the command line says over it.

    Args:
        path: YAML file; None for the four felids that come with the package.
        changes: Keys of `FetchSpec` that replace those of the file.

    Raises:
        ConfigError: With every problem, one a line.
    """
    return read_options(FetchSpec, path or DEFAULT_SPEC, changes)


def make_spec(classes: Mapping[str, str], changes: Mapping[str, Any] | None = None) -> FetchSpec:
    """A specification from class names and taxa, casual observations included; everything else by default.

    Raises:
        ConfigError: With every problem, one a line.
    """
    each = {label: {"taxon": taxon, "quality": ["research", "casual"]} for label, taxon in classes.items()}
    return read_options(FetchSpec, changes={"name": "fetched", "classes": each} | dict(changes or {}))


def parse_taxa(texts: Sequence[str]) -> dict[str, str]:
    """`cat=Felis catus` texts → class name → taxon.

    Raises:
        ConfigError: If one is not of that form, or a class is named twice.
    """
    taxa: dict[str, str] = {}
    for text in texts:
        label, equals, taxon = (part.strip() for part in text.partition("="))
        if not (label and equals and taxon):
            raise ConfigError(
                f"--taxon {text}: not of the form CLASS=SCIENTIFIC NAME, as in --taxon 'cat=Felis catus'."
            )
        if label in taxa:
            raise ConfigError(f"--taxon {text}: class '{label}' is named twice. Give each class one taxon.")
        taxa[label] = taxon
    return taxa
