"""Pillow's resize as a graph: the same pixels, for photos of any shape."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from finetunekit.data.decode import Fit, Resize, fit_photo
from finetunekit.exporting.resampling_graph import resize_photos
from finetunekit.exporting.serving_graph import fit_photos

SIZE_PX = 32
CURVED = ("bicubic", "lanczos")
#: Height, width: shrinking, enlarging, both, as they are, one pixel wide, and on either side of where Pillow turns the passes round.
SHAPES = ((320, 240), (75, 75), (20, 21), (32, 32), (1, 90), (400, 3), (31, 33), (1, 1), (64, 48), (65, 48), (900, 224))


def resized(resize: str, size_px: int = SIZE_PX) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    import tensorflow as tf

    spec = tf.TensorSpec((None, None, None, 3), tf.float32)
    graph = tf.function(lambda photos: resize_photos(photos, size_px, size_px, resize), input_signature=[spec])
    return lambda photos: graph(photos.astype(np.float32)).numpy()


def by_pillow(photo: NDArray[np.uint8], resize: str, size_px: int = SIZE_PX) -> NDArray[np.uint8]:
    return np.array(Image.fromarray(photo).resize((size_px, size_px), Image.Resampling[resize.upper()]))


def drawn(height: int, width: int, *, is_smooth: bool) -> NDArray[np.uint8]:
    generator = np.random.default_rng(height * 1000 + width)
    if not is_smooth:
        return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    small = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return np.array(small.resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("resize", ["nearest", "box", "bilinear", *CURVED])
def test_the_pixels_are_pillows(resize: str) -> None:
    graph = resized(resize)
    for height, width in SHAPES:
        for is_smooth in (False, True):
            photo = drawn(height, width, is_smooth=is_smooth)
            assert np.array_equal(graph(photo[None])[0], by_pillow(photo, resize)), (height, width)


@pytest.mark.parametrize(
    "resize", ["nearest", "box", "bilinear", *(pytest.param(name, marks=pytest.mark.slow) for name in CURVED)]
)
@pytest.mark.parametrize("size_px", [100, 224])
def test_the_pixels_are_pillows_at_sizes_where_its_sums_of_steps_fall_short(resize: str, size_px: int) -> None:
    graph = resized(resize, size_px)
    for height, width in ((128, 96), (500, 375), (333, 160), (700, 100), (97, 1200)):
        photo = drawn(height, width, is_smooth=False)
        assert np.array_equal(graph(photo[None])[0], by_pillow(photo, resize, size_px)), (height, width)


def test_a_batch_gives_what_each_photo_gives_by_itself() -> None:
    graph = resized("bilinear")
    photos = np.stack([drawn(50, 40, is_smooth=False), drawn(50, 40, is_smooth=True)])
    assert np.array_equal(graph(photos), np.concatenate([graph(photos[:1]), graph(photos[1:])]))


@pytest.mark.parametrize(
    ("fit", "crop_pct", "resize"),
    [
        ("crop", 0.875, "bilinear"),
        ("crop", 240 / 272, "nearest"),
        ("pad", None, "nearest"),
        ("pad", None, "box"),
        ("pad", None, "bilinear"),
        ("pad", None, "bicubic"),
        pytest.param("crop", None, "lanczos", marks=pytest.mark.slow),
    ],
)
def test_crops_and_padded_squares_are_those_of_training(fit: Fit, crop_pct: float | None, resize: Resize) -> None:
    import tensorflow as tf

    how = SimpleNamespace(size_px=SIZE_PX, resize=resize, fit=fit, crop_pct=crop_pct, source_px=None)
    spec = tf.TensorSpec((None, None, None, 3), tf.float32)
    graph = tf.function(lambda photos: fit_photos(photos, how), input_signature=[spec])  # type: ignore[arg-type]
    for height, width in SHAPES:
        photo = drawn(height, width, is_smooth=False)
        own = fit_photo(photo, **vars(how)).astype(np.float32)
        assert np.array_equal(graph(photo.astype(np.float32)[None])[0].numpy(), own), (height, width)
