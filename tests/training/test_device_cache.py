"""Photos and features kept on a device give the batches that RAM gives. A CPU is a device like another here; no GPU is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from finetunekit.training.batches import Draws, FeatureFeed, MappedViews, PixelFeed
from finetunekit.training.device_cache import BOUND_VARIABLE, keep_photos, keep_views, max_bytes
from finetunekit.types import PixelContract

DEVICE = "/device:CPU:0"
DRAWS = Draws(photos=7, draws=17, batch_size=4, seed=3, view_seed=3)
LABELS = np.eye(7, dtype=np.float32)


def test_a_bank_on_a_device_gives_the_same_rows() -> None:
    import ml_dtypes

    rng = np.random.default_rng(0)
    views = [
        (rng.normal(size=(7, 3, 3, 5)).astype(ml_dtypes.bfloat16), rng.normal(size=(7, 2)).astype(np.float32))
        for _ in range(3)
    ]
    kept = keep_views(views, DEVICE)
    assert len(kept) == 3
    for epoch in range(3):
        in_ram = list(FeatureFeed(MappedViews(views), LABELS, DRAWS).batches(epoch))
        placed = list(FeatureFeed(kept, LABELS, DRAWS).batches(epoch))
        assert len(in_ram) == len(placed) == 5
        for a, b in zip(in_ram, placed, strict=True):
            np.testing.assert_array_equal(a.photos, b.photos)
            for mine, other in zip(a.x, b.x, strict=True):
                assert mine.dtype == other.dtype.as_numpy_dtype
                np.testing.assert_array_equal(mine, other.numpy())


def test_photos_on_a_device_give_the_same_pixels() -> None:
    photos = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3)).astype(np.uint8)
    contract = PixelContract(order="bgr", mean=(103.939, 116.779, 123.68))
    in_ram = PixelFeed(photos, LABELS, None, contract, DRAWS)
    placed = PixelFeed(keep_photos(photos, DEVICE), LABELS, None, contract, DRAWS)
    for a, b in zip(in_ram.batches(0), placed.batches(0), strict=True):
        np.testing.assert_array_equal(a.x, b.x.numpy())


def test_the_bound_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max_bytes() == 4 << 30
    monkeypatch.setenv(BOUND_VARIABLE, "0.5")
    assert max_bytes() == 1 << 29
