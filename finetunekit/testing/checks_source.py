"""The contract of a data source."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from finetunekit.config.plan import Chosen
from finetunekit.data.index import check_listing
from finetunekit.data.photo_file import photo_suffixes
from finetunekit.errors import DataError, FinetuneKitError
from finetunekit.plugins.components import call_builder
from finetunekit.testing.contract import ContractError, Subject, choose
from finetunekit.testing.guards import changed, fingerprint
from finetunekit.types import SPLITS, Builder, Options, PhotoListing, PhotoRecord, SourceContext


def check_data_source(build: Builder, options: Options | None = None, *, root: Path | None = None) -> None:
    """Check a data source on a small root of its own kind.

    Args:
        build: The builder that the plugin registers.
        options: An instance of its options; default: `Options()`.
        root: Folder or file that it must be able to list, such as `tiny_photos(tmp_path)`; None for a source that needs none. It is
            copied, a file with what lies beside it, so keep it small.

    Raises:
        ContractError: If the listing is not well formed or its splits cannot be trained on; if it lists something else the second
            time, names files that are not there, opens photos, or changes its root; if a root that is missing is not a `DataError`; or
            if its options are not as they should be.
    """
    verify_data_source(choose("data source", build, options), root)


def verify_data_source(chosen: Chosen, root: Path | None) -> None:
    """`check_data_source` of a component as a plan holds it."""
    subject = Subject(chosen)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        listing = _list_twice(subject, root, folder / "cache")
        _check_form(subject, listing)
        subject.settle()
        problems = check_listing(listing)
        subject.expect(not problems, f"its splits cannot be trained on: {' '.join(problems[:1])}")
        if root is not None:
            with subject.part():
                _check_undecoded(subject, root, folder)
            with subject.part():
                _check_missing(subject, folder)
        subject.settle()


def _list(subject: Subject, root: Path | None, cache: Path) -> Any:
    said: list[Any] = []
    context = SourceContext(root=root, cache_dir=cache, seed=0, say=said.append)
    listing = call_builder(subject.chosen, context)
    words = f"must say one line of text at a time. Received: {said[:1]!r:.80}"
    subject.expect(all(isinstance(line, str) and "\n" not in line for line in said), words)
    return listing


def _list_twice(subject: Subject, root: Path | None, cache: Path) -> PhotoListing:
    before = fingerprint(root) if root else {}
    with subject.during("listing its photos"):
        first, second = _list(subject, root, cache), _list(subject, root, cache)
    altered = changed(before, fingerprint(root)) if root else []
    words = f"changes its root ({', '.join(altered[:3])}); write into context.cache_dir only."
    subject.expect(not altered, words)
    words = f"must return finetunekit.PhotoListing. Received: {first!r:.80}"
    subject.require(isinstance(first, PhotoListing), words)
    assert isinstance(first, PhotoListing)
    subject.expect(first == second, "lists something else the second time; sort what the file system gives.")
    return first


def _check_form(subject: Subject, listing: PhotoListing) -> None:
    is_tuple = isinstance(listing.photos, tuple) and all(isinstance(photo, PhotoRecord) for photo in listing.photos)
    subject.require(is_tuple, f"photos must be a tuple of PhotoRecord. Received: {listing.photos!r:.80}")
    subject.expect(isinstance(listing.root, Path), f"root must be a Path. Received: {listing.root!r:.80}")
    is_lines = isinstance(listing.notes, tuple) and all(map(_is_line, listing.notes))
    subject.expect(is_lines, f"notes must be a tuple of lines. Received: {listing.notes!r:.80}")
    words = f"stand_in must be None or one line of text. Received: {listing.stand_in!r:.80}"
    subject.expect(listing.stand_in is None or _is_line(listing.stand_in), words)
    with subject.part():
        for photo in listing.photos:
            _check_photo(subject, photo)
    twice = [
        f"{path} ({split})" for (path, split), n in Counter((p.path, p.split) for p in listing.photos).items() if n > 1
    ]
    subject.expect(not twice, f"lists a photo twice in one split: {', '.join(twice[:3])}")


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\n" not in value


def _check_photo(subject: Subject, photo: PhotoRecord) -> None:
    subject.require(isinstance(photo.path, Path), f"a photo's path must be a Path. Received: {photo.path!r:.80}")
    subject.require(photo.path.is_file(), f"lists {photo.path}, and there is no such file.")
    words = f"{photo.path.name}: split must be one of {', '.join(SPLITS)}. Received: {photo.split!r:.80}"
    subject.require(photo.split in SPLITS, words)
    for name, value in (("label", photo.label), ("group", photo.group)):
        words = f"{photo.path.name}: {name} must be text or None. Received: {value!r:.80}"
        subject.require(value is None or (isinstance(value, str) and value), words)


def _check_undecoded(subject: Subject, root: Path, folder: Path) -> None:
    """A copy of the root in which no photo can be opened is listed as well."""
    whole = root if root.is_dir() else root.parent
    copied = folder / "undecodable" / whole.name
    shutil.copytree(whole, copied)
    copy = copied / root.relative_to(whole)
    for path in copied.rglob("*"):
        if path.suffix.lower() in photo_suffixes() and path.is_file():
            path.write_bytes(b"not a photo")
    try:
        with subject.during("listing photos that cannot be opened"):
            _list(subject, copy, folder / "other_cache")
    except ContractError as exc:
        raise ContractError(
            f"{exc} A source lists files and opens no photo: broken ones are found and named later."
        ) from exc


def _check_missing(subject: Subject, folder: Path) -> None:
    """No root, one that does not exist, an empty one: `DataError`, or photos where it needs no root."""
    empty = folder / "empty"
    empty.mkdir()
    for what, root in (("no root", None), ("a root that does not exist", folder / "nowhere"), ("an empty root", empty)):
        try:
            listing = call_builder(subject.chosen, SourceContext(root, folder / "cache", 0, lambda line: None))
        except DataError:
            continue
        except FinetuneKitError as exc:
            raise ContractError(
                f"{subject.label}: {what} must be a DataError that says what to do. Received: {exc}"
            ) from exc
        is_listing = isinstance(listing, PhotoListing) and bool(listing.photos)
        words = f"{what} must be a DataError that says what to do, and it was listed in silence."
        subject.expect(is_listing, words)
