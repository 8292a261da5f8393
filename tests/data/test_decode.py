from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from finetunekit.data.decode import PAD_LEVEL, Resize, decode_bytes, decode_photo, fit_photo, load_photos, shrink_photo
from finetunekit.data.photo_file import photo_suffixes, pillow_guard
from finetunekit.errors import DataError
from finetunekit.system.formatting import escaped

LIMIT = 100_000_000
RAMP_16 = np.linspace(0, 65535, 4096).round().astype(np.uint16).reshape(64, 64)


def colours(height: int = 12, width: int = 16, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth enough for JPEG, different in every corner and channel."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def decode(path: Path) -> NDArray[np.uint8]:
    pixels = decode_photo(path, max_pixels=LIMIT)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    return pixels


def grey(path: Path) -> NDArray[np.uint8]:
    pixels = decode(path)
    assert np.array_equal(pixels[..., 0], pixels[..., 1])
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    return pixels[..., 0]


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def opened(path: Path, attribute: str) -> Any:
    """What Pillow itself says of a file, so that a test knows it made what it meant to make."""
    with Image.open(path) as image:
        return getattr(image, attribute)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))


def png_bomb(side: int) -> bytes:
    """A header and not one pixel: an attempt to decode it would say so."""
    return png_header(side, side) + png_chunk(b"IDAT", b"")


# ---- modes and formats ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp", "a.ppm", "a.tga", "a.jp2"])
def test_lossless_rgb_is_returned_as_written(tmp_path: Path, name: str) -> None:
    wanted = colours(16, 16)
    options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    assert np.array_equal(decode(save(Image.fromarray(wanted), tmp_path / name, **options)), wanted)


def test_content_decides_not_the_file_name(tmp_path: Path) -> None:
    path = save(Image.fromarray(colours()), tmp_path / "a.png")
    assert np.array_equal(decode(path.rename(tmp_path / "a.jpg")), colours())


def test_grey_and_one_bit_fill_three_channels(tmp_path: Path) -> None:
    values = colours()[..., 0]
    assert np.array_equal(grey(save(Image.fromarray(values), tmp_path / "l.png")), values)
    bits = values > 127
    assert np.array_equal(grey(save(Image.fromarray(bits), tmp_path / "1.png")), bits * np.uint8(255))


def test_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(colours()).quantize(16)
    assert np.array_equal(decode(save(image, tmp_path / "p.png")), np.asarray(image.convert("RGB")))


def palette_of_three() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 100, 0, 0, 0, 250])
    image.putdata([0, 1, 2])
    return image


def test_transparent_palette_colour_becomes_white(tmp_path: Path) -> None:
    wanted = [[[10, 20, 30], [255, 255, 255], [0, 0, 250]]]
    assert decode(save(palette_of_three(), tmp_path / "p.png", transparency=1)).tolist() == wanted
    assert decode(save(palette_of_three(), tmp_path / "p.gif", transparency=1)).tolist() == wanted


def test_palette_with_an_alpha_for_each_colour_is_mixed_with_white(tmp_path: Path) -> None:
    path = save(palette_of_three(), tmp_path / "p.png", transparency=bytes([255, 0, 51]))
    opaque, clear, fifth = decode(path)[0].tolist()
    assert opaque == [10, 20, 30]
    assert clear == [255, 255, 255]
    assert fifth == [204, 204, 254]  # a fifth of (0, 0, 250) on four fifths of white


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_composited_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (3, 1), 0)
    level = (100,) if mode == "LA" else (100, 100, 100)
    image.putdata([(*level, 255), (*level, 0), (*level, 51)])
    assert grey(save(image, tmp_path / "a.png")).tolist() == [[100, 255, 224]]


def test_one_transparent_colour_of_grey_and_rgb_becomes_white(tmp_path: Path) -> None:
    levels = Image.fromarray(np.array([[7, 8, 9]], np.uint8))
    assert grey(save(levels, tmp_path / "l.png", transparency=8)).tolist() == [[7, 255, 9]]
    coloured = save(levels.convert("RGB"), tmp_path / "rgb.png", transparency=(9, 9, 9))
    assert grey(coloured).tolist() == [[7, 8, 255]]
    deep = Image.fromarray(np.array([[2570, 257, 0]], np.uint16))
    assert grey(save(deep, tmp_path / "i16.png", transparency=257)).tolist() == [[10, 255, 0]]


def test_cmyk_of_tiff_and_inverted_cmyk_of_jpeg(tmp_path: Path) -> None:
    image = Image.fromarray(colours(32, 32)).convert("CMYK")
    wanted = np.asarray(image.convert("RGB")).astype(int)
    assert np.array_equal(decode(save(image, tmp_path / "c.tif")), wanted)
    path = save(image, tmp_path / "c.jpg", quality=100, subsampling=0)
    assert opened(path, "mode") == "CMYK"
    assert b"Adobe" in path.read_bytes()
    assert np.abs(decode(path) - wanted).max() <= 8  # far from 255 - wanted: the inversion was undone
    assert np.abs(255 - wanted - wanted).max() > 100


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_colour_spaces_come_back_close_to_the_rgb_they_were_made_of(tmp_path: Path, mode: str) -> None:
    path = save(Image.fromarray(colours(32, 32)).convert(mode), tmp_path / "c.tif")
    assert opened(path, "mode") == mode
    assert np.abs(decode(path).astype(int) - colours(32, 32)).mean() < 2


@pytest.mark.parametrize(("name", "order"), [("r.png", "<u2"), ("le.tif", "<u2"), ("be.tif", ">u2"), ("r.pgm", "<u2")])
def test_sixteen_bit_grey_is_scaled_by_257_and_never_clipped(tmp_path: Path, name: str, order: str) -> None:
    image = Image.fromarray(RAMP_16) if order == "<u2" else Image.frombytes("I;16B", (64, 64), RAMP_16.astype(">u2"))
    assert np.array_equal(grey(save(image, tmp_path / name)), np.rint(RAMP_16 / 257))


def test_dark_sixteen_bit_photos_stay_dark(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257]], np.uint16)
    for name in ("dark.png", "dark.tif", "dark.pgm"):
        assert grey(save(Image.fromarray(values), tmp_path / name)).tolist() == [[0, 0, 1, 1]]


def bare_tiff(values: NDArray[Any], *, bits: int, photometric: int = 1, sample_format: int = 1) -> bytes:
    """A little-endian TIFF of one strip, tag by tag, for what Pillow does not write."""
    content = values.tobytes()
    height, width = (1, len(content) * 8 // bits) if values.ndim == 1 else values.shape
    tags = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8),
        (277, 3, 1), (278, 4, height), (279, 4, len(content)), (339, 3, sample_format),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    start = 8 + len(content)
    return b"II*\0" + struct.pack("<I", start) + content + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_tiff_of_twelve_bits_and_with_white_as_zero(tmp_path: Path) -> None:
    twelve = tmp_path / "12.tif"
    twelve.write_bytes(bare_tiff(np.array([0x00, 0x0F, 0xFF, 0x80, 0x00, 0x00], np.uint8), bits=12))
    assert grey(twelve).tolist() == [[0, 255, 128, 0]]  # 0, 4095, 0x800, 0
    inverted = tmp_path / "inverted.tif"
    inverted.write_bytes(bare_tiff(np.array([[0, 65535, 25700]], "<u2"), bits=16, photometric=0))
    assert grey(inverted).tolist() == [[255, 0, 155]]


def test_32_bit_integers_take_the_smallest_scale_that_holds_them(tmp_path: Path) -> None:
    def read(values: list[int]) -> list[int]:
        image = Image.fromarray(np.array([values], np.int32))
        return list(grey(save(image, tmp_path / "i.tif"))[0].tolist())

    assert read([0, 10, 255]) == [0, 10, 255]
    assert read([0, 2570, 25700]) == [0, 10, 100]
    assert read([-100, 0, 155]) == [0, 100, 255]
    assert read([0, 1_000_000, 2_000_000_000]) == [0, 0, 255]
    assert read([-7, -7]) == [0, 0]


def test_unsigned_32_bit_values_above_the_signed_range_stay_bright(tmp_path: Path) -> None:
    path = tmp_path / "u32.tif"
    path.write_bytes(bare_tiff(np.array([[0, 2**31, 2**32 - 1]], "<u4"), bits=32))
    assert grey(path).tolist() == [[0, 128, 255]]


def test_floats_take_the_smallest_scale_that_holds_them(tmp_path: Path) -> None:
    def read(values: list[float]) -> list[int]:
        image = Image.fromarray(np.array([values], np.float32))
        return list(grey(save(image, tmp_path / "f.tif"))[0].tolist())

    assert read([0, 0.5, 1]) == [0, 128, 255]
    assert read([0, 99.6, 255]) == [0, 100, 255]
    assert read([0, 257, 65535]) == [0, 1, 255]
    assert read([-1, 0, 1]) == [0, 128, 255]
    assert read([float("nan"), 10, 200]) == [10, 10, 200]
    assert read([float("inf"), float("-inf"), 100, 255]) == [255, 100, 100, 255]
    assert read([float("nan")]) == [0]


def test_sixteen_bits_a_channel_keep_their_high_byte(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 65535, 0, 255)
    path = tmp_path / "rgb48.png"
    chunks = png_chunk(b"IDAT", zlib.compress(row)) + png_chunk(b"IEND", b"")
    path.write_bytes(png_header(2, 1, bits=16) + chunks)
    assert decode(path).tolist() == [[[0x12, 0x56, 0x9A], [255, 0, 0]]]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_animated_files_are_their_first_frame(tmp_path: Path, name: str) -> None:
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    path = save(red, tmp_path / name, save_all=True, append_images=[blue], **options)
    assert opened(path, "n_frames") == 2
    assert np.array_equal(decode(path), np.asarray(red))


# ---- orientation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["o.jpg", "o.png", "o.webp", "o.tif"])
def test_exif_orientation_is_honoured(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(colours()), tmp_path / name, exif=exif)
    pixels = decode(path)
    assert pixels.shape[:2] == ((12, 16) if orientation < 5 else (16, 12))
    with Image.open(path) as image:
        assert np.array_equal(pixels, np.asarray(ImageOps.exif_transpose(image).convert("RGB")))


def test_orientation_six_turns_the_photo_clockwise(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(Image.fromarray(RAMP_16[:2]), tmp_path / "o.png", exif=exif)
    assert np.array_equal(grey(path), np.rot90(np.rint(RAMP_16[:2] / 257), -1))


def test_a_damaged_exif_block_does_not_cost_the_photo(tmp_path: Path) -> None:
    path = save(Image.fromarray(colours()), tmp_path / "o.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff rubbish")
    assert decode(path).shape == (12, 16, 3)


# ---- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "claim"), [(60_000, "claims more"), (11_000, "claims 11000 x 11000")])
def test_bombs_are_refused_from_the_header(tmp_path: Path, side: int, claim: str) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_bomb(side))
    with pytest.raises(DataError, match=rf"bomb\.png: refused before decoding: it {claim}.*100000000 pixels"):
        decode_photo(path, max_pixels=LIMIT)


def test_the_limit_is_ours_below_and_above_pillows(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    path = save(Image.fromarray(colours()), tmp_path / "a.png")
    with pytest.raises(DataError, match="it claims 16 x 12, allowed are 191 pixels"):
        decode_photo(path, max_pixels=191)
    assert decode_photo(path, max_pixels=192).shape == (12, 16, 3)
    large = tmp_path / "large.png"
    large.write_bytes(png_bomb(20_000))
    with pytest.raises(
        DataError, match=r"large\.png: the file is truncated"
    ):  # allowed, so it is tried, and has no pixels
        decode_photo(large, max_pixels=400_000_000)
    with pytest.raises(DataError, match=r"large\.png: refused before decoding"):
        decode_photo(large, max_pixels=399_999_999)
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_limit_above_pillows_decodes_what_pillow_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name in ("a.tif", "a.png", "a.webp"):
        path = save(Image.fromarray(colours()), tmp_path / name)
        assert decode_photo(path, max_pixels=192).shape == (12, 16, 3)
        assert Image.MAX_IMAGE_PIXELS == 10


def truncated_jpeg(path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(colours(64, 64)).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) * 2 // 3])


def corrupt_png(path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(colours(64, 64)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[60:90] = bytes(30)
    path.write_bytes(content)


BROKEN_HEIC = "is not a photo" if ".heic" in photo_suffixes() else r"is not a photo .*pip install 'finetunekit\[heic\]'"


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (truncated_jpeg, "the file is truncated"),
        (corrupt_png, "cannot be decoded"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_text("no photo\n"), "is not a photo"),
        (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "is not a photo"),
        (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40)), BROKEN_HEIC),
        (lambda path: path.mkdir(), "is a folder, not a photo"),
        (lambda path: path.symlink_to("nowhere.jpg"), "no such file"),
        (lambda path: None, "no such file"),
        (os.mkfifo, "is no regular file"),
    ],
)
def test_unusable_files_are_one_line_with_name_and_cause(
    tmp_path: Path, make: Callable[[Path], object], cause: str
) -> None:
    path = tmp_path / "x.jpg"
    make(path)
    with pytest.raises(DataError, match=rf"x\.jpg: {cause}") as caught:
        decode_photo(path, max_pixels=LIMIT)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "name",
    [
        "d.jpg",
        "d.png",
        "d.gif",
        "d.tif",
        "d.webp",
        "d.bmp",
        pytest.param("d.jp2", marks=pytest.mark.slow),
        "d.tga",
        "d.ppm",
    ],
)
def test_damaged_files_give_a_photo_or_one_line_and_nothing_else(tmp_path: Path, name: str) -> None:
    whole = save(Image.fromarray(colours()), tmp_path / name).read_bytes()
    rng = np.random.default_rng(len(whole))
    refusals: list[str] = []
    for trial in range(40):
        damaged = bytearray(whole[: rng.integers(1, len(whole))] if trial % 2 else whole)
        damaged[rng.integers(0, len(damaged))] ^= int(rng.integers(1, 256))
        (tmp_path / name).write_bytes(damaged)
        try:
            assert decode_photo(tmp_path / name, max_pixels=10_000).dtype == np.uint8
        except DataError as exc:
            refusals.append(str(exc))
    assert refusals
    assert all(len(refusal.splitlines()) == 1 for refusal in refusals)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    path = save(Image.fromarray(colours()), tmp_path / "x.png")
    path.chmod(0)
    with pytest.raises(DataError, match=r"x\.png: no permission to read it"):
        decode_photo(path, max_pixels=LIMIT)


def test_a_line_break_in_a_file_name_does_not_break_the_line(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines.jpg"
    path.write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"two\\nlines\.jpg: is not a photo") as caught:
        decode_photo(path, max_pixels=LIMIT)
    assert len(str(caught.value).splitlines()) == 1
    assert escaped("猫\\\udcff") == r"猫\\\udcff"


def test_pillows_warnings_do_not_leak_and_ours_are_not_hidden(tmp_path: Path) -> None:
    path = save(palette_of_three(), tmp_path / "p.png", transparency=bytes([255, 0, 51]))
    with Image.open(path) as image, pytest.warns(UserWarning, match="Palette images with Transparency"):
        image.convert("RGB")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode(path)
        with pillow_guard(LIMIT):
            warnings.warn("ours", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["ours"]


def test_settings_come_back_when_threads_leave_in_another_order() -> None:
    filters, limit = warnings.filters[:], Image.MAX_IMAGE_PIXELS
    entered, may_leave = threading.Event(), threading.Event()

    def other() -> None:
        with pillow_guard(10**9):
            entered.set()
            may_leave.wait()

    thread = threading.Thread(target=other)
    with pillow_guard(LIMIT):
        thread.start()
        entered.wait()
        assert Image.MAX_IMAGE_PIXELS == 500_000_000
    assert warnings.filters != filters
    may_leave.set()
    thread.join()
    assert warnings.filters == filters
    assert limit == Image.MAX_IMAGE_PIXELS


def test_suffixes_are_of_formats_that_hold_photos() -> None:
    suffixes = photo_suffixes()
    assert {".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".mpo", ".avif"} <= suffixes
    assert not {".pdf", ".h5", ".hdf", ".mpg", ".eps", ".ps", ".wmf", ".txt", ".csv", ""} & suffixes


# ---- fitting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resize", ["nearest", "bilinear", "bicubic", "lanczos", "box"])
def test_stretch_is_pillows_resize(resize: Any) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    wanted = Image.fromarray(pixels).resize((20, 20), Image.Resampling[resize.upper()])
    assert np.array_equal(fit_photo(pixels, size_px=20, resize=resize, fit="stretch"), np.asarray(wanted))


def test_crop_takes_the_centre_square_first() -> None:
    wide = np.zeros((4, 9, 3), np.uint8)
    wide[:, 2:6] = 200
    assert (fit_photo(wide, size_px=8, resize="bilinear", fit="crop") == 200).all()
    tall = np.ascontiguousarray(wide.transpose(1, 0, 2))
    assert (fit_photo(tall, size_px=8, resize="bilinear", fit="crop") == 200).all()
    assert (fit_photo(wide, size_px=8, resize="bilinear", fit="stretch") == 0).any()


def test_the_same_size_is_the_same_photo_and_a_copy() -> None:
    pixels = colours(8, 8)
    fitted = fit_photo(pixels, size_px=8, resize="bilinear", fit="stretch")
    assert np.array_equal(fitted, pixels)
    assert not np.shares_memory(fitted, pixels)


def test_plain_jpegs_equal_keras_load_img_on_every_pixel(tmp_path: Path) -> None:
    import keras

    for seed, (height, width) in enumerate([(75, 75), (301, 207), (64, 500)]):
        path = save(Image.fromarray(colours(height, width, seed)), tmp_path / f"{seed}.jpg", quality=80)
        for size_px in (75, 100):
            wanted = keras.utils.load_img(path, target_size=(size_px, size_px), interpolation="nearest")
            assert np.array_equal(
                fit_photo(decode(path), size_px=size_px, resize="nearest", fit="stretch"), np.asarray(wanted)
            )


def test_photos_equal_flow_from_directory_in_pixels_and_order(tmp_path: Path) -> None:
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    for place in ("lynx/b.jpg", "lynx/a/z.jpg", "lynx/B.jpg", "cat/10.jpg", "cat/9.jpg"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        save(Image.fromarray(colours(90, 130, len(place) + ord(path.name[0]))), path)
    flow = ImageDataGenerator().flow_from_directory(tmp_path, target_size=(100, 100), batch_size=8, shuffle=False)
    ours = load_photos(
        [Path(path) for path in flow.filepaths], size_px=100, resize="nearest", fit="stretch", max_pixels=LIMIT
    )
    assert np.array_equal(ours.astype(np.float32), next(flow)[0])


# ---- many -------------------------------------------------------------------------------------------------------------


def test_many_photos_keep_their_order_and_progress_counts_to_the_end(tmp_path: Path) -> None:
    paths = [save(Image.new("RGB", (9, 9), (n, n, n)), tmp_path / f"{n}.png") for n in range(30)]
    seen: list[tuple[int, int]] = []
    photos = load_photos(
        paths, size_px=4, resize="bilinear", fit="stretch", max_pixels=LIMIT, workers=3,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert photos.shape == (30, 4, 4, 3)
    assert photos.dtype == np.uint8
    assert photos[:, 0, 0, 0].tolist() == list(range(30))
    assert seen == [(done, 30) for done in range(1, 31)]


def test_no_photos_is_an_empty_array() -> None:
    assert load_photos([], size_px=4, resize="box", fit="crop", max_pixels=LIMIT).shape == (0, 4, 4, 3)


def test_every_unreadable_photo_is_reported_at_once_the_first_twenty_by_name(tmp_path: Path) -> None:
    good = save(Image.fromarray(colours()), tmp_path / "good.png")
    paths = [good, *(tmp_path / f"missing-{n:02}.png" for n in range(23)), good]
    with pytest.raises(DataError, match=r"missing-00\.png: no such file") as caught:
        load_photos(paths, size_px=4, resize="box", fit="crop", max_pixels=LIMIT)
    assert len(caught.value.problems) == 21
    assert "missing-19" in caught.value.problems[19]
    assert caught.value.problems[20] == "and 3 more"


def test_an_interruption_stops_early(tmp_path: Path) -> None:
    paths = [save(Image.fromarray(colours()), tmp_path / "a.png")] * 50
    seen: list[int] = []

    def interrupt(done: int, total: int) -> None:
        seen.append(done)
        raise KeyboardInterrupt("by the user")

    with pytest.raises(KeyboardInterrupt, match="by the user"):
        load_photos(paths, size_px=4, resize="box", fit="crop", max_pixels=LIMIT, progress=interrupt)
    assert seen == [1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("photos")]


# ---- pixels.source_px ------------------------------------------------------------------------------------------------------------


def test_a_photo_is_shrunk_by_its_long_side_before_it_is_fitted() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 100, 3), dtype=np.uint8)
    small = Image.fromarray(pixels).resize((25, 10), Image.Resampling.LANCZOS)
    assert np.array_equal(shrink_photo(pixels, source_px=25), np.asarray(small))
    assert shrink_photo(np.zeros((1000, 2, 3), np.uint8), source_px=10).shape == (10, 1, 3)
    fitted = fit_photo(pixels, size_px=50, resize="nearest", fit="stretch", source_px=25)
    assert np.array_equal(fitted, np.asarray(small.resize((50, 50), Image.Resampling.NEAREST)))
    assert fit_photo(pixels, size_px=8, resize="box", fit="crop", source_px=25).shape == (8, 8, 3)


def test_a_photo_that_is_small_already_stays_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 100, 3), dtype=np.uint8)
    assert shrink_photo(pixels, source_px=100) is pixels
    asked = {"size_px": 16, "resize": "bilinear", "fit": "stretch"}
    assert np.array_equal(fit_photo(pixels, **asked, source_px=400), fit_photo(pixels, **asked))  # type: ignore[arg-type]


def test_features_of_shrunk_photos_are_other_features() -> None:
    from finetunekit.config.pixel_contract import pixel_parts
    from finetunekit.config.sections import PixelsSection
    from finetunekit.types import PixelContract

    keys = [pixel_parts(PixelsSection(source_px=px), PixelContract()) for px in (None, 75, 100)]
    assert len({str(key) for key in keys}) == 3
    assert len(keys[0]) == 7  # features made before the option was there are found again


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (33, 33), (1, 1), (3, 700)])
def test_a_share_of_the_short_side_is_cut_out_of_the_middle(shape: tuple[int, int]) -> None:
    height, width = shape
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    side = max(1, round(0.875 * min(shape)))
    top, left = (height - side) // 2, (width - side) // 2
    cut = Image.fromarray(photo[top : top + side, left : left + side]).resize((16, 16), Image.Resampling.BICUBIC)
    fitted = fit_photo(photo, size_px=16, resize="bicubic", fit="crop", crop_pct=0.875)
    assert np.array_equal(fitted, np.asarray(cut))
    whole = fit_photo(photo, size_px=16, resize="bicubic", fit="crop")
    assert np.array_equal(whole, fit_photo(photo, size_px=16, resize="bicubic", fit="crop", crop_pct=1.0))


@pytest.mark.parametrize("resize", ["nearest", "bilinear", "bicubic", "lanczos", "box"])
@pytest.mark.parametrize("shape", [(60, 40), (41, 60), (33, 33), (1, 90)])
def test_a_padded_photo_is_whole_and_grey_beside_it(shape: tuple[int, int], resize: Resize) -> None:
    height, width = shape
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    side = max(shape)
    square = np.full((side, side, 3), PAD_LEVEL, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = photo
    wanted = np.asarray(Image.fromarray(square).resize((16, 16), Image.Resampling[resize.upper()]))
    fitted = fit_photo(photo, size_px=16, resize=resize, fit="pad").astype(int)
    # of a photo higher than wide the height is resized first, so that its grey levels are rounded in that order
    assert np.abs(fitted - wanted).max() <= (2 if height > width else 0)


def test_a_panorama_is_padded_without_making_its_square() -> None:
    photo = np.full((2, 40_000, 3), 200, np.uint8)
    fitted = fit_photo(photo, size_px=8, resize="bilinear", fit="pad")
    assert fitted.shape == (8, 8, 3)
    assert np.abs(fitted.astype(int) - PAD_LEVEL).max() <= 1


def test_another_crop_has_features_of_its_own() -> None:
    from finetunekit.config.pixel_contract import pixel_parts
    from finetunekit.config.sections import PixelsSection
    from finetunekit.types import PixelContract

    crops = [PixelsSection(fit="crop", crop_pct=share) for share in (None, 1.0, 0.875)]
    first, same, other = (pixel_parts(section, PixelContract()) for section in crops)
    assert first == same != other


def test_bytes_are_decoded_as_their_file_is_and_refused_in_the_same_words(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)).save(path)
    assert np.array_equal(
        decode_bytes(path.read_bytes(), "sent.png", max_pixels=100), decode_photo(path, max_pixels=100)
    )
    for content, words in (
        (b"", "the file is empty"),
        (b"no photo", "not a photo"),
        (path.read_bytes()[:45], "truncated"),
    ):
        with pytest.raises(DataError, match=rf"^sent\.png: .*{words}"):
            decode_bytes(content, "sent.png", max_pixels=100)
    with pytest.raises(DataError, match="it claims 6 x 8, allowed are 40"):
        decode_bytes(path.read_bytes(), "sent.png", max_pixels=40)
