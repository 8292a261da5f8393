"""What the API's answers say, read with care: whatever does not have the right shape is skipped."""

from __future__ import annotations

import math
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetunekit import ConfigError
from finetunekit_inaturalist.spec import ClassSpec, FetchSpec

#: Where iNaturalist keeps photos: its open data set, and those under other licences. Photos elsewhere are not asked for.
PHOTO_HOSTS = frozenset({"inaturalist-open-data.s3.amazonaws.com", "static.inaturalist.org"})
#: Side of a cell, about 2 km from south to north. A cell and its eight neighbours are one place.
CELL_DEG = 0.02
_VARIANT = re.compile(r"(?:square|thumb|small|medium|large|original)\.(jpe?g|png|gif|webp)", re.IGNORECASE)
# Annotations: attribute → values that mean "a living animal is to be seen". Source: api.inaturalist.org/v1/controlled_terms
# (17 "Alive or Dead": 18 alive, 20 cannot be determined; 22 "Evidence of Presence": 24 organism).
_ANIMAL = {17: {18, 20}, 22: {24}}


@dataclass(frozen=True, slots=True)
class Taxon:
    """A taxon as the server knows it.

    Attributes:
        id: iNaturalist's number.
        name: Scientific name.
        rank: Such as `species`.
        ancestors: Numbers of what it lies below, its own included.
        observations: How many there are of it.
    """

    id: int
    name: str
    rank: str
    ancestors: frozenset[int]
    observations: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A photo that may be taken: its licence is allowed and its observation fits.

    Attributes:
        photo_id: iNaturalist's number of the photo.
        observation_id: Number of the observation.
        observer_id: Number of the person, the group of a split.
        observer: Login name.
        author: Name to attribute, the login name where there is no other.
        licence: As in `spec.Licence`.
        attribution: The line that iNaturalist shows.
        taxon: Scientific name.
        quality: Grade of the observation.
        url: The photo, in the size asked for.
        site: Where an animal that is not wild was met, as a cell of the map; None for wild ones and where it is not told.
    """

    photo_id: int
    observation_id: int
    observer_id: int
    observer: str
    author: str
    licence: str
    attribution: str
    taxon: str
    quality: str
    url: str
    site: tuple[int, int] | None = None

    @property
    def observation_url(self) -> str:
        """The page of the observation."""
        return f"https://www.inaturalist.org/observations/{self.observation_id}"


def read_taxon(found: Any) -> Taxon | None:
    """A taxon of an answer."""
    of = _map(found)
    if not (is_id(of.get("id")) and isinstance(of.get("name"), str)):
        return None
    ancestors = frozenset(filter(is_id, _list(of.get("ancestor_ids"))))
    return Taxon(
        of["id"],
        text_of(of["name"]),
        text_of(of.get("rank")),
        ancestors | {of["id"]},
        _number(of.get("observations_count")),
    )


def check_apart(taxa: Mapping[str, Taxon]) -> None:
    """Raise `ConfigError` where one class lies within another, so that a photo would have two."""
    for label, taxon in taxa.items():
        for other, wider in taxa.items():
            if label != other and wider.id in taxon.ancestors:
                raise ConfigError(
                    f"classes '{label}' ({taxon.name}) and '{other}' ({wider.name}) overlap. Choose taxa apart."
                )


def read_candidate(
    found: Mapping[str, Any], taxon: Taxon, of: ClassSpec, spec: FetchSpec, *, server: str
) -> Candidate | None:
    """The first photo of an observation with an allowed licence; None where the observation does not fit.

    It fits if it has an observer, the taxon or one below it, a grade that is taken, nobody who disagrees, and no annotation that
    says that the animal is dead or that a track, scat or bones are shown.

    Args:
        found: An observation of an answer.
        taxon: What is to be seen.
        of: Its class, for the grades that are taken.
        spec: Licences and size.
        server: Address of the API; photos may lie on it too.
    """
    user, seen = _map(found.get("user")), read_taxon(found.get("taxon"))
    if seen is None or taxon.id not in seen.ancestors or not (is_id(found.get("id")) and is_id(user.get("id"))):
        return None
    if found.get("quality_grade") not in of.quality or _number(found.get("num_identification_disagreements")):
        return None
    if not shows_living_animal(found.get("annotations")):
        return None
    for photo in map(_map, _list(found.get("photos"))):
        licence, url = text_of(photo.get("license_code")).lower(), photo_url(photo.get("url"), spec.size, server=server)
        if is_id(photo.get("id")) and licence in spec.licences and url and not photo.get("hidden"):
            return _candidate(found, photo, seen, licence, url)
    return None


def _candidate(found: Mapping[str, Any], photo: Mapping[str, Any], taxon: Taxon, licence: str, url: str) -> Candidate:
    user = found["user"]
    login = text_of(user.get("login")) or f"observer {user['id']}"
    return Candidate(
        photo_id=photo["id"],
        observation_id=found["id"],
        observer_id=user["id"],
        observer=login,
        author=text_of(user.get("name")) or login,
        licence=licence,
        attribution=text_of(photo.get("attribution")),
        taxon=taxon.name,
        quality=found["quality_grade"],
        url=url,
        site=site_of(found),
    )


def site_of(found: Mapping[str, Any]) -> tuple[int, int] | None:
    """The cell of `CELL_DEG` in which an animal lives that is not wild: visitors of one zoo meet the same lion.

    None for wild animals, and where the place is not told or was moved at random (`obscured`).
    """
    place = found.get("location")
    if found.get("captive") is not True or found.get("obscured") or not isinstance(place, str):
        return None
    try:
        latitude, longitude = (math.floor(float(degrees) / CELL_DEG) for degrees in place.split(","))
    except (ValueError, OverflowError):
        return None
    return latitude, longitude


def shows_living_animal(annotations: Any) -> bool:
    """Whether no annotation says otherwise; most observations have none."""
    for note in map(_map, _list(annotations)):
        attribute, value = note.get("controlled_attribute_id"), note.get("controlled_value_id")
        if attribute in _ANIMAL and value not in _ANIMAL[attribute]:
            return False
    return True


def photo_url(url: Any, size: str, *, server: str) -> str:
    """The address of a photo in another size; empty where it is not one of iNaturalist's, so that no answer leads elsewhere."""
    try:
        parts = urllib.parse.urlsplit(url if isinstance(url, str) else "")
    except ValueError:
        return ""
    is_ours = parts.scheme == "https" and parts.netloc in PHOTO_HOSTS
    folder, _, name = parts.path.rpartition("/")
    variant = _VARIANT.fullmatch(name)
    if variant is None or not (is_ours or parts[:2] == urllib.parse.urlsplit(server)[:2]):
        return ""
    return parts._replace(path=f"{folder}/{size}.{variant[1]}").geturl()


def text_of(value: Any) -> str:
    """A text on one line, without control characters, at most 500 letters; empty where it is none."""
    words = " ".join(value.split()) if isinstance(value, str) else ""
    return "".join(c for c in words if c.isprintable())[:500]


def is_id(value: Any) -> bool:
    """Whether it can be one of iNaturalist's numbers."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
