"""The bench of suggestions compares like with like: the same tests and first photos, and as many labels for each method."""

from __future__ import annotations

import numpy as np
from bench_suggest import METHODS, _dealt, compare


def test_every_method_labels_as_many_photos_of_the_same_pool() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 30)
    features = rng.normal(size=(90, 8)) + 3 * np.eye(8)[labels]
    test, first, pool = _dealt(labels, 6, np.random.default_rng(1))
    assert sorted([*test, *first, *pool]) == list(range(90)), "each photo has one part"
    assert np.bincount(labels[first]).tolist() == [2, 2, 2]
    shares = rng.dirichlet(np.ones(3), len(pool))
    for name, method in METHODS.items():
        chosen = method(features[first], features[pool], shares, 9, 0)
        assert len({*chosen.tolist()}) == 9, name
    scores = compare(features, labels, first=6, more=9, repeats=1)
    assert {*METHODS} < scores.keys()
    assert all(found.shape == (1, 2) for found in scores.values())
    assert (scores["random"][:, 0] >= scores["first photos alone"][:, 0] - 0.2).all()
