"""Pixels once and for all: any photo file → 8-bit RGB the right way up → the network's square.

How each of Pillow's modes becomes 8-bit RGB:

- RGB: as decoded. 1, L: the grey level on all three channels. P: looked up in the palette.
- LA, PA, RGBA, La, RGBa, and 1, L, P, RGB or I;16 with a transparent colour: composited over white.
- CMYK, YCbCr, HSV: Pillow's arithmetic conversion. JPEG stores CMYK inverted, as Adobe does; Pillow turns it back.
- LAB: to sRGB through Little CMS.
- I;16 in any byte order: v / 257, rounded; 12-bit TIFF v · 255 / 4095, rounded. TIFF with white as zero is inverted.
- I from PGM: v / 257, rounded, since Pillow has scaled the file's own maximum to 65535.
- Any other I, and F, declare no full scale. If no value is negative, the smallest of 1 (F only), 255 and 65535 that
  holds every value is white; else the photo's own minimum becomes black and its maximum white. NaN becomes the smallest
  finite value, an infinity the nearest finite end.

Nothing is clipped. Colour of 16 bits a channel is reduced to 8 by Pillow's decoders, which keep the high byte. Embedded
colour profiles are not applied: neither Keras nor the pipelines of its pretrained networks do so.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.decode_apart import decode_apart, is_apart
from finetunekit.data.parallel import Progress, bounded, gather
from finetunekit.data.photo_file import (
    PhotoFile,
    check_decoded,
    check_file_size,
    held_photo,
    open_photo_file,
    pillow_guard,
    read_header,
    undecodable,
)
from finetunekit.errors import DataError
from finetunekit.system.memory import empty_array

if TYPE_CHECKING:
    from PIL import Image

Pixels: TypeAlias = NDArray[np.uint8]
Resize: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos", "box"]
Fit: TypeAlias = Literal["stretch", "crop", "pad"]

#: Shares of the short side are counted in so many parts.
CROP_SCALE = 2**14
#: Grey level that `pad` adds: the middle, which most pixel contracts bring to about 0.
PAD_LEVEL = 128
#: A longer photo is shrunk to it before it is padded, so that no panorama asks for more memory than there is.
PAD_LONGEST_PX = 65_536
#: Long side of a miniature: thumbnails of default size are made from it.
MINIATURE_PX = 160
# Source of the tag numbers and their values: TIFF 6.0, sections 4 and 19.
TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO, UNSIGNED = 0, 1
BROKEN_EXIF = (
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    EOFError,
    OSError,
    struct.error,
)


def decode_photo(path: Path, *, max_pixels: int) -> Pixels:
    """Decode a photo to 8-bit RGB, EXIF orientation honoured, the first frame of an animated one.

    Args:
        path: File in any of the formats of `finetunekit.data.photo_file.PHOTO_FORMATS`.
        max_pixels: A header that claims more is refused before anything is decoded.

    Returns:
        `(height, width, 3)` uint8 RGB in [0, 255], the right way up; see the module for the rule of each mode.

    Raises:
        DataError: If the file is missing, unreadable, empty, broken, too large, or no photo.
    """
    with pillow_guard(max_pixels), open_photo_file(path) as file:
        check_file_size(file, path, max_pixels=max_pixels)
        return decode_stream(file, path, max_pixels=max_pixels)


def decode_bytes(content: bytes, name: str, *, max_pixels: int) -> Pixels:
    """`decode_photo` of bytes that lie in no file.

    Args:
        content: Of a photo's file.
        name: How messages call it.
        max_pixels: As in `decode_photo`.

    Raises:
        DataError: As `decode_photo`.
    """
    path = Path(name)
    with pillow_guard(max_pixels), held_photo(content, path) as file:
        check_file_size(file, path, max_pixels=max_pixels)
        return decode_stream(file, path, max_pixels=max_pixels)


def decode_stream(file: PhotoFile, path: Path, *, max_pixels: int) -> Pixels:
    """`decode_photo` of a file that is open already; `path` is for messages. Call it inside `pillow_guard`."""
    return decode_image(read_header(file, path, max_pixels=max_pixels), file, path)


def decode_image(image: Image.Image, file: PhotoFile, path: Path) -> Pixels:
    """`decode_photo` of a file whose header was read. Call it inside `pillow_guard`."""
    if is_apart(image, file):
        return decode_apart(image, file, path)
    return decode_loaded(image, image.size, path)


def decode_loaded(image: Image.Image, claimed: tuple[int, int], path: Path) -> Pixels:
    """The pixels of an image whose header claimed this size, decoded in this process."""
    try:
        image.load()
        check_decoded(image, claimed, path)
        turn_upright(image)
        return to_rgb(image)
    except DataError:
        raise
    except Exception as exc:
        # Decoders raise whatever a broken file drives them into; all of it is a property of this file.
        raise undecodable(path, exc) from exc


def shrink_photo(pixels: Pixels, *, source_px: int) -> Pixels:
    """Shrink a photo as if it had come with this long side; a smaller one stays as it is.

    Args:
        pixels: `(height, width, 3)` uint8.
        source_px: Long side, at least 1.

    Returns:
        `(height, width, 3)` uint8, both sides by one factor, rounded, at least 1; Pillow's Lanczos filter.
    """
    from PIL import Image

    height_px, width_px, _ = pixels.shape
    scale = source_px / max(height_px, width_px)
    if scale >= 1:
        return pixels
    size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    return np.array(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.LANCZOS))


def miniature(pixels: Pixels) -> Pixels:
    """A photo as reports show it: its long side at most `MINIATURE_PX`; a smaller one stays as it is."""
    from PIL import Image

    small = Image.fromarray(np.ascontiguousarray(pixels))
    small.thumbnail((MINIATURE_PX, MINIATURE_PX), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(small)


def crop_side_px(short_px: int, crop_pct: float) -> int:
    """Side of the square that `crop` cuts out of a photo with this short side.

    Rounded in whole numbers, the share to 14 bits first, so that an exported graph finds the same side.
    """
    return max(1, (short_px * round(crop_pct * CROP_SCALE) + CROP_SCALE // 2) // CROP_SCALE)


def fit_photo(
    pixels: Pixels,
    *,
    size_px: int,
    resize: Resize,
    fit: Fit,
    crop_pct: float | None = None,
    source_px: int | None = None,
) -> Pixels:
    """Make the network's square, exactly as Pillow's `Image.resize` does.

    Args:
        pixels: `(height, width, 3)` uint8.
        size_px: Side of the square.
        resize: Pillow's filter.
        fit: `stretch` both sides to the square; `crop` a centre square first; or `pad` the short side with `PAD_LEVEL` until it is
            as long as the other. Where the margin is odd, its larger half is at the right or the bottom.
        crop_pct: Side of that centre square as a share of the short side, in (0, 1]; None: 1.
        source_px: Long side that the photo is shrunk to before, see `shrink_photo`; None: as it is.

    Returns:
        `(size_px, size_px, 3)` uint8.

    Source: cropping before resizing, as tensorflow/tpu's efficientnet/lite preprocessing does; torchvision and timm resize first and cut
        what they do not need off, which differs by the rounding of the side and by what the filter sees beyond the edge.
    """
    from PIL import Image

    pixels = pixels if source_px is None else shrink_photo(pixels, source_px=source_px)
    filter_ = Image.Resampling[resize.upper()]
    if fit == "pad":
        return _padded(shrink_photo(pixels, source_px=PAD_LONGEST_PX), size_px, filter_)
    if fit == "crop":
        height_px, width_px, _ = pixels.shape
        side_px = crop_side_px(min(height_px, width_px), 1.0 if crop_pct is None else crop_pct)
        top, left = (height_px - side_px) // 2, (width_px - side_px) // 2
        pixels = pixels[top : top + side_px, left : left + side_px]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(image.resize((size_px, size_px), filter_))


def _padded(pixels: Pixels, size_px: int, filter_: Image.Resampling) -> Pixels:
    """The long side resized, then the short one with grey on both sides: a padded photo, of which no more is made than is needed."""
    from PIL import Image

    height_px, width_px, _ = pixels.shape
    if height_px > width_px:
        return np.ascontiguousarray(_padded(pixels.swapaxes(0, 1), size_px, filter_).swapaxes(0, 1))
    narrowed = Image.fromarray(np.ascontiguousarray(pixels)).resize((size_px, height_px), filter_)
    square = Image.new("RGB", (size_px, width_px), (PAD_LEVEL,) * 3)
    square.paste(narrowed, (0, (width_px - height_px) // 2))
    return np.array(square.resize((size_px, size_px), filter_))


def load_photos(
    paths: Sequence[Path],
    *,
    size_px: int,
    resize: Resize,
    fit: Fit,
    max_pixels: int,
    crop_pct: float | None = None,
    source_px: int | None = None,
    workers: int = 2,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Pixels:
    """Decode and fit many photos in threads; their order is kept.

    Args:
        paths: Files.
        size_px: Side of the square.
        resize: As in `fit_photo`.
        fit: As in `fit_photo`.
        max_pixels: As in `decode_photo`.
        crop_pct: As in `fit_photo`.
        source_px: As in `fit_photo`.
        workers: Number of threads.
        progress: Called in the calling thread with (photos done, photos in all).
        say: Receives a line where memory is short and the pixels go to disk.

    Returns:
        `(photos, size_px, size_px, 3)` uint8 RGB in [0, 255], see `finetunekit.system.memory.empty_array`.

    Raises:
        DataError: One line for each photo that cannot be used; the first 20, then how many more.
    """
    photos = empty_array((len(paths), size_px, size_px, 3), f"{len(paths)} photos", say)

    def load(position: int) -> None:
        pixels = decode_photo(paths[position], max_pixels=max_pixels)
        photos[position] = fit_photo(
            pixels, size_px=size_px, resize=resize, fit=fit, crop_pct=crop_pct, source_px=source_px
        )

    with pillow_guard(max_pixels):
        _, problems = gather(load, range(len(paths)), workers=workers, progress=progress)
    if problems:
        raise DataError(bounded(problems))
    return photos


def load_readable(
    paths: Sequence[Path],
    *,
    size_px: int,
    resize: Resize,
    fit: Fit,
    max_pixels: int,
    crop_pct: float | None = None,
    source_px: int | None = None,
    workers: int = 2,
) -> tuple[list[Path], Pixels, list[str]]:
    """As `load_photos`, of the photos that can be read.

    Returns:
        Their files, their squares `(photos, size_px, size_px, 3)`, and one line on each problem of the others.
    """

    def load(path: Path) -> tuple[Path, Pixels]:
        pixels = decode_photo(path, max_pixels=max_pixels)
        return path, fit_photo(pixels, size_px=size_px, resize=resize, fit=fit, crop_pct=crop_pct, source_px=source_px)

    with pillow_guard(max_pixels):
        loaded, problems = gather(load, paths, workers=workers)
    squares = np.stack([square for _, square in loaded]) if loaded else np.zeros((0, size_px, size_px, 3), np.uint8)
    return [path for path, _ in loaded], squares, problems


def turn_upright(image: Image.Image) -> None:
    """Turn a decoded image as its EXIF orientation says, in place."""
    from PIL import ImageOps

    try:
        ImageOps.exif_transpose(image, in_place=True)
    except BROKEN_EXIF:
        # A damaged EXIF block does not say which way is up. The pixels were decoded, so they stay as stored.
        return


def to_rgb(image: Image.Image) -> Pixels:
    """A decoded image as `(height, width, 3)` uint8; see the module for the rule of each mode."""
    if image.mode.startswith("I;16"):
        return _grey_to_rgb(_from_16_bit(image))
    if image.mode in ("I", "F"):
        return _grey_to_rgb(_from_32_bit(image))
    if image.has_transparency_data:
        return _over_white(image)
    return np.array(image.convert("RGB"))


def _grey_to_rgb(grey: Pixels) -> Pixels:
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def _over_white(image: Image.Image) -> Pixels:
    from PIL import Image

    straight = image.convert("LA") if image.mode == "La" else image
    photo = straight.convert("RGBA")
    white = Image.new("RGBA", photo.size, (255, 255, 255, 255))
    return np.array(Image.alpha_composite(white, photo).convert("RGB"))


def _from_16_bit(image: Image.Image) -> Pixels:
    values = np.asarray(image).astype(np.uint32)
    white = 4095 if _tiff_tag(image, TIFF_BITS) == 12 else 65535
    grey = ((values * 255 + white // 2) // white).astype(np.uint8)
    if _tiff_tag(image, TIFF_PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    return np.where(values == transparent, np.uint8(255), grey) if isinstance(transparent, int) else grey


def _from_32_bit(image: Image.Image) -> Pixels:
    values = np.asarray(image)
    if image.mode == "F":
        return _scale(_finite(values.astype(np.float64)), fixed=(1, 255, 65535))
    if image.format == "PPM":
        return _scale(values.astype(np.float64), fixed=(65535,))
    if _tiff_tag(image, TIFF_BITS) == 32 and _tiff_tag(image, TIFF_SAMPLE_FORMAT, UNSIGNED) == UNSIGNED:
        values = values.view(np.uint32)  # Pillow hands unsigned values over in a signed mode
    return _scale(values.astype(np.float64), fixed=(255, 65535))


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return np.nan_to_num(values, nan=low, posinf=high, neginf=low)


def _scale(values: NDArray[np.float64], *, fixed: tuple[int, ...]) -> Pixels:
    """Black at 0, white at the smallest of `fixed` that holds every value; else from minimum to maximum."""
    low, high = float(values.min()), float(values.max())
    white = next((float(full) for full in fixed if low >= 0 and high <= full), None)
    if white is not None:
        low, high = 0.0, white
    span = high - low
    scaled = (values - low) * (255 / span) if span > 0 else np.zeros_like(values)
    return np.rint(scaled).astype(np.uint8)


def _tiff_tag(image: Image.Image, tag: int, default: int | None = None) -> int | None:
    """First value of a TIFF tag; the default for other formats and where the tag is absent."""
    tags = getattr(image, "tag_v2", None) or {}
    value = tags.get(tag, default)
    return value[0] if isinstance(value, tuple) else value
