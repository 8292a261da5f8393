from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetunekit.data.facts import FactsStore, open_facts
from finetunekit.data.index import read_facts
from finetunekit.data.parallel import gather

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


def read(store: FactsStore, *paths: Path, max_pixels: int = 100) -> tuple[dict[Path, str], int]:
    """Hash of each file, and how many had to be read."""
    seen: list[int] = []
    facts, problems = read_facts(
        paths, max_pixels=max_pixels, store=store, progress=lambda done, total: seen.append(total)
    )
    assert problems == []
    return {path: fact.sha256 for path, fact in facts.items()}, len(seen)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def quiet(line: str) -> None:
    raise AssertionError(line)


@pytest.mark.usefixtures("later")
def test_an_unchanged_file_is_read_once_and_a_changed_one_again(tmp_path: Path) -> None:
    store = open_facts(tmp_path / "cache", quiet)
    one, two = settled(tmp_path / "a/1.png", 1), settled(tmp_path / "b/2.png", 2)
    first, number = read(store, one, two)
    assert (first, number) == ({one: sha256(one), two: sha256(two)}, 2)
    assert read(store, one, two) == (first, 0)
    status = one.stat()
    settled(one, 9)
    os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))  # same size and mtime: ctime tells
    assert one.stat().st_size == status.st_size
    again, number = read(store, one, two)
    assert (again[one], number) == (sha256(one), 1)


def test_a_file_changed_a_moment_ago_is_not_kept(tmp_path: Path) -> None:
    store = open_facts(tmp_path / "cache", quiet)
    path = settled(tmp_path / "1.png", 1)
    assert read(store, path)[1] == read(store, path)[1] == 1


@pytest.mark.usefixtures("later")
def test_a_known_photo_is_refused_under_a_lower_limit(tmp_path: Path) -> None:
    store = open_facts(tmp_path / "cache", quiet)
    path = settled(tmp_path / "1.png", 1)
    read(store, path)
    _, problems = read_facts([path], max_pixels=14, store=store)
    assert len(problems) == 1
    assert "claims 5 x 3, allowed are 14 pixels" in problems[0]


@pytest.mark.usefixtures("later")
def test_broken_photos_are_not_kept(tmp_path: Path) -> None:
    store = open_facts(tmp_path / "cache", quiet)
    path = settled(tmp_path / "1.png", 1)
    path.write_bytes(path.read_bytes()[:40])
    for _ in range(2):
        assert "1.png" in read_facts([path], max_pixels=100, store=store)[1][0]


@pytest.mark.usefixtures("later")
def test_names_that_are_no_text_are_kept_as_well(tmp_path: Path) -> None:
    store = open_facts(tmp_path / "cache", quiet)
    path = settled(tmp_path / os.fsdecode(b"caf\xe9\n.png"), 1)
    assert [read(store, path)[1], read(store, path)[1]] == [1, 0]


@pytest.mark.usefixtures("later")
def test_a_store_that_cannot_be_used_is_one_warning_and_costs_time_only(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/photo-facts.sqlite").write_bytes(b"no database, but longer than a header would have to be" * 40)
    path = settled(tmp_path / "1.png", 1)
    assert read(open_facts(tmp_path / "cache", said.append), path)[0] == {path: sha256(path)}
    assert all("photo-facts.sqlite: file is not a database. Delete the file." in line for line in said)
    assert said


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
