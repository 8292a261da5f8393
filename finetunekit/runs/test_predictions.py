"""A finished run's predictions of its test photos, one a distinct photo, checked before anything is computed from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import ConfigError, RunFolderError
from finetunekit.runs.folder import PREDICTIONS, STATE, FinishedRun
from finetunekit.types import TEST


@dataclass(frozen=True, slots=True)
class TestPrediction:
    """A run's prediction of one test photo.

    Attributes:
        path: As shown in `predictions.csv`.
        true: Class name.
        probabilities: One a class, in the order of `TestPredictions.classes`.
    """

    path: str
    true: str
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TestPredictions:
    """A run's predictions of the test split.

    Attributes:
        run: The finished run.
        classes: Class names; position is the class index.
        by_content: SHA-256 of a photo → its prediction, in the order of `predictions.csv`. A photo that lies in the split
            several times counts once: a copy is no further evidence.
        copies: Rows left out as copies.
    """

    run: FinishedRun
    classes: tuple[str, ...]
    by_content: Mapping[str, TestPrediction]
    copies: int

    def arrays(self, contents: Sequence[str], classes: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Probabilities `(photos, classes)` and labels `(photos,)` of chosen photos, in the order of `classes`."""
        columns = [self.classes.index(name) for name in classes]
        chosen = [self.by_content[content] for content in contents]
        probabilities = np.array([[prediction.probabilities[i] for i in columns] for prediction in chosen], np.float64)
        labels = np.array([list(classes).index(prediction.true) for prediction in chosen], np.int64)
        return probabilities.reshape(-1, len(columns)), labels

    def count_correct(self) -> int:
        """Distinct photos whose most probable class is the true one (ties: the lowest index)."""
        probabilities, labels = self.arrays(tuple(self.by_content), self.classes)
        return int((probabilities.argmax(axis=1) == labels).sum())


def read_test_predictions(path: Path) -> TestPredictions:
    """Read a finished run's test predictions.

    Args:
        path: Run folder.

    Raises:
        RunFolderError: If the run is not finished, or its predictions are missing or damaged.
        ConfigError: If copies of one photo carry different classes.
    """
    run = FinishedRun(path)
    _check_finished(run)
    classes = run.classes
    by_content: dict[str, TestPrediction] = {}
    rows = run.split_predictions(TEST)
    for row in rows:
        content, prediction = _parse(row, classes, path)
        known = by_content.setdefault(content, prediction)
        if known.true != prediction.true:
            raise ConfigError(
                f"{path}: test photos {known.path} ('{known.true}') and {prediction.path} ('{prediction.true}') are the same"
                " photo with two classes. Correct the photos' folders and run again."
            )
    if not rows and run.config.get("evaluate", {}).get("test", True) is False:
        raise RunFolderError(f"{path}: left its test split closed (evaluate.test: false), so it has no test scores.")
    if not rows:
        raise RunFolderError(f"{path / PREDICTIONS}: has no test photos.")
    return TestPredictions(run, classes, by_content, len(rows) - len(by_content))


def _check_finished(run: FinishedRun) -> None:
    status = run.state.get("status")
    if status != "finished" or "classes" not in run.state or "stand_in" not in run.state:
        raise RunFolderError(
            f"{run.path / STATE}: the run is not finished (status: {status}). Only finished runs have test scores."
        )


def _parse(row: Mapping[str, str], classes: Sequence[str], path: Path) -> tuple[str, TestPrediction]:
    where = f"{path / PREDICTIONS}: {row.get('path')}"
    try:
        probabilities = tuple(float(row[f"p_{name}"]) for name in classes)
        prediction = TestPrediction(row["path"], row["true"], probabilities)
        content = row["sha256"]
    except (KeyError, TypeError, ValueError) as exc:  # TypeError: a short row has None where text should be
        raise RunFolderError(f"{where}: the row is damaged ({exc}). Run again, or restore the file.") from exc
    if not content or prediction.true not in classes:
        raise RunFolderError(f"{where}: has no checksum or an unknown class '{prediction.true}'.")
    if not all(math.isfinite(p) and p >= 0 for p in probabilities) or abs(sum(probabilities) - 1.0) > 1e-3:
        raise RunFolderError(f"{where}: its probabilities do not sum to 1.")
    return content, prediction
