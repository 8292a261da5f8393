"""How much memory and disk are free, and large arrays that go to disk where memory is short."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MEMORY_SHARE = 0.25
"""Share of the free memory that one array may take before it goes to disk: the network, its gradients and a second split need the rest."""

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_disk_bytes(folder: Path) -> int | None:
    """Bytes that this user can still write where `folder` is or will be; None where the system does not say."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not hasattr(os, "statvfs"):
        return None
    with contextlib.suppress(OSError):
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize
    return None


def free_memory_bytes() -> int | None:
    """Memory that can be had without swapping, within the limit of a container; None where the system does not say."""
    found = [amount for amount in (_available(), *map(_left_in_group, _CGROUPS)) if amount is not None]
    return min(found) if found else None


def _available() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(
        OSError, ValueError, AttributeError
    ):  # macOS tells only how much there is: half of it is taken as free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return None


def _left_in_group(files: tuple[str, str]) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # no container, or `max`
        limit, used = (int(Path(name).read_text(encoding="ascii")) for name in files)
        return max(0, limit - used)
    return None


def show_bytes(count: int) -> str:
    """`900 MB`, `1.4 GB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def empty_array(
    shape: tuple[int, ...], what: str, say: Callable[[str], None], *, folder: Path | None = None
) -> NDArray[np.uint8]:
    """A uint8 array to be filled: in memory, or in a file without a name where it would take more than a share of the free memory.

    Args:
        shape: Of the array.
        what: How the line that says so calls it.
        say: Receives that line.
        folder: Where such a file lies; default: the system's folder for temporary files.

    Returns:
        The array. What lies on disk is gone with the process, a killed one included.
    """
    size_bytes = int(np.prod(shape, dtype=np.int64))
    free = free_memory_bytes()
    if not size_bytes or free is None or size_bytes <= MEMORY_SHARE * free:
        return np.empty(shape, np.uint8)
    say(f"{what}: {show_bytes(size_bytes)} of pixels, {show_bytes(free)} of memory free: they are kept on disk")
    with tempfile.TemporaryFile(dir=folder) as stream:
        stream.truncate(size_bytes)
        mapped: NDArray[np.uint8] = np.memmap(stream, np.uint8, "r+", shape=shape)
    return mapped
