"""Free memory and disk, what is refused for want of them, and pixels that go to disk by themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from finetunekit import room
from finetunekit.budget import Budget, check_budget, network_budget
from finetunekit.errors import RunError


def test_the_system_says_how_much_is_free(tmp_path: Path) -> None:
    assert (room.free_disk_bytes(tmp_path / "not" / "there" / "yet") or 1) > 0
    assert (room.free_memory_bytes() or 1) > 0


def test_what_cannot_end_is_refused_before_it_begins(tmp_path: Path) -> None:
    budget = network_budget(15_000_000)
    assert budget == Budget(memory_bytes=360_000_000, disk_bytes=480_000_000)
    check_budget(budget, tmp_path, free_memory=360_000_000, free_disk=480_000_000)
    with pytest.raises(RunError, match=r"up to 360 MB of memory while it trains; 100 MB are free"):
        check_budget(budget, tmp_path, free_memory=100_000_000, free_disk=480_000_000)
    with pytest.raises(RunError, match=r"up to 480 MB of disk .* 100 MB are free.*runs prune"):
        check_budget(budget, tmp_path, free_memory=360_000_000, free_disk=100_000_000)


def test_pixels_go_to_disk_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    in_memory = room.empty_array((2, 8, 8, 3), "2 photos", said.append, folder=tmp_path)
    assert not isinstance(in_memory, np.memmap)
    assert not said
    monkeypatch.setattr(room, "free_memory_bytes", lambda: 1000)
    on_disk = room.empty_array((2, 8, 8, 3), "2 photos", said.append, folder=tmp_path)
    assert isinstance(on_disk, np.memmap)
    assert "2 photos: 0 MB of pixels, 0 MB of memory free: they are kept on disk" in said
    on_disk[1] = 7
    assert on_disk[1].min() == 7
    assert list(tmp_path.iterdir()) == []  # a file without a name: it cannot be left behind
