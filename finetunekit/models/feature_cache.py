"""Features of the frozen prefix: computed once, kept on disk, memory-mapped, shared between runs.

An entry holds the tensors that cross the cut for a list of photos under one view. Its key is the hash of everything its content follows
from, so that an entry is never stale, only unused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.feature_files import (
    META,
    Arrays,
    EntryHold,
    NoRoomError,
    discard_entry,
    hold_entry,
    open_entry,
    read_meta,
    release,
    sweep_leftovers,
    write_entry,
)
from finetunekit.models.folded_norm import trace_forward
from finetunekit.models.weight_arrays import views
from finetunekit.system.environment import processor_name
from finetunekit.system.formatting import show_bytes
from finetunekit.system.user_dirs import cache_dir

if TYPE_CHECKING:
    import keras

__all__ = [
    "EXTRACTION_BATCH",
    "Arrays",
    "CacheEntry",
    "Extractor",
    "FeatureCache",
    "Prefix",
    "features_key",
    "open_cache",
    "pad_batch",
    "plain_key",
    "prefix_signature",
    "release",
]

BOUND_VARIABLE = "FINETUNEKIT_FEATURES_GB"
_LEFTOVER_S = 24 * 3600.0
EXTRACTION_BATCH = 16


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


AnyPrefix = TypeVar("AnyPrefix", bound=Prefix)


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
    """A folder of entries, bounded; the least recently used go first, those in use by any process stay.

    Attributes:
        folder: Where entries lie.
        max_bytes: Bound of the whole folder.
        say: Receives one line where an entry is damaged or cannot be kept.
        held: What keeps the entries that were opened from being evicted, as long as the cache lives.
    """

    folder: Path
    max_bytes: int
    say: Callable[[str], None]
    held: list[EntryHold] = field(default_factory=list, repr=False, compare=False, kw_only=True)

    def get(self, key: str) -> Arrays | None:
        """The entry's arrays, memory-mapped read-only; None where it is missing or damaged, which is said."""
        folder = self.folder / key
        if not (folder / META).is_file():
            return None
        try:
            arrays = self._open(folder)
        except (OSError, ValueError) as exc:
            if folder.exists():  # not evicted while it was opened
                self.say(f"feature cache: entry {key[:12]} is damaged ({exc}); it is made again.")
                discard_entry(folder, even_in_use=True)
            return None
        with contextlib.suppress(OSError):  # a cache that may only be read is a cache all the same
            os.utime(folder / META)
        return arrays

    def put(self, key: str, batches: Iterator[Arrays], photos: int, note: str) -> Arrays:
        """Write an entry from batches of arrays and open it; written beside and renamed, so that two writers do no harm.

        Where it cannot be written (the disk is full, the folder read-only) its arrays are kept in memory, which is said.
        """
        partial = self.folder / f".{key[:16]}-{uuid.uuid4().hex[:8]}.partial"
        try:
            write_entry(partial, batches, photos, note)
            return self._place(partial, self.folder / key)
        except NoRoomError as exc:
            size = show_bytes(sum(array.nbytes for array in exc.arrays))
            self.say(
                f"feature cache: {self.folder} cannot be written ({exc.strerror}); {size} are kept in memory for this run."
            )
            return exc.arrays
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _place(self, partial: Path, folder: Path) -> Arrays:
        self._make_room(sum(f.stat().st_size for f in partial.iterdir()))
        if not (folder / META).is_file():
            discard_entry(folder, even_in_use=True)  # half deleted, by a process that was killed
        # opened before it is in place: what is mapped stays readable whoever evicts it; Windows renames no mapped file
        arrays = None if os.name == "nt" else open_entry(partial)
        try:
            if not folder.exists():
                partial.rename(folder)
        except OSError:
            if not folder.exists():  # else another process made the same entry this moment
                raise
        return self._open(folder) if arrays is None else self._hold(folder, arrays)

    def _open(self, folder: Path) -> Arrays:
        return self._hold(folder, open_entry(folder))

    def _hold(self, folder: Path, arrays: Arrays) -> Arrays:
        held = hold_entry(folder)
        if held is not None:
            self.held.append(held)
        return arrays

    def entries(self) -> list[CacheEntry]:
        """Every whole entry, most recently used first."""
        found = []
        for meta_path in self.folder.glob("[!.]*/" + META):
            with contextlib.suppress(
                OSError, ValueError
            ):  # evicted this moment, or damaged: it is made again when it is needed
                meta = read_meta(meta_path.parent)
                size = sum(f.stat().st_size for f in meta_path.parent.iterdir())
                used = meta_path.stat().st_mtime
                found.append(CacheEntry(meta_path.parent.name, size, meta["photos"], used, meta["note"]))
        return sorted(found, key=lambda entry: -entry.used_at)

    def clear(self) -> int:
        """Delete every entry; returns the bytes freed. A run under way keeps what it has opened."""
        freed = sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file()) if self.folder.is_dir() else 0
        shutil.rmtree(self.folder, ignore_errors=True)
        return freed

    def _make_room(self, wanted_bytes: int) -> None:
        sweep_leftovers(self.folder, older_than_s=_LEFTOVER_S, now=time.time())
        entries = self.entries()
        excess = sum(entry.size_bytes for entry in entries) + wanted_bytes - self.max_bytes
        for entry in reversed(entries):
            if excess <= 0:
                return
            if discard_entry(self.folder / entry.key):
                excess -= entry.size_bytes


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

    from finetunekit._version import __version__

    digest = hashlib.sha256()
    operations = list(cut.prefix.operations)
    names = [operation.name for operation in operations]
    for operation in operations:
        digest.update(json.dumps(_describe(operation), sort_keys=True, default=str).encode())
    for variable in cut.prefix.weights:
        array = np.ascontiguousarray(*views([variable]))  # one at a time, where it has to be a copy
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


class Extractor(Generic[AnyPrefix]):
    """Runs one prefix over the batches of any number of entries; its graph is built with the first.

    Attributes:
        cut: The prefix.
        batch_s: Seconds of each batch but the first, which builds the graph.
    """

    def __init__(self, cut: AnyPrefix) -> None:
        """Take a prefix of `(batch, size, size, 3)` float32."""
        self.cut = cut
        self.batch_s: list[float] = []

    def prepare(self) -> None:
        """Build the graph now, so that several threads may call."""
        _ = self._graph

    def __call__(self, batches: Iterator[NDArray[np.float32]]) -> Iterator[Arrays]:
        """Run it.

        Args:
            batches: Standardised pixels of at most `EXTRACTION_BATCH` photos; short ones are padded, so that one graph serves all.

        Yields:
            One array a boundary tensor, `(batch, ...)`.
        """
        import tensorflow as tf

        for batch in batches:
            is_first, started = "_graph" not in vars(self), time.perf_counter()
            features = self._graph(tf.constant(pad_batch(batch, EXTRACTION_BATCH)))
            arrays = tuple(t.numpy()[: len(batch)] for t in tf.nest.flatten(features))
            if not is_first:
                self.batch_s.append(time.perf_counter() - started)
            yield arrays

    @cached_property
    def _graph(self) -> Callable[[Any], Any]:
        """Of one shape: nothing is traced twice, and a photo's features do not depend on which photos came with it."""
        import tensorflow as tf

        prefix = self.cut.prefix
        spec = tf.TensorSpec((EXTRACTION_BATCH, *prefix.inputs[0].shape[1:]), tf.float32)
        return trace_forward(prefix, spec)  # type: ignore[no-any-return]


def pad_batch(batch: NDArray[Any], size: int) -> NDArray[Any]:
    """A batch brought to a fixed size by repeating its last photo."""
    missing = size - len(batch)
    return np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else np.asarray(batch)
