"""A photo that was fetched, and the same from a line of the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetunekit.data.inaturalist.responses import Candidate


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo on disk that was received whole and decodes.

    Attributes:
        candidate: Where it came from.
        label: Class name.
        split: One of `train`, `valid`, `test`.
        name: File name.
        sha256: Of the file, hexadecimal.
        size_bytes: Of the file.
        width_px: The right way up.
        height_px: The right way up.
    """

    candidate: Candidate
    label: str
    split: str
    name: str
    sha256: str
    size_bytes: int
    width_px: int
    height_px: int

    @property
    def path(self) -> str:
        """Below the set's folder, with `/`."""
        return f"images/{self.split}/{self.label}/{self.name}"


def photo_from(values: Mapping[str, Any]) -> Photo:
    """A photo as `dataclasses.asdict` and JSON left it.

    Raises:
        TypeError: If a field is missing or unknown.
        KeyError: If there is no candidate.
    """
    candidate = dict(values["candidate"])
    site = candidate.pop("site", None)
    place = None if site is None else (int(site[0]), int(site[1]))
    return Photo(**{**values, "candidate": Candidate(**candidate, site=place)})
