"""Data source `huggingface`: the `imagefolder` layout of Hugging Face data sets, as it lies on disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from finetunekit import DataError, PhotoListing, PhotoRecord, PhotoTable, Scanner, SourceContext, open_table
from finetunekit_builtin.folders import FoldersOptions, build_folders
from finetunekit_builtin.names import plain
from finetunekit_builtin.roots import check_folder
from finetunekit_builtin.rows import Rows, RowSettings
from finetunekit_builtin.splits import SplitOptions, complete_splits, split_called

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


class HuggingfaceOptions(SplitOptions):
    """Options of `huggingface`."""

    label_column: str | None = Field(
        default=None, description="Column of labels; null: found by name (label, class, category, species, …)."
    )


def build_huggingface(options: HuggingfaceOptions, context: SourceContext) -> PhotoListing:
    """List the photos of an `imagefolder` data set: a metadata file in the root, in each split's folder, or in `data/`.

    `file_name` is relative to the metadata file's folder. The split is that folder's name (`train`, `validation`, `test`), or else the
    first folder in `file_name`, or else train. Without metadata the folders are the labels, as in `folders`. Missing validation or
    test photos are taken out of train.

    Args:
        options: The label column, and fractions for missing splits.
        context: `root` is the data set's folder.

    Returns:
        Photos in the order of the metadata files.

    Raises:
        DataError: If the layout or a metadata file cannot be used; several labels for a photo are refused.

    Source: Hugging Face datasets, "Create an image dataset", section ImageFolder.
    """
    root = check_folder(context.root, "huggingface")
    base = root / "data" if (root / "data").is_dir() and not _metadata_in(root) else root
    files = _metadata_files(base)
    if not files:
        plain_context = replace(context, root=base)
        return build_folders(_folders_options(options), plain_context)
    photos: list[PhotoRecord] = []
    notes: list[str] = []
    for path in files:
        rows = Rows(path, RowSettings(path.parent, allow_outside=False, skip_missing=False))
        _read(open_table(path), options, rows, split_called(path.parent.name) if path.parent != base else None)
        rows.check()
        photos += rows.photos
        notes += rows.notes()
    keys = [photo.path.relative_to(base).as_posix() for photo in photos]
    found, dealt, split_notes = complete_splits(photos, keys, options, plain(root))
    return PhotoListing(tuple(found), root, notes=(*split_notes, *notes), dealt=dealt)


def _folders_options(options: HuggingfaceOptions) -> FoldersOptions:
    return FoldersOptions(**options.model_dump(exclude={"label_column"}))


def _metadata_files(base: Path) -> list[Path]:
    here = _metadata_in(base)
    folders = [base / name for name in Scanner().list_folder(str(base)).folders if split_called(name)]
    inside = [path for folder in folders for path in _metadata_in(folder)]
    if here and inside:
        raise DataError(
            f"{plain(base)}: has {plain(here[0].name)} itself and in {plain(inside[0].parent.name)}/. Keep one way."
        )
    without = [folder.name for folder in folders if inside and not _metadata_in(folder)]
    if without:
        raise DataError(
            f"{plain(base)}: no metadata file in {', '.join(map(plain, without))}/. Each split needs its own."
        )
    return here or inside


def _metadata_in(folder: Path) -> list[Path]:
    found = [folder / name for name in METADATA if os.path.isfile(folder / name)]
    if len(found) > 1:
        raise DataError(f"{plain(folder)}: has {' and '.join(path.name for path in found)}. Keep one of them.")
    return found


def _read(table: PhotoTable, options: HuggingfaceOptions, rows: Rows, split: str | None) -> None:
    if "file_name" not in table.columns:
        several = "file_names" in table.columns
        why = "several photos per row (file_names) are not a classification" if several else "no column 'file_name'"
        raise DataError(f"{plain(table.path)}: {why}. One row names one photo and its label.")
    label = table.find("label", options.label_column, is_needed=True)
    assert label is not None
    for line, (name, value) in table.read(["file_name", label]):
        rows.add(line, name, value, split or _split_in(name), None)


def _split_in(name: object) -> str:
    """The split that a file name's first folder means; train where it means none."""
    parts: Sequence[str] = name.split("/") if isinstance(name, str) else ()
    return (split_called(parts[0]) if len(parts) > 1 else None) or "train"
