"""What `predict` writes: a table, or photos copied into one folder a class."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from finetunekit.errors import ConfigError
from finetunekit.inference import Prediction
from finetunekit.runs import replacing, to_csv

UNSURE = "unsure"


def prediction_csv(predictions: Sequence[Prediction], classes: Sequence[str]) -> str:
    """Columns path, predicted (empty where it abstained), probability, and `p_<class>` for each class."""
    rows = [
        {
            "path": str(p.path),
            "predicted": p.label or "",
            "probability": repr(p.probability),
            **{f"p_{name}": repr(value) for name, value in p.probabilities.items()},
        }
        for p in predictions
    ]
    return to_csv(rows, ("path", "predicted", "probability", *(f"p_{name}" for name in classes)))


def sort_photos(predictions: Sequence[Prediction], folder: Path) -> None:
    """Copy each photo into `folder/<class>/`; a name that is taken by another photo gets a number.

    Raises:
        ConfigError: If a class name cannot be a folder's name.
        RunFolderError: If a copy cannot be written.
    """
    for p in predictions:
        label = p.label or UNSURE
        if Path(label).name != label or label in {"", ".", ".."}:
            raise ConfigError(f"class '{label}' cannot be a folder's name; use --csv instead of --sort-into.")
        target = _free_name(folder / label / p.path.name, p.path)
        if target is not None:
            with replacing(target) as partial:
                shutil.copyfile(p.path, partial)


def _free_name(target: Path, source: Path) -> Path | None:
    """None where the same photo is there already, so that sorting twice copies once."""
    candidate, number = target, 1
    while candidate.exists():
        if candidate.read_bytes() == source.read_bytes():
            return None
        number += 1
        candidate = target.with_stem(f"{target.stem}-{number}")
    return candidate
