"""Files made to do harm: bounded time and memory, one clear line, nothing written."""

from __future__ import annotations

import os
import random
import struct
import zlib
from pathlib import Path

import fuzz_photos
import pytest
from finetunekit_builtin.folders import FoldersOptions, build_folders
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetunekit import DataError, Scanner, SourceContext
from finetunekit.data.decode import decode_photo
from finetunekit.data.known_photos import measure_photos

LIMIT = 1_000_000
SIDE = 60_000


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def gif(width: int, height: int) -> bytes:
    frame = struct.pack("<HHHH", 0, 0, width, height)
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(6) + b"," + frame + b"\0\2\2\x4c\1\0;"


def tiff(width: int, height: int) -> bytes:
    tags = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, width * height),
    ]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + body + bytes(4)


def webp(width: int, height: int) -> bytes:
    canvas = (
        b"VP8X"
        + struct.pack("<I", 10)
        + bytes(4)
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", len(canvas) + 4) + b"WEBP" + canvas


def bmp(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    )


@pytest.mark.parametrize("make", [png, gif, tiff, bmp])
def test_headers_that_claim_billions_of_pixels_are_refused_before_decoding(tmp_path: Path, make: object) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(make(SIDE, SIDE))  # type: ignore[operator]
    assert path.stat().st_size < 2000
    with pytest.raises(DataError, match=r"bomb\.png: refused before decoding: it claims .*allowed are 1000000 pixels"):
        decode_photo(path, max_pixels=LIMIT)


def test_a_webp_bomb_is_one_line(tmp_path: Path) -> None:
    """Pillow hands the header to libwebp, which refuses what is not there."""
    path = tmp_path / "bomb.webp"
    path.write_bytes(webp(16_000, 16_000))
    with pytest.raises(DataError, match=r"bomb\.webp: ") as caught:
        decode_photo(path, max_pixels=LIMIT)
    assert len(caught.value.problems) == 1


def test_files_of_gigabytes_and_of_nothing_are_refused_without_being_read(tmp_path: Path) -> None:
    large, empty, bare = tmp_path / "large.jpg", tmp_path / "empty.jpg", tmp_path / "bare.jpg"
    large.touch()
    empty.touch()
    bare.touch()
    os.truncate(large, 2 * 2**30)
    os.truncate(bare, 60 * 2**20)  # small enough to be looked at: no format begins with zeros
    problems = measure_photos([large, empty, bare], max_pixels=LIMIT, workers=1).problems
    assert [*problems.values()] == [
        f"{large}: refused before reading: 2,147,483,648 bytes, allowed are 75,108,864."
        " Raise data.max_photo_pixels if it is genuine.",
        f"{empty}: the file is empty (0 bytes). Replace it or take it out of the data.",
        f"{bare}: begins with zeros only: it was never written to its end. Copy it again or take it out of the data.",
    ]


def test_a_folder_of_many_files_is_listed_in_order(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for n in range(2_000):
            os.close(os.open(tmp_path / label / f"{n}.jpg", os.O_CREAT))
            os.close(os.open(tmp_path / label / f"{n}.tmp", os.O_CREAT))
    listing = build_folders(FoldersOptions(), SourceContext(tmp_path, tmp_path, 0, print))
    assert len(listing.photos) == 4_000
    assert sorted(photo.path for photo in listing.photos) == sorted(tmp_path.glob("*/*.jpg"))
    assert listing.notes[-1] == "4,000 files are not photos: 0.tmp, 0.tmp, 1.tmp and 3997 more"


def test_folders_deeper_than_the_stack_are_one_line(tmp_path: Path) -> None:
    place = os.open(tmp_path, os.O_DIRECTORY)
    for _ in range(300):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_DIRECTORY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    try:
        with pytest.raises(DataError, match=r"folders are nested deeper than \d+\. Move the photos up"):
            list(Scanner().walk(str(tmp_path), set()))
    finally:
        _remove_deep(tmp_path / "d")


def _remove_deep(folder: Path) -> None:
    """`shutil.rmtree` of Python 3.11 recurses."""
    place, opened = os.open(folder, os.O_DIRECTORY), []
    while os.listdir(place):
        opened.append(place)
        place = os.open("d", os.O_DIRECTORY, dir_fd=place)
    os.close(place)
    for above in reversed(opened):
        os.rmdir("d", dir_fd=above)
        os.close(above)


@pytest.mark.parametrize(
    "name", [b"two\nlines.jpg", b"\x1b[2Jclear.jpg", b"caf\xe9.jpg", b"right\xe2\x80\xaeleft.jpg", b"'\".jpg"]
)
def test_names_are_shown_on_one_line_without_control_characters(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(b"no photo")
    (problem,) = measure_photos([path], max_pixels=LIMIT).problems.values()
    assert problem.isprintable()
    assert problem.startswith(f"{tmp_path}/")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(0, 2**32))
def test_mutated_photos_are_photos_or_one_line(tmp_path: Path, data: st.DataObject, seed: int) -> None:
    name, whole = data.draw(st.sampled_from(PHOTOS))
    path = tmp_path / name
    path.write_bytes(fuzz_photos.mutate(whole, random.Random(seed)))
    assert fuzz_photos.outcome(fuzz_photos.try_photo, path, tmp_path) in ("usable", "refused")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(fuzz_photos.seeds_of_tables()[:3]), st.integers(0, 2**32))
def test_mutated_tables_are_photos_or_clear_lines(tmp_path: Path, case: fuzz_photos.Case, seed: int) -> None:
    for n in range(12):
        (tmp_path / f"{n}.jpg").touch()
    path = tmp_path / case[0]
    path.write_bytes(fuzz_photos.mutate(case[1], random.Random(seed)))
    assert fuzz_photos.outcome(fuzz_photos.try_table, path, tmp_path) in ("usable", "refused")


PHOTOS = fuzz_photos.seeds_of_photos()
