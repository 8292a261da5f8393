"""Which unlabelled photos to label next: asked of a run's network, chosen, written down for the review page."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from finetunekit.data.index import photo_name
from finetunekit.data.known_photos import photo_sha256
from finetunekit.data.photo_paths import find_photos
from finetunekit.errors import DataError
from finetunekit.statistics import apply_temperature
from finetunekit.statistics.label_choice import choose_uncertain_clusters, entropies
from finetunekit.system.files import read_regular, to_json, write_whole
from finetunekit.system.formatting import escaped, one_line

if TYPE_CHECKING:
    from finetunekit.evaluation.predictor import LoadedRun

FORMAT = "finetunekit suggestions 1"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An unlabelled photo that a label would teach from.

    Attributes:
        path: Relative to the folder, with `/`.
        sha256: Of the file.
        label: The class that the run takes it for.
        probability: Of that class.
        second: The next class.
        second_probability: Of that one.
        entropy: Of the answer, in nats.
    """

    path: str
    sha256: str
    label: str
    probability: float
    second: str
    second_probability: float
    entropy: float


@dataclass(frozen=True, slots=True)
class Suggestions:
    """Photos to label next, the first one first.

    Attributes:
        run: Name of the run that was asked.
        folder: That the photos lie in, absolute.
        classes: Of the run.
        asked: Photos that were asked about.
        known: Photos that were not, since they are the run's own or copies of others.
        photos: What is suggested.
    """

    run: str
    folder: str
    classes: tuple[str, ...]
    asked: int
    known: int
    photos: tuple[Suggestion, ...]


def suggest(
    loaded: LoadedRun,
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    unreadable: Callable[[str], None] = lambda _: None,
) -> Suggestions:
    """Choose photos to label: those that the run is uncertain of, and no two of a kind.

    Args:
        loaded: The run.
        folder: Unlabelled photos, any number of folders deep.
        count: Photos to choose.
        seed: Another seed chooses others.
        progress: Called with the number of photos done and the total.
        unreadable: Receives the line of each photo that cannot be read, which is passed over.

    Raises:
        DataError: If the folder is not there or holds no photo that the run does not have already.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise DataError(f"{escaped(str(folder))}: is not a folder of photos.")
    found = find_photos([folder])
    new = _unknown(found, {row["sha256"] for row in loaded.run.photos}, unreadable)
    read, uncalibrated, features = _asked(loaded, [*new], progress, unreadable)
    if not read:
        raise DataError(f"{escaped(str(folder))}: no photo that can be read and that the run does not have already.")
    shares = apply_temperature(uncalibrated, loaded.run.temperature)
    chosen = choose_uncertain_clusters(shares, features, min(count, len(read)), seed=seed)
    photos = tuple(_suggestion(read[i], folder, new[read[i]], shares[i], loaded.classes) for i in chosen)
    return Suggestions(
        loaded.run.path.resolve().name, str(folder), loaded.classes, len(read), len(found) - len(new), photos
    )


def _unknown(paths: Sequence[Path], known: set[str], unreadable: Callable[[str], None]) -> dict[Path, str]:
    """Photos with their checksums: each content once, and none that is known."""
    seen, found = set(known), {}
    for path in paths:
        try:
            sha256 = photo_sha256(path)
        except DataError as exc:
            unreadable(str(exc))
            continue
        if sha256 not in seen:
            seen.add(sha256)
            found[path] = sha256
    return found


def _asked(
    loaded: LoadedRun,
    paths: Sequence[Path],
    progress: Callable[[int, int], None] | None,
    unreadable: Callable[[str], None],
) -> tuple[list[Path], NDArray[np.float64], NDArray[np.float64]]:
    """Photos that can be read, their uncalibrated probabilities and features; where a network reads no vector, its log probabilities."""
    read: list[Path] = []
    answers, features = [], []
    for done, part, shares, traits in loaded.read(paths, unreadable):
        if part:
            read += part
            answers.append(shares)
            features.append(np.log(np.maximum(shares, 1e-12)) if traits is None else traits.features.astype(np.float64))
        if progress:
            progress(done, len(paths))
    if not read:
        return [], np.zeros((0, len(loaded.classes))), np.zeros((0, 1))
    return read, np.concatenate(answers), np.concatenate(features)


def _suggestion(
    path: Path, folder: Path, sha256: str, shares: NDArray[np.float64], classes: Sequence[str]
) -> Suggestion:
    first, second = np.argsort(-shares, kind="stable")[:2]
    name, entropy = photo_name(path, folder), float(entropies(shares[np.newaxis])[0])
    return Suggestion(
        name, sha256, classes[first], float(shares[first]), classes[second], float(shares[second]), round(entropy, 6)
    )


def write_suggestions(path: Path, found: Suggestions) -> None:
    """Write them as JSON.

    Raises:
        RunFolderError: If the file cannot be written.
    """
    write_whole(path, to_json({"format": FORMAT, **asdict(found)}))


class _Photo(pydantic.BaseModel):
    model_config = ConfigDict(strict=True)

    path: str = Field(min_length=1)
    sha256: str
    label: str
    probability: float
    second: str
    second_probability: float
    entropy: float


class _File(pydantic.BaseModel):
    model_config = ConfigDict(strict=True)

    format: str = Field(pattern=f"^{FORMAT}$")
    run: str
    folder: str
    classes: list[str]
    asked: int
    known: int
    photos: list[_Photo]


def read_suggestions(path: Path) -> Suggestions:
    """What `write_suggestions` wrote.

    Raises:
        DataError: If it is something else, or names a photo outside its folder.
    """
    try:
        given = _File.model_validate(json.loads(read_regular(path)))
    except OSError as exc:
        raise DataError(f"{escaped(str(path))}: cannot be read ({one_line(exc)}).") from exc
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{escaped(str(path))}: is not a list that 'finetunekit data suggest' wrote.") from exc
    values: Mapping[str, Any] = given.model_dump(exclude={"format", "photos", "classes"})
    photos = tuple(Suggestion(**photo.model_dump()) for photo in given.photos)
    for photo in photos:
        if (
            "\0" in photo.path
            or os.path.isabs(photo.path)
            or os.path.normpath(photo.path).split(os.sep)[0] == os.pardir
        ):
            raise DataError(f"{escaped(str(path))}: '{escaped(photo.path)}' lies outside its folder.")
    return Suggestions(**values, classes=tuple(given.classes), photos=photos)
