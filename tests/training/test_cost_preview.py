"""What a run will cost, told before it: arithmetic, layers, cut, bytes, time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from finetunekit_builtin.reporters.architecture import summary_table

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.config.planning import prepare
from finetunekit.errors import RunError
from finetunekit.models.classifier import build_classifier
from finetunekit.models.feature_cache import EXTRACTION_BATCH
from finetunekit.models.flops import count_multiply_adds, count_uses, not_counted, total_multiply_adds
from finetunekit.models.freezing import check_decision, describe_layers
from finetunekit.models.layer_table import layer_table
from finetunekit.system.formatting import show_bytes
from finetunekit.system.progress import Progress
from finetunekit.training.cost_preview import Preview, count_photos, preview
from finetunekit.training.cost_text import preview_lines, show_count
from finetunekit.training.sampling import views_drawn
from finetunekit.training.step_timing import StageTimes

pytestmark = pytest.mark.usefixtures("own_cache")
TINY_PHOTOS = {"train": 12, "valid": 6, "test": 6, "display": 0}
PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"
FELIDS = {"train": 600, "valid": 200, "test": 160, "display": 0}


def look(preset: object, *settings: str, photos: Mapping[str, int] = TINY_PHOTOS, classes: int = 3) -> Preview:
    plan, _ = prepare(str(preset), settings=settings)
    return preview(plan, photo_counts=photos, num_classes=classes, is_calibrated=False)


# ---- arithmetic ------------------------------------------------------------------------------------------------------------------


def kinds() -> list[tuple[str, dict[str, Any], tuple[int, ...], int | None]]:
    """Layer, arguments, input shape of one photo, and its multiply-adds as counted by hand."""
    return [
        ("Conv2D", {"filters": 4, "kernel_size": 3, "padding": "same"}, (8, 8, 3), 8 * 8 * 3 * 3 * 3 * 4),
        ("Conv2D", {"filters": 4, "kernel_size": 3}, (8, 8, 3), 6 * 6 * 3 * 3 * 3 * 4),
        ("Conv2D", {"filters": 4, "kernel_size": 3, "strides": 2}, (8, 8, 3), 3 * 3 * 3 * 3 * 3 * 4),
        ("Conv2D", {"filters": 4, "kernel_size": 3, "dilation_rate": 2}, (8, 8, 3), 4 * 4 * 3 * 3 * 3 * 4),
        ("Conv2D", {"filters": 6, "kernel_size": 3, "groups": 2}, (8, 8, 4), 6 * 6 * 3 * 3 * 2 * 6),
        ("Conv1D", {"filters": 4, "kernel_size": 3}, (8, 2), 6 * 3 * 2 * 4),
        ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2}, (8, 8, 3), 6 * 6 * 3 * 3 * 3 * 2),
        ("SeparableConv2D", {"filters": 5, "kernel_size": 3}, (8, 8, 3), 6 * 6 * (3 * 3 * 3 + 3 * 5)),
        ("Conv2DTranspose", {"filters": 5, "kernel_size": 2, "strides": 2}, (4, 4, 3), 4 * 4 * 3 * 2 * 2 * 5),
        ("Dense", {"units": 7}, (5,), 5 * 7),
        ("Dense", {"units": 7}, (4, 3, 5), 4 * 3 * 5 * 7),
        ("EinsumDense", {"equation": "abc,cd->abd", "output_shape": (None, 6)}, (4, 5), 4 * 5 * 6),
        ("EinsumDense", {"equation": "...x,xy->...y", "output_shape": 6}, (5,), 5 * 6),
        ("MaxPooling2D", {}, (8, 8, 3), 0),
        ("Activation", {"activation": "relu"}, (8, 8, 3), 0),
        ("BatchNormalization", {}, (8, 8, 3), 0),
        ("LayerNormalization", {}, (8, 8, 3), 0),
        ("GRU", {"units": 3}, (4, 5), None),
    ]


@pytest.mark.parametrize(("name", "arguments", "shape", "expected"), kinds())
def test_a_layers_multiply_adds(
    name: str, arguments: dict[str, Any], shape: tuple[int, ...], expected: int | None
) -> None:
    import keras

    layer = getattr(keras.layers, name)(**arguments)
    output = layer(keras.Input(shape))
    assert count_multiply_adds(layer, [(None, *shape)], tuple(output.shape)) == expected


def test_attention_counts_projections_scores_and_sum() -> None:
    import keras

    query, value = keras.Input((5, 6)), keras.Input((7, 8))
    output = keras.layers.MultiHeadAttention(2, 3, value_dim=4, output_shape=9)(query, value)
    (*_, use) = count_uses(keras.Model([query, value], output))
    projections = 5 * 6 * 2 * 3 + 7 * 8 * 2 * 3 + 7 * 8 * 2 * 4 + 5 * 2 * 4 * 9
    assert use.multiply_adds == projections + 5 * 7 * 2 * 3 + 5 * 7 * 2 * 4


def test_a_layer_used_twice_counts_twice_also_inside_a_nested_model() -> None:
    import keras

    shared = keras.layers.Conv2D(3, 1, name="shared")
    inputs = keras.Input((4, 4, 3))
    inner_inputs = keras.Input((4, 4, 3))
    inner = keras.Model(
        inner_inputs, keras.layers.Conv2D(3, 3, padding="same", name="conv")(inner_inputs), name="inner"
    )
    uses = count_uses(keras.Model(inputs, inner(shared(shared(inputs)))))
    assert [use.path for use in uses if use.multiply_adds] == ["shared", "shared", "inner/conv"]
    assert total_multiply_adds(uses) == 2 * 16 * 9 + 16 * 9 * 9


def test_what_cannot_be_counted_is_named() -> None:
    import keras

    class Own(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")

        def call(self, x: Any) -> Any:
            return x @ self.kernel

    inputs = keras.Input((4, 3))
    x = Own(name="own")(inputs)
    product = keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1)))
    uses = count_uses(keras.Model(inputs, keras.layers.Dense(2)(product)))
    assert [name.split("_")[0] for name in not_counted(uses)] == ["own (Own)", "matmul (Matmul)"]
    assert total_multiply_adds(uses) == 4 * 4 * 2


def test_vgg16_at_100_px() -> None:
    import keras

    model = keras.applications.VGG16(include_top=False, weights=None, input_shape=(100, 100, 3))
    whole = total_multiply_adds(count_uses(model))
    frozen = total_multiply_adds(count_uses(keras.Model(model.inputs[0], model.layers[14].output)))
    assert (round(whole / 1e9, 2), round(frozen / 1e9, 2)) == (2.96, 2.71)
    assert round(frozen / whole, 2) == 0.91


# ---- layers and cut --------------------------------------------------------------------------------------------------------------


def test_felidae4_is_cut_at_block4_pool() -> None:
    settings = ("cache.mode=exact", "precision=float32")
    seen = look("felidae4", *settings, photos=FELIDS, classes=4)
    (stage,) = seen.stages
    assert stage.boundary == ("block4_pool",)
    assert len(stage.layers_before_cut) == 15
    assert stage.share_before_cut == pytest.approx(0.914, abs=5e-4)
    assert stage.bytes_per_photo == 6 * 6 * 512 * 4
    assert stage.cache_bytes == seen.cache_bytes == (600 + 200 + 160) * 6 * 6 * 512 * 4
    assert stage.trainable_parameters == 3 * (512 * 512 * 9 + 512) + 512 * 1024 + 1024 + 1024 * 4 + 4
    assert [row.rate for row in stage.layers if row.path in ("block4_conv3", "block4_pool", "block5_conv1")] == [
        0,
        None,
        1,
    ]
    assert seen.estimate is None


def test_a_bank_of_felidae4_in_bfloat16() -> None:
    (stage,) = look("felidae4", "precision=bfloat16", photos=FELIDS, classes=4).stages
    assert (stage.mode, stage.bytes_per_photo) == ("bank", 6 * 6 * 512 * 2)
    assert stage.cache_bytes == (64 * 600 + 600 + 200 + 160) * 6 * 6 * 512 * 2


def test_a_bank_counts_no_view_that_will_not_be_drawn() -> None:
    settings = ("precision=bfloat16", "stages[0].epochs=3")  # at most three passes an epoch, two of them whole
    (stage,) = look("felidae4", *settings, photos=FELIDS, classes=4).stages
    assert [entries.views for entries in stage.entries if entries.views] == [9]


def test_a_skip_connection_crosses_the_cut(tiny_yaml: Path) -> None:
    (stage,) = look(tiny_yaml, "backbone={name: tiny, skip: true}", "stages[0].freeze={name: first_n, n: 2}").stages
    assert stage.boundary == ("conv1",)
    assert stage.layers_before_cut == ("input", "conv1")
    assert stage.multiply_adds_before_cut == 8 * 8 * 3 * 9 * 4
    assert stage.multiply_adds == 8 * 8 * 3 * 9 * 4 + 8 * 8 * 4 * 9 * 4 + 4 * 8 + 8 * 3


@pytest.mark.parametrize(
    ("trains", "rate", "boundary"), [("false", 0, "pool1"), ("true", 1, "conv1")], ids=["frozen", "moving"]
)
def test_batch_norm_and_the_cut(tiny_yaml: Path, trains: str, rate: float, boundary: str) -> None:
    settings = (f"stages[0].train_batch_norm={trains}", "stages[0].freeze={name: first_n, n: 2}")
    (stage,) = look(tiny_yaml, "backbone={name: tiny, batch_norm: true}", *settings).stages
    (norm,) = [row for row in stage.layers if row.path == "norm"]
    assert (norm.rate, norm.parameters, norm.multiply_adds) == (rate, 16, 0)
    assert stage.boundary == (boundary,)
    assert norm.is_before_cut == (rate == 0)


def test_nothing_frozen_or_cache_off_gives_no_cut(tiny_yaml: Path) -> None:
    for setting in ("stages[0].freeze={name: none}", "cache.mode=off"):
        seen = look(tiny_yaml, setting)
        assert (seen.stages[0].boundary, seen.stages[0].mode, seen.cache_bytes) == ((), "off", 0)
        assert "cut            none" in "\n".join(preview_lines(seen))


def test_the_layer_table_is_what_the_architecture_report_reads(tiny_yaml: Path) -> None:
    plan, _ = prepare(str(tiny_yaml))
    classifier = build_classifier(plan.network, 3, "float32")
    layers = describe_layers(classifier.backbone)
    rows = layer_table(classifier, check_decision({"conv1": 0, "conv2": 0.1}, layers, "p", train_batch_norm=False))
    assert rows[1] == {
        "path": "conv1",
        "class_name": "Conv2D",
        "block": "block1",
        "output_shape": (None, 8, 8, 4),
        "parameters": 112,
        "rate": 0,
        "claimed_by": None,
    }
    assert [(row["path"], row["block"], row["rate"]) for row in rows[2:]] == [
        ("pool1", None, None),
        ("conv2", "block2", 0.1),
        ("gap", "head", None),
        ("hidden", "head", 1),
        ("logits", "head", 1),
    ]
    text = summary_table(json.loads(json.dumps(rows)))
    assert f"Parameters: {classifier.logits.count_params():,}\n" in text
    assert "frozen:    112\n" in text


# ---- cache -----------------------------------------------------------------------------------------------------------------------

TWO_STAGES = (
    "stages=[{name: a, epochs: 1, freeze: {name: first_n, n: 3}, optimizer: {learning_rate: 0.01}}, "
    "{name: b, epochs: 1, freeze: {name: first_n, n: %d}, optimizer: {learning_rate: 0.01}}]"
)


def test_a_later_stage_makes_only_the_views_that_an_earlier_one_did_not(tiny_yaml: Path) -> None:
    seen = look(tiny_yaml, "cache={mode: bank, views: 50}", TWO_STAGES % 3)
    made = [sum(entries.views for entries in stage.entries) for stage in seen.stages]
    drawn = [
        views_drawn(photos=12, draws=30, views=50, seed=prepare(str(tiny_yaml))[0].config.seed, epochs=epochs)
        for epochs in (1, 2)
    ]
    assert made == [drawn[0], drawn[1] - drawn[0]]
    assert made[1] > 0


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(("cache.mode=exact",), id="exact"),
        pytest.param(("cache={mode: bank, views: 3}", "precision=bfloat16"), id="bank-bfloat16"),
        pytest.param(
            ("backbone={name: tiny, skip: true}", "stages[0].freeze={name: first_n, n: 2}"),
            id="skip",
            marks=pytest.mark.slow,
        ),
        pytest.param(("cache={mode: bank, views: 2}", TWO_STAGES % 4), id="bank-two-cuts", marks=pytest.mark.slow),
        pytest.param(("cache={mode: bank, views: 50}", TWO_STAGES % 3), id="bank-not-used-up", marks=pytest.mark.slow),
        pytest.param(("augment=[]", TWO_STAGES % 2), id="plain-thawing", marks=pytest.mark.slow),
    ],
)
def test_the_cache_holds_as_many_bytes_as_foretold(tiny_yaml: Path, own_cache: Path, settings: tuple[str, ...]) -> None:
    foretold = look(tiny_yaml, *settings).cache_bytes
    ftk.run(str(tiny_yaml), settings=settings, out=tiny_yaml.parent / "runs", progress=Progress(is_quiet=True))
    assert foretold == sum(path.stat().st_size for path in own_cache.glob("features/*/*.bin")) > 0


def test_display_photos_count_only_if_they_are_others(photos: Path) -> None:
    from finetunekit.data.index import build_index
    from finetunekit.types import PhotoListing, PhotoRecord

    records = [PhotoRecord(path, path.parent.name, path.parents[1].name) for path in sorted(photos.rglob("*.png"))]
    own = PhotoRecord(records[0].path, None, "display")
    for extra, expected in (((), 0), ((own,), 0)):
        index = build_index(PhotoListing((*records, *extra), photos), max_pixels=10_000)
        assert count_photos(index) == {"train": 12, "valid": 6, "test": 6, "display": expected}
    other = photos / "other.png"
    from PIL import Image

    Image.new("RGB", (8, 8)).save(other)
    index = build_index(PhotoListing((*records, PhotoRecord(other, None, "display")), photos), max_pixels=10_000)
    assert count_photos(index)["display"] == 1


# ---- time and text ---------------------------------------------------------------------------------------------------------------


def run_plan(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["plan", *map(str, arguments)])


def test_plan_layers_as_text(tiny_yaml: Path) -> None:
    done = run_plan(tiny_yaml, "--layers", "--set", "cache={mode: bank, views: 3}")
    assert done.exit_code == 0, done.output
    plan, _, layers = done.stdout.partition("preview of ")
    assert plan.startswith("plan of tiny (")
    assert layers.startswith("tiny: 12 train, 6 valid, 6 test; 3 classes; float32\n")
    assert "|  conv1" in layers
    assert "   conv2" in layers
    assert "3 views of 12 train photos" in layers
    assert "from an empty cache" in layers
    assert max(map(len, layers.splitlines())) <= 80
    assert "timing a few steps" in done.stderr


def test_plan_layers_as_json(tiny_yaml: Path) -> None:
    done = run_plan(tiny_yaml, "--layers", "--json", "--set", TWO_STAGES % 4)
    assert done.exit_code == 0, done.output
    seen = json.loads(done.stdout)
    assert seen["source"] == str(tiny_yaml)
    first, second = seen["preview"]["stages"]
    assert (first["boundary"], second["boundary"]) == (["pool1"], ["gap"])
    assert first["layers"][1]["rate"] == 0
    assert {first["times"]["is_cut_refused"], second["times"]["is_cut_refused"]} == {False}
    estimate = seen["preview"]["estimate"]
    parts = [estimate[key] for key in ("start_s", "extraction_s", "training_s", "evaluation_s")]
    assert min(parts) > 0
    assert estimate["total_s"] == pytest.approx(sum(parts))


def test_views_share_the_graph_that_the_first_of_them_builds() -> None:
    times = StageTimes(
        is_cut_refused=False,
        check_s=0.0,
        entry_s=3.0,
        entry_batch_s=0.5,
        trace_s=0.0,
        images_per_s=1.0,
        forward_photos=1,
        forward_s=1.0,
    )
    assert times.extraction_s(2 * EXTRACTION_BATCH) == 3.5
    assert times.extraction_s(2 * EXTRACTION_BATCH, entries=8) == 3.0 + 15 * 0.5
    assert times.extraction_s(0, entries=8) == 0


def test_a_calibration_leaves_the_cache_and_the_folder_alone(tiny_yaml: Path, own_cache: Path) -> None:
    before = sorted(tiny_yaml.parent.rglob("*"))
    plan, _ = prepare(str(tiny_yaml), settings=["augment=[]", "stages[0].optimizer.learning_rate=10.0"])
    seen = preview(plan, photo_counts=TINY_PHOTOS, num_classes=3, is_calibrated=True, stand_in="Drawn photos.")
    assert sorted(tiny_yaml.parent.rglob("*")) == before
    assert not own_cache.exists()
    assert "NOTE Drawn photos." in preview_lines(seen)


def test_a_refused_cut_is_foretold(tiny_yaml: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "noisy_plugin.py"
    plugin.write_text(NOISY, encoding="utf-8")
    plan, _ = prepare(str(tiny_yaml), settings=[f"plugins=[{plugin}]", "backbone={name: noisy}"])
    seen = preview(plan, photo_counts=TINY_PHOTOS, num_classes=3, is_calibrated=True)
    assert (seen.stages[0].mode, seen.stages[0].boundary, seen.cache_bytes) == ("off", (), 0)


NOISY = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from tiny_plugin import SPEC
sys.path.pop(0)
from finetunekit import Backbone, Options, hookimpl

class NoOptions(Options):
    "None."

def build(options, image_size_px):
    import keras
    import tensorflow as tf

    class Noise(keras.layers.Layer):
        def call(self, x, training=False):
            return x + tf.random.normal(tf.shape(x), seed=1) if training else x

    inputs = keras.Input((image_size_px, image_size_px, 3))
    x = Noise()(keras.layers.Conv2D(4, 3)(inputs))
    return Backbone(keras.Model(inputs, keras.layers.Conv2D(4, 3)(x)), "map")

@hookimpl
def register_backbones(register):
    register("noisy", build, NoOptions, spec=SPEC)
"""


def test_photos_that_are_missing_are_the_ordinary_error(tiny_yaml: Path) -> None:
    done = run_plan(tiny_yaml, "--layers", "--set", "data.root=nowhere")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert "nowhere" in done.stderr


def test_a_stage_that_would_train_nothing_is_refused(tiny_yaml: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "bare_head.py"
    plugin.write_text(BARE, encoding="utf-8")
    settings = (f"plugins=[{PLUGIN}, {plugin}]", "head={name: bare}", "stages[0].freeze={name: first_n, n: 4}")
    with pytest.raises(RunError, match="nothing would train"):
        look(tiny_yaml, *settings, classes=4)


BARE = """
from finetunekit import Options, hookimpl

class NoOptions(Options):
    "None."

def build(options, features, num_classes):
    import keras
    return keras.layers.GlobalAveragePooling2D(dtype="float32")(features.tensor)

@hookimpl
def register_heads(register):
    register("bare", build, NoOptions)
"""


def test_counts_have_three_digits() -> None:
    assert [show_count(n) for n in (0, 850, 1792, 369_000_000, 2_964_630_528)] == [
        "0",
        "850",
        "1.79 k",
        "369 M",
        "2.96 G",
    ]
    assert [show_bytes(n) for n in (850, 36_864_000, 1_400_000_000)] == ["1 kB", "37 MB", "1.4 GB"]
