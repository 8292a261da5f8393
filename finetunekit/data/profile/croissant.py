"""Metadata of a set of photos in MLCommons' Croissant format, version 1.0: what other tools need to find, cite and load it.

Each photo is a `FileObject` with its checksum. Record set `photos` has one record a photo, with its image, label and split; labels and
splits stand in an inline table, so that they do not depend on how folders are called. Paths are relative to the metadata file.

Source: docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html.
"""

from __future__ import annotations

import glob
import hashlib
import os
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from finetunekit.data.opening import open_photo_file, pillow_guard, printable, read_header
from finetunekit.data.parallel import bounded, gather
from finetunekit.data.profile.attribution import Credit, read_credits
from finetunekit.data.profile.croissant_words import CONTEXT, SPLIT_TYPES, cite_as, field, table_field
from finetunekit.data.profile.opening import PhotoSet
from finetunekit.errors import ConfigError, DataError
from finetunekit.system.files import to_json
from finetunekit.types import DISPLAY, PhotoRecord

FILES, PHOTOS, TABLE, SPLITS, LABELS = "photo-files", "photos", "photo-table", "splits", "labels"


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
        ConfigError: If the metadata would lie where relative paths do not reach the photos.
        DataError: If a photo cannot be read, has changed since the run, or has a name that JSON cannot hold.
    """
    records = [record for record in photos.listing.photos if record.split != DISPLAY]
    if not records:
        raise DataError(f"{photos.listing.root}: holds no photos.")
    files = _read_files(photos, records, target, progress)
    credits = read_credits(photos.listing.root)
    shown = sorted(((files[record.path], record) for record in records), key=lambda pair: (pair[0].path, pair[1].split))
    distinct = sorted({file.path: file for file in files.values()}.values(), key=lambda file: file.path)
    named = sorted({credits[file.sha256].licence_url for file in distinct if file.sha256 in credits} | {*licences})
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": photos.name,
        "description": _description(photos, records),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "citeAs": cite_as(photos.name, [credits[f.sha256].author for f in distinct if f.sha256 in credits]),
        "license": named[0] if len(named) == 1 else named or None,
        "datePublished": published,
        "version": "1.0.0",
        "distribution": [*map(_file_object, distinct), _file_set(distinct)],
        "recordSet": [
            _splits(records),
            _labels(records),
            _table(shown, credits),
            _photos(has_credits=bool(credits)),
        ],
    }
    return to_json({key: value for key, value in document.items() if value is not None})


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
            f"{printable(str(folder))}: the metadata names photos relative to itself, and {printable(str(path))} does not lie below."
            f" Write it to {printable(str(root / 'croissant.json'))}."
        )
    relative = absolute.relative_to(folder).as_posix()
    try:
        relative.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise DataError(f"{printable(str(path))}: its name is no text, which metadata needs. Rename it.") from exc
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
        raise DataError(f"{printable(str(path))}: has changed since the run. Put back the photo, or run again.")
    return _File(relative, sha256, size_bytes, Image.MIME.get(kind, "application/octet-stream"))


def _description(photos: PhotoSet, records: Sequence[PhotoRecord]) -> str:
    labels = sorted({record.label or "" for record in records})
    listed = ", ".join(labels[:20]) + (" and others" if len(labels) > 20 else "")
    note = f" {photos.listing.stand_in}." if photos.listing.stand_in else ""
    return f"{len(records)} photos of {len(labels)} classes for image classification: {listed}.{note}"


def _file_object(file: _File) -> dict[str, Any]:
    address = urllib.parse.quote(file.path)
    return {
        "@type": "cr:FileObject",
        "@id": address,
        "name": PurePosixPath(file.path).name,
        "contentUrl": address,
        "contentSize": f"{file.size_bytes} B",
        "encodingFormat": file.media_type,
        "sha256": file.sha256,
    }


def _file_set(files: Sequence[_File]) -> dict[str, Any]:
    """The same files for loading, as patterns: a folder and an ending each."""
    patterns = sorted(
        {
            f"{glob.escape(path.parent.as_posix())}/*{path.suffix}".removeprefix("./")
            for path in (PurePosixPath(file.path) for file in files)
        }
    )
    kinds = sorted({file.media_type for file in files})
    return {
        "@type": "cr:FileSet",
        "@id": FILES,
        "name": FILES,
        "description": "The photos, next to this file.",
        "encodingFormat": kinds[0] if len(kinds) == 1 else kinds,
        "includes": patterns[0] if len(patterns) == 1 else patterns,
    }


def _splits(records: Sequence[PhotoRecord]) -> dict[str, Any]:
    there = dict.fromkeys(record.split for record in records)
    rows = [{f"{SPLITS}/name": name, f"{SPLITS}/url": url} for name, url in SPLIT_TYPES.items() if name in there]
    return {
        "@type": "cr:RecordSet",
        "@id": SPLITS,
        "name": SPLITS,
        "dataType": "cr:Split",
        "key": {"@id": f"{SPLITS}/name"},
        "field": [table_field(SPLITS, "name", "sc:Text"), table_field(SPLITS, "url", "sc:URL")],
        "data": rows,
    }


def _labels(records: Sequence[PhotoRecord]) -> dict[str, Any]:
    names = sorted({record.label or "" for record in records})
    return {
        "@type": "cr:RecordSet",
        "@id": LABELS,
        "name": LABELS,
        "description": "Classes; the position from 0 is the number that a network gives.",
        "dataType": "sc:Enumeration",
        "key": {"@id": f"{LABELS}/name"},
        "field": [table_field(LABELS, "name", "sc:Text"), table_field(LABELS, "number", "sc:Integer")],
        "data": [{f"{LABELS}/name": name, f"{LABELS}/number": number} for number, name in enumerate(names)],
    }


def _table(shown: Sequence[tuple[_File, PhotoRecord]], credits: Mapping[str, Credit]) -> dict[str, Any]:
    columns = _columns(has_credits=bool(credits))
    return {
        "@type": "cr:RecordSet",
        "@id": TABLE,
        "name": TABLE,
        "description": "Label and split of each photo.",
        "key": [{"@id": f"{TABLE}/path"}, {"@id": f"{TABLE}/split"}],
        "field": [table_field(TABLE, name, kind) for name, kind in columns.items()],
        "data": [
            {f"{TABLE}/{name}": _cell(name, file, record, credits.get(file.sha256)) for name in columns}
            for file, record in shown
        ],
    }


def _columns(*, has_credits: bool) -> dict[str, str]:
    columns = {"path": "sc:Text", "label": "sc:Text", "split": "sc:Text", "sha256": "sc:Text"}
    return columns | ({"licence": "sc:URL", "author": "sc:Text", "source": "sc:URL"} if has_credits else {})


def _cell(name: str, file: _File, record: PhotoRecord, credit: Credit | None) -> str:
    values = {"path": file.path, "label": record.label or "", "split": record.split, "sha256": file.sha256}
    if credit is not None:
        values |= {"licence": credit.licence_url, "author": credit.author, "source": credit.source_url}
    return values.get(name, "")


def _photos(*, has_credits: bool) -> dict[str, Any]:
    """Files and table joined by path. The pattern takes the whole path: with it, mlcroissant compares texts and not path objects."""
    files: dict[str, Any] = {"fileSet": {"@id": FILES}}
    full_path = files | {"extract": {"fileProperty": "fullpath"}, "transform": {"regex": "^(.*)$"}}
    image = files | {"extract": {"fileProperty": "content"}}
    in_table = {"field": {"@id": f"{TABLE}/path"}}
    joined = [field(PHOTOS, "path", "sc:Text", full_path, references=in_table)]
    joined.append(field(PHOTOS, "image", "sc:ImageObject", image))
    for name, kind in _columns(has_credits=has_credits).items():
        if name != "path":
            types: str | list[str] = [kind, "cr:Label"] if name == "label" else kind
            types = [kind, "cr:Split"] if name == "split" else types
            joined.append(field(PHOTOS, name, types, {"field": {"@id": f"{TABLE}/{name}"}}))
    return {
        "@type": "cr:RecordSet",
        "@id": PHOTOS,
        "name": PHOTOS,
        "description": "The photos with label and split.",
        "key": [{"@id": f"{PHOTOS}/path"}, {"@id": f"{PHOTOS}/split"}],
        "field": joined,
    }
