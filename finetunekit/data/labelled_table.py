"""Photos that were labelled in a review, alone or beside those of a run, as a table that the data source `table` reads."""

from __future__ import annotations

import os
from pathlib import Path

from finetunekit.data.decisions import Decision, in_force, read_decisions
from finetunekit.data.exclusions import has_changed
from finetunekit.data.split_table import Split
from finetunekit.errors import DataError
from finetunekit.runs.folder import FinishedRun
from finetunekit.system.formatting import escaped
from finetunekit.types import DISPLAY, TEST, TRAIN, VALID, PhotoRecord


def labelled_photos(root: Path, decisions: Path, run: FinishedRun | None = None) -> tuple[Split, Path]:
    """What was labelled below a folder, as training photos; before it the photos of a run, as it had them.

    Args:
        root: Folder that the decisions' paths are relative to.
        decisions: The file.
        run: Whose photos come first.

    Returns:
        The table's photos, and the folder that all of them lie in.

    Raises:
        DataError: If nothing was labelled there.
    """
    last = {one.path: one for one in in_force(read_decisions(decisions)) if one.kind != "group"}
    groups = {one.path: one.now for one in in_force(read_decisions(decisions)) if one.kind == "group"}
    notes: list[str] = []
    new = [
        PhotoRecord(root / one.path, one.now, TRAIN, groups.get(one.path))
        for one in last.values()
        if one.kind == "label" and _is_there(root, one, notes)
    ]
    if not new:
        raise DataError(f"{escaped(str(decisions))}: no photo below {escaped(str(root))} was labelled in it.")
    old = _of_run(run) if run is not None else []
    known = {os.path.abspath(photo.path) for photo in old}
    photos = (*old, *(photo for photo in new if os.path.abspath(photo.path) not in known))
    splits = tuple(photo.split for photo in photos)
    names = tuple(split for split in (TRAIN, VALID, TEST) if split in splits)
    table = Split(photos, splits, tuple(photo.group for photo in photos), names, tuple(notes), ())
    return table, Path(os.path.commonpath([os.path.dirname(os.path.abspath(photo.path)) for photo in photos]))


def _of_run(run: FinishedRun) -> list[PhotoRecord]:
    rows = [row for row in run.photos if row["split"] != DISPLAY]
    return [PhotoRecord(run.photo_path(row["path"]), row["label"], row["split"]) for row in rows]


def _is_there(root: Path, decision: Decision, notes: list[str]) -> bool:
    path = root / decision.path
    if not path.is_file():
        notes.append(f"'{escaped(decision.path)}' is not there any more")
        return False
    if decision.sha256 and has_changed(path, decision.sha256):
        notes.append(f"'{escaped(decision.path)}' has changed since it was labelled, and is left out")
        return False
    return True
