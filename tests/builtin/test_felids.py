"""The drawn felids: a task that colour and coarse layout do not give away, and a folder that is the same everywhere."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from finetunekit_builtin.felids import CLASSES, DEFAULT_PER_CLASS, draw_photo, write_drawn_photos
from numpy.typing import NDArray
from PIL import Image

from finetunekit.errors import DataError

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Sample = tuple[NDArray[np.uint8], Labels]


@lru_cache(maxsize=4)
def _sample(split: str, seed: int) -> Sample:
    count = DEFAULT_PER_CLASS[split]
    photos = [draw_photo(c, seed=seed, index=i, split=split) for c in CLASSES for i in range(count)]
    return np.stack(photos), np.repeat(np.arange(len(CLASSES)), count)


def _logistic_accuracy(train: Array, train_labels: Labels, test: Array, test_labels: Labels) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # the best of four strengths on the test photos: an upper bound of what an honest choice would reach
    scores = []
    for inverse_strength in (0.01, 0.1, 1.0, 10.0):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_strength, max_iter=2000))
        scores.append(model.fit(train, train_labels).score(test, test_labels))
    return float(max(scores))


def _colour_histograms(photos: NDArray[np.uint8], bins: int) -> Array:
    levels = photos.astype(np.int64) * bins // 256
    codes = (levels[..., 0] * bins + levels[..., 1]) * bins + levels[..., 2]
    counts = [np.bincount(code.ravel(), minlength=bins**3) for code in codes]
    return np.stack(counts).astype(np.float64) / float(codes[0].size)


def _thumbnails(photos: NDArray[np.uint8]) -> Array:
    small = [Image.fromarray(photo).resize((8, 8), Image.Resampling.BOX) for photo in photos]
    return np.stack([np.asarray(image, dtype=np.float64).ravel() for image in small]) / 255


SEEDS = [0, pytest.param(1, marks=pytest.mark.slow)]


@pytest.mark.parametrize("seed", SEEDS)
def test_mean_pixels_do_not_give_the_class_away(seed: int) -> None:
    (train, train_labels), (test, test_labels) = _sample("train", seed), _sample("test", seed)
    flat = test.reshape(len(test), -1).astype(np.float64)
    means = [train[train_labels == k].reshape(-1, flat.shape[1]).mean(axis=0) for k in range(len(CLASSES))]
    distances = np.stack([((flat - mean) ** 2).sum(axis=1) for mean in means])
    assert (distances.argmin(axis=0) == test_labels).mean() < 0.60


@pytest.mark.parametrize("seed", SEEDS)
def test_colour_does_not_give_the_class_away(seed: int) -> None:
    (train, train_labels), (test, test_labels) = _sample("train", seed), _sample("test", seed)
    for bins in (4, 6):
        features = _colour_histograms(train, bins), _colour_histograms(test, bins)
        assert _logistic_accuracy(features[0], train_labels, features[1], test_labels) < 0.75


@pytest.mark.parametrize("seed", SEEDS)
def test_thumbnails_do_not_give_the_class_away(seed: int) -> None:
    (train, train_labels), (test, test_labels) = _sample("train", seed), _sample("test", seed)
    assert _logistic_accuracy(_thumbnails(train), train_labels, _thumbnails(test), test_labels) < 0.75


def test_every_class_draws_from_the_same_range_of_brightness_and_hue() -> None:
    photos, labels = _sample("train", 0)
    means = photos.reshape(len(photos), -1, 3).mean(axis=1)
    for first, second in itertools.combinations(range(len(CLASSES)), 2):
        gap = np.abs(means[labels == first].mean(axis=0) - means[labels == second].mean(axis=0))
        spread = means[labels == first].std(axis=0)
        assert (gap < spread).all()


def test_the_same_arguments_draw_the_same_photo_in_another_process() -> None:
    code = (
        "import hashlib, sys\n"
        "from finetunekit_builtin.felids import CLASSES, draw_photo\n"
        "for label in CLASSES:\n"
        "    photo = draw_photo(label, seed=3, index=7, split='valid', size_px=64)\n"
        "    print(hashlib.sha256(photo.tobytes()).hexdigest())\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "11"}
    there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    here = [draw_photo(label, seed=3, index=7, split="valid", size_px=64) for label in CLASSES]
    assert there.stdout.split() == [hashlib.sha256(photo.tobytes()).hexdigest() for photo in here]


def test_photos_differ_by_class_split_index_and_seed() -> None:
    drawn = [
        draw_photo(label, seed=seed, index=index, split=split, size_px=32).tobytes()
        for label in CLASSES
        for split in ("train", "valid", "test")
        for index in (*range(12), 99_999)
        for seed in (0, 1)
    ]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("size_px", [8, 32, 75, 100, 224, 320])
def test_any_size(size_px: int) -> None:
    for label in CLASSES:
        photo = draw_photo(label, seed=0, index=0, split="train", size_px=size_px)
        assert photo.shape == (size_px, size_px, 3)
        assert photo.dtype == np.uint8
        assert photo.std() > 5


def _layout(photo: NDArray[np.uint8]) -> Array:
    coarse = Image.fromarray(photo).resize((15, 15), Image.Resampling.BOX)
    return np.asarray(coarse, dtype=np.float64).ravel()


def test_the_composition_does_not_depend_on_the_size() -> None:
    for label in CLASSES:
        small = draw_photo(label, seed=0, index=1, split="train", size_px=75)
        large = draw_photo(label, seed=0, index=1, split="train", size_px=300)
        first, second = _layout(small), _layout(large)
        assert np.corrcoef(first, second)[0, 1] > 0.95


def test_wrong_arguments_are_one_clear_line() -> None:
    with pytest.raises(DataError, match=r"no class 'tigre'\. Did you mean 'tiger'\?"):
        draw_photo("tigre", seed=0, index=0, split="train")
    with pytest.raises(DataError, match=r"no split 'validation'"):
        draw_photo("cat", seed=0, index=0, split="validation")
    with pytest.raises(DataError, match=r"size_px must be at least 8, got 4"):
        draw_photo("cat", seed=0, index=0, split="train", size_px=4)
    with pytest.raises(DataError, match=r"index must be at least 0, got -1"):
        draw_photo("cat", seed=0, index=-1, split="train")


def _contents(directory: Path) -> dict[str, bytes]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_a_folder_has_its_splits_and_a_display_without_class_names(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    per_class = {"train": 3, "valid": 2, "test": 2}
    written = write_drawn_photos(
        tmp_path / "felids",
        seed=5,
        per_class=per_class,
        size_px=40,
        progress=lambda done, total: calls.append((done, total)),
    )
    photos = {name: data for name, data in _contents(tmp_path / "felids").items() if name.endswith(".png")}
    assert written == 28
    assert calls == [(done, 28) for done in range(1, 29)]
    assert sum(not name.startswith("display") for name in photos) == 28
    assert {
        "train/lion/lion-train-002.png",
        "valid/cat/cat-valid-001.png",
        "test/lynx/lynx-test-000.png",
    } <= set(photos)
    display = {name: data for name, data in photos.items() if name.startswith("display")}
    assert all(re.fullmatch(r"display/photo-\d{3}\.png", name) for name in display)
    assert sorted(display.values()) == sorted(data for name, data in photos.items() if name.startswith("test"))
    with Image.open(tmp_path / "felids/train/tiger/tiger-train-001.png") as image:
        expected = draw_photo("tiger", seed=5, index=1, split="train", size_px=40)
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_the_display_folder_is_shuffled(tmp_path: Path) -> None:
    write_drawn_photos(tmp_path, seed=0, per_class={"test": 3}, size_px=16)
    in_class_order = [path.read_bytes() for path in sorted((tmp_path / "test").rglob("*.png"))]
    displayed = [path.read_bytes() for path in sorted((tmp_path / "display").iterdir())]
    assert displayed != in_class_order
    assert sorted(displayed) == sorted(in_class_order)


def test_two_folders_are_equal_byte_for_byte_and_a_broken_one_is_completed(tmp_path: Path) -> None:
    per_class = {"train": 2, "test": 1}
    for name in ("first", "second"):
        write_drawn_photos(tmp_path / name, seed=1, per_class=per_class, size_px=24)
    whole = _contents(tmp_path / "first")
    assert _contents(tmp_path / "second") == whole
    (tmp_path / "second/train/cat/cat-train-001.png").unlink()
    next((tmp_path / "second/display").iterdir()).unlink()
    assert write_drawn_photos(tmp_path / "second", seed=1, per_class=per_class, size_px=24) == 12
    assert _contents(tmp_path / "second") == whole


def test_no_display_and_no_empty_splits_when_not_asked_for(tmp_path: Path) -> None:
    write_drawn_photos(tmp_path, seed=1, per_class={"train": 1, "valid": 0, "test": 1}, size_px=16, with_display=False)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["test", "train"]


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(DataError, match=r"not empty; photos are only drawn into a new or empty folder"):
        write_drawn_photos(tmp_path, seed=0, per_class={"train": 1}, size_px=16)
    assert _contents(tmp_path) == {"mine.txt": b"keep"}


def test_a_folder_drawn_with_other_settings_is_left_alone(tmp_path: Path) -> None:
    write_drawn_photos(tmp_path, seed=0, per_class={"train": 1}, size_px=16)
    before = _contents(tmp_path)
    with pytest.raises(DataError, match=r"drawn with other settings; choose another folder"):
        write_drawn_photos(tmp_path, seed=1, per_class={"train": 1}, size_px=16)
    assert _contents(tmp_path) == before


def test_wrong_counts_and_places_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'trian'\. Did you mean 'train'\?"):
        write_drawn_photos(tmp_path / "a", seed=0, per_class={"trian": 1})
    with pytest.raises(DataError, match=r"per_class\['test'\] must be at least 0, got -2"):
        write_drawn_photos(tmp_path / "a", seed=0, per_class={"train": 1, "test": -2})
    with pytest.raises(DataError, match=r"asks for no photos"):
        write_drawn_photos(tmp_path / "a", seed=0, per_class={"train": 0})
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*file"):
        write_drawn_photos(tmp_path / "file", seed=0, per_class={"train": 1})
