"""A folder of drawn photos, laid out as the data sources read it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import MappingProxyType

from PIL import Image

from finetunekit import DataError, read_regular

from .photo import CLASSES, MIN_SIZE_PX, SPLITS, check_at_least, check_name, draw_photo

DEFAULT_PER_CLASS: Mapping[str, int] = MappingProxyType({"train": 150, "valid": 50, "test": 40})
MARKER = ".drawn-felids.json"
MARKER_BYTES = 64 * 1024
# raised whenever the same arguments give other pixels
DRAWING_VERSION = 1


@dataclass(frozen=True)
class _Job:
    split: str
    label: str
    index: int
    paths: tuple[Path, ...]


def write_drawn_photos(
    directory: Path,
    *,
    seed: int,
    per_class: Mapping[str, int] = DEFAULT_PER_CLASS,
    size_px: int = 75,
    with_display: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write `directory/{train,valid,test}/<class>/<class>-<split>-000.png` and `directory/display/photo-000.png`.

    Every file is written beside its place and renamed, so it is there whole or not at all. A folder that an
    interrupted call with the same arguments left behind is completed; photos already there are not drawn again.

    Args:
        directory: Created if missing; empty, or begun by an earlier call with the same arguments.
        seed: Any integer.
        per_class: Photos of each class, by split; a split that is absent or 0 gets no folder.
        size_px: Height and width, at least 8.
        with_display: Whether to write the test photos again, without class folders, shuffled, neutrally named.
        progress: Called with (photos done, photos in all) after each photo.

    Returns:
        Number of photos in the splits; those in `display/` are not counted again.

    Raises:
        DataError: If an argument is out of range, the folder holds something else, or it cannot be written.
    """
    _check_counts(per_class)
    check_at_least("size_px", size_px, MIN_SIZE_PX)
    counts = {split: per_class[split] for split in SPLITS if per_class.get(split)}
    total = len(CLASSES) * sum(counts.values())
    try:
        _claim(directory, {"version": DRAWING_VERSION, "seed": seed, "per_class": counts, "size_px": size_px,
                           "with_display": with_display})  # fmt: skip
        for done, job in enumerate(_jobs(directory, counts, seed, with_display), start=1):
            _write(job, seed, size_px)
            if progress is not None:
                progress(done, total)
    except OSError as exc:
        raise DataError(f"drawn photos: cannot write {exc.filename or directory}: {exc.strerror or exc}.") from exc
    return total


def _check_counts(per_class: Mapping[str, int]) -> None:
    for split, count in per_class.items():
        check_name("split", split, SPLITS)
        check_at_least(f"per_class[{split!r}]", count, 0)
    if not any(per_class.values()):
        raise DataError("drawn photos: per_class asks for no photos; give at least one split a number above 0.")


def _claim(directory: Path, settings: dict[str, object]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    marker = directory / MARKER
    text = json.dumps(settings)
    if marker.is_file():
        if read_regular(marker, most_bytes=MARKER_BYTES) != text.encode():
            raise DataError(f"{directory}: holds photos drawn with other settings; choose another folder or delete it.")
        return
    if any(directory.iterdir()):
        raise DataError(f"{directory}: not empty; photos are only drawn into a new or empty folder.")
    _replace(marker, text.encode())


def _jobs(directory: Path, counts: Mapping[str, int], seed: int, with_display: bool) -> Iterator[_Job]:
    displayed = _display_paths(directory, counts.get("test", 0), seed) if with_display else {}
    for split, count in counts.items():
        digits = max(3, len(str(count - 1)))
        for label in CLASSES:
            folder = directory / split / label
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                place = folder / f"{label}-{split}-{index:0{digits}d}.png"
                again = displayed.get((label, index)) if split == "test" else None
                yield _Job(split, label, index, (place,) if again is None else (place, again))


def _display_paths(directory: Path, count: int, seed: int) -> dict[tuple[str, int], Path]:
    if not count:
        return {}
    (directory / "display").mkdir(exist_ok=True)
    order = [(label, index) for label in CLASSES for index in range(count)]
    # shuffled, so that the number does not name the class
    Random(f"{seed}/display").shuffle(order)
    digits = max(3, len(str(len(order) - 1)))
    return {key: directory / "display" / f"photo-{place:0{digits}d}.png" for place, key in enumerate(order)}


def _write(job: _Job, seed: int, size_px: int) -> None:
    missing = [path for path in job.paths if not path.exists()]
    if not missing:
        return
    buffer = io.BytesIO()
    photo = draw_photo(job.label, seed=seed, index=job.index, split=job.split, size_px=size_px)
    # noise hardly compresses: the fastest level is within 7 % of the slowest
    Image.fromarray(photo).save(buffer, "PNG", compress_level=1)
    for path in missing:
        _replace(path, buffer.getvalue())


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
