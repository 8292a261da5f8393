from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from finetunekit.system.keyed_random import derive_keys, draw_uniform

SAMPLES = 20_000


def _alone_significant(p_values: list[float]) -> bool:
    """Whether any of several tests rejects at 0.1 % after Bonferroni's correction (fixed seeds: no flakiness)."""
    return min(p_values) * len(p_values) < 0.001


def test_first_number_is_that_of_splitmix64() -> None:
    # Reference: splitmix64.c with x = 0 first returns 0xE220A8397B1DCDAF; a key is its upper 63 bits.
    assert derive_keys(0) == 0xE220A8397B1DCDAF >> 1


def test_keys_are_int64_not_negative_and_distinct() -> None:
    keys = derive_keys(7, "use", np.arange(SAMPLES))
    assert keys.dtype == np.int64
    assert keys.shape == (SAMPLES,)
    assert keys.min() >= 0
    assert len(np.unique(keys)) == SAMPLES


def test_parts_broadcast_and_each_counts() -> None:
    grid = derive_keys(7, np.arange(3)[:, np.newaxis], np.arange(4))
    assert grid.shape == (3, 4)
    assert grid[2, 3] == derive_keys(7, 2, 3)
    variants = [(7,), (7, 0), (7, 0, 0), (7, 1, 2), (7, 2, 1), (8, 1, 2), (7, "1", 2), (7, "a"), (7, "b")]
    assert len({int(derive_keys(*variant)) for variant in variants}) == len(variants)


def test_keys_derive_from_keys() -> None:
    keys = derive_keys(7, np.arange(5))
    derived = derive_keys(keys, "component", 1)
    assert derived.shape == (5,)
    assert derived[3] == derive_keys(keys[3:4], "component", 1)[0]
    assert not np.isin(derived, keys).any()


def test_a_part_that_is_no_integer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"integers, integer arrays and names, not from 0\.5"):
        derive_keys(7, 0.5)  # type: ignore[arg-type]


def test_uniform_columns_follow_the_uniform_distribution() -> None:
    unit = draw_uniform(derive_keys(1, np.arange(SAMPLES)), 6)
    assert unit.dtype == np.float64
    assert unit.min() >= 0.0
    assert unit.max() < 1.0
    assert not _alone_significant([scipy.stats.kstest(column, "uniform").pvalue for column in unit.T])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(np.arange(SAMPLES), np.arange(1, SAMPLES + 1), id="neighbouring raw keys"),
        pytest.param(derive_keys(1, 0, np.arange(SAMPLES)), derive_keys(1, 1, np.arange(SAMPLES)), id="epochs"),
        pytest.param(derive_keys(1, np.arange(SAMPLES)), derive_keys(2, np.arange(SAMPLES)), id="seeds"),
    ],
)
def test_related_keys_draw_unrelated_numbers(first: np.ndarray, second: np.ndarray) -> None:
    columns = np.concatenate([draw_uniform(first, 3), draw_uniform(second, 3)], axis=1).T
    pairs = [(i, j) for i in range(6) for j in range(i)]
    p_values = [scipy.stats.spearmanr(columns[i], columns[j]).pvalue for i, j in pairs]
    assert not _alone_significant(p_values)
    assert not np.isin(columns[3:], columns[:3]).all(axis=1).any()


def test_more_columns_leave_the_earlier_ones_alone() -> None:
    keys = derive_keys(3, np.arange(10))
    np.testing.assert_array_equal(draw_uniform(keys, 2), draw_uniform(keys, 9)[:, :2])


def test_tensorflow_draws_the_same_bits_eagerly_in_a_graph_and_in_a_dataset() -> None:
    import tensorflow as tf

    keys = np.concatenate([derive_keys(5, np.arange(1000)), [0, 1, 2**63 - 1]])
    expected = draw_uniform(keys, 4)
    eager = draw_uniform(tf.constant(keys), 4)
    assert eager.dtype == tf.float64
    graph = tf.function(lambda batch: draw_uniform(batch, 4))(tf.constant(keys))
    dataset = tf.data.Dataset.from_tensor_slices(keys).batch(100).map(lambda batch: draw_uniform(batch, 4))
    np.testing.assert_array_equal(eager, expected)
    np.testing.assert_array_equal(graph, expected)
    np.testing.assert_array_equal(np.concatenate(list(dataset.as_numpy_iterator())), expected)


def test_keys_of_another_kind_are_refused() -> None:
    import tensorflow as tf

    with pytest.raises(TypeError, match="keys must be int64, not float64"):
        draw_uniform(np.zeros(3), 1)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"keys must be int64, not .*int32"):
        draw_uniform(tf.zeros(3, tf.int32), 1)
    with pytest.raises(TypeError, match="a numpy array or a TensorFlow tensor, not list"):
        draw_uniform([1, 2], 1)


def test_drawing_from_arrays_does_not_load_tensorflow() -> None:
    code = (
        "import sys, numpy as np; from finetunekit.system.keyed_random import derive_keys, draw_uniform;"
        "draw_uniform(derive_keys(0, np.arange(3)), 2); sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
