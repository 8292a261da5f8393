"""Weights of one network read into another that the same code built, and into networks that it did not build."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from finetunekit.errors import RunFolderError
from finetunekit.models.feature_cache import EXTRACTION_BATCH
from finetunekit.models.forward import make_answering
from finetunekit.models.layer_names import weights_by_name
from finetunekit.models.saved_network import load_network, read_network, save_network
from finetunekit.runs.checkpoint import Checkpoint
from finetunekit.system.array_files import read_arrays, write_arrays
from finetunekit.training.run_log import RunLog
from finetunekit.types import PixelContract

PIXELS = PixelContract(scale=1 / 255)
numbers = count()


def network(between: Callable[[Any], Any]) -> Any:
    import keras

    photos = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(photos))
    return keras.Model(photos, keras.layers.Dense(3, name="out")(between(x)))


def twice_unnamed(x: Any) -> Any:
    import keras

    return keras.layers.Dense(4, "relu")(keras.layers.Dense(4, "relu")(x))


def two_weights_of_one_name(x: Any) -> Any:
    import keras

    class Own(keras.layers.Layer):  # type: ignore[misc]  # Keras is not annotated
        def __init__(self, size: object) -> None:
            super().__init__()
            self.size = size  # nothing that Keras could write

        def build(self, shape: tuple[int | None, ...]) -> None:
            self.scales = [self.add_weight(shape=(4,), name=name) for name in ("w", "w", None, None)]

        def call(self, y: Any) -> Any:
            return y * self.scales[0] + self.scales[1] * self.scales[2] - self.scales[3]

    return Own(object())(x)


def another_name_each_time(x: Any) -> Any:
    import keras

    return keras.layers.Dense(4, name=f"dense-of-now-{next(numbers)}")(x)


def layers_in_layers(x: Any) -> Any:
    import keras

    return keras.Sequential([keras.layers.Dense(4), keras.layers.BatchNormalization()])(x)


def lots(x: Any) -> Any:
    import keras

    return keras.layers.Lambda(lambda y: y + keras.random.normal((1, 4)), output_shape=(4,))(x)


def weights_where_keras_does_not_look(x: Any) -> Any:
    import keras

    class Own(keras.layers.Layer):  # type: ignore[misc]  # Keras is not annotated
        def __init__(self) -> None:
            super().__init__()
            kept = keras.layers.BatchNormalization()
            self.find = lambda: kept

        def call(self, y: Any, training: bool = False) -> Any:
            return self.find()(y, training=training)

    return Own()(x)


def test_variables_that_keras_does_not_know_of_come_back(tmp_path: Path) -> None:
    trained, again = network(weights_where_keras_does_not_look), network(weights_where_keras_does_not_look)
    photos = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    for _ in range(50):
        trained(photos, training=True)  # moving statistics follow the photos
    save_network(tmp_path / "model.npz", trained, PIXELS, "float32")
    load_network(tmp_path / "model.npz", again, PIXELS, "float32")
    assert np.array_equal(trained(photos), again(photos))


@pytest.mark.parametrize(
    "between",
    [twice_unnamed, two_weights_of_one_name, another_name_each_time, layers_in_layers, lots],
)
def test_what_the_same_code_builds_takes_the_weights_back(between: Callable[[Any], Any], tmp_path: Path) -> None:
    trained, again = network(between), network(between)
    for weight in trained.weights:
        weight.assign(np.random.default_rng(weight.path.__hash__() % 2**32).normal(size=weight.shape))
    save_network(tmp_path / "model.npz", trained, PIXELS, "float32")
    load_network(tmp_path / "model.npz", again, PIXELS, "float32")
    pairs = list(zip(weights_by_name(trained).values(), weights_by_name(again).values(), strict=True))
    assert len(pairs) == len(trained.weights) == len(again.weights)
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("between", [twice_unnamed, layers_in_layers, weights_where_keras_does_not_look])
def test_the_graph_in_the_file_answers_as_the_network_to_the_bit(between: Callable[[Any], Any], tmp_path: Path) -> None:
    trained = network(between)
    for weight in trained.weights:
        weight.assign(np.random.default_rng(len(weight.path)).random(size=weight.shape) + 0.5)
    save_network(tmp_path / "model.npz", trained, PIXELS, "float32")
    answer = read_network(tmp_path / "model.npz")
    assert answer is not None
    photos = np.random.default_rng(0).random((EXTRACTION_BATCH + 3, 8, 8, 3), np.float32)
    (logits, features), (expected, read) = answer(photos), make_answering(trained, EXTRACTION_BATCH)(photos)
    assert np.array_equal(logits, expected)
    assert features is not None
    assert read is not None
    assert np.array_equal(features, read)


def test_a_network_that_draws_lots_or_whose_graph_is_of_another_version_is_built_again(tmp_path: Path) -> None:
    save_network(tmp_path / "lots.npz", network(lots), PIXELS, "float32")
    assert read_network(tmp_path / "lots.npz") is None
    save_network(tmp_path / "model.npz", network(twice_unnamed), PIXELS, "float32")
    about, arrays = read_arrays(tmp_path / "model.npz")
    about["graph"]["tensorflow"] = "2.0.0"
    write_arrays(tmp_path / "model.npz", about, arrays)
    assert read_network(tmp_path / "model.npz") is None


def test_a_graph_that_would_write_a_file_is_refused(tmp_path: Path) -> None:
    from tensorflow.core.framework.graph_pb2 import GraphDef

    path = tmp_path / "model.npz"
    save_network(path, network(twice_unnamed), PIXELS, "float32")
    about, arrays = read_arrays(path)
    definition = GraphDef.FromString(arrays["graph"].tobytes())
    definition.node.add(name="evil", op="WriteFile")
    write_arrays(path, about, {**arrays, "graph": np.frombuffer(definition.SerializeToString(), np.uint8)})
    with pytest.raises(RunFolderError, match="its graph does more than arithmetic"):
        read_network(path)


def test_files_of_two_equal_networks_are_equal(tmp_path: Path) -> None:
    first, second = network(twice_unnamed), network(twice_unnamed)
    second.set_weights(first.get_weights())
    for name, one in (("a", first), ("b", second)):
        save_network(tmp_path / name, one, PIXELS, "float32")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_names_are_those_of_a_process_that_built_nothing_before() -> None:
    for _ in range(2):
        assert {name.partition("/")[0] for name in weights_by_name(network(twice_unnamed))} == {
            "conv2d", "dense", "dense_1", "out",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (
            lambda keras, x: keras.layers.Dense(5, "relu")(x),
            r"dense/kernel is \(4, 5\) float32, and was \(4, 4\) float32",
        ),
        (lambda keras, x: x, r"dense/kernel is gone; dense/bias is gone"),
        (lambda keras, x: keras.layers.Dense(4, "tanh")(x), r"answers otherwise than the one that was trained"),
    ],
)
def test_another_network_is_refused(other: Callable[[Any, Any], Any], match: str, tmp_path: Path) -> None:
    import keras

    path = tmp_path / "model.npz"
    save_network(path, network(keras.layers.Dense(4, "relu")), PIXELS, "float32")
    with pytest.raises(RunFolderError, match=match):
        load_network(path, network(lambda x: other(keras, x)), PIXELS, "float32")


def test_a_damaged_or_boastful_file_of_arrays_is_an_error_that_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, {"x": 1}, {"b": np.arange(6.0).reshape(2, 3), "a": np.zeros((0, 2), np.int8)})
    about, arrays = read_arrays(path)
    assert about == {"x": 1}
    assert list(arrays) == ["b", "a"]
    assert arrays["a"].shape == (0, 2)
    whole = path.read_bytes()
    middle = whole.index(b"NUMPY") + 150
    for content in (b"", b"x" * 500, whole[:-30], whole[:middle] + b"\xff" + whole[middle + 1 :]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"."):
            read_arrays(path)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr(
                "about.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 999
            )
        with pytest.raises(ValueError, match=r"claims more|reshape|multiple"):
            read_arrays(path)


def test_a_checkpoint_of_layers_in_another_order_is_refused_and_not_mixed_up(tmp_path: Path) -> None:
    model = network(twice_unnamed)
    weights = {f"weights/{i}:{name}": weight.numpy() for i, (name, weight) in enumerate(weights_by_name(model).items())}
    log = partial(RunLog, tmp_path, None, SimpleNamespace(logits=model))
    log(Checkpoint(0, 1, False, (), weights)).take_up()
    # the two hidden layers have the same shapes: by place alone nothing would be noticed
    other = {
        key.replace("dense_1/", "x/").replace("dense/", "dense_1/").replace("x/", "dense/"): weights[key]
        for key in weights
    }
    with pytest.raises(RunFolderError, match="builds its layers in an order of chance"):
        log(Checkpoint(0, 1, False, (), other)).take_up()
