"""The contract checks: every built-in keeps them, and each rule finds a plugin that is wrong in just that way."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import random
import re
import shutil
import socket
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_plugins import command, invoke, write
from pydantic import ConfigDict, Field

from finetunekit import (
    Augmentation,
    Backbone,
    BackboneSpec,
    ConfigError,
    DataError,
    Exported,
    Exporter,
    FinetuneKitError,
    Job,
    Options,
    Outcome,
    PhotoListing,
    PhotoRecord,
    PixelContract,
    PluginError,
    RunError,
    WeightSource,
    draw_uniform,
)
from finetunekit.models.preprocessing import as_input
from finetunekit.plugins.host import COLLECT_HOOKS, PluginHost, load_plugins
from finetunekit.statistics import softmax
from finetunekit.testing import (
    AWKWARD_CLASSES,
    ContractError,
    UnfitExampleError,
    check_augmentation,
    check_backbone,
    check_component,
    check_data_source,
    check_executor,
    check_exporter,
    check_freezing_policy,
    check_head,
    check_reporter,
    check_target,
    check_tracker,
    example_options,
    shared_tiny_run,
    tiny_photos,
)
from finetunekit.testing.tiny_plugin import STAND_IN, TINY_SPEC, TinyOptions, build_linear, build_tiny

ROOT = Path(__file__).parents[2]
#: Where defaults switch nothing on, or take long.
GIVEN: Mapping[str, Mapping[str, Any]] = {
    "drawn": {"per_class_train": 2, "per_class_valid": 1, "per_class_test": 1, "size_px": 16},
    "first_n": {"n": 2},
    "keras_generator": {
        "rotation_range": 20.0,
        "width_shift_range": 0.1,
        "brightness_range": (0.5, 1.5),
        "zoom_range": 0.2,
        "channel_shift_range": 20.0,
        "horizontal_flip": True,
    },
}


def built_ins() -> PluginHost:
    return load_plugins(pytest.fail, disabled=frozenset({"all"}))


#: Of the catalogue of keras.applications: one of each way that its builder goes. All of them take many minutes.
FROM_THE_CATALOGUE = {"mobilenetv3small", "efficientnetb0", "resnet50v2"}
LARGE = {"efficientnetb0", "resnet50v2", "efficientnet_lite1", "efficientnet_lite2"}
#: These are built and checked by tests of their own.
ELSEWHERE = {"mobilenetv3small", "efficientnet_lite0"}
BUILT_INS = [
    pytest.param(kind, name, marks=[pytest.mark.slow] if name in LARGE | ELSEWHERE else [])
    for kind in COLLECT_HOOKS
    for name, registered in built_ins().registries[kind].items()
    if registered.origin.plugin != "keras_applications" or name in FROM_THE_CATALOGUE
]


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_tiny_run(tmp_path_factory)


@pytest.mark.parametrize(("kind", "name"), BUILT_INS, ids=lambda value: value)
def test_every_built_in_keeps_its_contract(kind: str, name: str, run_path: Path, convert_here: None) -> None:
    registered = built_ins().registries[kind][name]
    options = registered.options.model_validate(GIVEN[name]) if name in GIVEN else None
    check_component(kind, registered, options, run=run_path)


def test_every_kind_of_component_is_checked_above() -> None:
    """But trackers: none is built in, and the tests of each of their distributions check it."""
    assert {one.values[0] for one in BUILT_INS} == set(COLLECT_HOOKS) - {"tracker"}


# ---- options ---------------------------------------------------------------------------------------------------------------------


class Bare(Options):
    depth: int = 3


class Loose(Options):
    model_config = ConfigDict(extra="ignore")


class OutOfBounds(Options):
    rate: float = Field(2.0, le=1, description="A rate.")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Bare(), r"Bare\.depth has no description"),
        (Loose(), r"Loose changes extra of finetunekit\.Options; it must stay 'forbid'"),
        (OutOfBounds(), r"OutOfBounds\.rate: its value does not pass its own bounds: .* Received: 2\.0"),
        (object(), r"must be a subclass of finetunekit\.Options\. Received: object"),
    ],
)
def test_options_that_are_wrong(options: Any, words: str) -> None:
    with pytest.raises(ContractError, match=words) as caught:
        check_freezing_policy(lambda options, layers: {}, options)
    assert str(caught.value).startswith(
        "freezing policy '<lambda>' of plugin 'test_contract_checks' (test_contract_checks.py): "
    )


class Required(Options):
    count: int = Field(gt=3, description="A count.")
    share: float = Field(ge=0.5, lt=1, description="A share.")
    pattern: str = Field(examples=["conv*"], description="A pattern.")
    names: tuple[str, ...] = Field(min_length=1, description="Names.")


class Unguessable(Options):
    code: str = Field(pattern="^x[0-9]{4}$", description="A code.")


def test_examples_are_made_for_required_options() -> None:
    made = example_options(Required)
    assert made.model_dump() == {"count": 4, "share": pytest.approx(0.999), "pattern": "conv*", "names": ("a",)}
    with pytest.raises(
        UnfitExampleError, match=r"no value to try was found for code\. Give one: Field\(\.\.\., examples="
    ):
        example_options(Unguessable)


# ---- tiny data -------------------------------------------------------------------------------------------------------------------


def test_tiny_photos_are_the_same_each_time(tmp_path: Path) -> None:
    first, second = tiny_photos(tmp_path / "a"), tiny_photos(tmp_path / "b")
    files = [sorted(path.relative_to(root) for path in root.rglob("*.png")) for root in (first, second)]
    assert len(files[0]) == 24
    assert files[0] == files[1]
    assert all((first / path).read_bytes() == (second / path).read_bytes() for path in files[0])


def test_a_tiny_run_is_finished_and_leaves_the_user_s_folders_alone(run_path: Path) -> None:
    state = json.loads((run_path / "run.json").read_text(encoding="utf-8"))
    assert (state["status"], state["stand_in"]) == ("finished", STAND_IN)
    assert state["classes"] == sorted(AWKWARD_CLASSES)
    assert list((run_path.parents[1] / "state").iterdir()) != []


# ---- heads -----------------------------------------------------------------------------------------------------------------------


def dense(features: Any, num_classes: int, **options: Any) -> Any:
    import keras

    x = features.tensor
    while len(x.shape) > 2:
        x = keras.ops.mean(x, axis=1)
    return keras.layers.Dense(num_classes, **{"dtype": "float32", **options})(x)


def softmax_inside(options: Options, features: Any, num_classes: int) -> Any:
    import keras

    return keras.layers.Identity()(dense(features, num_classes, activation="softmax"))


def half_precision(options: Options, features: Any, num_classes: int) -> Any:
    import keras

    return dense(features, num_classes, dtype=keras.config.dtype_policy())


def map_only(options: Options, features: Any, num_classes: int) -> Any:
    import keras

    pooled = keras.layers.GlobalAveragePooling2D()(features.tensor)
    return keras.layers.Dense(num_classes, dtype="float32")(pooled)


def refuse_all(options: Options, features: Any, num_classes: int) -> Any:
    raise PluginError(f"takes no {features.kind}")


def frozen_head(options: Options, features: Any, num_classes: int) -> Any:
    import keras

    return keras.ops.stop_gradient(dense(features, num_classes))


def weightless(options: Options, features: Any, num_classes: int) -> Any:
    import keras

    x = keras.ops.concatenate([features.tensor, features.tensor], axis=-1)
    while len(x.shape) > 2:
        x = keras.ops.mean(x, axis=1)
    return keras.ops.cast(x[:, :num_classes], "float32")


def unregistered(options: Options, features: Any, num_classes: int) -> Any:
    import keras

    class Mine(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs * 2

    return Mine(dtype="float32")(dense(features, num_classes))


MOODS = itertools.count(1)


def moody(options: Options, features: Any, num_classes: int) -> Any:
    return dense(features, num_classes) * next(MOODS)


def noisy(options: Options, features: Any, num_classes: int) -> Any:
    import keras

    class Noise(keras.layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.generator = keras.random.SeedGenerator(1)

        def call(self, inputs: Any) -> Any:
            return inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.generator)

    return Noise(dtype="float32")(dense(features, num_classes))


def companions(options: Options, features: Any, num_classes: int) -> Any:
    import keras

    logits = dense(features, num_classes)
    return logits - keras.ops.mean(logits, axis=0, keepdims=True)


def infinite(options: Options, features: Any, num_classes: int) -> Any:
    return dense(features, num_classes) / 0.0


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (softmax_inside, r"returns probabilities; return logits"),
        (half_precision, r"logits must be \(batch, 2\) float32 .* Received: \(None, 2\) bfloat16"),
        (lambda o, f, n: dense(f, n + 1), r"logits must be \(batch, 2\) float32 .* Received: \(None, 3\)"),
        (lambda o, f, n: "logits", r"must return a Keras tensor of logits\. Received: str"),
        (map_only, r"failed: .* If it does not take tokens features, it must say so with PluginError"),
        (refuse_all, r"refuses map, tokens and vector alike"),
        (frozen_head, r"training one step on map features raised ValueError: No gradients provided"),
        (weightless, r"no weight of it moved in a step of SGD"),
        (moody, r"that answers otherwise than the one that was trained"),
        (noisy, r"draws random numbers at inference"),
        (companions, r"depends on the other photos of the batch"),
        (infinite, r"its output is not finite for ordinary photos"),
    ],
)
def test_heads_that_are_wrong(build: Callable[..., Any], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        check_head(build)


def test_a_layer_of_ones_own_need_not_describe_itself() -> None:
    check_head(unregistered)


def test_a_head_may_refuse_kinds_but_not_those_it_claims() -> None:
    def build(options: Options, features: Any, num_classes: int) -> Any:
        if features.kind != "vector":
            raise PluginError("head 'build' takes vectors only.")
        return build_linear(options, features, num_classes)

    check_head(build)
    with pytest.raises(ContractError, match=r"refuses map features: head 'build' takes vectors only\."):
        check_head(build, kinds=["map", "vector"])


# ---- backbones -------------------------------------------------------------------------------------------------------------------


def changed_spec(**fields: Any) -> BackboneSpec:
    return dataclasses.replace(TINY_SPEC, **fields)


def source(**fields: Any) -> tuple[WeightSource, ...]:
    good = WeightSource("package_index", "some-package==1.0", "sha256:" + "0" * 64, lambda path: {})
    return (dataclasses.replace(good, **fields),)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"title": " "}, r"spec\.title must be one line of text"),
        ({"min_size_px": 0}, r"spec\.min_size_px must be a whole number above 0"),
        ({"min_size_px": 9}, r"spec\.min_size_px is 9, above spec\.native_size_px, 8"),
        ({"parameters": 499}, r"spec\.parameters is 499, but with its default options it has 498"),
        ({"pixels": PixelContract(std=(0.0, 1.0, 1.0))}, r"spec\.pixels\.scale and std must be above 0"),
        ({"pixels": PixelContract(scale=float("nan"))}, r"spec\.pixels needs finite numbers"),
        ({"pixels": PixelContract(order="grb")}, r"spec\.pixels\.order must be 'rgb' or 'bgr'"),  # type: ignore[arg-type]
        ({"licence": "CC-BY-4.0"}, r"spec\.attribution is empty, and CC-BY-4\.0 asks for one"),
        ({"weight_sources": source(location="some-package>=1")}, r"weight_sources\[0\]\.location must be pinned"),
        ({"weight_sources": source(checksum="md5:0")}, r"weight_sources\[0\]\.checksum must be sha256:"),
        ({"weight_sources": source(kind="url")}, r"weight_sources\[0\]\.location must be an https:// or http:// URL"),
        ({"weight_sources": source(kind="torrent")}, r"weight_sources\[0\]\.kind must be one of framework, url"),
        ({"weight_sources": source(convert=None)}, r"weight_sources\[0\]\.convert must be callable"),
    ],
)
def test_specs_that_cannot_be_true(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        check_backbone(build_tiny, TinyOptions(), spec=changed_spec(**fields))


@pytest.mark.parametrize("kind", ["map", "tokens", "vector"])
def test_a_good_backbone_passes_with_every_kind_of_features(kind: Any) -> None:
    check_backbone(build_tiny, TinyOptions(kind=kind), spec=changed_spec(weight_sources=source()))


def convolution(size_px: int, *, blocks: Mapping[str, tuple[str, ...]] | None = None, **options: Any) -> Backbone:
    import keras

    inputs = keras.Input((size_px, size_px, 3), name="input")
    first = keras.layers.Conv2D(4, 3, **{"name": "first", **options})(inputs)
    second = keras.layers.Conv2D(4, 3, name="second")(first)
    return Backbone(keras.Model(inputs, second), blocks=blocks or {})


def from_the_network(options: Options, size_px: int) -> Backbone:
    socket.create_connection(("127.0.0.1", 9))
    return convolution(size_px)


def quietly_from_the_network(options: Options, size_px: int) -> Backbone:
    try:
        socket.create_connection(("127.0.0.1", 9))
    except OSError:
        return convolution(size_px)
    raise AssertionError("the guard let it through")


def pretrained(options: Options, size_px: int) -> Backbone:
    backbone = convolution(size_px)
    backbone.model.set_weights([np.full(weight.shape, 0.5, np.float32) for weight in backbone.model.weights])
    return backbone


def other_kind(options: Options, size_px: int) -> Backbone:
    return dataclasses.replace(convolution(size_px), kind="tokens")


def even_only(options: Options, size_px: int) -> Backbone:
    if size_px % 2:
        raise ValueError("odd")
    return convolution(size_px)


def companions_too(options: Options, size_px: int) -> Backbone:
    import keras

    model = convolution(size_px).model
    return Backbone(keras.Model(model.inputs[0], model.output - keras.ops.mean(model.output, axis=0, keepdims=True)))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (from_the_network, r"its builder reaches for the network \(.*127\.0\.0\.1.*\)\. Build without weights"),
        (quietly_from_the_network, r"its builder reaches for the network"),
        (pretrained, r"two builds have the same weights, so it loads them"),
        (other_kind, r"kind 'tokens' does not fit its output"),
        (lambda o, px: convolution(px, name=None), r"layers are named differently each time it is built \('conv2d"),
        (lambda o, px: convolution(px + 1), r"there must be one input, \(None, 8, 8, 3\)"),
        (lambda o, px: convolution(px).model, r"must return finetunekit\.Backbone"),
        (
            lambda o, px: convolution(px, blocks={"a": ("third",)}),
            r"block 'a' names 'third', which is not among its layers",
        ),
        (lambda o, px: convolution(px, blocks={"a": ("first",), "b": ("first",)}), r"'first' is in two blocks"),
        (lambda o, px: convolution(px, blocks={"a": ("second",), "b": ("first",)}), r"blocks must be in order"),
        (even_only, r"failed: ValueError: odd A size it cannot take, such as 13 px, must be refused with PluginError"),
        (companions_too, r"depends on the other photos of the batch; each must be answered by itself"),
    ],
)
def test_backbones_that_are_wrong(build: Callable[..., Any], words: str) -> None:
    spec = changed_spec(parameters=260)
    with pytest.raises(ContractError, match=words):
        check_backbone(build, spec=spec)


def test_the_network_is_back_after_a_check() -> None:
    before = (socket.socket.connect, socket.getaddrinfo)
    with pytest.raises(ContractError, match="reaches for the network"):
        check_backbone(from_the_network, spec=TINY_SPEC)
    assert (socket.socket.connect, socket.getaddrinfo) == before


# ---- freezing policies -----------------------------------------------------------------------------------------------------------


class CountOptions(Options):
    n: int = Field(1, ge=0, description="How many.")


def cut_in_silence(options: CountOptions, layers: Any) -> dict[str, float]:
    return {layer.path: 0.0 for layer in layers[: options.n]}


def out_of_range(options: CountOptions, layers: Any) -> dict[str, float]:
    return {layers[number].path: 0.0 for number in range(options.n)}


def says_no(options: CountOptions, layers: Any) -> dict[str, float]:
    if options.n > len(layers):
        raise ConfigError(f"freeze.n: {options.n} is more than {len(layers)}.")
    return cut_in_silence(options, layers)


MOODS = itertools.count(1)


def moody() -> Callable[..., dict[str, float]]:
    moods = itertools.count()
    return lambda options, layers: {layers[0].path: float(next(moods))}


def matches_nothing(options: Options, layers: Any) -> dict[str, float]:
    raise ConfigError("freeze.pattern: 'stage9*' matches no layer.")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda o, layers: {"conv9": 0.0}, r"decides on 'conv9', which the backbone does not have"),
        (lambda o, layers: {layers[0].path: -1.0}, r"not a finite number >= 0\. Received: -1\.0"),
        (lambda o, layers: {layers[0].path: float("inf")}, r"not a finite number >= 0\. Received: inf"),
        (lambda o, layers: [0.0 for _ in layers], r"must return a mapping .* Received: list"),
        (
            lambda o, layers: {layer.path: 0.0 for layer in layers if layer.block.endswith("1")},
            r"failed: AttributeError",
        ),
        (moody(), r"decides differently the second time it is asked about the same layers \(a flat chain\)"),
    ],
)
def test_policies_that_are_wrong(build: Callable[..., Any], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        check_freezing_policy(build)


def test_a_number_of_layers_larger_than_there_are_is_an_error_of_the_user() -> None:
    check_freezing_policy(says_no, CountOptions())
    with pytest.raises(
        ContractError, match=r"n=6 is taken on a flat chain, which has 5 layers, and does what a smaller"
    ):
        check_freezing_policy(cut_in_silence, CountOptions())
    with pytest.raises(ContractError, match="IndexError"):
        check_freezing_policy(out_of_range, CountOptions())


def test_a_policy_that_fits_none_of_the_networks_is_not_called_wrong() -> None:
    with pytest.raises(
        UnfitExampleError, match=r"its options fit none of a flat chain, .*'stage9\*' matches no layer\."
    ):
        check_freezing_policy(matches_nothing)
    with pytest.raises(ContractError, match=r"on mine: freeze\.pattern: 'stage9\*' matches no layer\."):
        check_freezing_policy(matches_nothing, backbones={"mine": build_tiny(TinyOptions(), 8)})


# ---- augmentations ---------------------------------------------------------------------------------------------------------------


def pixels(change: Callable[[Any, Any, Any], Any], **options: Any) -> Callable[..., Any]:
    """A builder of one step that changes images."""
    return lambda _: (Augmentation(apply=lambda x, y, keys: (change(x, y, keys), y), **options),)


def labels(change: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda _: (Augmentation(apply=lambda x, y, keys: (x, change(y))),)


def matrices(change: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda _: (Augmentation(affine=lambda keys, height_px, width_px: change(keys)),)


def factor(keys: Any) -> Any:
    import tensorflow as tf

    return tf.cast(draw_uniform(keys, 1), tf.float32)[:, None, None, :]


def random_factor(keys: Any) -> Any:
    import tensorflow as tf

    return tf.random.uniform(tf.shape(keys))[:, None, None, None]


def turned(keys: Any, scale: float = 1.0) -> Any:
    made = np.tile(np.eye(3), (len(keys), 1, 1))
    made[:, 0, 0] = scale * (0.5 + draw_uniform(keys, 1)[:, 0])
    return made


def forgetful(keys: Any) -> Any:
    made = turned(keys)
    keys += 1
    return made


def only_eagerly(x: Any, y: Any, keys: Any) -> Any:
    import tensorflow as tf

    return x * factor(keys) if tf.executing_eagerly() else x * factor(keys + 1)


def mixed_up(x: Any, y: Any, keys: Any) -> Any:
    return (x + x[::-1]) / 2 * factor(keys)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda o: [Augmentation(apply=lambda x, y, k: (x, y))], r"must return a tuple of Augmentation, got \["),
        (lambda o: (Augmentation(),), r"exactly one of `affine` and `apply`"),
        (pixels(lambda x, y, k: x[:, :4]), r"must return images as a float32 tensor \(batch, 9, 12, 3\)"),
        (pixels(lambda x, y, k: x * (1 + factor(k))), r"pixels must stay in \[0, 255\]; clip them\. Received: 0 to "),
        (pixels(lambda x, y, k: x / 0.0), r"makes pixels that are not finite"),
        (labels(lambda y: y * 0.5), r"labels must stay >= 0 and sum to 1"),
        (pixels(lambda x, y, k: x * random_factor(k)), r"the same keys gave something else the second time"),
        (pixels(lambda x, y, k: x * 0.5), r"32 other keys gave the same photos"),
        (pixels(only_eagerly), r"gives other pixels or labels outside a graph than in a traced function"),
        (pixels(lambda x, y, k: x * float(k[0])), r"apply raised"),
        (pixels(mixed_up), r"depends on the other photos of the batch; say scope='batch'"),
        (pixels(mixed_up, scope="row"), r"scope must be 'photo' or 'batch'\. Received: 'row'"),
        (matrices(lambda keys: turned(keys).astype(np.float32)), r"affine must return a float64 array \(32, 3, 3\)"),
        (matrices(lambda keys: turned(keys, np.nan)), r"affine must return finite matrices"),
        (matrices(lambda keys: turned(keys, 0.0)), r"flattens the photo to a line"),
        (matrices(forgetful), r"affine changes the keys it is given; copy them first"),
        (matrices(lambda keys: turned(keys[::-1])), r"the matrix of a photo depends on the other keys of the batch"),
    ],
)
def test_augmentations_that_are_wrong(build: Callable[..., Any], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        check_augmentation(build)


@pytest.mark.parametrize(
    "build",
    [
        lambda o: (),
        matrices(turned),
        pixels(mixed_up, scope="batch"),
        pixels(lambda x, y, k: x * random_factor(k), is_deterministic=False),
    ],
    ids=["nothing", "affine", "batch", "not deterministic"],
)
def test_good_augmentations_pass(build: Callable[..., Any]) -> None:
    check_augmentation(build)


# ---- reporters -------------------------------------------------------------------------------------------------------------------


def text(name: str, of: Callable[[Any], str]) -> Callable[..., Any]:
    """A reporter of one text file."""
    return lambda options, run: {name: of(run).encode()}


def writes(options: Options, run: Any) -> Mapping[str, bytes]:
    (run.path / "extra.txt").write_text("mine", encoding="utf-8")
    return {"a.txt": b"a"}


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda o, run: [b"a"], r"must return a mapping of file name to bytes\. Received: list"),
        (lambda o, run: {}, r"returns no file at all"),
        (lambda o, run: {"a.txt": "a"}, r"a\.txt: must be bytes\. Received: str"),
        (lambda o, run: {"a/b.txt": b""}, r"file names must be plain"),
        (lambda o, run: {f"{run.classes[0]}.txt": b""}, r"file names must be plain.* \(a class name is none\)"),
        (lambda o, run: {"a.txt": b"", "A.txt": b""}, r"differ in case only"),
        (text("a.txt", lambda run: str(time.perf_counter_ns())), r"a\.txt came out differently the second time"),
        (writes, r"changes the run folder or its photos \(extra\.txt\)"),
        (text("a.svg", lambda run: "<svg/>"), r"a\.svg does not show the stand-in sentence"),
        (text("a.md", lambda run: f"{STAND_IN}"), r"a\.md calls photos a stand-in where run\.stand_in is None"),
        (text("a.svg", lambda run: f"<svg>{run.classes[0]}</svg>"), r"reading a\.svg \(class names must be escaped\)"),
        (text("a.html", lambda run: f"{run.stand_in}{run.classes[0]}"), r"a\.html: class names must be escaped"),
        (text("a.csv", lambda run: "a\n" + "\n".join(run.classes)), r"a\.csv: its rows differ in length"),
        (text("a.json", lambda run: '{"a": NaN}'), r"reading a\.json .* NaN is not JSON"),
        (lambda o, run: {"a.txt": {}["tset"]}, r"failed: KeyError"),
    ],
)
def test_reporters_that_are_wrong(build: Callable[..., Any], words: str, run_path: Path) -> None:
    before = {path: path.read_bytes() for path in run_path.rglob("*") if path.is_file()}
    with pytest.raises(ContractError, match=words):
        check_reporter(build, run=run_path)
    assert {path: path.read_bytes() for path in run_path.rglob("*") if path.is_file()} == before


def test_a_sentence_broken_over_the_lines_of_a_figure_is_found(run_path: Path) -> None:
    def build(options: Options, run: Any) -> Mapping[str, bytes]:
        words = [f"<text>{word.replace('&', '&amp;')}</text>" for word in (run.stand_in or "").split()]
        return {"a.svg": f"<svg>{''.join(words)}</svg>".encode(), "a.png": b"\x89PNG"}

    check_reporter(build, run=run_path)


# ---- trackers --------------------------------------------------------------------------------------------------------------------


class Tracker:
    """Keeps its contract, and does nothing."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def start(self, run: Any) -> str:
        return "the run"

    def epoch(self, step: int, values: Mapping[str, float], at_s: float) -> None: ...

    def finish(self, end: Any) -> None: ...

    def fail(self, status: str) -> None: ...


def tracker(**methods: Callable[..., Any]) -> Callable[..., Any]:
    """One that does something else in these calls."""
    return type("Other", (Tracker,), methods)


def leaves_a_thread(self: Any, end: Any) -> None:
    threading.Thread(target=LEFT.wait, name="sender").start()


LEFT = threading.Event()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda o: object(), r"what its builder returns has no start and no epoch and no finish and no fail"),
        (tracker(start=lambda self, run: 7), r"start must return the id of the run\. Received: 7"),
        (tracker(start=lambda self, run: f"{run.run_id} again"), r"start must go on with the run that run_id names"),
        (tracker(epoch=lambda self, step, values, at_s: print("sent")), r"prints to stdout \('sent'\)"),
        (tracker(finish=lambda self, end: random.random()), r"draws from Python's or NumPy's global random numbers"),
        (tracker(finish=lambda self, end: (end.folder / "id").touch()), r"changes the run folder \(id\)"),
        (tracker(fail=lambda self, status: 1 / 0), r"tracking a run that was killed raised ZeroDivisionError"),
        (tracker(finish=leaves_a_thread), r"leaves a thread behind \(sender\) that is not a daemon"),
    ],
)
def test_trackers_that_are_wrong(build: Callable[..., Any], words: str, run_path: Path) -> None:
    LEFT.clear()
    try:
        with pytest.raises(ContractError, match=words):
            check_tracker(build, run=run_path)
    finally:
        LEFT.set()


def test_a_tracker_that_does_nothing_keeps_its_contract(run_path: Path) -> None:
    check_tracker(Tracker, run=run_path)


# ---- executors -------------------------------------------------------------------------------------------------------------------


def carry_out_here(jobs: Iterator[Job], say: Any) -> Iterator[Outcome]:
    """As `local`."""
    for job in jobs:
        try:
            job.here()
        except RunError as exc:
            yield Outcome(job, exc)
        else:
            yield Outcome(job)


def executor(change: Callable[[Iterator[Outcome]], Iterator[Outcome]]) -> Callable[..., Any]:
    """One that does something else with what comes of jobs."""

    def run(self: Any, jobs: Iterator[Job], say: Any) -> Iterator[Outcome]:
        return change(carry_out_here(jobs, say))

    return lambda options: type("Other", (), {"run": run})()


def in_other_words(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    yield from (Outcome(one.job, one.error and RunError("exit code 4")) for one in outcomes)


def with_an_error(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    yield from (Outcome(one.job, one.error or RunError("killed")) for one in outcomes)


def that_prints(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    for one in outcomes:
        print("done")
        yield one


def without_errors(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    with contextlib.suppress(FinetuneKitError):
        yield from outcomes


def begun_ahead(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """Of what is under way when it is closed, something goes on."""
    first = next(outcomes)
    ahead = first.job.folder.with_name("1")
    if first.job.folder.parent.name == "stopped":
        (ahead / "run.json").write_text((ahead / "run.json").read_text().replace("waiting", "running"))
    yield first
    yield from outcomes


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda options: object(), r"what its builder returns has no run\."),
        (
            executor(in_other_words),
            r"must give back the error that a job ended with: RunError, .* Received: RunError\('exit code 4'\)",
        ),
        (
            executor(with_an_error),
            r"with an error: killed\. It was killed once, and has to be taken up again in its folder",
        ),
        (executor(that_prints), r"prints to stdout \('done'\)"),
        (executor(without_errors), r"hides what is raised where it asks for the next job"),
        (executor(begun_ahead), r"leaves a job running, or killed without warning, when it is closed"),
        (executor(lambda outcomes: iter(())), r"stopped before its work was done"),
    ],
)
def test_executors_that_are_wrong(build: Callable[..., Any], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        check_executor(build)


# ---- exporters -------------------------------------------------------------------------------------------------------------------


def exports(answer: Callable[[Any], Any] = lambda found: found, **fields: Any) -> Callable[..., Any]:
    """An exporter that keeps the Keras model; `answer` spoils what it says, `fields` what it tells of itself."""

    def write(servable: Any, folder: Path) -> Any:
        servable.network.save(folder / "model.keras")
        about = {"classes": servable.classes, "temperature": servable.temperature}
        (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
        values = {
            "files": ("model.keras",),
            "takes": "square",
            "precision": "float32",
            "operations": {},
            "requires": (),
        }
        return Exported(**{**values, **fields})

    def about_of(folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        return found

    def read(folder: Path) -> tuple[str, ...]:
        return tuple(about_of(folder)["classes"])

    def open_model(folder: Path) -> Any:
        import keras

        model, temperature = keras.models.load_model(folder / "model.keras"), about_of(folder)["temperature"]

        def predict(photos: Any) -> dict[str, Any]:
            logits = model(as_input(photos, TINY_SPEC.pixels)).numpy()
            return {"probabilities": answer(softmax(logits / temperature))}

        return predict

    return lambda options: Exporter(write, open_model, read)


def changed_exporter(**functions: Any) -> Callable[..., Any]:
    return lambda options: dataclasses.replace(exports()(options), **functions)


def writes_into_the_run(run_path: Path) -> Callable[..., Any]:
    def write(servable: Any, folder: Path) -> Any:
        (run_path / "extra.txt").write_text("mine", encoding="utf-8")
        return exports()(None).write(servable, folder)

    return changed_exporter(write=write)


def test_a_good_exporter_passes(run_path: Path) -> None:
    check_exporter(exports(), run=run_path)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda o: "a", r"must return finetunekit\.Exporter\. Received: str"),
        (
            changed_exporter(write=lambda servable, folder: None),
            r"write must return finetunekit\.Exported\. Received: NoneType",
        ),
        (exports(files=()), r"names no file"),
        (exports(files=("model.keras", "b.txt")), r"names files that it did not write: b\.txt"),
        (exports(takes="bytes"), r"takes is pixels or square\. Received: 'bytes'"),
        (exports(precision="int4"), r"precision is one of float32, float16, int8\. Received: 'int4'"),
        (exports(takes="pixels"), r"predicting 1 photos of 16 × 24 pixels raised"),
        (exports(lambda found: found[:, :2]), r"probabilities must be \(1, 3\)\. Received: \(1, 2\)"),
        (
            exports(lambda found: found[:, ::-1]),
            r"a probability is 0\.\d+ away from the network's; allowed for float32: 0\.001",
        ),
        (exports(lambda found: found[:1]), r"3 photos of 8 × 8 pixels: probabilities must be \(3, 3\)"),
        (
            changed_exporter(classes=lambda folder: ("a", "b")),
            r"class names must come back in order\. Received: \('a', 'b'\)",
        ),
    ],
)
def test_exporters_that_are_wrong(build: Callable[..., Any], words: str, run_path: Path) -> None:
    with pytest.raises(ContractError, match=words):
        check_exporter(build, run=run_path)


def test_an_exporter_that_writes_into_the_run_is_found(run_path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_path, tmp_path / "copy"))
    with pytest.raises(ContractError, match=r"changes the run folder \(extra\.txt\)"):
        check_exporter(writes_into_the_run(copy), run=copy)


def test_an_exporter_whose_package_is_missing_cannot_be_checked(run_path: Path) -> None:
    def build(options: Options) -> Any:
        raise ConfigError("acme: not installed.")

    with pytest.raises(UnfitExampleError, match="acme: not installed"):
        check_exporter(build, run=run_path)


# ---- data sources ----------------------------------------------------------------------------------------------------------------


def list_folder(context: Any) -> list[PhotoRecord]:
    if context.root is None or not context.root.is_dir():
        raise DataError("data.root: no such folder.")
    paths = sorted(context.root.rglob("*.png"))
    if not paths:
        raise DataError("data.root: no photos.")
    return [PhotoRecord(path, path.parent.name, path.parent.parent.name) for path in paths]


def listing(change: Callable[[list[PhotoRecord]], Any], **fields: Any) -> Callable[..., Any]:
    return lambda options, context: PhotoListing(
        **{"photos": tuple(change(list_folder(context))), "root": context.root, **fields}
    )


def first_changed(**fields: Any) -> Callable[..., Any]:
    return listing(lambda photos: [dataclasses.replace(photos[0], **fields), *photos[1:]])


def shuffled() -> Callable[..., Any]:
    turns = itertools.count()
    return listing(lambda photos: photos[:: -1 if next(turns) % 2 else 1])


def opens_photos(options: Options, context: Any) -> Any:
    from PIL import Image

    for photo in list_folder(context):
        Image.open(photo.path).close()
    return listing(list)(options, context)


def keeps_notes(options: Options, context: Any) -> Any:
    (context.root / "index.txt").write_text("mine", encoding="utf-8")
    return listing(list)(options, context)


def careless(options: Options, context: Any) -> Any:
    rows = [path for split in ("train", "valid", "test") for path in sorted((context.root / split).rglob("*.png"))]
    return PhotoListing(tuple(PhotoRecord(p, p.parent.name, p.parent.parent.name) for p in rows), context.root)


def in_silence(options: Options, context: Any) -> Any:
    try:
        return listing(list)(options, context)
    except DataError:
        return PhotoListing((), Path())


def talks_in_lines(options: Options, context: Any) -> Any:
    context.say("one\ntwo")
    return listing(list)(options, context)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda o, context: list_folder(context), r"must return finetunekit\.PhotoListing\. Received: \["),
        (listing(list, photos=[]), r"photos must be a tuple of PhotoRecord"),
        (listing(list, notes="a note"), r"notes must be a tuple of lines"),
        (listing(list, stand_in=""), r"stand_in must be None or one line of text"),
        (first_changed(path=Path("gone.png")), r"lists gone\.png, and there is no such file"),
        (first_changed(label=7), r"label must be text or None\. Received: 7"),
        (first_changed(split="dev"), r"split must be one of train, valid, test, display\. Received: 'dev'"),
        (first_changed(label=None), r"its splits cannot be trained on: .*has no class"),
        (listing(lambda photos: [p for p in photos if p.split != "valid"]), r"cannot be trained on: .*no valid photos"),
        (listing(lambda photos: [*photos, photos[0]]), r"lists a photo twice in one split: .*0\.png \(test\)"),
        (shuffled(), r"lists something else the second time; sort what the file system gives"),
        (opens_photos, r"UnidentifiedImageError.* opens no photo: broken ones are found and named later"),
        (keeps_notes, r"changes its root \(.*index\.txt\); write into context\.cache_dir only"),
        (careless, r"no root must be a DataError that says what to do\. Received: .* failed: TypeError"),
        (in_silence, r"no root must be a DataError that says what to do, and it was listed in silence"),
        (talks_in_lines, r"must say one line of text at a time"),
    ],
)
def test_data_sources_that_are_wrong(build: Callable[..., Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=words):
        check_data_source(build, root=tiny_photos(tmp_path / "photos"))


BUNDLE = """
    from finetunekit import DataError, hookimpl

    def build(options, context):
        raise DataError("data.root: is no bundle.")

    @hookimpl
    def register_data_sources(register):
        register("bundle", build)
"""


def test_a_data_source_on_a_root_of_another_kind_is_not_called_wrong(tmp_path: Path) -> None:
    plugin = write(tmp_path / "flat.py", BUNDLE)
    (verdict,) = check_target(str(plugin), lambda line: None)
    assert verdict.status == "unchecked"
    assert re.search(
        r"is no bundle\. None of the kit's layouts fits it; check it on a root of its own", verdict.words[0]
    )


# ---- the verb --------------------------------------------------------------------------------------------------------------------

TWO_HEADS = """
    import sys

    from finetunekit import Options, PluginError, hookimpl

    def linear(options, features, num_classes):
        from finetunekit.testing.tiny_plugin import build_linear

        if features.kind != "map":
            raise PluginError("takes maps only.")
        return build_linear(options, features, num_classes)

    def wrong(options, features, num_classes):
        return linear(options, features, num_classes + 1)

    def elsewhere(options, features, num_classes):
        import keras

        print("a line on stdout")
        return linear(options, features, num_classes) * (1 if "pytest" in sys.modules else 9)

    @hookimpl
    def register_heads(register):
        register("good_head", linear)
        register("wrong_head", wrong)
        register("of_a_process", elsewhere)
"""


ONE_POLICY = """
    from finetunekit import hookimpl

    @hookimpl
    def register_freezing_policies(register):
        register("leave_it", lambda options, layers: {})
"""


def test_check_says_what_is_wrong_of_each_component(tmp_path: Path) -> None:
    plugin = write(tmp_path / "two_heads.py", TWO_HEADS)
    result = invoke("plugins", "check", str(plugin))
    lines = result.stdout.splitlines()
    assert result.exit_code == 3
    assert lines[0] == "head good_head     ok"
    assert lines[1] == "head wrong_head    problem"
    words = " ".join(" ".join(lines[2:-1]).split())
    assert "logits must be (batch, 2) float32" in words
    assert "head of_a_process problem trained in one process and loaded in another" in words
    assert "that answers otherwise than the one that was trained" in words
    assert lines[-1] == "3 checked: 1 ok, 2 problem"
    assert max(map(len, lines)) <= 80 or str(plugin) in result.stdout
    said = [line for line in result.stderr.splitlines() if line != "a line on stdout"]
    assert said == [
        *(f"checking head '{name}'" for name in ("good_head", "wrong_head", "of_a_process")),
        "building the saved network again in another process",
    ]


def test_check_as_json(tmp_path: Path) -> None:
    result = invoke("plugins", "check", str(write(tmp_path / "one.py", ONE_POLICY)), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["components"] == [
        {"kind": "freezing policy", "name": "leave_it", "status": "ok", "words": []}
    ]


MANY_FAULTS = """
    from finetunekit import Options, hookimpl

    class Fickle(Options):
        first: int = 3
        second: str = ""

    def build(options, layers):
        build.asked = getattr(build, "asked", 0) + 1
        return {layers[-1].path: float(build.asked)}

    @hookimpl
    def register_freezing_policies(register):
        register("fickle", build, Fickle)
"""


def test_check_says_every_rule_that_is_broken(tmp_path: Path) -> None:
    (verdict,) = check_target(str(write(tmp_path / "fickle.py", MANY_FAULTS)), lambda line: None)
    assert [line.partition("): ")[2] for line in verdict.words] == [
        "Fickle.first has no description. Plans and listings print it: Field(..., description='...').",
        "Fickle.second has no description. Plans and listings print it: Field(..., description='...').",
        "decides differently the second time it is asked about the same layers (a flat chain); it must be pure.",
    ]


def test_check_takes_the_name_of_a_component_or_of_a_plugin() -> None:
    assert invoke("plugins", "check", "none").stdout.splitlines() == ["freezing policy none  ok", "1 checked: 1 ok"]


@pytest.mark.parametrize(
    ("target", "code", "words"),
    [
        ("gap_dens", 2, r"no plugin file, plugin or component 'gap_dens'\. Did you mean 'gap_dense'\?"),
        ("no/such.py", 3, r"plugin 'such' \(no/such\.py\) is not used: no such file"),
        ("no/folder", 3, r"no such file: no/folder"),
        ("empty.py", 3, r"empty\.py: registers nothing that can be checked"),
        ("bad", 3, r"bad/pyproject\.toml: has no \[project\.entry-points\.finetunekit\]"),
        ("lost", 3, r"lost/pyproject\.toml: entry point 'x' names the module 'not_here', which is not there"),
    ],
)
def test_targets_that_cannot_be_checked(
    target: str, code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "empty.py", "x = 1\n")
    write(tmp_path / "bad" / "pyproject.toml", "[project]\nname = 'bad'\n")
    write(tmp_path / "lost" / "pyproject.toml", "[project.entry-points.finetunekit]\nx = 'not_here'\n")
    result = invoke("plugins", "check", target)
    assert result.exit_code == code
    assert re.search(words, result.stderr)
    assert result.stdout == ""


def test_a_package_with_modules_of_its_own_is_checked_where_it_lies(tmp_path: Path) -> None:
    home = tmp_path / "project"
    write(home / "pyproject.toml", "[project.entry-points.finetunekit]\nkit = 'kit_policies'\n")
    write(
        home / "src" / "kit_policies" / "__init__.py",
        """
        from finetunekit import hookimpl
        from kit_policies.policy import build

        @hookimpl
        def register_freezing_policies(register):
            register("kit_none", build)
        """,
    )
    write(home / "src" / "kit_policies" / "policy.py", "def build(options, layers):\n    return {}\n")
    (verdict,) = check_target(str(home), lambda line: None)
    assert (verdict.kind, verdict.name, verdict.status) == ("freezing policy", "kit_none", "ok")


def test_a_module_that_imports_something_heavy_when_loaded_is_told(tmp_path: Path) -> None:
    plugin = write(tmp_path / "slow.py", "import matplotlib\n" + textwrap.dedent(BUNDLE))
    done = command("plugins", "check", str(plugin), "--json", cwd=tmp_path)
    first, second = json.loads(done.stdout)["components"]
    assert done.returncode == 3
    assert (first["kind"], first["name"]) == ("plugin", "slow")
    assert "loading it imports matplotlib; import it inside builders" in first["words"][0]
    assert (second["name"], second["status"]) == ("bundle", "unchecked")
