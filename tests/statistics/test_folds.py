"""Folds: stratified, groups whole, the same for the same photos in any order."""

from __future__ import annotations

import numpy as np
import pytest

from finetunekit.statistics import stratified_folds


def test_folds_share_every_class_evenly_and_keep_groups_whole() -> None:
    y = np.repeat([0, 1, 2], [50, 20, 7])
    fold = stratified_folds(y, 5)
    for label, share in ((0, 10), (1, 4), (2, 1.4)):
        counts = np.bincount(fold[y == label], minlength=5)
        assert counts.max() - counts.min() <= 1
        assert counts.mean() == pytest.approx(share)
    groups = [f"g{i // 4}" for i in range(77)]
    grouped = stratified_folds(y, 5, groups=groups)
    assert all(len({grouped[i] for i in range(77) if groups[i] == g}) == 1 for g in set(groups))
    assert set(grouped) == set(range(5))
    assert (stratified_folds(y, 5, seed=1) != fold).any()
    np.testing.assert_array_equal(stratified_folds(y, 5), fold)


@pytest.mark.parametrize("copies", [1, 2])
def test_which_photos_are_held_out_together_goes_by_their_groups_not_by_their_order(copies: int) -> None:
    y = np.repeat(np.arange(20) % 2, copies)
    groups = [f"{number:064x}" for number in np.repeat(np.random.default_rng(0).permutation(20), copies)]
    folds = stratified_folds(y, 5, groups=groups)
    assert stratified_folds(y[::-1], 5, groups=groups[::-1]).tolist() == folds.tolist()[::-1]


def test_fewer_groups_than_folds_make_fewer_folds() -> None:
    y = np.array([0, 0, 1, 1])
    assert set(stratified_folds(y, 5)) == {0, 1}
    with pytest.raises(ValueError, match="at least 2 folds, 2 groups and 2 photos of a class"):
        stratified_folds(np.arange(4), 5)
    with pytest.raises(ValueError, match="groups must name one group a photo, 4"):
        stratified_folds(y, 5, groups=["a"])


def test_a_group_that_has_all_photos_of_a_class_is_not_left_out_whole() -> None:
    """Three classes from one source, the fourth from two others, as collected photos often are."""
    y = np.repeat([0, 1, 2, 3, 3], [30, 30, 30, 20, 10])
    groups = ["one source"] * 90 + ["another"] * 20 + ["a third"] * 10
    fold = stratified_folds(y, 3, groups=groups)
    for left_out in range(3):
        assert set(y[fold != left_out]) == {0, 1, 2, 3}
    assert len(set(fold[90:110])) == len(set(fold[110:])) == 1
    assert set(stratified_folds(np.repeat([0, 1], 10), 5, groups=["all"] * 20)) == set(range(5))
