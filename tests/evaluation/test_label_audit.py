"""Likely wrong labels and outliers: the published rule on numbers made by hand, and a probe on photos with planted mistakes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from finetunekit.config.planning import prepare
from finetunekit.data.audit.audited_photos import audited_photos
from finetunekit.data.audit.labels import far_apart, neighbour_distances, suspect_labels
from finetunekit.data.known_photos import measure_photos
from finetunekit.data.listing import list_photos
from finetunekit.evaluation.label_audit import check_features, choose_backbone
from finetunekit.plugins.host import load_plugins
from finetunekit.system.progress import Progress

QUIET = Progress(is_quiet=True)


def test_a_label_is_suspect_where_another_class_is_as_sure_as_of_its_own_photos() -> None:
    # mean probability of class 0 on its photos: (0.9 + 0.7 + 0.2) / 3 = 0.6; of class 1: (0.8 + 0.4) / 2 = 0.6
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.2, 0.8], [0.6, 0.4]])
    labels = np.array([0, 0, 0, 1, 1])
    suspects, taken_for = suspect_labels(probabilities, labels)
    assert suspects.tolist() == [2, 4], "the surest first: margins -0.6 and -0.2"
    assert taken_for.tolist() == [1, 0]


def test_an_unsure_probe_suspects_nobody() -> None:
    suspects, _ = suspect_labels(np.full((6, 3), 1 / 3), np.array([0, 1, 2, 0, 1, 2]))
    assert suspects.size == 0


def test_a_photo_unlike_all_others_lies_apart() -> None:
    generator = np.random.default_rng(0)
    features = np.abs(generator.normal(1, 0.1, (60, 16)))
    features[17, :12] = 0
    distances = neighbour_distances(features)
    assert far_apart(distances).tolist() == [17]
    assert distances.min() >= 0


@pytest.fixture
def plan_yaml(tiny_yaml: Path, photos: Path, own_cache: Path) -> Path:
    for split in ("train", "valid", "test"):
        for channel, label in enumerate(("red", "green", "blue")):
            for number in range(12 if split == "train" else 6):
                write_plain(photos / split / label / f"plain {number}.png", channel, seed=100 * channel + number)
    for path in photos.glob("*/*/*-*.png"):
        path.unlink()
    return tiny_yaml


def write_plain(path: Path, channel: int, seed: int) -> None:
    pixels = np.random.default_rng([seed, len(path.parts[-3])]).integers(0, 60, (8, 8, 3), dtype=np.uint8)
    pixels[..., channel] += 190
    Image.fromarray(pixels).save(path)


def test_planted_wrong_labels_are_found_among_train_and_valid_and_test_is_not_seen(
    plan_yaml: Path, photos: Path
) -> None:
    for split, number in (("train", 90), ("test", 91)):
        write_plain(photos / split / "blue" / f"really red {split}.png", 0, number)
    plan, _ = prepare(plan_yaml, progress=QUIET)
    listing = list_photos(plan, QUIET)
    measured = measure_photos([record.path for record in listing.photos], max_pixels=1000)
    read = audited_photos(listing, measured)
    (finding,) = [f for f in check_features(read, listing, plan, QUIET) if f.kind == "label"]
    assert [group[0].path for group in finding.groups] == ["train/blue/really red train.png"]
    assert finding.groups[0][0].note.startswith("looks like red")
    assert finding.exclusions[0].reason.startswith("label is probably wrong: looks like red")


def test_classes_too_small_to_leave_any_out_are_passed_over(tiny_yaml: Path, photos: Path, own_cache: Path) -> None:
    for path in [*photos.glob("train/red/*.png")][1:]:
        path.unlink()
    plan, _ = prepare(tiny_yaml, progress=QUIET)
    listing = list_photos(plan, QUIET)
    measured = measure_photos([record.path for record in listing.photos], max_pixels=1000)
    read = audited_photos(listing, measured)
    assert list(check_features(read, listing, plan, QUIET)) == []


def test_no_weights_at_hand_means_no_network(tiny_yaml: Path, own_cache: Path) -> None:
    plan, _ = prepare(tiny_yaml, progress=QUIET)
    assert choose_backbone(plan, load_plugins(QUIET.say)) is None


def test_one_backbone_is_chosen_where_a_preset_joins_several(
    photos: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [f"data.root={photos}"]
    plan, host = prepare("small-data", settings=settings, progress=QUIET)
    assert len(plan.parts) == 2
    here = SimpleNamespace(is_cached=True)
    monkeypatch.setattr("finetunekit.evaluation.label_audit.weights_status", lambda name, spec: here)
    chosen = choose_backbone(plan, host)
    assert chosen is not None
    assert (chosen.parts, chosen.config.backbones) == ((), ())
    assert chosen.config.backbone is not None
    assert chosen.network.backbone.name == chosen.config.backbone.name
