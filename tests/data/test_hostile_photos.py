"""Photos made to start programs or to cost more than they are worth, and names that stand for no file."""

from __future__ import annotations

import gzip
import io
import os
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from finetunekit_builtin.archive import ArchiveOptions, build_archive
from finetunekit_builtin.onnx_arrays import read_initializers
from finetunekit_builtin.table import TableOptions, build_table
from PIL import Image

from finetunekit import DataError, FinetuneKitError, PhotoListing, SourceContext
from finetunekit.config.yaml_source import read_yaml
from finetunekit.data import decode_apart, photo_file
from finetunekit.data.decode import decode_photo
from finetunekit.data.exclusions import leave_out
from finetunekit.data.known_photos import measure_photos, photo_sha256
from finetunekit.data.measure import measure_header
from finetunekit.models.weights.cache import StoredArrays
from finetunekit.models.weights.files import file_checksum
from finetunekit.system.files import open_regular

LIMIT = 1_000_000
STARTS = {
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "pty.spawn",
}
_listening: list[list[str]] = []


def _watch(event: str, arguments: tuple[object, ...], starts: frozenset[str] = frozenset(STARTS)) -> None:
    if event in starts:  # at the end of the interpreter the module has no names any more
        for started in _listening:
            started.append(f"{event} {arguments!r:.900}")


sys.addaudithook(_watch)  # an audit hook cannot be taken back, so it listens only while a test asks


@pytest.fixture
def started() -> Iterator[list[str]]:
    """Every process that is started meanwhile."""
    _listening.append([])
    yield _listening[-1]
    _listening.pop()


def jpeg(size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    stream = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
    Image.fromarray(values).save(stream, "JPEG", **options)
    return stream.getvalue()


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        decode_photo(path, max_pixels=LIMIT)
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


# ---- programs -------------------------------------------------------------------------------------------------------------------


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n%%EndProlog\nshowpage\n%%EOF\n"


def iptc(inner: bytes) -> bytes:
    """An IPTC file whose data set (8, 10) holds another file, which Pillow would open in whatever format it has."""

    def field(record: int, number: int, content: bytes) -> bytes:
        return struct.pack(">BBBH", 0x1C, record, number, len(content)) + content

    size = field(3, 20, struct.pack(">H", 20)) + field(3, 30, struct.pack(">H", 20))
    return field(3, 60, b"\x01\x00") + size + field(3, 120, b"\x01") + field(8, 10, inner)


def test_the_iptc_file_is_one_that_reaches_ghostscript_through_pillow(tmp_path: Path) -> None:
    """So that the test after it tests something."""
    path = tmp_path / "x.jpg"
    path.write_bytes(iptc(EPS))
    with Image.open(path) as image:
        assert image.format == "IPTC"


def test_no_photo_of_any_format_starts_a_program(tmp_path: Path, started: list[str]) -> None:
    Image.init()
    contents = {"iptc": iptc(EPS), "eps": EPS, "wmf": b"\xd7\xcd\xc6\x9a\0\0" + bytes(60)}
    for name in Image.SAVE:
        for mode in ("RGB", "L", "P", "1", "RGBA"):
            stream = io.BytesIO()
            try:
                Image.new(mode, (20, 20)).save(stream, name)
            except Exception:  # noqa: BLE001  # not every format is written here, or holds every mode
                continue
            contents[f"{name}-{mode}"] = stream.getvalue()
    assert len(contents) > 50
    usable = set()
    for name, content in contents.items():
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(content)
        try:
            decode_photo(path, max_pixels=LIMIT)
            usable.add(name.partition("-")[0])
        except DataError:
            continue
    assert [start for start in started if "finetunekit.data.decode_apart" not in start] == []
    assert {"JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA", "JPEG2000"} <= usable
    assert not usable & {"ICO", "ICNS", "EPS", "iptc", "IM", "PCX", "SPIDER", "PDF"}


def test_formats_are_named_and_none_opens_another(tmp_path: Path) -> None:
    """A format that Pillow learns later is not a photo until it is named here."""
    Image.init()
    assert set(photo_file.photo_formats()) <= set(photo_file.PHOTO_FORMATS)
    assert not set(photo_file.photo_formats()) & {
        "IPTC",
        "EPS",
        "ICO",
        "ICNS",
        "CUR",
        "DCX",
        "FITS",
        "WMF",
        "MIC",
        "FPX",
        "PSD",
    }


def test_size_and_format_are_looked_at_again_after_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(jpeg())
    from PIL import JpegImagePlugin

    def grow(image: Image.Image) -> object:
        image._size = (13_000, 13_000)  # type: ignore[attr-defined]
        return None

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", grow)
    assert "its header claims 40 x 30 pixels, and it decodes to 13000 x 13000" in refusal(path)


# ---- work -----------------------------------------------------------------------------------------------------------------------


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there over and over."""
    whole = jpeg((64, 64), progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * count + b"\xff\xd9"


def test_a_jpeg_of_hundreds_of_scans_is_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(many_scans(200))
    assert "refused before decoding: a JPEG of more than 64 scans" in refusal(path)
    path.write_bytes(many_scans(20))
    assert decode_photo(path, max_pixels=LIMIT).shape == (64, 64, 3)


def test_what_stands_behind_a_jpegs_end_or_in_its_metadata_counts_as_no_scan(tmp_path: Path) -> None:
    """Phones put a film behind the photo, in which the bytes of a mark come by chance."""
    path = tmp_path / "x.jpg"
    whole = jpeg(progressive=True)
    comment = b"\xff\xfe" + struct.pack(">H", 2002) + b"\xff\xda" * 1000
    path.write_bytes(whole[:2] + comment + whole[2:] + b"\xff\xda" * 1000)
    assert np.array_equal(
        decode_photo(path, max_pixels=LIMIT), np.asarray(Image.open(io.BytesIO(whole)).convert("RGB"))
    )


def sparse(path: Path, start: bytes, size_bytes: int) -> Path:
    path.write_bytes(start)
    os.truncate(path, size_bytes)
    return path


@pytest.mark.parametrize(
    "start",
    [
        jpeg()[:20],
        jpeg()[: jpeg().index(b"\xff\xda")],
        jpeg()[: jpeg().index(b"\xff\xda") + 20],
        b"qoif" + struct.pack(">II", 900, 900) + b"\x03\x00",
        b"RIFF\xff\xff\xff\x03WEBPVP8X",
        b"GIF89a\x40\x00\x40\x00\x80\x00\x00" + bytes(6),
        b"P1\n900 900\n",
        b"P3\n900 900\n255\n",
        b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 900, 900, 1, 8, 1, 0, 0, 0, 0, 0),
        b"SIMPLE  =                    T",
    ],
)
def test_headers_before_megabytes_of_nothing_are_one_line_or_a_photo(tmp_path: Path, start: bytes) -> None:
    path = sparse(tmp_path / "x.jpg", start, 60 * 2**20)
    measured = measure_photos([path], max_pixels=LIMIT, workers=1)
    assert len(measured.photos) + len(measured.problems) == 1
    assert all(problem.startswith(f"{path}: ") for problem in measured.problems.values())


def test_what_is_read_of_a_photo_is_bounded_by_the_pixels_it_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path = tmp_path / "x.png"
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    rows = zlib.compress(bytes(8 * 25))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") * 100_000 + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    assert decode_photo(path, max_pixels=LIMIT).shape == (8, 8, 3)
    monkeypatch.setattr(photo_file, "FREE_BYTES", 2**20)
    assert "cannot be decoded within bounds (more has to be read than a photo of its size can need)" in refusal(path)
    monkeypatch.setattr(photo_file, "FREE_BYTES", 2**24)
    monkeypatch.setattr(photo_file, "DECODE_S", -1.0)
    assert "cannot be decoded within bounds (it takes longer than" in refusal(path)


def in_one_call(folder: Path) -> list[Path]:
    """A photo in each format that is decoded apart, all of the same pixels."""
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(folder / "a.jp2")
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(folder / "b.avif", quality=100)
    return [folder / "a.jp2", folder / "b.avif"]


def test_formats_whose_decoders_do_all_in_one_call_are_decoded_in_a_process_that_is_kept(
    tmp_path: Path, started: list[str]
) -> None:
    paths = in_one_call(tmp_path)
    measured = measure_photos([*paths, *paths], max_pixels=LIMIT, workers=1)
    assert [*measured.photos] == paths
    assert len(started) == 1
    assert decode_photo(paths[0], max_pixels=LIMIT)[5, 5].tolist() == [90, 90, 90]


def test_a_tiff_whose_strips_claim_more_than_its_file_has_is_decoded_apart(tmp_path: Path, started: list[str]) -> None:
    path = tmp_path / "x.tif"
    Image.fromarray(np.full((30, 40), 90, np.uint8)).save(path, compression="tiff_lzw")
    assert decode_photo(path, max_pixels=LIMIT).shape == (30, 40, 3)
    assert started == []
    content = bytearray(path.read_bytes())
    tag = next(content.index(mark) for kind in (3, 4) if (mark := struct.pack("<HHI", 279, kind, 1)) in content)
    struct.pack_into("<HHII", content, tag, 279, 4, 1, 10_000_000)
    path.write_bytes(content)
    measure_photos([path], max_pixels=LIMIT, workers=1)
    assert len(started) == 1


def test_such_a_process_is_kept_between_photos_where_that_is_asked_for_and_replaced_where_it_died(
    tmp_path: Path, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers: list[decode_apart._Worker] = []

    class Counted(decode_apart._Worker):
        def __init__(self) -> None:
            super().__init__()
            workers.append(self)

    monkeypatch.setattr(decode_apart, "_Worker", Counted)
    first, second = in_one_call(tmp_path)
    with photo_file.pillow_guard.keeping_helpers():
        for path in (first, second):
            assert decode_photo(path, max_pixels=LIMIT).shape == (30, 40, 3)
        (kept,) = workers
        assert kept.is_alive()
        kept._process.kill()
        kept._process.wait()
        assert decode_photo(first, max_pixels=LIMIT).shape == (30, 40, 3)
        assert [worker.is_alive() for worker in workers] == [False, True]
    assert not workers[1].is_alive()
    assert len(started) == 2


def test_a_tiff_with_jpeg_inside_is_decoded_apart(tmp_path: Path, started: list[str]) -> None:
    """Its scans are counted by nobody."""
    path = tmp_path / "x.tif"
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(path, compression="jpeg")
    assert decode_photo(path, max_pixels=LIMIT).shape == (30, 40, 3)
    assert len(started) == 1


def test_a_header_that_crashes_or_hangs_its_reader_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(path for path in in_one_call(tmp_path) if path.suffix == ".avif")
    assert measure_header(path, max_pixels=LIMIT)["width_px"] == 40
    monkeypatch.setattr(decode_apart, "_PROGRAM", "import os; os.abort()")
    with pytest.raises(DataError, match="its decoder crashes, exit status -6"):
        measure_header(path, max_pixels=LIMIT)
    monkeypatch.setattr(decode_apart, "_PROGRAM", "import time; time.sleep(600)")
    monkeypatch.setattr(decode_apart, "_WALL", 0.02)
    with pytest.raises(DataError, match="cannot be decoded within bounds"):
        measure_header(path, max_pixels=LIMIT)


@pytest.mark.parametrize("name", ["a.jp2", "b.avif"])
def test_what_goes_wrong_in_that_process_is_one_line(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {path.name: path.read_bytes() for path in in_one_call(tmp_path)}[name]
    path = tmp_path / name
    path.write_bytes(whole[: len(whole) * 2 // 3])
    refusal(path)
    path.write_bytes(whole)
    for program, said in (
        ("import os; os.abort()", "its decoder crashes, exit status -6"),
        (f"{LOAD}; decode.decode_loaded = lambda *_: os.system('true'); d.serve()", "a photo asked for os.system"),
        (f"{LOAD}; decode.decode_loaded = lambda *_: bytearray(10**11); d.serve()", "MemoryError"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(decode_apart, "_PROGRAM", program)
            assert said in refusal(path)
    with monkeypatch.context() as patch:
        patch.setattr(decode_apart, "_PROGRAM", f"{LOAD}; decode.decode_loaded = lambda *_: time.sleep(600); d.serve()")
        patch.setattr(decode_apart, "_WALL", 0.1)
        assert "cannot be decoded within bounds (it takes longer than 5 s)" in refusal(path)
    assert decode_photo(path, max_pixels=LIMIT).shape == (30, 40, 3)


LOAD = (
    "import json, os, sys, time; sys.path[:] = json.loads(sys.argv[1]);"
    " from finetunekit.data import decode, decode_apart as d"
)


def test_one_bad_photo_does_not_cost_the_others(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    good.write_bytes(jpeg())
    bad.write_bytes(many_scans(200))
    measured = measure_photos([good, bad], max_pixels=LIMIT)
    assert [*measured.photos] == [good]
    assert [*measured.problems] == [bad]


def test_compressed_fits_and_others_that_nobody_trains_on_are_no_photos(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    cards = [b"SIMPLE  =                    T", b"BITPIX  =                    8", b"NAXIS   =                    2"]
    cards += [b"NAXIS1  =                  900", b"NAXIS2  =                  900", b"ZCMPTYPE= 'GZIP_1  '", b"END"]
    header = b"".join(card.ljust(80) for card in cards).ljust(2880)
    path.write_bytes(header + gzip.compress(bytes(2**20)))
    assert "is not a photo in a format that is read here" in refusal(path)


# ---- names that stand for no file ---------------------------------------------------------------------------------------------------


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket may have about a hundred bytes
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "socket": a_socket,
    "zeros": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
}


def _context(path: Path) -> SourceContext:
    return SourceContext(path, path.parent / "cache", 0, lambda line: None)


READERS: dict[str, Callable[[Path], object]] = {
    "x.jpg": lambda path: decode_photo(path, max_pixels=LIMIT),
    "y.jpg": photo_sha256,
    "x.zip": lambda path: build_archive(ArchiveOptions(), _context(path)),
    "x.tar": lambda path: build_archive(ArchiveOptions(), _context(path)),
    "x.csv": lambda path: build_table(TableOptions(), _context(path)),
    "x.jsonl": lambda path: build_table(TableOptions(), _context(path)),
    "x.parquet": lambda path: build_table(TableOptions(), _context(path)),
    "exclude.csv": lambda path: leave_out(PhotoListing((), path.parent), [path]),
    "x.yaml": lambda path: read_yaml(path, str(path)),
    "x.npz": StoredArrays,
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_regular_file_is_one_line_and_is_not_waited_for(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    SPECIAL[kind](path)
    with pytest.raises(FinetuneKitError, match=r"no regular file|is a folder|is a directory") as caught:
        READERS[name](path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("read", [file_checksum, read_initializers, open_regular])
def test_readers_of_weights_open_regular_files_only(tmp_path: Path, read: Callable[[Path], object], kind: str) -> None:
    path = tmp_path / "x.onnx"
    SPECIAL[kind](path)
    with pytest.raises(OSError, match=r"no regular file|is a folder"):
        read(path)


def test_a_ledger_that_is_a_pipe_is_one_line(tmp_path: Path) -> None:
    from finetunekit.runs import test_split_ledger

    path = tmp_path / "ledger.jsonl"
    os.mkfifo(path)
    with pytest.raises(OSError, match="no regular file"):
        test_split_ledger._read(path)
    with pytest.raises(OSError, match="no regular file"):
        test_split_ledger._append(path, "{}")


def test_the_command_line_names_a_configuration_that_extends_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "base.yaml")
    (tmp_path / "mine.yaml").write_text("extends: ./base.yaml\n")
    command = [sys.executable, "-m", "finetunekit", "plan", "mine.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "base.yaml" in done.stderr
    assert len(done.stderr.splitlines()) == 1
