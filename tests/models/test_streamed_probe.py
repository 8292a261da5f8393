"""Logistic regression on features that stay on disk: the optimum of the solver in memory, without a second copy of the features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from finetunekit.models.linear_probe import streamed
from finetunekit.models.linear_probe.cross_validation import Recipe, choose_penalty, cross_validate, fit_chosen
from finetunekit.models.linear_probe.linear import GRADIENT_TOLERANCE, fit_linear
from finetunekit.models.linear_probe.streamed import FeatureRows, StreamedLogistic


def mapped(folder: Path, photos: int = 600, classes: int = 3) -> tuple[FeatureRows, NDArray[np.int64]]:
    """Overlapping classes, as float16 on disk."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, photos)
    centres = generator.normal(0, 0.4, (classes, 12))
    values = np.maximum(0, 0.5 + centres[labels] + generator.normal(0, 1, (photos, 12))).astype(np.float16)
    np.save(folder / "values.npy", values)
    return FeatureRows(np.load(folder / "values.npy", mmap_mode="r")), labels


@pytest.mark.parametrize(("classes", "penalty"), [(2, 1e-1), (2, 1e-3), (4, 1e-2), (4, 1e-5)])
def test_it_ends_at_the_optimum_of_the_solver_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int, penalty: float
) -> None:
    monkeypatch.setattr(streamed, "BLOCK", 64)  # ten blocks, the last one short
    rows, labels = mapped(tmp_path, classes=classes)
    found = fit_linear(rows, labels, classes, penalty=penalty, solver="logistic")
    known = fit_linear(np.asarray(rows[:], np.float32), labels, classes, penalty=penalty, solver="logistic")
    np.testing.assert_allclose(found.probabilities(rows), known.probabilities(rows[:]), atol=2e-4)
    # strongly convex: half the squared gradient over the penalty bounds how far the loss is from its least
    log_loss = [-np.log(fit.probabilities(rows)[np.arange(600), labels]).mean() for fit in (found, known)]
    assert log_loss[0] == pytest.approx(log_loss[1], abs=1e-5)
    problem = StreamedLogistic(rows, labels, GRADIENT_TOLERANCE, 100)
    weights, bias = problem.fit(penalty)
    _, slope = problem._loss(np.vstack([weights, bias]), penalty)
    assert np.abs(slope).max() <= GRADIENT_TOLERANCE
    assert problem.passes < 100


def test_a_class_without_photos_and_parts_of_the_rows_are_as_in_memory(tmp_path: Path) -> None:
    rows, labels = mapped(tmp_path)
    half = rows[labels != 1]
    assert isinstance(half, FeatureRows)  # nothing was read
    assert half.base is rows.base
    found = fit_linear(half, labels[labels != 1], 3, penalty=1e-2, solver="logistic")
    known = fit_linear(rows[:][labels != 1].astype(np.float32), labels[labels != 1], 3, penalty=1e-2, solver="logistic")
    np.testing.assert_allclose(found.probabilities(half), known.probabilities(half[:]), atol=1e-4)
    assert found.probabilities(half)[:, 1].max() < 1e-4


def test_one_fold_tells_the_penalty_of_very_many_photos(tmp_path: Path) -> None:
    rows, labels = mapped(tmp_path)
    choice = choose_penalty(rows, labels, 3)
    assert (choice.folds, choice.repeats) == (1, 1)
    in_memory = choose_penalty(np.asarray(rows[:], np.float32), labels, 3)
    assert in_memory.folds == 5
    assert abs(np.log10(choice.penalty / in_memory.penalty)) <= 1
    fit, _ = fit_chosen(rows, labels, 3)
    assert fit.penalty == choice.penalty
    nested = cross_validate(rows, labels, 3, Recipe(penalty=1e-2))
    known = cross_validate(np.asarray(rows[:], np.float32), labels, 3, Recipe(penalty=1e-2))
    log_loss = [-np.log(one.probabilities[np.arange(600), labels]).mean() for one in (nested, known)]
    assert log_loss[0] == pytest.approx(log_loss[1], abs=0.02)  # by other folds
    together = [str(i // 3) for i in range(len(labels))]
    fold = cross_validate(rows, labels, 3, Recipe(penalty=1e-2), groups=together).fold
    assert all(len(set(fold[start : start + 3])) == 1 for start in range(0, len(fold), 3))
    assert set(fold) == set(range(5))


def test_bits_do_not_depend_on_the_number_of_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "BLOCK", 50)
    rows, labels = mapped(tmp_path)
    kernels = []
    for processors in (1, 3):
        monkeypatch.setattr(streamed, "available_cpus", lambda found=processors: found)
        kernels.append(fit_linear(rows, labels, 3, penalty=1e-3, solver="logistic").kernel)
    np.testing.assert_array_equal(*kernels)


def test_what_cannot_be_fitted_is_said(tmp_path: Path) -> None:
    rows, labels = mapped(tmp_path)
    with pytest.raises(ValueError, match="on disk are fitted by `logistic`"):
        fit_linear(rows, labels, 3, penalty=1.0, solver="ridge")
    broken = np.array(rows.base)
    broken[5, 5] = np.nan
    with pytest.raises(ValueError, match="features must be finite"):
        fit_linear(FeatureRows(broken), labels, 3, penalty=1.0, solver="logistic")
    with pytest.raises(ValueError, match="the same for every photo"):
        fit_linear(FeatureRows(np.ones_like(broken)), labels, 3, penalty=1.0, solver="logistic")
