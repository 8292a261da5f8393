"""Data source `table`: photos and labels as a CSV, JSON Lines or Parquet file names them."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from finetunekit import TABLE_SUFFIXES, DataError, PhotoListing, PhotoTable, SourceContext, open_table
from finetunekit_builtin.names import plain
from finetunekit_builtin.roots import check_file
from finetunekit_builtin.rows import Rows, RowSettings
from finetunekit_builtin.splits import SplitOptions, complete_splits


class TableOptions(SplitOptions):
    """Options of `table`: which column is which, and where the files are."""

    file_column: str | None = Field(
        default=None, description="Column of file names; null: found by name (file_name, filename, path, image, …)."
    )
    label_column: str | None = Field(
        default=None, description="Column of labels; null: found by name (label, class, category, species, …)."
    )
    split_column: str | None = Field(
        default=None, description="Column of splits; null: found by name (split, subset, partition)."
    )
    group_column: str | None = Field(
        default=None, description="Column of groups that stay together; null: found by name (group, cluster, …)."
    )
    test_fold: int | str | None = Field(
        default=None,
        description="For a table with a fold column: the fold to test on. The next one validates, the others train.",
    )
    photos: str | None = Field(
        default=None, description="Folder that file names are relative to; null: the table's own folder."
    )
    allow_outside: bool = Field(
        default=False, description="Allow absolute file names, and names that lead out of that folder."
    )
    skip_missing: bool = Field(default=False, description="Leave out rows whose file is not there, and say how many.")


def build_table(options: TableOptions, context: SourceContext) -> PhotoListing:
    """List the photos that a table names; none is opened.

    One row is one photo: file name, label, and where the table has them split, group and fold. Splits are called as folders of splits
    are (`val`, `validation`, `dev`, … mean valid). A table without splits is split here, class by class, groups kept together, by the
    file names; one without validation photos, or with training photos only, has those taken out of train.

    Args:
        options: Columns and folder.
        context: `root` is the table.

    Returns:
        Photos in the order of the table.

    Raises:
        DataError: If the table cannot be read, a row is unusable, a file is missing or lies outside the folder, or a photo has several
            labels or splits. All kinds of problems at once, each with its count.
    """
    path = check_file(context.root, "table", "table", TABLE_SUFFIXES)
    folder = Path(os.path.expanduser(options.photos)) if options.photos else path.parent
    if not folder.is_dir():
        raise DataError(
            f"data.options.photos: {plain(folder)} is no folder. Name the one that file names are relative to."
        )
    table = open_table(path)
    rows = Rows(path, RowSettings(folder, options.allow_outside, options.skip_missing))
    _read(table, options, rows)
    rows.check()
    photos, notes = complete_splits(rows.photos, rows.names, options, plain(path))
    return PhotoListing(tuple(photos), folder, notes=(*notes, *rows.notes()))


def _read(table: PhotoTable, options: TableOptions, rows: Rows) -> None:
    columns = {
        "file": table.find("file", options.file_column, is_needed=True),
        "label": table.find("label", options.label_column, is_needed=True),
        "split": table.find("split", options.split_column),
        "group": table.find("group", options.group_column),
        "fold": table.find("fold"),
    }
    if options.test_fold is not None or (columns["fold"] and not columns["split"]):
        splits = _splits_of_folds(table, columns["fold"], options.test_fold)
        columns["split"] = columns["fold"]
    else:
        splits = {}
    chosen = [column for role, column in columns.items() if column and role != "fold"]
    place = {role: chosen.index(column) for role, column in columns.items() if column and role != "fold"}
    for line, values in table.read(chosen):
        cell = {role: values[i] for role, i in place.items()}
        split = splits.get(str(cell["split"]).strip()) if splits else cell.get("split", "train")
        rows.add(line, cell["file"], cell["label"], split, cell.get("group"))


def _splits_of_folds(table: PhotoTable, column: str | None, test_fold: int | str | None) -> dict[str, str]:
    """Fold → split: the fold to test on, the next one to validate on, the others to train on."""
    name = plain(table.path)
    if column is None:
        raise DataError(f"{name}: no fold column, but data.options.test_fold is {test_fold}. Remove the option.")
    folds = sorted({str(fold).strip() for _, (fold,) in table.read([column])}, key=lambda fold: (len(fold), fold))
    listed = ", ".join(plain(fold) for fold in folds[:12])
    if len(folds) < 3:
        raise DataError(f"{name}: has folds {listed}. At least three are needed: to train, to validate and to test.")
    if str(test_fold) not in folds:
        raise DataError(f"{name}: has folds {listed}. Set data.options.test_fold to the one to test on.")
    test = folds.index(str(test_fold))
    valid = (test + 1) % len(folds)
    return {fold: "test" if i == test else "valid" if i == valid else "train" for i, fold in enumerate(folds)}
