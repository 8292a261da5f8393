"""The benches behind docs/answers.md: what they compute, on numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from bench_temperature import Tried
from bench_unlike import roc_area, strangeness

from finetunekit.models.linear_probe.linear import fit_linear
from finetunekit.statistics import softmax


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    area, low, high = roc_area(np.array([1.0, 3.0, 5.0]), np.array([0.0, 1.0, 4.0]))
    assert area == pytest.approx((1.5 + 2 + 3) / 9)
    assert 0 < low < area < high < 1
    assert roc_area(np.ones(20), np.zeros(50)) == (1.0, pytest.approx(0.839, abs=1e-3), 1.0)


def test_every_score_finds_what_is_far_off_strange() -> None:
    random = np.random.default_rng(0)
    train = np.concatenate([random.normal(0, 1, (40, 6)) + 6 * np.eye(6)[k] for k in range(2)]).astype(np.float32)
    labels = np.repeat(np.arange(2), 40)
    other = (random.normal(0, 1, (30, 6)) + 6 * np.eye(6)[3]).astype(np.float32)
    fit = fit_linear(train, labels, 2, penalty=1e-2, solver="logistic")
    found = strangeness(fit, train, labels, np.concatenate([other, train[::4]]))
    assert {"both", "nearest 5", "Mahalanobis", "energy", "probability"} <= set(found)
    assert min(roc_area(values[:30], values[30:])[0] for values in found.values()) > 0.9


def test_a_network_that_is_too_sure_loses_less_with_its_temperature() -> None:
    random, tried = np.random.default_rng(0), Tried()
    for _ in range(2):
        logits = random.normal(0, 2, (400, 4))
        labels = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
        shares = softmax(3 * logits)
        tried.add([shares[:200], shares[200:]], [labels[:200], labels[200:]])
    assert max(tried.losses["rule"]) < min(tried.losses["none"])
    assert "told from 1 in 2 of 2" in tried.show("too sure")
