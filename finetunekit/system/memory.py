"""How much memory and disk are free, and large arrays that go to disk where memory is short."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from finetunekit.errors import RunError
from finetunekit.system.formatting import show_bytes
from finetunekit.system.user_dirs import cache_dir

MEMORY_SHARE = 0.25
"""Share of the free memory that one array may take before it goes to disk: the network, its gradients and a second split need the rest."""

BOUND_VARIABLE = "FINETUNEKIT_MEMORY_GB"

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
    """Memory that can be had without swapping; None where the system does not say.

    Within the limit of a container, and within `$FINETUNEKIT_MEMORY_GB` for this process, for machines that are shared without one.
    """
    amounts = (_available(), *map(_left_in_group, _CGROUPS), _left_of_own_bound())
    found = [amount for amount in amounts if amount is not None]
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


def _left_of_own_bound() -> int | None:
    bound_gb = os.environ.get(BOUND_VARIABLE)
    if bound_gb is None:
        return None
    try:
        bound = round(float(bound_gb) * (1 << 30))
    except (ValueError, OverflowError) as exc:
        raise RunError(f"{BOUND_VARIABLE}: a number of GiB, such as 4. Received: {bound_gb!r}") from exc
    return max(0, bound - own_bytes())


def own_bytes() -> int:
    """Memory that belongs to this process alone: pages of mapped files can be had back. 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def free_models() -> None:
    """Free models that nothing refers to any more: each refers to itself, so that it would wait for Python's collector."""
    gc.collect()
    return_memory()


def return_memory() -> None:
    """Give back to the system what was freed; glibc keeps it where it lies between what is in use. Elsewhere nothing is done."""
    with contextlib.suppress(OSError, AttributeError):  # no C library of that name, or one without the call
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def empty_array(
    shape: tuple[int, ...], what: str, say: Callable[[str], None], *, folder: Path | None = None
) -> NDArray[np.uint8]:
    """A uint8 array to be filled: in memory, or in a file without a name where it would take more than a share of the free memory.

    Args:
        shape: Of the array.
        what: How the line that says so calls it.
        say: Receives that line.
        folder: Where such a file lies; default: as `scratch_array`.

    Returns:
        The array. What lies on disk is gone with the process, a killed one included.

    Raises:
        RunError: If the disk has no room for it.
    """
    free = free_memory_bytes()
    mapped = _mapped_if_large(shape, np.uint8, free, folder)
    if mapped is None:
        return np.empty(shape, np.uint8)
    say(f"{what}: {show_bytes(mapped.nbytes)} of pixels, {show_bytes(free or 0)} of memory free: they are kept on disk")
    return mapped


def scratch_array(shape: tuple[int, ...], dtype: DTypeLike = np.float64, *, folder: Path | None = None) -> NDArray[Any]:
    """An array to be filled and soon dropped: in memory, or in a file without a name, as `empty_array`.

    Args:
        shape: Of the array.
        dtype: Of the array.
        folder: Where such a file lies; default: the cache folder, or the system's folder for temporary files, which may be kept in memory,
            where that cannot be written.

    Raises:
        RunError: If the disk has no room for it.
    """
    mapped = _mapped_if_large(shape, dtype, free_memory_bytes(), folder)
    return np.empty(shape, dtype) if mapped is None else np.asarray(mapped)


def _mapped_if_large(
    shape: tuple[int, ...], dtype: DTypeLike, free: int | None, folder: Path | None
) -> NDArray[Any] | None:
    size_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if not size_bytes or free is None or size_bytes <= MEMORY_SHARE * free:
        return None
    folder = scratch_folder() if folder is None else folder
    with tempfile.TemporaryFile(dir=folder) as stream:
        _reserve(stream.fileno(), size_bytes, folder)
        mapped: NDArray[Any] = np.memmap(stream, dtype, "r+", shape=shape)
    return mapped


def scratch_folder() -> Path:
    """Where files that are gone with the process lie: the cache folder, or the system's where that cannot be written."""
    with contextlib.suppress(OSError):
        folder = cache_dir()
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.gettempdir())


def _reserve(file: int, size_bytes: int, folder: Path) -> None:
    """Take the room now: a page that cannot be written later would end the process without a word."""
    try:
        os.truncate(file, size_bytes)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size_bytes)
    except OSError as exc:
        if exc.errno in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot promise room
            return
        raise RunError(
            f"{folder}: {show_bytes(size_bytes)} are needed there, since memory is short ({exc.strerror or exc}). "
            "Free space, or let FINETUNEKIT_CACHE name a folder on a larger disk."
        ) from exc
