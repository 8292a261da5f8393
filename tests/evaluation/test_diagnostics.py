"""Baselines and Grad-CAM: what stands beside the scores of every run."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TESTS, TINY, write_photos, write_tiny_weights

import finetunekit as ftk
from finetunekit.evaluation.baselines import measure as baselines
from finetunekit.evaluation.baselines.measure import head_predictions
from finetunekit.evaluation.baselines.record import Baseline, baselines_record
from finetunekit.evaluation.baselines.text import baseline_sentences, baseline_table
from finetunekit.evaluation.diagnostics import is_finetuned
from finetunekit.evaluation.gradcam import find_map_layer, gradcam_maps
from finetunekit.models import classifier as model
from finetunekit.statistics import mcnemar_exact
from finetunekit.system.progress import Progress
from finetunekit.types import PixelContract

QUIET = Progress(is_quiet=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ftk.FinishedRun]:
    """A run of one epoch, which leaves its network as good as untrained."""
    folder = tmp_path_factory.mktemp("insights")
    write_photos(folder / "photos", per_class=8)
    text = TINY.replace("ROOT", str(folder / "photos")).replace("epochs: 2", "epochs: 1")
    (folder / "tiny.yaml").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
        patch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
        settings = ["insights={baselines: true, gradcam_photos: 3}"]
        result = ftk.run(str(folder / "tiny.yaml"), settings=settings, out=folder / "runs", progress=QUIET)
        (result.path / "summary.txt").write_text("\n".join(result.summary))
        yield ftk.FinishedRun(result.path)


def test_a_run_measures_its_ladder_in_its_own_opening(run: ftk.FinishedRun) -> None:
    baselines = run.optional("baselines.json")
    assert baselines is not None
    measured = {baseline["name"]: baseline for baseline in baselines["baselines"]}
    assert list(measured) == ["majority", "nearest", "probe", "nearest_own", "probe_own", "head"]
    assert measured["majority"]["accuracy"]["successes"] == 4
    assert measured["probe_own"]["accuracy"]["successes"] == 12, "the mean colour is the class"
    assert measured["head"]["problem"] == "the weights were random (weights.mode: random)"
    assert baselines["tuned"] == run.metrics["test"]["accuracy"]
    assert baselines["is_finetuned"]
    assert run.metrics["openings"]["openings"] == 1
    assert run.metrics["seconds"].keys() >= {"baselines_s", "gradcam_s"}


def test_the_end_of_a_run_says_what_fine_tuning_added(run: ftk.FinishedRun) -> None:
    baselines = run.optional("baselines.json")
    assert baselines is not None
    printed = (run.path / "summary.txt").read_text().splitlines()
    assert all(len(line) <= 80 or line.startswith("     finetunekit ") for line in printed)  # a command is not broken
    assert " ".join(baselines["words"]) in " ".join(printed)
    assert any(line.startswith("  logistic probe, random features, own pixels") for line in printed)


def test_differences_and_tests_are_those_of_the_answers(run: ftk.FinishedRun) -> None:
    baselines = run.optional("baselines.json")
    assert baselines is not None
    for baseline in baselines["baselines"]:
        if baseline.get("accuracy"):
            gained, lost = baseline["against"]["gained"], baseline["against"]["lost"]
            right = baselines["tuned"]["successes"] - baseline["accuracy"]["successes"]
            assert gained - lost == right
            assert baseline["against"]["difference"] == pytest.approx(right / 12)
            assert baseline["against"]["p_adjusted"] >= mcnemar_exact(gained, lost).p_exact


def test_the_pretrained_networks_own_head_is_asked_and_what_it_says_of_the_classes_is_kept(
    tmp_path: Path, own_cache: Path
) -> None:
    """A network that is said to have seen ImageNet, with a classification layer that knows three felids by their colour."""
    from finetunekit.config.planning import prepare
    from finetunekit.data.index import build_index
    from finetunekit.data.listing import list_photos
    from finetunekit.evaluation.pretraining_overlap import match_classes
    from finetunekit.evaluation.probe_features import open_probe

    write_photos(tmp_path / "photos", per_class=8)
    for colour, felid in (("blue", "lynx"), ("green", "lion"), ("red", "tiger")):
        for folder in (tmp_path / "photos").glob(f"*/{colour}"):
            folder.rename(folder.with_name(felid))
    plugin = (TESTS / "tiny_plugin.py").read_text().replace("import Backbone,", "import Backbone, PretrainedTop,")
    seen = 'pretrained_on="ImageNet-1k",\n    top=PretrainedTop("top/kernel", "top/bias")'
    (tmp_path / "seen.py").write_text(plugin.replace('pretrained_on="nothing"', seen), encoding="utf-8")
    text = TINY.replace("ROOT", str(tmp_path / "photos")).replace(str(TESTS / "tiny_plugin.py"), "seen.py")
    preset = tmp_path / "tiny.yaml"
    preset.write_text(text, encoding="utf-8")
    weights = dict(np.load(write_tiny_weights(preset)))

    def save(top: dict[str, Any]) -> list[str]:
        np.savez(tmp_path / "tiny.npz", **weights, **top)
        return [
            f"weights={{mode: pretrained, path: {tmp_path}/tiny.npz}}",
            "insights.baselines=true",
            "pixels.contract=backbone",
        ]

    plan, _ = prepare(preset, settings=save({}))
    probe = open_probe(plan, build_index(list_photos(plan, QUIET), max_pixels=10_000), QUIET)
    features, labels = probe.split("train")
    columns = [one.indices[0] for one in match_classes(("lion", "lynx", "tiger"))]
    means = np.stack([features[labels == label].mean(axis=0) for label in range(3)])
    kernel, bias = np.zeros((4, 1000), np.float32), np.full(1000, -1e3, np.float32)
    kernel[:, columns], bias[columns] = 50 * means.T, -25 * (means**2).sum(axis=1)  # the nearest mean

    result = ftk.run(
        preset, settings=save({"top/kernel": kernel, "top/bias": bias}), out=tmp_path / "runs", progress=QUIET
    )
    run = ftk.FinishedRun(result.path)
    baselines, overlap = run.optional("baselines.json"), run.optional("overlap.json")
    assert baselines is not None
    assert overlap is not None
    (head,) = [baseline for baseline in baselines["baselines"] if baseline["name"] == "head"]
    test, test_labels = probe.split("test")
    right = int(((test @ kernel[:, columns] + bias[columns]).argmax(axis=1) == test_labels).sum())
    assert 4 < right <= 12
    assert head["accuracy"]["successes"] == right
    assert "own 1000-way head, no training" in head["title"]
    assert (overlap["has_head"], overlap["seen"]) == (True, 3)
    for row in overlap["rows"]:
        assert row["class"] in row["by_photos"]


@pytest.mark.slow
def test_the_pretrained_network_is_built_where_the_trained_one_was(
    tiny_yaml: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def note(build: Any) -> Any:
        def noted(*args: Any, **options: Any) -> Any:
            backbone = build(*args, **options)
            made.append(weakref.ref(backbone.model))
            return backbone

        return noted

    def measure_baselines(*args: Any, **options: Any) -> Any:
        alive.append(sum(model() is not None for model in made))
        return baselines.measure_baselines(*args, **options)

    monkeypatch.setattr("finetunekit.models.classifier.build_backbone", note(model.build_backbone))
    monkeypatch.setattr("finetunekit.evaluation.diagnostics.measure_baselines", measure_baselines)
    ftk.run(str(tiny_yaml), settings=["insights={baselines: true, gradcam_photos: 3}"], progress=QUIET)
    assert made
    assert alive == [0]


def test_a_run_that_asks_for_none_has_none(tiny_yaml: Path, own_cache: Path) -> None:
    settings = ["insights={baselines: false, gradcam_photos: 0}", "stages[0].epochs=1"]
    result = ftk.run(str(tiny_yaml), settings=settings, out=tiny_yaml.parent / "runs", progress=QUIET)
    assert not [name for name in ("baselines.json", "overlap.json", "gradcam.json") if (result.path / name).exists()]


# ---- the words -------------------------------------------------------------------------------------------------------------------


def baselines_of(tuned_right: int, probe_right: int, photos: int = 100, *, is_finetuned: bool = True) -> dict[str, Any]:
    """A network and a probe that are right on the first so many of `photos`."""
    labels = np.zeros(photos, np.int64)
    tuned, probe = ((np.arange(photos) >= right).astype(np.int64) for right in (tuned_right, probe_right))
    baselines = baselines_record([Baseline("probe", "logistic probe", probe)], tuned, labels, is_finetuned=is_finetuned)
    return baselines | {"words": baseline_sentences(baselines)}


@pytest.mark.parametrize(
    ("tuned", "probe", "expected"),
    [
        (95, 80, "adds to the best baseline, logistic probe (80 of 100 right), and 100 photos can tell: +15.0 points"),
        (
            80,
            95,
            "did worse than a baseline that trains nothing of the network, logistic probe (95 of 100 right): -15.0 points",
        ),
        (91, 90, "cannot be told from the best baseline on 100 photos: logistic probe (90 of 100 right); +1.0 points"),
        (90, 90, "which gives the same answer on every one"),
    ],
)
def test_words_say_what_the_data_can_tell(tuned: int, probe: int, expected: str) -> None:
    baselines = baselines_of(tuned, probe)
    assert expected in " ".join(baselines["words"])
    assert all(len(line) <= 80 for line in baseline_table(baselines))


def test_a_run_that_trained_nothing_of_its_backbone_is_not_called_fine_tuned() -> None:
    baselines = baselines_of(91, 90, is_finetuned=False)
    said = " ".join([*baselines["words"], *baseline_table(baselines)])
    assert said.startswith("This run (91 of 100 right) cannot be told from")
    assert "tun" not in said
    frozen = {"decision": {"conv": 0.0}}
    assert not is_finetuned([frozen, {"decision": {"conv": 1.0}, "revert": {"reverted": True}}])
    assert is_finetuned([frozen, {"decision": {"conv": 0.1}}])


def test_words_name_the_cost_of_the_pixels_only_where_it_can_be_told() -> None:
    baselines = baselines_of(90, 80)
    change = {"difference": 0.1, "interval": {"low": 0.04, "high": 0.17}, "gained": 12, "lost": 2}
    assert "own pixel contract would serve it better" in " ".join(baseline_sentences(baselines | {"pixels": change}))
    assert len(baseline_sentences(baselines | {"pixels": change | {"gained": 2, "lost": 1}})) == 1


def test_p_values_are_adjusted_for_the_number_of_baselines() -> None:
    labels = np.zeros(40, np.int64)
    worse = (np.arange(40) >= 33).astype(np.int64)
    one = baselines_record([Baseline("a", "a", worse)], labels, labels, is_finetuned=True)
    three = baselines_record([Baseline(name, name, worse) for name in "abc"], labels, labels, is_finetuned=True)
    p = one["baselines"][0]["against"]["p_adjusted"]
    assert three["baselines"][0]["against"]["p_adjusted"] == pytest.approx(3 * p)


def test_the_pretrained_head_answers_by_the_names_it_knows() -> None:
    logits = np.zeros((4, 1000))
    logits[0, 281] = logits[1, 291] = logits[2, 287] = 9.0  # tabby, lion, lynx
    logits[3, [281, 282, 283, 284]] = 4.0  # four cats together outweigh one lion
    logits[3, 291] = 5.0
    answers = head_predictions(["cat", "lion", "lynx", "some thing unknown"], logits)
    assert answers is not None
    assert answers.tolist() == [0, 1, 2, 0]
    assert head_predictions(["lion", "some thing unknown"], logits) is None


# ---- Grad-CAM --------------------------------------------------------------------------------------------------------------------


def network(kind: str) -> tuple[Any, Any]:
    """A backbone and its logits that look at one corner: brightness there speaks for class 1, all of it frozen."""
    import keras

    photo = keras.Input((8, 8, 3))
    features = keras.layers.Conv2D(4, 1, kernel_initializer="ones", name="last_conv")(photo)
    if kind == "pooled":
        features = keras.layers.MaxPooling2D(4, name="pool")(keras.layers.ReLU(name="act")(features))
    if kind == "vector":
        features = keras.layers.Dense(4)(keras.layers.Flatten()(photo))
    backbone = keras.Model(photo, features)
    pooled = features if kind == "vector" else keras.layers.GlobalAveragePooling2D()(features)
    logits = keras.layers.Dense(2, kernel_initializer=keras.initializers.Constant([[-1.0, 1.0]] * 4))(pooled)
    model = keras.Model(photo, logits)
    model.trainable = False
    return backbone, model


def test_a_map_shows_where_the_class_was_found_in_a_frozen_network() -> None:
    backbone, logits = network("plain")
    layer = find_map_layer(backbone)
    assert layer is not None
    assert layer.name == "last_conv"
    photos = np.zeros((3, 8, 8, 3), np.uint8)
    photos[0, 1, 6] = 255
    photos[1, 5, 2] = 255
    maps = gradcam_maps(logits, layer, photos, [1, 1, 1], PixelContract(scale=1 / 255))
    assert maps.shape == (3, 8, 8)
    assert [tuple(int(i) for i in np.unravel_index(one.argmax(), one.shape)) for one in maps[:2]] == [(1, 6), (5, 2)]
    assert maps[0].sum() == pytest.approx(1.0)
    assert maps[2].max() == 0.0
    against = gradcam_maps(logits, layer, photos, [0, 0, 0], PixelContract(scale=1 / 255))
    assert against.max() == 0.0, "nothing there speaks for the other class"


def test_a_map_is_read_before_the_last_pooling() -> None:
    layer = find_map_layer(network("pooled")[0])
    assert layer is not None
    assert layer.name == "act"


def test_a_backbone_without_a_map_has_none() -> None:
    assert find_map_layer(network("vector")[0]) is None


def test_maps_of_a_run_are_of_its_most_confident_mistakes(run: ftk.FinishedRun) -> None:
    gradcam = json.loads((run.path / "gradcam.json").read_text())
    test = [row for row in run.predictions if row["split"] == "test" and row["predicted"] != row["true"]]
    worst = sorted(test, key=lambda row: -float(row[f"p_{row['predicted']}"]))[:3]
    assert set(gradcam["maps"]) == {row["sha256"] for row in worst}
    assert all(0.0 <= value <= 1.0 for one in gradcam["maps"].values() for line in one for value in line)
    assert "4 × 4" in gradcam["words"]
