"""Data source `drawn`: small drawn animals for use without photos, so that the first command always works."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path

from pydantic import Field

from finetunekit import DataError, Options, PhotoListing, SourceContext, read_regular
from finetunekit_builtin.folders import FoldersOptions, build_folders
from finetunekit_builtin.names import plain

STAND_IN = "drawn cats, lions, lynxes and tigers, not photos: a stand-in"
MARKER = "complete.json"
MARKER_BYTES = 64 * 1024


class DrawnOptions(Options):
    """Options of `drawn`. The defaults are the sizes of the experiment that `felidae4` reproduces."""

    per_class_train: int = Field(default=150, ge=1, le=10_000, description="Training pictures per class.")
    per_class_valid: int = Field(default=50, ge=1, le=10_000, description="Validation pictures per class.")
    per_class_test: int = Field(default=40, ge=1, le=10_000, description="Test pictures per class.")
    size_px: int = Field(default=75, ge=16, le=1024, description="Side of a picture, in pixels.")
    draw_seed: int = Field(
        default=0, ge=0, lt=2**32, description="Seed of the drawings; independent of the run's seed."
    )


def build_drawn(options: DrawnOptions, context: SourceContext) -> PhotoListing:
    """Draw the stand-in once, keep it in the cache, and list it as `folders` would.

    It is drawn into a folder beside its place and renamed when it is whole, so that a process that stops half way leaves
    nothing behind that looks finished, and of two that draw at once the first to finish wins.

    Args:
        options: How many pictures, how large.
        context: `cache_dir` keeps the pictures; `root` is not looked at.

    Returns:
        The pictures, with `stand_in` set.

    Raises:
        DataError: If the cache folder cannot be written.
    """
    folder = context.cache_dir / "drawn" / _key(options)
    if not _is_complete(folder):
        _draw(folder, options, context)
    listing = build_folders(FoldersOptions(), replace(context, root=folder))
    return replace(listing, stand_in=STAND_IN, notes=())


def _key(options: DrawnOptions) -> str:
    """Of the options and of the code that draws, so that a new version draws anew."""
    digest = hashlib.sha256(options.model_dump_json().encode())
    code = resources.files("finetunekit_builtin") / "felids"
    for source in sorted(code.iterdir(), key=lambda item: item.name):
        if source.name.endswith(".py"):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _draw(folder: Path, options: DrawnOptions, context: SourceContext) -> None:
    from finetunekit_builtin.felids import write_drawn_photos

    per_class = {"train": options.per_class_train, "valid": options.per_class_valid, "test": options.per_class_test}
    context.say(f"drawing {sum(per_class.values())} pictures of each class into {plain(folder)}")
    try:
        with _scratch_beside(folder) as scratch:
            write_drawn_photos(scratch, seed=options.draw_seed, per_class=per_class, size_px=options.size_px)
            count = len(_pictures(scratch))
            (scratch / MARKER).write_text(json.dumps({"pictures": count, **options.model_dump()}), encoding="utf-8")
            _put_in_place(scratch, folder)
    except OSError as exc:
        raise DataError(
            f"{plain(folder)}: the drawn pictures cannot be written there ({exc.strerror or exc})."
            " Make the folder writable or name another cache."
        ) from exc


@contextmanager
def _scratch_beside(folder: Path) -> Iterator[Path]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        scratch = holder / folder.name
        scratch.mkdir()
        yield scratch
    finally:
        shutil.rmtree(holder)


def _put_in_place(scratch: Path, folder: Path) -> None:
    try:
        os.rename(scratch, folder)
    except OSError:
        if _is_complete(folder):
            return  # Another process finished first, with the same pictures.
        # What lies there lost pictures or its marker: it is moved beside `scratch`, to be removed with its holder.
        os.rename(folder, scratch.parent / "incomplete")
        _put_in_place(scratch, folder)


def _is_complete(folder: Path) -> bool:
    """Whether the folder was finished and has lost no picture since."""
    try:
        marker = json.loads(read_regular(folder / MARKER, most_bytes=MARKER_BYTES))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return False
    return isinstance(marker, dict) and marker.get("pictures") == len(_pictures(folder))


def _pictures(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != MARKER]
