"""What is kept of photo files, and when a file is read or decoded again."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetunekit.data.known_photos import FILE_NAME, Measurements, measure_photos, open_known_photos
from finetunekit.data.measure import measure_header
from finetunekit.data.parallel import gather
from finetunekit.errors import DataError

pytestmark = pytest.mark.usefixtures("own_cache")
HOUR_NS = 3_600_000_000_000


def settled(path: Path, level: int) -> Path:
    """A photo whose stamp lies an hour back; ctime cannot be set, so tests look at files as from an hour later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((3, 5, 3), level, np.uint8)).save(path, "PNG")
    return path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + HOUR_NS)


def quiet(line: str) -> None:
    raise AssertionError(line)


def measure(*paths: Path, max_pixels: int = 100, say: Callable[[str], None] = quiet) -> Measurements:
    with open_known_photos(say) as known:
        return measure_photos(paths, max_pixels=max_pixels, known=known)


def read(*paths: Path) -> tuple[dict[Path, str], int, int]:
    """Hash of each file, how many had to be read, and how many of them decoded."""
    seen: list[int] = []
    with open_known_photos(quiet) as known:
        found = measure_photos(paths, max_pixels=100, known=known, progress=lambda done, total: seen.append(total))
    assert found.problems == {}
    return {path: one.sha256 for path, one in found.photos.items()}, len(seen), found.decoded


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.usefixtures("later")
def test_an_unchanged_file_is_read_once_and_a_changed_one_again(tmp_path: Path) -> None:
    one, two = settled(tmp_path / "a/1.png", 1), settled(tmp_path / "b/2.png", 2)
    hashes = {one: sha256(one), two: sha256(two)}
    assert read(one, two) == (hashes, 2, 2)
    assert read(one, two) == (hashes, 0, 0)
    status = one.stat()
    settled(one, 9)
    os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))  # same size and mtime: ctime tells
    assert one.stat().st_size == status.st_size
    assert read(one, two) == ({**hashes, one: sha256(one)}, 1, 1)


def test_a_file_changed_a_moment_ago_is_hashed_again_and_not_decoded(tmp_path: Path) -> None:
    path = settled(tmp_path / "1.png", 1)
    assert read(path)[1:] == (1, 1)
    assert read(path)[1:] == (1, 0)


@pytest.mark.usefixtures("later")
def test_content_is_known_again_under_another_name(tmp_path: Path) -> None:
    path = settled(tmp_path / "1.png", 1)
    read(path)
    moved = path.rename(tmp_path / "2.png")
    assert read(moved) == ({moved: sha256(moved)}, 1, 0)


@pytest.mark.usefixtures("later")
def test_a_known_photo_is_refused_under_a_lower_limit(tmp_path: Path) -> None:
    path = settled(tmp_path / "1.png", 1)
    measure(path)
    assert "claims 5 x 3, allowed are 14 pixels" in measure(path, max_pixels=14).problems[path]


@pytest.mark.usefixtures("later")
def test_broken_photos_are_not_kept(tmp_path: Path) -> None:
    path = settled(tmp_path / "1.png", 1)
    path.write_bytes(path.read_bytes()[:40])
    for _ in range(2):
        assert "1.png" in measure(path).problems[path]


@pytest.mark.usefixtures("later")
def test_another_decoder_reads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = settled(tmp_path / "1.png", 1)
    measure(path)
    monkeypatch.setattr("finetunekit.data.known_photos._reader", lambda: "pillow 0.1")
    assert measure(path).decoded == 1


@pytest.mark.usefixtures("later")
def test_names_that_are_no_text_are_kept_as_well(tmp_path: Path) -> None:
    path = settled(tmp_path / os.fsdecode(b"caf\xe9\n.png"), 1)
    assert [read(path)[1], read(path)[1]] == [1, 0]


def test_a_damaged_cache_is_made_again(tmp_path: Path, own_cache: Path) -> None:
    path = settled(tmp_path / "1.png", 1)
    own_cache.mkdir(exist_ok=True)
    (own_cache / FILE_NAME).write_bytes(b"no database, but longer than a header would have to be" * 40)
    assert read(path) == ({path: sha256(path)}, 1, 1)
    assert read(path)[2] == 0


def test_a_cache_that_cannot_be_used_is_one_warning_and_costs_time_only(tmp_path: Path, own_cache: Path) -> None:
    said: list[str] = []
    (own_cache / FILE_NAME).mkdir(parents=True)
    path = settled(tmp_path / "1.png", 1)
    for _ in range(2):
        found = measure(path, say=said.append)
        assert (found.photos[path].sha256, found.decoded) == (sha256(path), 1)
    assert len(said) == 2
    assert all(f"{own_cache / FILE_NAME}: cannot be used" in line for line in said)


def test_processes_may_share_the_cache(tmp_path: Path) -> None:
    paths = [settled(tmp_path / f"{i}.png", i) for i in range(40)]
    with ThreadPoolExecutor(4) as pool:  # each opens the file for itself
        found = list(pool.map(lambda _: measure(*paths).photos, range(4)))
    assert all({path: one[path].sha256 for path in paths} == {path: sha256(path) for path in paths} for one in found)


def test_headers_are_enough_where_pixels_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert measure_header(path, max_pixels=10_000)["width_px"] == 40
    assert "truncated" in measure(path, max_pixels=10_000).problems[path]
    with pytest.raises(DataError, match="allowed are 100 pixels"):
        measure_header(path, max_pixels=100)


def test_gather_keeps_order_and_hands_over_few_items_ahead() -> None:
    begun: list[int] = []
    ahead: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return 2 * item

    items = range(5_000)
    results, _ = gather(work, items, workers=2, progress=lambda done, total: ahead.append(len(begun) - done))
    assert results == [2 * item for item in items]
    assert max(ahead) <= 32 * (2 * 4 + 1)
