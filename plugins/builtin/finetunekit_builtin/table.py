"""Data source `table`: photos and labels as a CSV, JSON Lines or Parquet file names them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from finetunekit import TABLE_SUFFIXES, DataError, PhotoListing, PhotoTable, SourceContext, open_table
from finetunekit_builtin.names import plain, quoted
from finetunekit_builtin.one_hot import one_hot_columns, one_of
from finetunekit_builtin.roots import check_file
from finetunekit_builtin.rows import Rows, RowSettings, is_photo_name
from finetunekit_builtin.splits import SplitOptions, complete_splits, split_called


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
    skip_missing: bool = Field(default=False, description="Leave out rows whose file is missing, and report how many.")
    header: bool = Field(
        default=True, description="Whether the first line of CSV names the columns; false: they are called 1, 2, …."
    )
    one_hot: tuple[str, ...] = Field(
        default=(), description="Columns of which each row has a 1 in exactly one; the label is that column's name."
    )
    suffix: str = Field(
        default="",
        pattern=r"^(\.[A-Za-z0-9]+)?$",
        description="Extension that is missing from the file names, such as .jpg.",
    )
    folders: tuple[str, ...] = Field(
        default=(), description="Subfolders that contain the photos; each is searched for the names."
    )

    @model_validator(mode="after")
    def _check_label(self) -> Self:
        if self.one_hot and self.label_column is not None:
            raise ValueError("one_hot and label_column both say what the label is; set one of them")
        return self


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
            f"data.options.photos: {plain(folder)} is not a folder. Name the one that file names are relative to."
        )
    table = open_table(path, has_header=options.header)
    rows = Rows(
        path,
        RowSettings(folder, options.allow_outside, options.skip_missing, options.folders, options.suffix),
    )
    _read(table, options, rows)
    rows.check()
    photos, dealt, notes = complete_splits(rows.photos, rows.names, options, plain(path))
    return PhotoListing(tuple(photos), folder, notes=(*notes, *rows.notes()), dealt=dealt)


def _read(table: PhotoTable, options: TableOptions, rows: Rows) -> None:
    columns = _columns(table, options) if options.header else _columns_in_order(table, options)
    if options.test_fold is not None or (columns["fold"] and not columns["split"]):
        splits = _splits_of_folds(table, columns["fold"], options.test_fold)
        columns["split"] = columns["fold"]
    else:
        splits = {}
    chosen = [column for role, column in columns.items() if column and role != "fold"]
    place = {role: chosen.index(column) for role, column in columns.items() if column and role != "fold"}
    hot = [table.find("label", column) for column in options.one_hot]
    for line, values in table.read([*chosen, *(column for column in hot if column)]):
        cell = {role: values[i] for role, i in place.items()}
        split = splits.get(str(cell["split"]).strip()) if splits else cell.get("split", "train")
        label = one_of(options.one_hot, values[len(chosen) :]) if options.one_hot else cell["label"]
        rows.add(line, cell["file"], label, split, cell.get("group"))


def _columns(table: PhotoTable, options: TableOptions) -> dict[str, str | None]:
    """Role → the column that plays it, by the names in the header.

    Raises:
        DataError: If a column that is needed is not there, with the option that would help.
    """
    name = plain(table.path)
    if photo := next((column for column in table.columns if is_photo_name(column)), None):
        raise DataError(
            f"{name}: its first line names a photo ({plain(photo)}) and no columns: set data.options.header: false"
            " (without a preset: --option header=false)."
        )
    is_hot = bool(options.one_hot)
    label = None if is_hot else table.find("label", options.label_column)
    if label is None and not is_hot and (hot := one_hot_columns(table)):
        listed = ", ".join(map(quoted, hot))
        raise DataError(
            f"{name}: no label column, but each row has 1 in one of {len(hot)} columns: set data.options.one_hot: [{listed}]"
            f" (without a preset: --option 'one_hot=[{listed}]')."
        )
    return {
        "file": table.find("file", options.file_column, is_needed=True),
        "label": label if is_hot else table.find("label", options.label_column, is_needed=True),
        "split": table.find("split", options.split_column),
        "group": table.find("group", options.group_column),
        "fold": table.find("fold"),
    }


def _columns_in_order(table: PhotoTable, options: TableOptions) -> dict[str, str | None]:
    """Role → the column that plays it where no header says so: the first that names photos, the first other one, one of splits.

    Raises:
        DataError: If there are too few columns.
    """
    _, values = next(iter(table.read(table.columns)))
    texts = dict(zip(table.columns, map(str, values), strict=True))
    file = options.file_column or next(filter(lambda name: is_photo_name(texts[name]), texts), table.columns[0])
    others = [name for name in texts if name != file]
    split = options.split_column or next((name for name in others if split_called(texts[name])), None)
    label = options.label_column or next((name for name in others if name != split), None)
    if label is None and not options.one_hot:
        raise DataError(f"{plain(table.path)}: has one column only. A file name and a label are needed.")
    found = {"file": file, "label": label, "split": split, "group": options.group_column}
    return {role: column and table.find(role, column) for role, column in found.items()} | {"fold": None}


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
