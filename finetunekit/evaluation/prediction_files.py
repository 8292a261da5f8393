"""What `predict` writes: a table, or photos copied into one folder a class."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from finetunekit.errors import ConfigError
from finetunekit.evaluation.predictor import Prediction
from finetunekit.system.files import replacing, to_csv

UNSURE = "unsure"
_LONGEST_NAME_BYTES = 255
_NO_FOLDER = "class '{}' cannot be a folder's name; use --csv instead of --sort-into."


def prediction_csv(predictions: Sequence[Prediction], classes: Sequence[str]) -> str:
    """Columns path, predicted (empty where it abstained), probability, temperature, unlike_p, is_unlike, `p_<class>` for each class; where
    sets were asked for `in_set_<class>`, 1 or 0."""
    has_sets = any(p.class_set is not None for p in predictions)
    rows = [
        {
            "path": str(p.path),
            "predicted": p.label or "",
            "probability": repr(p.probability),
            "temperature": repr(p.temperature),
            "unlike_p": "" if p.unlike_p is None else repr(p.unlike_p),
            "is_unlike": int(p.is_unlike),
            **{f"p_{name}": repr(value) for name, value in p.probabilities.items()},
            **({f"in_set_{name}": int(name in (p.class_set or ())) for name in classes} if has_sets else {}),
        }
        for p in predictions
    ]
    shares = [f"{kind}_{name}" for kind in ("p", *(["in_set"] if has_sets else ())) for name in classes]
    return to_csv(rows, ("path", "predicted", "probability", "temperature", "unlike_p", "is_unlike", *shares))


def check_targets(csv_path: Path | None, folder: Path | None, classes: Sequence[str]) -> None:
    """Say what could not be written before any photo is predicted.

    Raises:
        ConfigError: With every path that cannot be written, and the class whose name cannot be a folder's.
    """
    targets = [path for path in (csv_path, folder) if path is not None]
    problems = [f"{path}: cannot be written; {above} is {what}." for path in targets for above, what in _obstacle(path)]
    problems += [_NO_FOLDER.format(name) for name in classes if folder and not _is_folder_name(name)]
    if problems:
        raise ConfigError(problems)


def _obstacle(path: Path) -> Iterator[tuple[Path, str]]:
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        yield above, "a file"
    elif not os.access(above, os.W_OK | os.X_OK):
        yield above, "not writable"


def _is_folder_name(label: str) -> bool:
    return Path(label).name == label and label not in {"", ".", ".."}


def sort_photos(predictions: Sequence[Prediction], folder: Path) -> None:
    """Copy each photo into `folder/<class>/`; a name that is taken by another photo gets a number.

    Raises:
        ConfigError: If a class name cannot be a folder's name.
        RunFolderError: If a copy cannot be written.
    """
    for p in predictions:
        label = p.label or UNSURE
        if not _is_folder_name(label):
            raise ConfigError(_NO_FOLDER.format(label))
        target = _free_name(folder / label / p.path.name, p.path)
        if target is not None:
            with replacing(target) as partial:
                shutil.copyfile(p.path, partial)


def _free_name(target: Path, source: Path) -> Path | None:
    """None where the same photo is there already, so that sorting twice copies once."""
    candidate, number = target, 1
    while candidate.exists():
        if candidate.is_file() and filecmp.cmp(candidate, source, shallow=False):
            return None
        number += 1
        candidate = _numbered(target, number)
    return candidate


def _numbered(target: Path, number: int) -> Path:
    """The name with a number; its end is cut off where it would be longer than a file system allows."""
    stem, ending = target.stem, f"-{number}{target.suffix}"
    while len(os.fsencode(stem + ending)) > _LONGEST_NAME_BYTES:
        stem = stem[:-1]
    return target.with_name(stem + ending)
