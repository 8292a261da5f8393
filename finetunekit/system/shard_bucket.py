"""Shards on storage that is reached by an address, such as `s3://bucket/features`: each goes there as soon as it is whole.

They are made in a folder of this machine's cache, named after the address. What counts is on the storage: `manifest.json`, the files of
shards, and `shards.jsonl`, which is written anew after a shard, or after each hundredth part of the shards where there are many. So
another machine can continue, and makes at most those shards again whose line it does not find.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetunekit.errors import RunFolderError
from finetunekit.system.files import write_whole
from finetunekit.system.formatting import escaped, one_line
from finetunekit.system.shard_folder import LOCK, MANIFEST, RECORDS, ROWS, ShardFolder, ShardRecord
from finetunekit.system.storage import find_storage, is_remote
from finetunekit.system.user_dirs import cache_dir, expand_home

_CHUNK_BYTES = 1 << 20
_PART = 100
"""Records are written anew once they have grown by this part of them."""


@dataclass(frozen=True, slots=True)
class BucketShards(ShardFolder):
    """Shards that are made in `path`, and are kept on a storage.

    Attributes:
        url: Of the folder of shards, as the user wrote it.
        storage: Reaches it.
        root: What the address means there.
        known: Shards that were recorded.
        unwritten: Those of them that `shards.jsonl` on the storage does not have yet.
    """

    url: str
    storage: Any
    root: str
    known: set[int] = field(default_factory=set)
    unwritten: set[int] = field(default_factory=set)

    @property
    def shown(self) -> str:
        """See `ShardFolder`."""
        return escaped(self.url)

    def names(self) -> list[str]:
        """See `ShardFolder`."""
        with self._reaching("listed"):
            self.storage.invalidate_cache()
            try:
                found = self.storage.ls(self.root, detail=False)
            except FileNotFoundError:
                return []
        return [name.rstrip("/").rpartition("/")[2] for name in found]

    def fetch(self) -> None:
        """Bring what the storage says of the shards here; what a call that was cut off says of them here does not count."""
        for name in (MANIFEST, RECORDS):
            (self.path / name).unlink(missing_ok=True)
            with self._reaching("read"):
                try:
                    content = bytes(self.storage.cat_file(f"{self.root}/{name}"))
                except FileNotFoundError:
                    continue
            write_whole(self.path / name, content)
        self.known.update(self.records())

    def begin(self, asked: Mapping[str, Any]) -> None:
        """See `ShardFolder`."""
        before = self.manifest()
        ShardFolder.begin(self, asked)
        if self.manifest() != before:
            self._send(MANIFEST)

    def record(self, record: ShardRecord) -> None:
        """See `ShardFolder`: the files of the shard go first."""
        for name in record.sha256:
            self._send(name)
            (self.path / name).unlink()
        ShardFolder.record(self, record)
        self.known.add(record.shard)
        self.unwritten.add(record.shard)
        if len(self.unwritten) * _PART >= len(self.known):
            self._send_records()

    def finish(self, records: Mapping[int, ShardRecord]) -> None:
        """See `ShardFolder`."""
        ShardFolder.finish(self, records)
        self._send_records()
        for file in self.path.iterdir():
            if file.is_dir():
                shutil.rmtree(file)
            elif file.name != LOCK:
                file.unlink()

    def stop(self) -> None:
        """See `ShardFolder`."""
        if self.unwritten:
            self._send_records()

    def content(self, name: str, *, most_bytes: int) -> bytes:
        """See `ShardFolder`."""
        with self._reaching("read"):
            try:
                found = bytes(self.storage.cat_file(f"{self.root}/{name}", start=0, end=most_bytes + 1))
            except FileNotFoundError:
                found = None
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        if len(found) > most_bytes:
            raise OSError(errno.EFBIG, f"it is larger than {most_bytes:,} bytes", name)
        return found

    def rows_bytes(self) -> int:
        """See `ShardFolder`."""
        with self._reaching("listed"):
            files = self.storage.find(f"{self.root}/{ROWS}", detail=True).values()
        return sum(int(file["size"] or 0) for file in files)

    def checksum(self, name: str) -> str | None:
        """See `ShardFolder`."""
        digest = hashlib.sha256()
        with self._reaching("read"):
            try:
                with self.storage.open(f"{self.root}/{name}", "rb") as stream:
                    while part := stream.read(_CHUNK_BYTES):
                        digest.update(part)
            except FileNotFoundError:
                return None
        return digest.hexdigest()

    def _send_records(self) -> None:
        self._send(RECORDS)
        self.unwritten.clear()

    def _send(self, name: str) -> None:
        with self._reaching("written"):
            self.storage.pipe_file(f"{self.root}/{name}", (self.path / name).read_bytes())

    @contextmanager
    def _reaching(self, verb: str) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            # whatever the client of a storage raises; all of it is said of this address
            raise RunFolderError(f"{self.shown}: cannot be {verb} ({one_line(exc)}).") from exc


def open_bucket(url: str) -> BucketShards:
    """Shards at an address.

    Raises:
        ConfigError: If what reaches such storage is not installed, or a password stands in the address.
        DataError: If there is no such storage.
    """
    return _bucket(url, cache_dir() / "to-buckets" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16])


@contextmanager
def reading_shards(place: str) -> Iterator[ShardFolder]:
    """Shards that are read and not written, in a folder or at an address: what is said of them is here, their files come when asked for.

    Raises:
        As `open_bucket`.
        RunFolderError: If the storage cannot be reached.
    """
    if not is_remote(place):
        yield ShardFolder(expand_home(place))
        return
    with tempfile.TemporaryDirectory(prefix="finetunekit-shards-") as scratch:
        shards = _bucket(place, Path(scratch))
        shards.fetch()
        yield shards


def _bucket(url: str, folder: Path) -> BucketShards:
    storage, root = find_storage(url)
    return BucketShards(folder, url, storage, root.rstrip("/"))
