"""Free memory and disk, what is refused for want of them, and pixels that go to disk by themselves."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from finetunekit.errors import RunError
from finetunekit.models.linear_probe import scaling
from finetunekit.models.linear_probe.linear import Solver, fit_linear
from finetunekit.models.linear_probe.nearest_neighbours import nearest_labels
from finetunekit.system import memory
from finetunekit.system.resource_check import Budget, check_budget, network_budget


def test_the_system_says_how_much_is_free(tmp_path: Path) -> None:
    assert (memory.free_disk_bytes(tmp_path / "not" / "there" / "yet") or 1) > 0
    assert (memory.free_memory_bytes() or 1) > 0


def test_what_cannot_end_is_refused_before_it_begins(tmp_path: Path) -> None:
    budget = network_budget(15_000_000)
    assert budget == Budget(memory_bytes=360_000_000, disk_bytes=540_000_000)
    check_budget(budget, tmp_path, free_memory=360_000_000, free_disk=540_000_000)
    with pytest.raises(RunError, match=r"up to 360 MB of memory while it trains; 100 MB are free"):
        check_budget(budget, tmp_path, free_memory=100_000_000, free_disk=540_000_000)
    with pytest.raises(RunError, match=r"up to 540 MB of disk .* 100 MB are free.*runs prune"):
        check_budget(budget, tmp_path, free_memory=360_000_000, free_disk=100_000_000)


def test_pixels_go_to_disk_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    in_memory = memory.empty_array((2, 8, 8, 3), "2 photos", said.append, folder=tmp_path)
    assert not isinstance(in_memory, np.memmap)
    assert not said
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: 1000)
    on_disk = memory.empty_array((2, 8, 8, 3), "2 photos", said.append, folder=tmp_path)
    assert isinstance(on_disk, np.memmap)
    assert "2 photos: 0 kB of pixels, 1 kB of memory free: they are kept on disk" in said
    on_disk[1] = 7
    assert on_disk[1].min() == 7
    assert list(tmp_path.iterdir()) == []  # a file without a name: it cannot be left behind


def test_a_bound_of_the_user_counts_what_the_process_takes_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(memory.BOUND_VARIABLE, "0.001")
    assert memory.free_memory_bytes() == 0
    monkeypatch.setenv(memory.BOUND_VARIABLE, "1000000")
    with_bound = memory.free_memory_bytes()
    assert with_bound is not None
    assert with_bound < 1e15  # what the machine has is less
    monkeypatch.setenv(memory.BOUND_VARIABLE, "4 GB")
    with pytest.raises(RunError, match=r"FINETUNEKIT_MEMORY_GB.*number.*'4 GB'"):
        memory.free_memory_bytes()


def test_what_goes_to_disk_lies_in_the_cache_and_asks_for_its_room_first(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: 1000)
    scratch = memory.scratch_array((100, 30), np.float32)
    assert isinstance(scratch.base, np.memmap)
    assert own_cache.is_dir()
    assert list(own_cache.iterdir()) == []
    if hasattr(memory.os, "posix_fallocate"):
        with pytest.raises(RunError, match=rf"{own_cache}: .* are needed there, since memory is short"):
            memory.scratch_array((1 << 55,), np.uint8)


@pytest.mark.parametrize("solver", ["logistic", "ridge"])
def test_a_probe_whose_arrays_lie_on_disk_has_the_same_bits(
    solver: Solver, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    features = (rng.normal(size=(200, 20)) + labels[:, None]).astype(np.float32)
    in_memory = fit_linear(features, labels, 3, penalty=0.1, solver=solver)
    near = nearest_labels(features, labels, features[:50])
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: 1000)
    on_disk = fit_linear(features, labels, 3, penalty=0.1, solver=solver)
    np.testing.assert_array_equal(on_disk.kernel, in_memory.kernel)
    np.testing.assert_array_equal(on_disk.bias, in_memory.bias)
    np.testing.assert_array_equal(nearest_labels(features, labels, features[:50]), near)


def test_many_rows_are_taken_in_blocks_and_come_out_as_few_do(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).normal(3, [1, 1, 1, 1, 1, 20], size=(500, 6)).astype(np.float32)
    whole = scaling.scale_features(features)
    monkeypatch.setattr(scaling, "BLOCK", 7)
    parts = scaling.scale_features(features)
    np.testing.assert_allclose(parts.deviation, whole.deviation, rtol=1e-12)
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-6, atol=1e-9)
    typical = np.sqrt(np.mean(features.var(0, np.float64)))
    np.testing.assert_allclose(whole.deviation[:5], typical)
    np.testing.assert_allclose(whole.values.std(0)[5], scaling.LOUDEST)  # brought down to that
    with pytest.raises(ValueError, match="must be finite"):
        scaling.scale_features(np.where(np.arange(500)[:, None] == 499, np.nan, features))


@pytest.mark.parametrize("solver", ["logistic", "ridge"])
def test_a_fit_on_many_photos_takes_memory_for_blocks_of_them_only(
    solver: Solver, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, channels = 40_000, 128
    labels = np.arange(photos) % 3
    features = np.random.default_rng(0).normal(size=(photos, channels)).astype(np.float32)
    copy_bytes = photos * channels * 8  # one array of all photos in float64
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: 1000)
    fit_linear(features[:50], labels[:50], 3, penalty=1.0, solver=solver)  # what is imported is not counted
    tracemalloc.start()
    try:
        fit_linear(features, labels, 3, penalty=1.0, solver=solver).logits(features)
        fitted_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        nearest_labels(features, labels, features[:500])
        near_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert fitted_bytes < 0.5 * copy_bytes
    assert near_bytes < 150e6  # two blocks of similarities, however many photos there are
