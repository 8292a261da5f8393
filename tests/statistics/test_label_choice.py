"""Which photos to label next: uncertain ones, no two of a kind."""

from __future__ import annotations

import numpy as np
import pytest

from finetunekit.statistics.label_choice import choose_uncertain_clusters, entropies


def test_entropy_is_0_where_an_answer_is_certain_and_largest_where_it_says_nothing() -> None:
    found = entropies(np.array([[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]]))
    assert found == pytest.approx([0.0, np.log(2), 0.3250829733914482])


def test_one_photo_of_each_uncertain_kind_is_chosen_and_none_that_is_certain() -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(5) * 10, 20, axis=0)
    features = centres + rng.normal(scale=0.1, size=centres.shape)
    shares = np.tile([[0.999999, 0.000001]], (100, 1))
    shares[:60] = [0.5, 0.5]
    chosen = choose_uncertain_clusters(shares, features, 3, seed=0)
    assert sorted(int(place) // 20 for place in chosen) == [0, 1, 2]
    assert np.array_equal(chosen, choose_uncertain_clusters(shares, features, 3, seed=0)), (
        "the same seed, the same photos"
    )


def test_each_photo_is_chosen_once_and_all_may_be() -> None:
    features = np.zeros((6, 3))  # copies: every centre is the same
    shares = np.tile([[1.0, 0.0]], (6, 1))  # certain of all
    with pytest.warns(Warning, match="distinct clusters"):
        assert len(set(choose_uncertain_clusters(shares, features, 4, seed=1).tolist())) == 4
    assert sorted(choose_uncertain_clusters(shares, features, 9, seed=1).tolist()) == [0, 1, 2, 3, 4, 5]
