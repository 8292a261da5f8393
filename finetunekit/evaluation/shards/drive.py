"""All shards of a job, in a folder that another call takes up where this one was cut off."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetunekit.config.moved_inputs import MovedInputs
from finetunekit.errors import ConfigError, DataError, RunFolderError
from finetunekit.evaluation.shards.jobs import Job
from finetunekit.evaluation.shards.work import Shard, ShardPhoto, work_on_shards
from finetunekit.evaluation.shards.workers import open_worker
from finetunekit.system.files import locked
from finetunekit.system.formatting import counted, show_duration
from finetunekit.system.parquet import check_pyarrow
from finetunekit.system.progress import Progress
from finetunekit.system.shard_bucket import open_bucket
from finetunekit.system.shard_folder import LOCK, UNREADABLE, ShardFolder, ShardRecord
from finetunekit.system.storage import is_remote

SHARD_PHOTOS = 4096
_FILES = (".csv", ".tsv", ".json", ".jsonl", ".xlsx")
_MOST_LINES = 100
"""Lines that a job says of its shards, at most."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a folder of shards holds once all of them are there.

    Attributes:
        folder: The folder, or its address.
        shards: Number of shards.
        made: How many of them this call made; the others were there.
        rows: Photos with a row.
        unreadable: Photos that could not be read; the side table says why.
    """

    folder: Path | str
    shards: int
    made: int
    rows: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class Making:
    """Shards that are to be made.

    Attributes:
        job: What is asked of each photo.
        shards: Those that are left.
        folder: Where they go.
        asked: What the manifest says, but for the network, which whoever loads it adds (`begin`).
        progress: Says what is under way.
    """

    job: Job
    shards: Sequence[Shard]
    folder: ShardFolder
    asked: Mapping[str, Any]
    progress: Progress

    def begin(self, network: Mapping[str, Any]) -> None:
        """Write the manifest, or see that it says the same of the network.

        Raises:
            ConfigError: If the folder was begun with another one.
        """
        self.folder.begin({**self.asked, "network": dict(network)})


def write_shards(
    job: Job,
    photos: Sequence[ShardPhoto],
    folder: Path | str,
    progress: Progress,
    *,
    shard_photos: int = SHARD_PHOTOS,
    make: Callable[[Making], Iterator[ShardRecord]] | None = None,
) -> Written:
    """Answer for photos, shard by shard; what is there and whole is not made again.

    Args:
        job: What is asked of each photo.
        photos: In order; another call has to bring the same ones in the same order.
        folder: Where shards go, a folder or an address; see `finetunekit.system.shard_folder` and `finetunekit.system.shard_bucket`.
        progress: Says what is under way and how long it will take.
        shard_photos: Photos a shard, a multiple of 256.
        make: Makes the shards that are left and gives back what to record of each, in any order, once its files are in place; None: in
            this process, one after the other.

    Raises:
        ConfigError: If pyarrow is missing, the folder has a file's name, or it holds something else.
        DataError: If no photo at all can be read.
        RunFolderError: If the folder cannot be written, or another process writes it.
    """
    check_pyarrow(f"{folder}")
    if Path(folder).suffix.lower() in _FILES:
        raise ConfigError(
            f"{folder}: is the name of a file, and shards of Parquet go into a folder. Name one, such as {Path(folder).stem}."
        )
    shards = [
        Shard(number, tuple(photos[start : start + shard_photos]))
        for number, start in enumerate(range(0, len(photos), shard_photos))
    ]
    asked = {**job.asked(progress), **_photos_asked(photos, shard_photos)}
    is_far = is_remote(str(folder))
    kept = open_bucket(str(folder)) if is_far else ShardFolder(Path(folder))
    if not is_far:
        kept.check(asked)  # before the folder is made for its lock
    with locked(kept.path, lock=LOCK, job="writing these shards"), _told_to_go_on():
        kept.fetch()
        kept.check(asked)
        records = kept.whole(progress.say)
        left = [shard for shard in shards if shard.number not in records]
        if left:
            _say_start(progress, len(shards), len(left), kept.shown)
            for record in _made((make or make_here)(Making(job, left, kept, asked, progress)), kept):
                records[record.shard] = record
        kept.finish(records)
    return _summary(folder, kept.shown, records, len(left), progress)


def _made(records: Iterator[ShardRecord], kept: ShardFolder) -> Iterator[ShardRecord]:
    try:
        for record in records:
            kept.record(record)
            yield record
    except BaseException:
        with suppress(RunFolderError):  # a storage that cannot be reached: a few shards are made again
            kept.stop()
        raise


@contextmanager
def _told_to_go_on() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as exc:
        exc.add_note("The same command continues with the remaining shards.")
        raise


def _photos_asked(photos: Sequence[ShardPhoto], shard_photos: int) -> dict[str, Any]:
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(json.dumps([photo.path, photo.label, photo.split, photo.group]).encode() + b"\n")
    return {"photos": len(photos), "photos_sha256": digest.hexdigest(), "shard_photos": shard_photos}


def _say_start(progress: Progress, shards: int, left: int, shown: str) -> None:
    there = shards - left
    going_on = f"; {there:,} of them are there" if there else ""
    progress.say(f"{counted(shards, 'shard')} in {shown}{going_on}")


def make_here(making: Making, moved: MovedInputs | None = None) -> Iterator[ShardRecord]:
    """Shard after shard in this process.

    Args:
        making: The shards.
        moved: Where weights and runs lie here; None: where their paths say.
    """
    shards, folder, progress = making.shards, making.folder.path, making.progress
    worker = open_worker(making.job, progress, moved)
    making.begin(worker.signature)
    photos, done = sum(len(shard.photos) for shard in shards), 0
    count, often, started = progress.counter("photos"), -(-len(shards) // _MOST_LINES), time.monotonic()
    with closing(work_on_shards(worker, shards, folder, lambda number: count(number, photos))) as records:
        for number, record in enumerate(records, start=1):
            done += record.rows + record.unreadable
            if number % often == 0 or number == len(shards):
                bad = f", {record.unreadable} unreadable" if record.unreadable else ""
                progress.say(
                    f"shard {record.shard}: {counted(record.rows, 'row')}{bad}; {how_far(started, done, photos)}"
                )
            yield record


def how_far(started: float, done: int, photos: int) -> str:
    """`4,096 of 100,000 photos, 20 min 05 s left`, by how long the first ones took."""
    left_s = (time.monotonic() - started) / done * (photos - done)
    return f"{done:,} of {photos:,} photos" + (f", {show_duration(left_s)} left" if done < photos else "")


def _summary(folder: Path | str, shown: str, records: dict[int, ShardRecord], made: int, progress: Progress) -> Written:
    rows, unreadable = (sum(getattr(one, name) for one in records.values()) for name in ("rows", "unreadable"))
    if unreadable:
        progress.say(f"{counted(unreadable, 'photo')} could not be read; {shown}/{UNREADABLE} says which and why")
    if not rows:
        raise DataError(f"{shown}: none of {counted(unreadable, 'photo')} could be read.")
    processors = sorted({record.made_on for record in records.values()})
    if len(processors) > 1:
        progress.say(f"made on {' and '.join(processors)}: last bits may differ between shards")
    return Written(folder, len(records), made, rows, unreadable)
