"""Features of the frozen prefix: computed once, kept on disk, memory-mapped, shared between runs.

An entry holds the tensors that cross the cut for a list of photos under one view. Its key is the hash of everything its content follows
from, so that an entry is never stale, only unused.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from finetunekit.environment import processor_name
from finetunekit.folders import cache_dir

if TYPE_CHECKING:
    import keras

BOUND_VARIABLE = "FINETUNEKIT_FEATURES_GB"
_META = "meta.json"
_CHUNK_BYTES = 1 << 24
EXTRACTION_BATCH = 32

Arrays = tuple[NDArray[Any], ...]


class Prefix(Protocol):
    """What computes features: the part of a network before a cut, or a whole backbone with its pooling."""

    @property
    def prefix(self) -> keras.Model:
        """Input → the tensors that are kept."""
        ...

    @property
    def boundary(self) -> tuple[str, ...]:
        """Names of the operations whose outputs they are."""
        ...


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One entry of the feature cache, for listings."""

    key: str
    size_bytes: int
    photos: int
    used_at: float
    note: str


@dataclass(frozen=True)
class FeatureCache:
    """A folder of entries, bounded; the least recently used go first.

    Attributes:
        folder: Where entries lie.
        max_bytes: Bound of the whole folder.
        say: Receives one line where an entry is damaged or the bound is reached.
    """

    folder: Path
    max_bytes: int
    say: Callable[[str], None]

    def get(self, key: str) -> Arrays | None:
        """The entry's arrays, memory-mapped read-only; None where it is missing or damaged, which is said."""
        folder = self.folder / key
        if not (folder / _META).is_file():
            return None
        try:
            arrays = _open_entry(folder)
        except (OSError, ValueError, KeyError) as exc:
            self.say(f"feature cache: entry {key[:12]} is damaged ({exc}); it is made again.")
            shutil.rmtree(folder, ignore_errors=True)
            return None
        os.utime(folder / _META)
        return arrays

    def put(self, key: str, batches: Iterator[Arrays], photos: int, note: str) -> Arrays:
        """Write an entry from batches of arrays and open it; written beside and renamed, so that two writers do no harm."""
        partial = self.folder / f".{key[:16]}-{uuid.uuid4().hex[:8]}.partial"
        partial.mkdir(parents=True)
        try:
            _write_entry(partial, batches, photos, note)
            self._make_room(sum(f.stat().st_size for f in partial.iterdir()))
            if not (self.folder / key).exists():
                partial.rename(self.folder / key)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return _open_entry(self.folder / key)

    def entries(self) -> list[CacheEntry]:
        """Every entry, most recently used first."""
        found = []
        for meta_path in self.folder.glob("*/" + _META):
            if not meta_path.parent.name.startswith("."):
                meta = json.loads(meta_path.read_text(encoding="utf-8"))
                size = sum(f.stat().st_size for f in meta_path.parent.iterdir())
                used = meta_path.stat().st_mtime
                found.append(CacheEntry(meta_path.parent.name, size, meta["photos"], used, meta["note"]))
        return sorted(found, key=lambda entry: -entry.used_at)

    def clear(self) -> int:
        """Delete every entry; returns the bytes freed."""
        freed = sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file()) if self.folder.is_dir() else 0
        shutil.rmtree(self.folder, ignore_errors=True)
        return freed

    def _make_room(self, wanted_bytes: int) -> None:
        entries = self.entries()
        excess = sum(entry.size_bytes for entry in entries) + wanted_bytes - self.max_bytes
        for entry in reversed(entries):
            if excess <= 0 or time.time() - entry.used_at < 3600:  # an entry this fresh belongs to a run under way
                return
            shutil.rmtree(self.folder / entry.key, ignore_errors=True)
            excess -= entry.size_bytes


def _write_entry(folder: Path, batches: Iterator[Arrays], photos: int, note: str) -> None:
    tensors: list[dict[str, Any]] = []
    streams: list[Any] = []
    try:
        for batch in batches:
            for i, array in enumerate(batch):
                if len(streams) <= i:
                    streams.append((folder / f"{i}.bin").open("wb"))
                    tensors.append({"shape": [photos, *array.shape[1:]], "dtype": array.dtype.name, "crc32": 0})
                data = np.ascontiguousarray(array).view(np.uint8).tobytes()
                tensors[i]["crc32"] = zlib.crc32(data, tensors[i]["crc32"])
                streams[i].write(data)
    finally:
        for stream in streams:
            stream.close()
    meta = {"photos": photos, "note": note, "tensors": tensors}
    (folder / _META).write_text(json.dumps(meta), encoding="utf-8")


def _open_entry(folder: Path) -> Arrays:
    meta = json.loads((folder / _META).read_text(encoding="utf-8"))
    return tuple(_open_tensor(folder / f"{i}.bin", tensor) for i, tensor in enumerate(meta["tensors"]))


def _open_tensor(path: Path, tensor: dict[str, Any]) -> NDArray[Any]:
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


def open_cache(say: Callable[[str], None]) -> FeatureCache:
    """The user's feature cache, bounded by `$FINETUNEKIT_FEATURES_GB` (default 20)."""
    return FeatureCache(cache_dir() / "features", round(float(os.environ.get(BOUND_VARIABLE, "20")) * (1 << 30)), say)


def features_key(parts: Sequence[Any]) -> str:
    """Hash of everything an entry follows from; parts are JSON values."""
    return hashlib.sha256(json.dumps(list(parts), sort_keys=True).encode()).hexdigest()


def plain_key(signature: Sequence[Any], photos: Sequence[str]) -> str:
    """Key of the features of un-augmented photos.

    Args:
        signature: From `prefix_signature`.
        photos: SHA-256 of each file, in order.
    """
    return features_key([*signature, "plain", list(photos)])


def prefix_signature(cut: Prefix, pixels: Sequence[Any], precision: str) -> list[Any]:
    """What features follow from besides the photos: layers, weights, pixels, precision, and the code and kernels that compute them."""
    import PIL
    import tensorflow as tf

    from finetunekit import __version__

    digest = hashlib.sha256()
    operations = list(cut.prefix.operations)
    names = [operation.name for operation in operations]
    for operation in operations:
        digest.update(json.dumps(_describe(operation), sort_keys=True, default=str).encode())
    for variable in cut.prefix.weights:
        array = np.ascontiguousarray(variable.numpy())
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(array.view(np.uint8).data)
    return [
        [names.index(name) for name in cut.boundary],
        digest.hexdigest(),
        list(pixels),
        precision,
        [__version__, PIL.__version__, tf.__version__],
        [processor_name(), os.environ.get("TF_ENABLE_ONEDNN_OPTS", "")],
    ]


def _describe(operation: Any) -> list[Any]:
    """What an operation computes. Names may come from a counter of the process, and no flag changes what a prefix computes."""
    try:
        config = operation.get_config()
    except NotImplementedError:  # a layer that cannot be saved; its weights and its class have to do
        config = {}
    return [type(operation).__name__, {k: v for k, v in config.items() if k not in {"name", "trainable"}}]


def extract(cut: Prefix, batches: Iterator[NDArray[np.float32]]) -> Iterator[Arrays]:
    """Run the prefix over batches of standardised pixels.

    Args:
        cut: Its prefix takes `(batch, size, size, 3)` float32.
        batches: Of at most `EXTRACTION_BATCH` photos; short ones are padded, so that one graph serves all.

    Yields:
        One array a boundary tensor, `(batch, ...)`.
    """
    import tensorflow as tf

    shape = (EXTRACTION_BATCH, *cut.prefix.inputs[0].shape[1:])
    # one graph of one shape: nothing is traced twice, and a photo's features do not depend on which photos came with it
    graph = tf.function(lambda x: cut.prefix(x, training=False)).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    for batch in batches:
        features = graph(tf.constant(padded(batch, EXTRACTION_BATCH)))
        yield tuple(t.numpy()[: len(batch)] for t in tf.nest.flatten(features))


def padded(batch: NDArray[Any], size: int) -> NDArray[Any]:
    """A batch brought to a fixed size by repeating its last photo."""
    missing = size - len(batch)
    return np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else np.asarray(batch)
