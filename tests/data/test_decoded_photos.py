"""The pixels of a run: each file decoded once, whoever needs them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_tiny_weights
from PIL import Image

import finetunekit as ftk
from finetunekit.config.planning import prepare
from finetunekit.data.decode import MINIATURE_PX, decode_photo, load_photos, miniature
from finetunekit.data.decoded_photos import Miniatures, PixelStore
from finetunekit.data.index import PhotoIndex, photo_order
from finetunekit.data.known_photos import FILE_NAME
from finetunekit.data.listing import index_listing, list_photos
from finetunekit.engine.api import rebuild_reports
from finetunekit.system.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """How often Pillow has opened each photo file."""
    counts: Counter[Path] = Counter()
    open_image = Image.open

    def count(file: Any, *arguments: Any, **options: Any) -> Image.Image:
        if isinstance(name := getattr(file, "name", file), (str, Path)):
            counts[Path(name)] += 1
        return open_image(file, *arguments, **options)

    monkeypatch.setattr(Image, "open", count)
    return counts


EVERYTHING = [
    "insights={baselines: true, gradcam_photos: 2}",
    "pixels.check_photos=8",
    "pixels.contract=zero_to_one",
    "weights={mode: pretrained}",
    "reports=[{name: html}, {name: display_grid}]",
]


def test_a_run_decodes_each_file_once_whatever_it_knows_and_whatever_its_splits(
    tiny_yaml: Path, photos: Path, own_cache: Path, opened: Counter[Path]
) -> None:
    settings = [*EVERYTHING, f"weights.path={write_tiny_weights(tiny_yaml)}"]
    fold = ["train.folds=3", "train.fold=2"]
    files = set(photos.rglob("*.png"))
    for is_cold, more in ((True, fold), (False, [])):
        opened.clear()
        assert (own_cache / FILE_NAME).is_file() != is_cold
        result = ftk.run(tiny_yaml, settings=[*settings, *more], out=tiny_yaml.parent / "runs", progress=QUIET)
        assert {path: opened[path] for path in files} == dict.fromkeys(files, 1)
        assert (result.path / "audit.json").is_file()
        assert (result.path / "baselines.json").is_file()
        assert ftk.FinishedRun(result.path).state["missing"] == []


@pytest.mark.slow
def test_reports_are_the_same_when_they_are_made_again_from_the_files(tiny_yaml: Path, photos: Path) -> None:
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((400, 300), Image.Resampling.BICUBIC).save(path)
    settings = ["reports=[{name: html}, {name: display_grid}]"]
    result = ftk.run(tiny_yaml, settings=settings, out=tiny_yaml.parent / "runs", progress=QUIET)
    grid = (result.path / "reports/display_grid.png").read_bytes()
    rebuild_reports(result.path, progress=QUIET)
    assert (result.path / "reports/display_grid.png").read_bytes() == grid


def indexed(tiny_yaml: Path, *settings: str) -> tuple[Any, PhotoIndex]:
    plan, _ = prepare(tiny_yaml, settings=settings, progress=QUIET)
    return plan, index_listing(plan, list_photos(plan, QUIET), QUIET)


def fed(index: PhotoIndex, split: str) -> np.ndarray:
    paths = [photo.path for photo in index.split(split)]
    return load_photos(paths, size_px=8, resize="nearest", fit="stretch", max_pixels=1000)


def test_a_split_has_the_pixels_of_its_photos_in_the_order_of_the_index(tiny_yaml: Path) -> None:
    plan, index = indexed(tiny_yaml)
    store = PixelStore(plan.config, QUIET).bind(index)
    for split in ("test", "train", "valid", "display"):
        np.testing.assert_array_equal(store.split(split).pixels, fed(index, split))
    assert np.shares_memory(store.split("test").pixels, store.split("display").pixels)


def test_folds_move_photos_between_splits_after_they_were_decoded(tiny_yaml: Path) -> None:
    plan, before = indexed(tiny_yaml)
    _, index = indexed(tiny_yaml, "train.folds=3", "train.fold=1")
    store = PixelStore(plan.config, QUIET)
    store.expect((photo.path, photo.split) for photo in sorted(before.photos, key=photo_order))
    known = [photo for photo in before.photos if photo.split != "valid"]
    for photo in known:
        store.put(photo.path, photo.sha256, decode_photo(photo.path, max_pixels=1000))
    store.bind(index)
    for split in ("train", "valid", "test"):
        assert {photo.path for photo in index.split(split)} != {photo.path for photo in before.split(split)}
        found = store.split(split)
        np.testing.assert_array_equal(found.pixels, fed(index, split))
        assert found.pixels.base is not None, "a view: no photo is there twice"


def test_a_file_of_two_splits_is_in_both(tiny_yaml: Path) -> None:
    plan, index = indexed(tiny_yaml)
    store = PixelStore(plan.config, QUIET).bind(index)
    some = index.split("train")[2]
    twice = replace(index, photos=(*index.photos, replace(some, split="valid")))
    store.bind(twice)
    np.testing.assert_array_equal(store.split("valid").pixels, fed(twice, "valid"))


def test_photos_of_a_split_that_stays_shut_are_not_kept(tiny_yaml: Path, opened: Counter[Path]) -> None:
    plan, index = indexed(tiny_yaml)
    opened.clear()
    store = PixelStore(plan.config, QUIET, splits=("train", "valid")).bind(index)
    store.put(index.split("test")[0].path, "0" * 64, np.zeros((8, 8, 3), np.uint8))
    store.split("train")
    assert set(opened) == {photo.path for photo in index.split("train")}


def test_views_are_small_and_come_back_as_they_were_put() -> None:
    miniatures = Miniatures()
    large = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for name, pixels in (("a", large), ("b", large[:5, :7])):
        miniatures.put(name, miniature(pixels))
    assert miniatures["a"].shape == (MINIATURE_PX * 3 // 4, MINIATURE_PX, 3)
    np.testing.assert_array_equal(miniatures["a"], miniature(large))
    np.testing.assert_array_equal(miniatures["b"], large[:5, :7])
    assert set(miniatures) == {"a", "b"}
