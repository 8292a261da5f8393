"""Features that `finetunekit features` wrote, read back from a folder or an address: shards against their checksums, numbers into one array
that may lie on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import ConfigError, DataError
from finetunekit.models.linear_probe.linear import ProbeFeatures
from finetunekit.models.linear_probe.streamed import FeatureRows
from finetunekit.system.formatting import counted, escaped, one_line, show_bytes
from finetunekit.system.memory import scratch_array
from finetunekit.system.parquet import check_pyarrow, read_parquet
from finetunekit.system.progress import Progress
from finetunekit.system.shard_bucket import reading_shards
from finetunekit.system.shard_folder import ShardFolder, ShardRecord, shard_file

IN_MEMORY_VALUES = 2**28
"""Numbers that are fitted in memory; more stay on disk and are read pass by pass. 2 GB as the solver holds them, 210,000 photos of 1280."""
_LARGEST_SHARD_BYTES = 2**32
_TEXTS = ("label", "split", "group", "sha256")


@dataclass(frozen=True)
class FeatureShards:
    """Rows of features, in the order in which they were written.

    Attributes:
        place: Where they lie, a folder or an address.
        manifest: What was asked when they were made, and of which network they are.
        values: `(photos, channels)` float32 or float16, maybe mapped.
        label: Of each photo, and so are the others; None where it was not known.
        split: `train`, `valid`, `test`, or `display`.
        group: Photos that belong together.
        sha256: Of each photo's file.
        show: Told what is under way, now and then.
    """

    place: str
    manifest: Mapping[str, Any]
    values: NDArray[Any]
    label: Sequence[str | None]
    split: Sequence[str | None]
    group: Sequence[str | None]
    sha256: Sequence[str]
    progress: Progress

    @property
    def name(self) -> str:
        """Of the folder."""
        return short_name(self.place)

    def take(self, rows: NDArray[np.int64]) -> ProbeFeatures:
        """Features of some rows, ascending: float32 in memory, or what is read from disk where they are very many."""
        chosen = FeatureRows(self.values, rows, self.progress.show)
        if len(rows) * self.values.shape[1] > IN_MEMORY_VALUES:
            return chosen
        return np.asarray(chosen[:], np.float32)

    def groups(self, rows: NDArray[np.int64]) -> list[str]:
        """What cross-validation must not tear apart: a name for each of the rows, its group, else its content."""
        return [self.group[row] or self.sha256[row] for row in rows]


def short_name(place: str) -> str:
    """What a folder or an address is called in a line of progress."""
    return escaped(place.rstrip("/").rpartition("/")[2])


def open_feature_shards(place: str, progress: Progress) -> FeatureShards:
    """Read features; each file is compared with its checksum first. What lies at an address is read anew each time.

    Args:
        place: Folder or address that `finetunekit features` wrote to.
        progress: Says how far it is.

    Raises:
        ConfigError: If pyarrow is missing, or there are no features.
        DataError: If they are not finished, or a shard is damaged.
        RunFolderError: If their records are damaged, or their storage cannot be reached.
    """
    check_pyarrow(escaped(place))
    with reading_shards(place) as shards:
        return _read(place, shards, progress)


def _read(place: str, shards: ShardFolder, progress: Progress) -> FeatureShards:
    shown, manifest = shards.shown, shards.manifest()
    if manifest is None or manifest.get("kind") != "features":
        raise ConfigError(
            f"{shown}: holds no features. Make some: finetunekit features PHOTOS --backbone NAME --out DIR"
        )
    records = shards.records()
    rows, bad = (sum(getattr(record, name) for record in records.values()) for name in ("rows", "unreadable"))
    if rows + bad != manifest.get("photos"):
        raise DataError(f"{shown}: is not finished. The command that started it continues with the remaining shards.")
    channels, dtype = _shape(manifest, shown)
    if rows == 0:
        raise DataError(f"{shown}: has no rows.")
    if size_bytes := shards.rows_bytes():
        progress.say(f"reading {counted(len(records), 'shard')} of {shown} over the network, {show_bytes(size_bytes)}")
    values = scratch_array((rows, channels), dtype)
    texts: dict[str, list[Any]] = {name: [] for name in _TEXTS}
    count, done = progress.counter(f"reading {short_name(place)}"), 0
    for number in sorted(records):
        part = _read_shard(shards, records[number])
        found = _features(part, shards, records[number], channels)
        values[done : done + len(found)] = found
        for name in _TEXTS:
            texts[name].extend(part[name].to_pylist())
        done += len(found)
        count(done, rows)
    return FeatureShards(place, manifest, values, progress=progress, **texts)


def _shape(manifest: Mapping[str, Any], shown: str) -> tuple[int, str]:
    try:
        channels, dtype = manifest["network"]["channels"], manifest["dtype"]
        if not isinstance(channels, int) or dtype not in ("float16", "float32"):
            raise ValueError("what its numbers are is not said")
    except (KeyError, TypeError, ValueError) as exc:
        raise ConfigError(f"{shown}: its manifest is damaged ({one_line(exc)}).") from exc
    return channels, dtype


def _read_shard(shards: ShardFolder, record: ShardRecord) -> Any:
    """The columns that are needed, of a file that matches its checksum."""
    name = shard_file("rows", record.shard)
    try:
        content = shards.content(name, most_bytes=_LARGEST_SHARD_BYTES)
        if hashlib.sha256(content).hexdigest() != record.sha256.get(name):
            raise ValueError("it does not match its checksum")
        return read_parquet(content, ("features", *_TEXTS))
    except (OSError, ValueError) as exc:
        raise _damaged(shards, name, exc) from exc


def _features(part: Any, shards: ShardFolder, record: ShardRecord, channels: int) -> NDArray[Any]:
    column = part["features"].combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    if len(values) != record.rows * channels:
        raise _damaged(shards, shard_file("rows", record.shard), "its rows are others than its record says")
    found: NDArray[Any] = values.reshape(record.rows, channels)
    return found


def _damaged(shards: ShardFolder, name: str, why: object) -> DataError:
    return DataError(
        f"{shards.shown}/{name}: is damaged ({one_line(why)}). The command that made it makes it again; the others stay."
    )


def same_photos(shards: Sequence[FeatureShards]) -> bool:
    """Whether folders hold the same photos in the same order, with the same labels."""

    def digest(one: FeatureShards) -> str:
        return hashlib.sha256(json.dumps([list(one.sha256), list(one.label), list(one.split)]).encode()).hexdigest()

    return len({digest(one) for one in shards}) == 1
