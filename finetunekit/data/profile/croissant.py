"""Metadata of a set of photos in MLCommons' Croissant format, version 1.0, written by `mlcroissant`: to find, cite and load it.

Each photo is a `FileObject` with its checksum. Record set `photos` has one record a photo, with its image, label and split; labels and
splits stand in an inline table, so that they do not depend on how folders are called. Paths are relative to the metadata file.

Source: docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import os
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from finetunekit.data.parallel import bounded, gather
from finetunekit.data.photo_file import open_photo_file, pillow_guard, read_header
from finetunekit.data.profile.attribution import Credit, read_credits
from finetunekit.data.profile.photo_set import PhotoSet
from finetunekit.errors import ConfigError, DataError
from finetunekit.system.files import to_json
from finetunekit.system.formatting import counted, escaped
from finetunekit.system.terminal import printable
from finetunekit.types import DISPLAY, TEST, TRAIN, VALID, PhotoRecord

if TYPE_CHECKING:
    import mlcroissant

FILES, PHOTOS, TABLE, SPLITS, LABELS = "photo-files", "photos", "photo-table", "splits", "labels"
SC, CR = "https://schema.org/", "http://mlcommons.org/croissant/"
TEXT, URL, INTEGER = f"{SC}Text", f"{SC}URL", f"{SC}Integer"
#: Split → its name in Croissant. Source: the specification, "ML-specific features", splits.
SPLIT_TYPES = {TRAIN: f"{CR}TrainingSplit", VALID: f"{CR}ValidationSplit", TEST: f"{CR}TestSplit"}


@dataclass(frozen=True, slots=True)
class _File:
    """A photo's file.

    Attributes:
        path: Relative to the metadata, with `/`.
        sha256: Hexadecimal.
        size_bytes: Its length.
        media_type: By content.
    """

    path: str
    sha256: str
    size_bytes: int
    media_type: str


def croissant_metadata(
    photos: PhotoSet,
    target: Path,
    *,
    licences: Sequence[str] = (),
    published: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Describe a set of photos.

    Args:
        photos: The set. Photos of a run must still be what the run used.
        target: Where the metadata will lie: the photos' folder, or one above it.
        licences: Addresses or SPDX names; besides those of `ATTRIBUTION.csv`.
        published: Date, `YYYY-MM-DD`.
        progress: Called with (photos done, photos in all).

    Returns:
        JSON-LD, the same text for the same photos.

    Raises:
        ConfigError: If mlcroissant is not installed, or the metadata would lie where relative paths do not reach the photos.
        DataError: If a photo cannot be read, has changed since the run, or has a name that JSON cannot hold.
    """
    if importlib.util.find_spec("mlcroissant") is None:
        raise ConfigError("Croissant metadata needs mlcroissant. Install it: pip install 'finetunekit[croissant]'")
    records = [record for record in photos.listing.photos if record.split != DISPLAY]
    if not records:
        raise DataError(f"{photos.listing.root}: holds no photos.")
    files = _read_files(photos, records, target, progress)
    credits = read_credits(photos.listing.root)
    shown = sorted(((files[record.path], record) for record in records), key=lambda pair: (pair[0].path, pair[1].split))
    distinct = sorted({file.path: file for file in files.values()}.values(), key=lambda file: file.path)
    named = sorted({credits[file.sha256].licence_url for file in distinct if file.sha256 in credits} | {*licences})
    import mlcroissant

    metadata = mlcroissant.Metadata(
        name=printable(photos.name),
        description=_description(photos, records),
        cite_as=cite_as(photos.name, [credits[f.sha256].author for f in distinct if f.sha256 in credits]),
        license=named or None,
        date_published=published,
        version="1.0.0",
        distribution=_distribution(distinct),
        record_sets=[
            _splits(records),
            _labels(records),
            _table(shown, credits),
            _photos(has_credits=bool(credits)),
        ],
    )
    return to_json(metadata.to_json())


def _read_files(
    photos: PhotoSet, records: Sequence[PhotoRecord], target: Path, progress: Callable[[int, int], None] | None
) -> dict[Path, _File]:
    folder = target.absolute().parent
    paths = list(dict.fromkeys(record.path for record in records))

    def work(path: Path) -> _File:
        return _read_file(path, _relative(path, folder, photos.listing.root), photos)

    with pillow_guard(photos.max_pixels):
        files, problems = gather(work, paths, workers=2, progress=progress)
    if problems:
        raise DataError(bounded(problems))
    return dict(zip(paths, files, strict=True))


def _relative(path: Path, folder: Path, root: Path) -> str:
    absolute = Path(os.path.abspath(path))
    if not absolute.is_relative_to(folder):
        raise ConfigError(
            f"{escaped(str(folder))}: the metadata names photos relative to itself, and {escaped(str(path))} does not lie below."
            f" Write it to {escaped(str(root / 'croissant.json'))}."
        )
    relative = absolute.relative_to(folder).as_posix()
    try:
        relative.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise DataError(f"{escaped(str(path))}: its name is not text, as metadata needs it. Rename it.") from exc
    return relative


def _read_file(path: Path, relative: str, photos: PhotoSet) -> _File:
    from PIL import Image

    with open_photo_file(path) as file:
        kind = read_header(file, path, max_pixels=photos.max_pixels).format or ""
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size_bytes = os.fstat(file.fileno()).st_size
    recorded = photos.sha256.get(path, sha256)
    if recorded != sha256:
        raise DataError(f"{escaped(str(path))}: has changed since the run. Put back the photo, or run again.")
    return _File(relative, sha256, size_bytes, Image.MIME.get(kind, "application/octet-stream"))


def _description(photos: PhotoSet, records: Sequence[PhotoRecord]) -> str:
    labels = sorted({record.label or "" for record in records})
    listed = ", ".join(labels[:20]) + (" and others" if len(labels) > 20 else "")
    note = f" {photos.listing.stand_in}." if photos.listing.stand_in else ""
    return (
        f"{counted(len(records), 'photo')} of {counted(len(labels), 'class')} for image classification: {listed}.{note}"
    )


def _distribution(files: Sequence[_File]) -> list[mlcroissant.FileObject | mlcroissant.FileSet]:
    """Each file with its checksum, and the same files for loading, as patterns: a folder and an ending each."""
    import mlcroissant

    objects = [
        mlcroissant.FileObject(
            id=urllib.parse.quote(file.path),
            name=PurePosixPath(file.path).name,
            content_url=urllib.parse.quote(file.path),
            content_size=f"{file.size_bytes} B",
            encoding_formats=[file.media_type],
            sha256=file.sha256,
        )
        for file in files
    ]
    paths = (PurePosixPath(file.path) for file in files)
    patterns = {f"{glob.escape(path.parent.as_posix())}/*{path.suffix}".removeprefix("./") for path in paths}
    file_set = mlcroissant.FileSet(
        id=FILES,
        name=FILES,
        description="The photos, next to this file.",
        encoding_formats=sorted({file.media_type for file in files}),
        includes=sorted(patterns),
    )
    return [*objects, file_set]


def _table_set(
    name: str, key: Sequence[str], columns: Mapping[str, str], rows: Iterable[Sequence[object]], **options: Any
) -> mlcroissant.RecordSet:
    """A record set whose records stand in the metadata. `columns`: name → data type."""
    import mlcroissant

    return mlcroissant.RecordSet(
        id=name,
        name=name,
        key=[f"{name}/{column}" for column in key],
        fields=[mlcroissant.Field(id=f"{name}/{c}", name=c, data_types=[kind]) for c, kind in columns.items()],
        data=[{f"{name}/{c}": cell for c, cell in zip(columns, row, strict=True)} for row in rows],
        **options,
    )


def _splits(records: Sequence[PhotoRecord]) -> mlcroissant.RecordSet:
    there = {record.split for record in records}
    rows = [(name, url) for name, url in SPLIT_TYPES.items() if name in there]
    return _table_set(SPLITS, ["name"], {"name": TEXT, "url": URL}, rows, data_types=[f"{CR}Split"])


def _labels(records: Sequence[PhotoRecord]) -> mlcroissant.RecordSet:
    names = sorted({record.label or "" for record in records})
    return _table_set(
        LABELS,
        ["name"],
        {"name": TEXT, "number": INTEGER},
        zip(names, range(len(names)), strict=True),
        description="Classes; the position from 0 is the number that a network gives.",
        data_types=[f"{SC}Enumeration"],
    )


def _columns(*, has_credits: bool) -> dict[str, str]:
    columns = dict.fromkeys(("path", "label", "split", "sha256"), TEXT)
    return columns | ({"licence": URL, "author": TEXT, "source": URL} if has_credits else {})


def _table(shown: Sequence[tuple[_File, PhotoRecord]], credits: Mapping[str, Credit]) -> mlcroissant.RecordSet:
    def row(file: _File, record: PhotoRecord) -> list[str]:
        credit = credits.get(file.sha256)
        of_author = (credit.licence_url, credit.author, credit.source_url) if credit else ("", "", "")
        return [file.path, record.label or "", record.split, file.sha256, *(of_author if credits else ())]

    columns = _columns(has_credits=bool(credits))
    rows = [row(file, record) for file, record in shown]
    return _table_set(TABLE, ["path", "split"], columns, rows, description="Label and split of each photo.")


def _photos(*, has_credits: bool) -> mlcroissant.RecordSet:
    """Files and table joined by path. The pattern takes the whole path: with it, mlcroissant compares texts and not path objects."""
    from mlcroissant import Extract, Field, FileProperty, RecordSet, Source, Transform

    path = Source(
        file_set=FILES,
        extract=Extract(file_property=FileProperty.fullpath),
        transforms=[Transform(regex="(?s)^(.*)$")],
    )
    image = Source(file_set=FILES, extract=Extract(file_property=FileProperty.content))
    fields = [
        Field(
            id=f"{PHOTOS}/path", name="path", data_types=[TEXT], source=path, references=Source(field=f"{TABLE}/path")
        ),
        Field(id=f"{PHOTOS}/image", name="image", data_types=[f"{SC}ImageObject"], source=image),
    ]
    also = {"label": [f"{CR}Label"], "split": [f"{CR}Split"]}
    for name, kind in _columns(has_credits=has_credits).items():
        if name != "path":
            types, source = [kind, *also.get(name, [])], Source(field=f"{TABLE}/{name}")
            fields.append(Field(id=f"{PHOTOS}/{name}", name=name, data_types=types, source=source))
    return RecordSet(
        id=PHOTOS,
        name=PHOTOS,
        description="The photos with label and split.",
        key=[f"{PHOTOS}/path", f"{PHOTOS}/split"],
        fields=fields,
    )


def cite_as(name: str, authors: Sequence[str]) -> str | None:
    """A BibTeX entry that names every author once, most photos first; None where no author is known."""
    counted = Counter(filter(None, authors))
    if not counted:
        return None
    ranked = sorted(counted, key=lambda author: (-counted[author], author))
    listed = " and ".join("{" + _plain(author) + "}" for author in ranked)
    note = f"{counted.total()} photos, each with its own licence: see ATTRIBUTION.csv"
    return f"@misc{{{name}, title = {{{_plain(name)}}}, author = {{{listed}}}, note = {{{note}}}}}"


def _plain(text: str) -> str:
    """Without the characters that BibTeX would take for its own."""
    return "".join(c for c in text if c not in '{}\\"')
