from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from finetunekit_builtin.archive import ArchiveOptions, build_archive
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetunekit import DataError, PhotoListing, SourceContext
from finetunekit.testing import check_data_source, tiny_photos

NAMES = [
    f"{split}/{label}/{n}.jpg" for split in ("train", "valid", "test") for label in ("cat", "lynx") for n in range(2)
]


def pack_zip(path: Path, names: list[str], content: bytes = b"photo") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in names:
            packed.writestr(name, content)
    return path


def pack_tar(path: Path, names: list[str], *more: tarfile.TarInfo, content: bytes = b"photo") -> Path:
    kind = path.name.rsplit(".", 1)[-1]
    with tarfile.open(path, "w:" + {"tar": "", "tgz": "gz"}.get(kind, kind)) as packed:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
        for info in more:
            packed.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def listed(path: Path, cache: Path | None = None, **options: object) -> PhotoListing:
    context = SourceContext(root=path, cache_dir=cache or path.parent / "cache", seed=0, say=lambda line: None)
    return build_archive(ArchiveOptions.model_validate(options), context)


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


PACKERS: dict[str, Callable[[Path, list[str]], Path]] = {
    "a.zip": pack_zip,
    "a.tar": pack_tar,
    "a.tar.gz": pack_tar,
    "a.tgz": pack_tar,
    "a.tar.bz2": pack_tar,
    "a.tar.xz": pack_tar,
}


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("inside", ["", "deep/er/"])
def test_an_archive_is_listed_as_its_folders(tmp_path: Path, name: str, inside: str) -> None:
    clutter = ["__MACOSX/train/cat/._1.jpg", ".DS_Store", "train/Thumbs.db", ".hidden/x.jpg"]
    path = PACKERS[name](tmp_path / name, [inside + place for place in NAMES] + clutter + [inside + "train/notes.txt"])
    listing = listed(path)
    found = [(photo.path.relative_to(listing.root).as_posix(), photo.label) for photo in listing.photos]
    assert sorted(found) == sorted((place, place.split("/")[1]) for place in NAMES)
    assert listing.notes == ("in the archive, no photos: 1 (notes.txt)",)
    assert all(photo.path.read_bytes() == b"photo" for photo in listing.photos)


def test_it_is_unpacked_once_for_a_content(tmp_path: Path) -> None:
    path = pack_zip(tmp_path / "a.zip", NAMES)
    first = listed(path)
    stamps = {photo.path: photo.path.stat().st_mtime_ns for photo in first.photos}
    path.rename(tmp_path / "b.zip")
    again = listed(tmp_path / "b.zip")
    assert {photo.path: photo.path.stat().st_mtime_ns for photo in again.photos} == stamps
    pack_zip(tmp_path / "b.zip", NAMES, b"other")
    assert {photo.path for photo in listed(tmp_path / "b.zip").photos}.isdisjoint(stamps)


def test_what_was_deleted_from_the_cache_is_unpacked_again(tmp_path: Path) -> None:
    path = pack_zip(tmp_path / "a.zip", NAMES)
    first = listed(path)
    first.photos[0].path.unlink()
    assert listed(path) == first
    assert first.photos[0].path.read_bytes() == b"photo"


def test_flat_classes_are_split_and_a_folder_can_be_named(tmp_path: Path) -> None:
    names = [f"x/{label}/{n}.jpg" for label in ("cat", "lynx") for n in range(10)]
    path = pack_zip(tmp_path / "a.zip", [*names, "y/other/1.jpg"])
    assert Counter(photo.split for photo in listed(path, inside="x").photos) == {"train": 12, "valid": 4, "test": 4}
    for wrong in ("z", "../..", "x/cat/0.jpg"):
        with pytest.raises(DataError, match=r"data\.options\.inside: no folder"):
            listed(path, inside=wrong)


# ---- hostile archives ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize(
    "evil", ["../evil.jpg", "train/../../evil.jpg", "/evil.jpg", "C:/evil.jpg", "..\\evil.jpg", "\\evil.jpg"]
)
def test_names_that_lead_out_refuse_the_archive(tmp_path: Path, name: str, evil: str) -> None:
    path = PACKERS[name](tmp_path / "in" / name if (tmp_path / "in").mkdir() is None else tmp_path, [*NAMES, evil])
    with pytest.raises(DataError, match="leads out of the folder it is unpacked to"):
        listed(path)
    assert everything_in(tmp_path) == {"in", f"in/{name}", "in/cache", "in/cache/archives"}


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "../../../outside", "C:\\x", "\\\\server\\x"])
def test_links_out_refuse_the_archive(tmp_path: Path, target: str) -> None:
    path = pack_tar(tmp_path / "a.tar", NAMES, special("train/cat", tarfile.SYMTYPE, target))
    with pytest.raises(DataError, match="'train/cat' is a link that leads out"):
        listed(path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        entry = zipfile.ZipInfo("train/cat")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(entry, target)
    with pytest.raises(DataError, match="'train/cat' is a link that leads out"):
        listed(tmp_path / "a.zip")


def test_links_inside_are_not_followed_and_hard_links_out_refused(tmp_path: Path) -> None:
    inner = special("train/cat/2.jpg", tarfile.SYMTYPE, "../lynx/1.jpg")
    listing = listed(pack_tar(tmp_path / "a.tar", NAMES, inner, special("hard.jpg", tarfile.LNKTYPE, NAMES[0])))
    assert len(listing.photos) == len(NAMES)
    assert listing.notes == ("links in the archive, not followed: 2",)
    with pytest.raises(DataError, match="is a link that leads out"):
        listed(pack_tar(tmp_path / "b.tar", NAMES, special("hard.jpg", tarfile.LNKTYPE, "../../x.jpg")))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(DataError, match=r"'train/x\.jpg' is a device or a pipe"):
        listed(pack_tar(tmp_path / "a.tar", NAMES, special("train/x.jpg", kind)))


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_bombs_are_refused_before_they_fill_the_disk(tmp_path: Path, name: str) -> None:
    pack = pack_zip if name.endswith("zip") else pack_tar
    path = pack(tmp_path / name, NAMES[:1], content=bytes(66 * 2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(
        DataError, match=r"refused: unpacked it is more than 100 times as large\. Raise data\.options\.max_ratio"
    ):
        listed(path)


@pytest.mark.parametrize("name", PACKERS)
def test_more_than_is_allowed_is_not_unpacked(tmp_path: Path, name: str) -> None:
    pack = pack_zip if name.endswith("zip") else pack_tar
    path = pack(tmp_path / name, NAMES[:1], content=bytes(3_000_000))
    with pytest.raises(DataError, match=r"refused: unpacked it takes more than 2,000,000 bytes\..*max_unpacked_mb"):
        listed(path, max_unpacked_mb=2)
    assert everything_in(tmp_path / "cache") == {"archives"}


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_too_many_entries_are_refused(tmp_path: Path, name: str) -> None:
    path = PACKERS[name](tmp_path / name, [f"train/cat/{n}.jpg" for n in range(101)])
    with pytest.raises(DataError, match=r"it holds more than 100 entries\. Raise data\.options\.max_entries"):
        listed(path, max_entries=100)


def test_a_table_of_contents_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = pack_zip(tmp_path / "a.zip", NAMES)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\5\6") + 12, 500_000)
    path.write_bytes(bytes(600_000) + data)
    with pytest.raises(DataError, match="it holds more than 100 entries"):
        listed(path, max_entries=100)


def test_a_tar_header_of_megabytes_is_refused(tmp_path: Path) -> None:
    info = special("pax", tarfile.XHDTYPE)
    info.size = 8 * 2**20
    with pytest.raises(DataError, match=r"cannot be unpacked \(a header of 8,388,608 bytes; allowed are 32,768\)"):
        listed(pack_tar(tmp_path / "a.tar.gz", NAMES, info))


def test_an_xz_that_asks_for_gigabytes_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    path = tmp_path / "a.tar.xz"
    path.write_bytes(b"".join(_xz_of(pack_tar(tmp_path / "a.tar", NAMES).read_bytes(), filters)))
    with pytest.raises(DataError, match=r"cannot be unpacked \(Memory usage limit exceeded\)"):
        listed(path)


def _xz_of(data: bytes, filters: list[dict[str, int]]) -> list[bytes]:
    """A small xz whose header claims a dictionary of another size: the size byte is changed and the header's CRC with it."""
    import zlib

    packed = bytearray(lzma.compress(data, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]))
    header = packed[12 : 12 + (packed[12] + 1) * 4]
    at = header.index(b"\x21\x01") + 2
    header[at] = 34  # 2 << (34 / 2 + 11) bytes: 512 MiB, as in the .xz format 1.1.0, section 5.3.1
    header[-4:] = struct.pack("<I", zlib.crc32(bytes(header[:-4])))
    packed[12 : 12 + len(header)] = header
    return [bytes(packed)]


def test_the_same_name_twice_and_sparse_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"it holds 'train/cat/0\.jpg' twice"):
        listed(pack_tar(tmp_path / "a.tar", [*NAMES, NAMES[0]]))
    with pytest.raises(DataError, match=r"'train/cat/9\.jpg' is a sparse file"):
        listed(pack_tar(tmp_path / "b.tar", NAMES, special("train/cat/9.jpg", tarfile.GNUTYPE_SPARSE)))


def test_encrypted_zips_are_refused_in_words(tmp_path: Path) -> None:
    path = pack_zip(tmp_path / "a.zip", NAMES)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"is encrypted\. Unpack it yourself"):
        listed(path)


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_cut_archive_is_never_taken_for_whole(tmp_path: Path, name: str, keep: float) -> None:
    path = PACKERS[name](tmp_path / name, [*NAMES, "train/cat/more.jpg"])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    if name == "a.tar" and keep == 0.9:
        path.write_bytes(path.read_bytes()[: 6 * 1024])  # at the end of a file, as if it were the last
    with pytest.raises(DataError, match=r"cannot be unpacked \(.*Download or pack it again"):
        listed(path)
    assert everything_in(tmp_path / "cache") == {"archives"}


def test_odd_names_are_kept_and_shown_escaped(tmp_path: Path) -> None:
    odd = ["train/cat/two\nlines.jpg", os.fsdecode(b"train/cat/caf\xe9.jpg"), "train/cat/\x1b[2J.txt"]
    listing = listed(pack_tar(tmp_path / "a.tar", [*NAMES, *odd]))
    assert {os.path.basename(name) for name in odd[:2]} <= {photo.path.name for photo in listing.photos}
    assert listing.notes == (r"in the archive, no photos: 1 (\x1b[2J.txt)",)
    with pytest.raises(DataError, match=r"cannot be unpacked \(File name too long"):
        listed(pack_tar(tmp_path / "b.tar", [*NAMES, f"train/cat/{'x' * 300}.jpg"]))


def test_a_cache_that_lies_is_not_believed(tmp_path: Path) -> None:
    path = pack_zip(tmp_path / "a.zip", NAMES)
    first = listed(path)
    (marker,) = (tmp_path / "cache").rglob(".whole.json")
    for content in ("", "[]", json.dumps({"photos": "x", "notes": []}), json.dumps({"photos": 3, "notes": []})):
        marker.write_text(content, encoding="utf-8")
        assert listed(path) == first


def outcome(path: Path) -> tuple[tuple[str, ...], list[Path]]:
    """Problems or photos of an archive."""
    try:
        return (), [photo.path for photo in listed(path).photos]
    except DataError as exc:
        return exc.problems, []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    return {name: pack(folder / name, NAMES).read_bytes() for name, pack in PACKERS.items()}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(PACKERS)),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), min_size=1, max_size=4),
)
def test_a_damaged_archive_is_photos_or_one_line_and_writes_nothing_outside(
    tmp_path: Path, whole: dict[str, bytes], name: str, changes: list[tuple[float, bytes]]
) -> None:
    data = bytearray(whole[name] if not name.endswith("gz") else gzip.decompress(whole[name]))
    for place, new in changes:
        at = int(place * len(data))
        data[at : at + len(new)] = new
    path = tmp_path / name
    path.write_bytes(gzip.compress(bytes(data)) if name.endswith("gz") else data)
    problems, photos = outcome(path)
    assert bool(problems) != bool(photos)
    assert all(len(line.splitlines()) == 1 for line in problems)
    assert all(photo.is_relative_to(tmp_path / "cache/archives") for photo in photos)
    assert {place.split("/")[0] for place in everything_in(tmp_path)} <= {"cache", *PACKERS}


def test_the_source_keeps_the_contract(tmp_path: Path) -> None:
    root = tiny_photos(tmp_path / "photos")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for path in sorted(root.rglob("*.png")):
            packed.write(path, path.relative_to(root))
    check_data_source(build_archive, ArchiveOptions(), root=tmp_path / "a.zip")


def pax(content: bytes, count: int = 1) -> bytes:
    """Extended headers of this content, one behind the other, and a photo that they would describe."""
    header = special("pax", tarfile.XHDTYPE)
    header.size = len(content)
    block = header.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)
    photo = tarfile.TarInfo("a/1.jpg")
    return block * count + photo.tobuf(tarfile.USTAR_FORMAT) + bytes(1024)


def test_an_extended_header_of_a_million_digits_is_refused(tmp_path: Path) -> None:
    """tarfile looks for a number at each of them: its time grows with the square."""
    path = tmp_path / "a.tar"
    path.write_bytes(pax(b"1" * 1_000_000))
    with pytest.raises(DataError, match=r"cannot be unpacked \(a header of 1,000,000 bytes; allowed are 32,768\)"):
        listed(path)


def test_the_time_of_an_archive_is_bounded_whatever_its_headers_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetunekit_builtin import unpack_tar

    path = tmp_path / "a.tar"
    path.write_bytes(pax(b"1" * 20_000, count=900))
    monkeypatch.setattr(unpack_tar, "UNPACK_S", -path.stat().st_size / unpack_tar.BYTES_PER_S + 0.1)
    with pytest.raises(DataError, match=r"cannot be unpacked \(it takes longer than 0 s\)") as caught:
        listed(path)
    assert len(caught.value.problems) == 1
