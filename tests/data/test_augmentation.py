from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from finetunekit.data.augmentation import AugmentComponent, Augmenter
from finetunekit.errors import ConfigError, PluginError
from finetunekit.system.keyed_random import derive_keys, draw_uniform
from finetunekit.types import Augmentation, Fill

KEYS = derive_keys(1, np.arange(6))
LABELS = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]


def _photos(height_px: int = 12, width_px: int = 10) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (6, height_px, width_px, 3)).astype(np.uint8)


def _component(index: int, *steps: Augmentation) -> AugmentComponent:
    return AugmentComponent(index, f"augment[{index}] 'test' (tests 1.0)", steps)


def _shift(rows: float, columns: float, fill: Fill = Fill()) -> Augmentation:  # noqa: B008 (frozen)
    """Reads `rows` further down and `columns` further right."""

    def affine(keys: NDArray[np.int64], height_px: int, width_px: int) -> NDArray[np.float64]:
        return np.tile([[1.0, 0.0, rows], [0.0, 1.0, columns], [0.0, 0.0, 1.0]], (len(keys), 1, 1))

    return Augmentation(affine=affine, fill=fill)


def _random_turn(fill: Fill = Fill()) -> Augmentation:  # noqa: B008 (frozen)
    def affine(keys: NDArray[np.int64], height_px: int, width_px: int) -> NDArray[np.float64]:
        angle = draw_uniform(keys, 1)[:, 0]
        matrices = np.tile(np.eye(3), (len(keys), 1, 1))
        matrices[:, 0, 0] = matrices[:, 1, 1] = np.cos(angle)
        matrices[:, 0, 1], matrices[:, 1, 0] = -np.sin(angle), np.sin(angle)
        return matrices

    return Augmentation(affine=affine, fill=fill)


def _dim(images: Any, labels: Any, keys: Any) -> tuple[Any, Any]:
    factor = tf.cast(draw_uniform(keys, 1), tf.float32)[:, :, tf.newaxis, tf.newaxis]
    return images * factor, labels


def _mix_halves(images: Any, labels: Any, keys: Any) -> tuple[Any, Any]:
    return (images + images[::-1]) / 2, (labels + labels[::-1]) / 2


EVERYTHING = (
    _component(0, _random_turn(), _shift(1.5, -0.25)),
    _component(1, _shift(0.0, 2.0), Augmentation(apply=_dim)),
    _component(2, _random_turn(Fill("constant", 9.0)), Augmentation(apply=_mix_halves, scope="batch")),
)


def test_without_steps_nothing_changes_but_the_dtype() -> None:
    augmenter = Augmenter([_component(0)])
    images, labels = augmenter(_photos(), LABELS, KEYS)
    assert augmenter.is_identity
    assert images.dtype == tf.float32
    np.testing.assert_array_equal(images, _photos())
    np.testing.assert_array_equal(labels, LABELS)


def test_matrices_take_output_rows_and_columns_to_input() -> None:
    images, _ = Augmenter([_component(0, _shift(2, 1))])(_photos(), LABELS, KEYS)
    np.testing.assert_array_equal(images[:, :-2, :-1], _photos()[:, 2:, 1:])


@pytest.mark.parametrize(
    ("fill", "columns"),
    [
        pytest.param(Fill("nearest"), [2, 2], id="nearest"),
        pytest.param(Fill("reflect"), [2, 1], id="reflect"),
        pytest.param(Fill("wrap"), [1, 0], id="wrap"),
        pytest.param(Fill("constant", 7.0), None, id="constant"),
    ],
)
def test_fill_says_what_is_read_outside_the_photo(fill: Fill, columns: list[int] | None) -> None:
    photos = _photos(4, 3)
    images, _ = Augmenter([_component(0, _shift(0, 2, fill))])(photos, LABELS, KEYS)
    expected = np.full((6, 4, 2, 3), 7.0) if columns is None else photos[:, :, columns]
    np.testing.assert_array_equal(images[:, :, 1:], expected)


def test_constant_fill_is_not_blended_into_the_edge() -> None:
    photos = np.full((1, 5, 5, 3), 200, np.uint8)
    shift = _component(0, _shift(0, 0.5, Fill("constant", 10.0)))
    images, _ = Augmenter([shift])(photos, LABELS[:1], KEYS[:1])
    np.testing.assert_array_equal(np.unique(images[0, :, :4]), [200.0])
    np.testing.assert_array_equal(np.unique(images[0, :, 4]), [10.0])


def test_affine_steps_with_equal_fill_fuse_across_components_in_order() -> None:
    turn, shift = _random_turn(), _shift(1.5, -0.25)
    fused = Augmenter([_component(0, turn), _component(3, shift)]).prepare(KEYS, 12, 10)
    own_keys = derive_keys(KEYS, "component", 0)
    assert fused.matrices.shape == (6, 1, 3, 3)
    assert turn.affine is not None
    assert shift.affine is not None
    # An output pixel first asks where the last step read, then where the first did.
    product = turn.affine(own_keys, 12, 10) @ shift.affine(KEYS, 12, 10)
    np.testing.assert_allclose(fused.matrices[:, 0], product, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("steps", "resamplings"),
    [
        pytest.param((_shift(1, 0), _shift(0, 1)), 1, id="equal fills"),
        pytest.param((_shift(1, 0), _shift(0, 1, Fill("reflect"))), 2, id="other mode"),
        pytest.param((_shift(1, 0, Fill("constant", 1.0)), _shift(0, 1, Fill("constant", 2.0))), 2, id="other value"),
        pytest.param((_shift(1, 0), Augmentation(apply=_dim), _shift(0, 1)), 2, id="not consecutive"),
        pytest.param((Augmentation(apply=_dim),), 0, id="none affine"),
    ],
)
def test_only_consecutive_affine_steps_of_one_fill_fuse(steps: tuple[Augmentation, ...], resamplings: int) -> None:
    components = [_component(index, step) for index, step in enumerate(steps)]
    assert Augmenter(components).prepare(KEYS, 12, 10).matrices.shape[1] == resamplings


def test_fusing_resamples_less_than_one_step_after_another() -> None:
    there, back = _component(0, _shift(0, 0.5)), _component(1, _shift(0, -0.5))
    fused, _ = Augmenter([there, back])(_photos(), LABELS, KEYS)
    np.testing.assert_array_equal(fused, _photos())


def test_each_component_draws_from_its_own_keys() -> None:
    prepared = Augmenter([_component(0, _random_turn()), _component(2, _random_turn(Fill("reflect")))]).prepare(
        KEYS, 8, 8
    )
    assert not np.isin(prepared.keys[:, 0], prepared.keys[:, 1]).any()
    np.testing.assert_array_equal(prepared.keys[:, 1], derive_keys(KEYS, "component", 2))
    assert (prepared.matrices[:, 0] != prepared.matrices[:, 1]).any()


def test_batches_graphs_and_datasets_give_the_same_pixels() -> None:
    augmenter = Augmenter(EVERYTHING[:2])
    images, labels = augmenter(_photos(), LABELS, KEYS)
    prepared = augmenter.prepare(KEYS, 12, 10)
    photos = _photos().astype(np.float32)
    eager, _ = augmenter.transform(tf.constant(photos), tf.constant(LABELS), prepared.matrices, prepared.keys)
    rows = tf.data.Dataset.from_tensor_slices((photos, LABELS, prepared.matrices, prepared.keys))
    changed, tagged = next(iter(rows.batch(6).map(tf.autograph.experimental.do_not_convert(augmenter.transform))))
    np.testing.assert_array_equal(eager, images)
    np.testing.assert_array_equal(changed, images)
    np.testing.assert_array_equal(tagged, labels)
    one_by_one = [augmenter(_photos()[i : i + 1], LABELS[i : i + 1], KEYS[i : i + 1])[0][0] for i in range(6)]
    np.testing.assert_array_equal(np.stack(one_by_one), images)


def test_pure_and_driven_by_keys() -> None:
    first, _ = Augmenter(EVERYTHING)(_photos(), LABELS, KEYS)
    again, _ = Augmenter(EVERYTHING)(tf.constant(_photos()), tf.constant(LABELS), tf.constant(KEYS))
    other, _ = Augmenter(EVERYTHING)(_photos(), LABELS, KEYS + 1)
    np.testing.assert_array_equal(first, again)
    assert (np.abs(first - other).max(axis=(1, 2, 3)) > 1).all()


def test_batch_scope_changes_labels_too() -> None:
    _, labels = Augmenter(EVERYTHING)(_photos(), LABELS, KEYS)
    np.testing.assert_array_equal(labels, (LABELS + LABELS[::-1]) / 2)


def test_one_trace_serves_every_batch_size() -> None:
    traces: list[Any] = []

    def count(images: Any, labels: Any, keys: Any) -> tuple[Any, Any]:
        traces.append(images.shape)
        return images, labels

    augmenter = Augmenter([_component(0, Augmentation(apply=count))])
    for batch in (6, 4, 1):
        augmenter(_photos()[:batch], LABELS[:batch], KEYS[:batch])
    assert traces == [tf.TensorShape([None, 12, 10, 3])]


def test_properties_are_those_of_the_whole() -> None:
    impure = Augmentation(apply=_dim, is_deterministic=False)
    assert Augmenter(EVERYTHING).scope == "batch"
    assert Augmenter(EVERYTHING[:2]).scope == "photo"
    assert Augmenter(EVERYTHING).is_deterministic
    assert not Augmenter([*EVERYTHING, _component(3, impure)]).is_deterministic
    assert not Augmenter(EVERYTHING).is_identity


def _affine(result: Any) -> Augmentation:
    return Augmentation(affine=lambda keys, height_px, width_px: result)


def _apply(change: Any) -> Augmentation:
    return Augmentation(apply=change)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        pytest.param(_affine(np.zeros((6, 3))), r"float64 array \(6, 3, 3\), got float64 \(6, 3\)", id="matrix shape"),
        pytest.param(_affine(np.zeros((6, 3, 3), "f4")), r"float64 array .*, got float32", id="matrix dtype"),
        pytest.param(_affine(np.zeros((6, 3, 3))), "last row is 0, 0, 1", id="last row"),
        pytest.param(_affine(np.full((6, 3, 3), np.nan)), "finite matrices", id="not finite"),
        pytest.param(_affine(None), "got NoneType", id="no matrix"),
        pytest.param(_apply(lambda i, y, k: i), r"must return \(images, labels\), got", id="images only"),
        pytest.param(_apply(lambda i, y, k: (i[:, 1:], y)), r"images as .* \(batch, 12, 10, 3\), got", id="cropped"),
        pytest.param(_apply(lambda i, y, k: (tf.cast(i, tf.uint8), y)), "images as .*, got uint8", id="uint8"),
        pytest.param(_apply(lambda i, y, k: (i, y[:, :2])), r"labels as .* \(batch, 3\), got", id="fewer classes"),
        pytest.param(_apply(lambda i, y, k: (i[1:], y)), "returned 5 images and 6 labels for a batch of 6", id="lost"),
        pytest.param(_apply(lambda i, y, k: 1 / 0), "apply raised ZeroDivisionError: division by zero", id="raises"),
    ],
)
def test_a_step_that_breaks_its_contract_is_blamed_by_name(step: Augmentation, message: str) -> None:
    with pytest.raises(PluginError, match=rf"^augment\[1\] 'test' \(tests 1.0\): .*{message}") as caught:
        Augmenter([EVERYTHING[0], _component(1, step)])(_photos(), LABELS, KEYS)
    assert "\n" not in str(caught.value)


def test_deliberate_errors_of_a_step_pass_through() -> None:
    def refuse(keys: NDArray[np.int64], height_px: int, width_px: int) -> NDArray[np.float64]:
        raise ConfigError(f"photos of {width_px} px are too small.")

    with pytest.raises(ConfigError, match=r"^photos of 10 px are too small\.$"):
        Augmenter([_component(0, Augmentation(affine=refuse))])(_photos(), LABELS, KEYS)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([_shift(0, 0)], "the builder must return a tuple of Augmentation, got"),
        (("blur",), "step 0 must be an Augmentation, got 'blur'"),
        ((Augmentation(),), "step 0 must give exactly one of `affine` and `apply`"),
    ],
)
def test_what_a_builder_returns_is_checked_at_once(steps: Any, message: str) -> None:
    with pytest.raises(PluginError, match=rf"^mine: {message}"):
        Augmenter([AugmentComponent(0, "mine", steps)])
