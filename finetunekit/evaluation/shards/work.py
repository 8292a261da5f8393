"""Shards: photo files in, for each shard one whole Parquet file out, and a side table of those that could not be read.

Nothing is known here of who asks for them: this may run in any process on any machine that sees the photos and the folder. Photos of the
next shard are decoded, and answered for, while this one is written.
"""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.moved_inputs import MovedInputs, absolute
from finetunekit.data.decode import decode_stream, fit_photo
from finetunekit.data.parallel import ahead, in_order
from finetunekit.data.photo_file import (
    PhotoFile,
    check_file_size,
    held_photo,
    largest_file_bytes,
    open_photo_file,
    pillow_guard,
)
from finetunekit.data.remote_photos import read_remote_photo
from finetunekit.evaluation.shards.workers import Worker
from finetunekit.system.environment import available_cpus, processor_name
from finetunekit.system.formatting import escaped
from finetunekit.system.parquet import parquet_bytes
from finetunekit.system.shard_folder import ROWS, UNREADABLE, ShardFolder, ShardRecord
from finetunekit.system.storage import is_remote

_CHUNK = 64
"""Photos that a thread asks the network about: while it computes, the next ones are decoded."""
_MOST_THREADS, _FAR_THREADS = 8, 32
"""That decode; and those where photos come over a network, for which most of them wait."""
_PASSES = 2
"""Through the network at a time: while one waits for the last processor to finish a layer, the other computes."""
_LABELS = ("label", "split", "group")


_Attempt: TypeAlias = "tuple[ShardPhoto, tuple[tuple[_Read, ...], tuple[str, ...]]]"
"""A photo, and what was read of it or why nothing was."""


@dataclass(frozen=True, slots=True)
class ShardPhoto:
    """A photo to answer for; label, split and group where they are known."""

    path: str
    label: str | None = None
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """Photos that become one file.

    Attributes:
        number: From 0.
        photos: In order.
        moved: Where the photos lie here; None: where their paths say.
    """

    number: int
    photos: tuple[ShardPhoto, ...]
    moved: MovedInputs | None = None

    def place(self, photo: ShardPhoto) -> Path:
        """Where a photo is read; an address is an address anywhere."""
        if self.moved is None or is_remote(photo.path):
            return Path(photo.path)
        return absolute(self.moved.place(photo.path), self.moved.folder)


@dataclass(frozen=True, slots=True)
class _Read:
    photo: ShardPhoto
    sha256: str
    square: NDArray[np.uint8]


def work_on_shards(
    worker: Worker, shards: Sequence[Shard], folder: Path, count: Callable[[int], None] = lambda _: None
) -> Generator[ShardRecord]:
    """Decode, ask and write. Photos wait decoded in a bounded number, so that memory does not grow with their number.

    Args:
        worker: The network.
        shards: In order.
        folder: Of all shards; see `finetunekit.system.shard_folder`.
        count: Told how many photos of all of them are done, now and then.

    Yields:
        What to record of each, once its files are written.

    Raises:
        RunFolderError: If a file cannot be written.
    """
    done = 0
    with closing(_answered(worker, shards)) as answers:
        for shard in shards:
            parts: list[dict[str, Any]] = []
            unreadable: list[tuple[str, str]] = []
            for rows, problems in itertools.islice(answers, -(-len(shard.photos) // _CHUNK)):
                parts += rows
                unreadable += problems
                done += sum(len(part["path"]) for part in rows) + len(problems)
                count(done)
            yield _written(worker, shard, folder, parts, unreadable)


def _written(
    worker: Worker,
    shard: Shard,
    folder: Path,
    parts: Sequence[dict[str, Any]],
    unreadable: Sequence[tuple[str, str]],
) -> ShardRecord:
    contents = {ROWS: _table_bytes(worker, parts)}
    if unreadable:
        contents[UNREADABLE] = _side_table(unreadable)
    sha256 = ShardFolder(folder).keep(shard.number, contents)
    return ShardRecord(shard.number, len(shard.photos) - len(unreadable), len(unreadable), sha256, processor_name())


def _answered(worker: Worker, shards: Sequence[Shard]) -> Generator[tuple[list[dict[str, Any]], list[tuple[str, str]]]]:
    """Chunk by chunk, none of which spans two shards: rows, if any photo of it could be read, and why the others could not."""

    def answer(chunk: tuple[Shard, Sequence[_Attempt]]) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
        shard, attempts = chunk
        read = [found for _, (result, _) in attempts for found in result]
        problems = [(photo.path, _reason(photo, shard.place(photo), lines)) for photo, (_, lines) in attempts if lines]
        return [_rows(worker, read)] if read else [], problems

    with (
        pillow_guard(worker.max_pixels),
        closing(_read_ahead(worker, shards)) as attempts,
        ThreadPoolExecutor(_PASSES, thread_name_prefix="passes") as pool,
    ):
        yield from ahead(pool, answer, _chunks(shards, attempts), _PASSES + 1)


def _read_ahead(worker: Worker, shards: Sequence[Shard]) -> Generator[tuple[tuple[_Read, ...], tuple[str, ...]]]:
    """Photos of all shards in order, a bounded number of them ahead of whoever takes them."""
    ends = list(itertools.accumulate(len(shard.photos) for shard in shards))

    def read(number: int) -> _Read:
        at = bisect_right(ends, number)
        photo = shards[at].photos[number - ends[at]]  # counted from its end
        return _read(photo, shards[at].place(photo), worker)

    is_far = any(is_remote(photo.path) for shard in shards for photo in shard.photos)
    threads = _FAR_THREADS if is_far else min(_MOST_THREADS, available_cpus())
    return in_order(read, range(ends[-1] if ends else 0), workers=threads)


def _chunks(shards: Sequence[Shard], attempts: Iterator[Any]) -> Iterator[tuple[Shard, list[_Attempt]]]:
    for shard in shards:
        tried = zip(shard.photos, attempts)  # noqa: B905 - of the attempts, those of the next shard are left
        while chunk := list(itertools.islice(tried, _CHUNK)):
            yield shard, chunk


def _read(photo: ShardPhoto, path: Path, worker: Worker) -> _Read:
    with _opened(photo, path, worker.max_pixels) as file:
        check_file_size(file, path, max_pixels=worker.max_pixels)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        pixels = decode_stream(file, path, max_pixels=worker.max_pixels)
    return _Read(photo, sha256, fit_photo(pixels, **worker.fitting))


@contextmanager
def _opened(photo: ShardPhoto, path: Path, max_pixels: int) -> Iterator[PhotoFile]:
    if not is_remote(photo.path):
        with open_photo_file(path) as file:
            yield file
        return
    with held_photo(read_remote_photo(photo.path, most_bytes=largest_file_bytes(max_pixels)), path) as file:
        yield file


def _reason(photo: ShardPhoto, path: Path, lines: Sequence[str]) -> str:
    """Why, without the path, which has a column of its own."""
    return "; ".join(
        line.removeprefix(f"{escaped(str(path))}: ").removeprefix(f"{escaped(photo.path)}: ") for line in lines
    )


def _rows(worker: Worker, read: Sequence[_Read]) -> dict[str, Any]:
    answers = worker.answer([Path(one.photo.path) for one in read], [one.square for one in read])
    labels = {name: [getattr(one.photo, name) for one in read] for name in _labels(worker)}
    return {"path": [one.photo.path for one in read], "sha256": [one.sha256 for one in read], **labels, **answers}


def _labels(worker: Worker) -> Sequence[str]:
    return _LABELS if worker.is_labelled else ()


def _table_bytes(worker: Worker, parts: Sequence[dict[str, Any]]) -> bytes:
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("path", "sha256", *_labels(worker))]
    schema = pa.schema([*texts, *worker.schema()])
    batches = [pa.record_batch([_column(part[f.name], f.type) for f in schema], schema=schema) for part in parts]
    repeated = [name for name in ("label", "split", "predicted") if name in schema.names]
    return parquet_bytes(pa.Table.from_batches(batches, schema=schema).combine_chunks(), repeated)


def _column(values: Any, kind: Any) -> Any:
    import pyarrow as pa

    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)
    return pa.array([_text(value) for value in values] if pa.types.is_string(kind) else values, kind)


def _text(value: str | None) -> str | None:
    """Names of files may hold bytes that are no UTF-8; Parquet's texts may not: they are escaped."""
    return None if value is None else value.encode("utf-8", "backslashreplace").decode()


def _side_table(unreadable: Sequence[tuple[str, str]]) -> bytes:
    import pyarrow as pa

    names, reasons = zip(*unreadable, strict=True)
    return parquet_bytes(pa.table({"path": list(map(_text, names)), "reason": list(map(_text, reasons))}))
