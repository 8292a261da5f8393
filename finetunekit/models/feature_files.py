"""The files of one entry of the feature cache: written from batches, opened memory-mapped, held while they are in use."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.system.files import read_regular

META = "meta.json"
_META_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20

Arrays = tuple[NDArray[Any], ...]


class NoRoomError(OSError):
    """An entry could not be written to its end. Carries its arrays all the same, in memory."""

    def __init__(self, reason: OSError, arrays: Arrays) -> None:
        super().__init__(reason.errno, reason.strerror or str(reason))
        self.arrays = arrays


def write_entry(folder: Path, batches: Iterator[Arrays], photos: int, note: str) -> None:
    """Write an entry from batches of its arrays.

    Args:
        folder: Not there yet.
        batches: One array a tensor, `(batch, ...)`.
        photos: Photos in all batches.
        note: For listings.

    Raises:
        NoRoomError: If the disk is full or the folder cannot be written; every batch was taken all the same.
    """
    tensors: list[_Tensor] = []
    failed: OSError | None = None
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True)
        except OSError as exc:
            failed = exc
        for batch in batches:
            if not tensors:
                tensors = [_Tensor(folder / f"{i}.bin", array, photos) for i, array in enumerate(batch)]
                stack.callback(_close, tensors)
            for tensor, array in zip(tensors, batch, strict=True):
                failed = tensor.add(array, failed)
        if failed is None:
            failed = _finish(folder, tensors, photos, note)
        if failed is not None:
            raise NoRoomError(failed, tuple(tensor.collected() for tensor in tensors)) from failed


class _Tensor:
    """One array of an entry: on disk as far as the disk goes, in memory from there on."""

    def __init__(self, path: Path, first: NDArray[Any], photos: int) -> None:
        self.path, self.dtype, self.shape = path, first.dtype, (photos, *first.shape[1:])
        self.stream: IO[bytes] | None = None
        self.crc32, self.written, self.rest = 0, 0, list[bytes]()

    def add(self, array: NDArray[Any], failed: OSError | None) -> OSError | None:
        data = np.ascontiguousarray(array).view(np.uint8).tobytes()
        self.crc32 = zlib.crc32(data, self.crc32)
        if failed is None:
            try:
                self.stream = self.stream or self.path.open("wb+", buffering=0)
                if self.stream.write(data) == len(data):
                    self.written += len(data)
                    return None
                failed = OSError(28, "No space left on device")
            except OSError as exc:
                failed = exc
        self.rest.append(data)
        return failed

    def collected(self) -> NDArray[Any]:
        """The whole array, in memory."""
        start = b""
        if self.stream is not None:
            self.stream.seek(0)
            start = self.stream.read(self.written)
        return np.frombuffer(b"".join([start, *self.rest]), np.uint8).view(self.dtype).reshape(self.shape)

    def about(self) -> dict[str, Any]:
        return {"shape": list(self.shape), "dtype": self.dtype.name, "crc32": self.crc32}


def _close(tensors: list[_Tensor]) -> None:
    for tensor in tensors:
        if tensor.stream is not None:
            tensor.stream.close()


def _finish(folder: Path, tensors: list[_Tensor], photos: int, note: str) -> OSError | None:
    meta = {"photos": photos, "note": note, "tensors": [tensor.about() for tensor in tensors]}
    try:
        (folder / META).write_text(json.dumps(meta), encoding="utf-8")
    except OSError as exc:
        return exc
    return None


def read_meta(folder: Path) -> dict[str, Any]:
    """What an entry says of itself.

    Raises:
        ValueError: If it is damaged.
        OSError: If it cannot be read.
    """
    try:
        meta = json.loads(read_regular(folder / META, most_bytes=_META_BYTES))
    except RecursionError as exc:
        raise ValueError("its description is damaged") from exc
    if not isinstance(meta, dict) or not isinstance(meta.get("photos"), int) or not isinstance(meta.get("note"), str):
        raise ValueError("its description is damaged")
    return meta


def open_entry(folder: Path) -> Arrays:
    """An entry's arrays, memory-mapped read-only, after their checksums were verified.

    Raises:
        ValueError: If it is damaged.
        OSError: If it cannot be read.
    """
    try:
        return tuple(_open(folder / f"{i}.bin", tensor) for i, tensor in enumerate(read_meta(folder)["tensors"]))
    except (KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise ValueError(f"its description is damaged ({exc})") from exc


def _open(path: Path, tensor: dict[str, Any]) -> NDArray[Any]:
    dtype = _dtype(tensor["dtype"])
    mapped: NDArray[Any] = np.memmap(path, dtype=np.uint8, mode="r")
    if mapped.size != dtype.itemsize * int(np.prod(tensor["shape"])):
        raise ValueError(f"{path.name} has {mapped.size} bytes")
    checksum = 0
    for start in range(0, mapped.size, _CHUNK_BYTES):
        checksum = zlib.crc32(mapped[start : start + _CHUNK_BYTES].data, checksum)
        release((mapped,))
    if checksum != tensor["crc32"]:
        raise ValueError(f"{path.name} does not match its checksum")
    return mapped.view(dtype).reshape(tensor["shape"])


def release(arrays: Arrays) -> None:
    """Give back the memory of mapped pages that were read; the system still holds them in its own cache, and maps them again when asked."""
    for array in arrays:
        mapping = getattr(array, "_mmap", None)
        if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)


def _dtype(name: str) -> np.dtype[Any]:
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


class EntryHold:
    """A shared lock on an entry, for as long as this object lives; the system drops it with the process, a killed one included."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)


def hold_entry(folder: Path) -> EntryHold | None:
    """Keep an entry from being evicted; None where the system cannot."""
    try:
        import fcntl
    except ImportError:  # Windows does not let go of a mapped file anyway
        return None
    try:
        hold = EntryHold(os.open(folder / META, os.O_RDONLY))
        fcntl.flock(hold._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # being evicted this moment, or a file system without locks; what is mapped stays readable
        return None
    return hold


def discard_entry(folder: Path, *, even_in_use: bool = False) -> bool:
    """Remove an entry at once for everyone who looks for it, then its files; whether it is gone. One in use is left alone."""
    with contextlib.ExitStack() as stack:
        if not even_in_use and not _is_free(folder, stack):
            return False
        doomed = folder.with_name(f".{folder.name[:16]}-{uuid.uuid4().hex[:8]}.gone")
        try:
            folder.rename(doomed)
        except OSError:  # another process was quicker, or the system holds its files
            return not folder.exists()
        shutil.rmtree(doomed, ignore_errors=True)
    return True


def _is_free(folder: Path, stack: contextlib.ExitStack) -> bool:
    try:
        import fcntl
    except ImportError:
        return True
    try:
        stream = stack.enter_context((folder / META).open("rb"))
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sweep_leftovers(folder: Path, *, older_than_s: float, now: float) -> None:
    """Remove what writers that were killed left behind; a writer under way touches its folder more often than that."""
    for pattern in (".*.partial", ".*.gone"):
        for left in folder.glob(pattern):
            with contextlib.suppress(OSError):
                newest = max(os.stat(path).st_mtime for path in (left, *left.iterdir()))
                if now - newest > older_than_s:
                    shutil.rmtree(left, ignore_errors=True)
