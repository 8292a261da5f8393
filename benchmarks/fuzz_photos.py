"""Mutated photos through the decoder, mutated archives and tables through their data sources, for as long as wanted.

    python benchmarks/fuzz_photos.py [--cases N] [--seed S] [--what photos archives tables]

A case is a small real file with a few bytes changed, cut out, doubled or cut off, headers first; some are no photos to begin with, or
ask for more work than they show. What may come of it: photos, or an error of one line a problem. Anything else is a failure: another
exception, a program that is started, a name in a message that is not escaped, a file outside the cache, a case that takes more than 20 s
of CPU time or 1.5 GB more memory than there was. Failing cases are kept and named; the exit status is then 1. A seed gives the same cases
again.
"""

from __future__ import annotations

import faulthandler
import gzip
import io
import random
import resource
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import new_parser
from finetunekit_builtin.archive import ArchiveOptions, build_archive
from finetunekit_builtin.table import TableOptions, build_table
from PIL import Image

from finetunekit import DataError, SourceContext
from finetunekit.data.decode import decode_photo
from finetunekit.data.exclusions import leave_out

LIMIT_PIXELS = 4_000_000
LONGEST_S = 20.0
MOST_BYTES = 1_500_000_000
FORMATS = {
    "jpg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP", "jp2": "JPEG2000",
    "tga": "TGA", "ppm": "PPM", "mpo": "MPO", "avif": "AVIF",
}  # fmt: skip
#: Numbers that break size arithmetic.
TELLING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
Case = tuple[str, bytes]


def seeds_of_photos() -> list[Case]:
    """A small photo in each format that can be written here, in several modes."""
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 255, (19, 23, 3), np.uint8)).resize((46, 38), Image.Resampling.BICUBIC)
    found = []
    for suffix, kind in FORMATS.items():
        for mode in ("RGB", "RGBA", "L", "P", "1", "CMYK", "I;16", "F"):
            stream = io.BytesIO()
            try:
                image = Image.new(mode, (23, 19)) if mode in ("I;16", "F") else colours.convert(mode)
                image.save(stream, kind)
            except (OSError, ValueError, KeyError):
                continue  # this format does not hold this mode, or is not built in
            found.append((f"{mode.replace(';', '')}.{suffix}", stream.getvalue()))
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "group4"):
        stream = io.BytesIO()
        colours.convert("1" if compression == "group4" else "RGB").save(stream, "TIFF", compression=compression)
        found.append((f"{compression}.tif", stream.getvalue()))
    return [*found, *called_photos(found)]


def called_photos(photos: list[Case]) -> list[Case]:
    """What is called a photo and is none, and photos that ask for more than they show."""
    jpeg = next(data for name, data in photos if name == "RGB.jpg")
    png = next(data for name, data in photos if name == "RGB.png")
    profile = b"iCCPicc\0\0" + zlib.compress(bytes(3 * 2**20))
    iptc = b"\x1c\x08\x0a\x00\x40%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    return [
        ("lfs.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
        ("page.png", b"<!DOCTYPE html><html><body>403</body></html>"),
        ("iptc.jpg", b"\x1c\x03\x3c\x00\x01\x01\x1c\x03\x14\x00\x01\x13\x1c\x03\x1e\x00\x01\x0d" + iptc),
        (
            "profile.png",
            png[:33]
            + struct.pack(">I", len(profile) - 4)
            + profile
            + struct.pack(">I", zlib.crc32(profile))
            + png[33:],
        ),
        ("zeros.jpg", jpeg + bytes(2**20)),
        ("scans.jpg", jpeg[:-2] + jpeg[jpeg.index(b"\xff\xda") : -2] * 200 + jpeg[-2:]),
        ("fits.jpg", gzip.compress(b"SIMPLE  =                    T".ljust(2880) + bytes(2**20))),
    ]


def seeds_of_archives() -> list[Case]:
    """A small set of photos in each kind of archive."""
    photo = seeds_of_photos()[0][1]
    names = [f"{split}/{label}/{n}.jpg" for split in ("train", "valid", "test") for label in "ab" for n in range(2)]
    found = []
    for name, mode in (("a.tar", ""), ("a.tar.gz", "gz"), ("a.tar.bz2", "bz2"), ("a.tar.xz", "xz")):
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            stream = io.BytesIO()
            with tarfile.open(fileobj=stream, mode=f"w:{mode}", format=form) as packed:
                for member in [*names, f"train/{'x' * 120}.txt"]:
                    info = tarfile.TarInfo(member)
                    info.size = len(photo)
                    packed.addfile(info, io.BytesIO(photo))
            found.append((name, stream.getvalue()))
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", compression) as zipped:
            for member in names:
                zipped.writestr(member, photo)
        found.append(("a.zip", stream.getvalue()))
    return found


def seeds_of_tables() -> list[Case]:
    """A small table of each kind."""
    rows = [(f"{n}.jpg", "ab"[n % 2], ("train", "valid", "test")[n % 3]) for n in range(12)]
    text = "file_name,label,split\n" + "".join(f'"{name}",{label},{split}\r\n' for name, label, split in rows)
    lines = "\n".join(f'{{"file_name": "{n}", "label": "{label}", "split": "{s}"}}' for n, label, s in rows)
    found = [("t.csv", text.encode()), ("t.csv", text.encode("utf-16")), ("t.jsonl", lines.encode())]
    cut = text.replace(",", ";").replace("\r\n", ";;\r\n")
    bare = "".join(f"{name},{label}\n" for name, label, _ in rows)
    hot = "".join(f"{name},{int(label == 'a')},{int(label == 'b')}\n" for name, label, _ in rows)
    cased = "".join(f"{name.upper()}\t{label}\n" for name, label, _ in rows)
    found += [
        ("t.csv", f"sep=;\n{cut}".encode()),
        ("t.csv", text.replace(",a,", ",ä,").encode("cp1252")),
        ("bare.csv", bare.encode()),
        ("hot.csv", f"file,a,b\n{hot}".encode()),
        ("ids.csv", f"file,label\n{bare.replace('.jpg', '')}".encode()),
        ("t.tsv", f"image\tclass\n{cased}".encode()),
    ]
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return found
    stream = io.BytesIO()
    columns = [dict(zip(("file_name", "label", "split"), row, strict=True)) for row in rows]
    parquet.write_table(pyarrow.Table.from_pylist(columns), stream)
    return [*found, ("t.parquet", stream.getvalue())]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A few changes; half of them in the first 200 bytes, where headers are."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(min(len(changed), 200) if rng.random() < 0.5 else len(changed)) if changed else 0
        kind = rng.randrange(6)
        if kind == 0:
            changed[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            width = rng.choice((1, 2, 4))
            value = rng.choice(TELLING) % 256**width
            changed[at : at + width] = value.to_bytes(width, rng.choice(("big", "little")))
        elif kind == 2:
            del changed[at : at + rng.randrange(1, 64)]
        elif kind == 3:
            end = at + rng.randrange(1, 64)
            changed[at:at] = changed[at:end]
        elif kind == 4:
            changed[at : at + 8] = rng.randbytes(rng.randrange(1, 9))
        else:
            del changed[at + 1 :]
    return bytes(changed)


def try_photo(path: Path, scratch: Path) -> None:
    """Decode one photo."""
    pixels = decode_photo(path, max_pixels=LIMIT_PIXELS)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.shape[0] * pixels.shape[1] > LIMIT_PIXELS:
        raise AssertionError(f"pixels of shape {pixels.shape}")


def try_archive(path: Path, scratch: Path) -> None:
    """List one archive; nothing may be written outside the cache."""
    cache = scratch / "cache"
    before = {place for place in scratch.iterdir() if place != cache}
    options = ArchiveOptions(max_unpacked_mb=20, max_entries=1000)
    try:
        listing = build_archive(options, SourceContext(path, cache, 0, lambda line: None))
        if not all(photo.path.resolve().is_relative_to((cache / "archives").resolve()) for photo in listing.photos):
            raise AssertionError("a photo outside the cache")
    finally:
        if {place for place in scratch.iterdir() if place != cache} != before:
            raise AssertionError("a file outside the cache")


def try_table(path: Path, scratch: Path) -> None:
    """List one table."""
    context = SourceContext(path, scratch, 0, lambda line: None)
    options = {
        "bare": TableOptions(header=False),
        "hot": TableOptions(one_hot=("a", "b")),
        "ids": TableOptions(suffix=".jpg", folders=(".", "no")),
    }.get(path.stem, TableOptions())
    listing = build_table(options, context)
    if path.stem != "ids":
        leave_out(listing, [path])


WHAT: dict[str, tuple[Callable[[], list[Case]], Callable[[Path, Path], None]]] = {
    "photos": (seeds_of_photos, try_photo),
    "archives": (seeds_of_archives, try_archive),
    "tables": (seeds_of_tables, try_table),
}


_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn")
started: list[str] = []


def watch_programs() -> None:
    """Note every program that is started from now on, but for the Python that decodes apart."""

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event in _PROGRAMS and arguments[:1] != (sys.executable,):
            started.append(f"{event} {arguments!r:.100}")

    sys.addaudithook(note)


def outcome(attempt: Callable[[Path, Path], None], path: Path, scratch: Path) -> str:
    """`usable`, `refused`, or what went wrong."""
    before_s = _cpu_s()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        attempt(path, scratch)
        found = "usable"
    except DataError as exc:
        is_clear = all(line.isprintable() and line for line in exc.problems)
        found = "refused" if is_clear else f"unclear message: {exc.problems!r}"
    except BaseException as exc:  # noqa: BLE001 (whatever comes is what this looks for)
        found = "".join(traceback.format_exception(exc)[-2:])
    if started:
        found = f"started {started.pop()}"
    if (took_s := _cpu_s() - before_s) > LONGEST_S:
        found = f"took {took_s:.0f} s"
    if (more := 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)) > MOST_BYTES:
        found = f"took {more / 1e6:.0f} MB"
    return found


def _cpu_s() -> float:
    """CPU seconds of this process and of those it waited for: a busy machine is nobody's fault."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def fuzz(what: str, cases: int, seed: int, scratch: Path, keep: Path) -> int:
    """Run the cases of one kind; the number of failures."""
    import shutil

    make_seeds, attempt = WHAT[what]
    seeds, rng, counted, failures = make_seeds(), random.Random(f"{seed} {what}"), Counter[str](), 0
    if what == "tables":
        for n in range(12):
            (scratch / f"{n}.jpg").touch()
    began = time.perf_counter()
    for number in range(cases):
        name, whole = seeds[number % len(seeds)]
        data = whole if number < len(seeds) else mutate(whole, rng)
        path = scratch / name
        path.write_bytes(data)
        found = outcome(attempt, path, scratch)
        counted[found if found in ("usable", "refused") else "failed"] += 1
        if found not in ("usable", "refused"):
            failures += 1
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{what}-{seed}-{number}-{name}").write_bytes(data)
            print(f"case {number} ({name}): {found}", file=sys.stderr)
        path.unlink()
        if what == "archives":
            shutil.rmtree(scratch / "cache", ignore_errors=True)
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items()))
    print(f"{what}: {cases} cases from {len(seeds)} files in {time.perf_counter() - began:.0f} s: {listed}", flush=True)
    return failures


def main() -> None:
    """Fuzz, and say how it went."""
    parser = new_parser(__doc__)
    parser.add_argument("--cases", type=int, default=3000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--what", nargs="+", choices=list(WHAT), default=list(WHAT))
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for failing cases")
    options = parser.parse_args()
    warnings.simplefilter("error")
    faulthandler.enable()
    watch_programs()
    failures = 0
    for what in options.what:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
            failures += fuzz(what, options.cases, options.seed, Path(scratch), options.keep)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
