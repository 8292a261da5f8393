"""Many files at once, every problem of theirs together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeAlias, TypeVar

from finetunekit.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress: TypeAlias = Callable[[int, int], None]

SHOWN_PROBLEMS = 20
LARGEST_BATCH = 32
"""Items a thread takes at a time: enough that handing them over costs little, few enough that progress is seen."""
WAITING = 4
"""Batches a worker that are handed over but not done, so that memory does not grow with the number of items."""


def gather(
    work: Callable[[Item], Result], items: Sequence[Item], *, workers: int, progress: Progress | None = None
) -> tuple[list[Result], list[str]]:
    """Do the work for every item in threads, and collect what went wrong instead of stopping at the first.

    Args:
        work: Called once an item, in any thread; raises `DataError` where the item cannot be used.
        items: What to work on.
        workers: Number of threads, at least 1.
        progress: Called in the calling thread with (items done, items in all).

    Returns:
        The results of the items that went well, in the order of `items`, and one line for each problem.
    """

    results: list[Result] = []
    problems: list[str] = []
    with closing(in_order(work, items, workers=workers)) as attempts:
        for done, (result, problem) in enumerate(attempts, start=1):
            results += result
            problems += problem
            if progress is not None:
                progress(done, len(items))
    return results, problems


def in_order(
    work: Callable[[Item], Result], items: Sequence[Item], *, workers: int
) -> Generator[tuple[tuple[Result, ...], tuple[str, ...]], None, None]:
    """Do the work for every item in threads, a bounded number of items ahead of whoever takes the results.

    Args:
        work: Called once an item, in any thread; raises `DataError` where the item cannot be used.
        items: What to work on.
        workers: Number of threads, at least 1.

    Yields:
        For each item, in the order of `items`: its result, or none and the lines on what is wrong with it.
    """

    def attempt(item: Item) -> tuple[tuple[Result, ...], tuple[str, ...]]:
        try:
            return (work(item),), ()
        except DataError as exc:
            return (), exc.problems

    pool = ThreadPoolExecutor(workers, thread_name_prefix="photos")
    try:
        for batch in _in_turn(pool, lambda part: [attempt(item) for item in part], items, workers):
            yield from batch
    finally:
        # After an interruption only what is under way is waited for.
        pool.shutdown(wait=True, cancel_futures=True)


def _in_turn(
    pool: ThreadPoolExecutor, work: Callable[[Sequence[Item]], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    """What `work` makes of each batch, in order; only a few batches are handed over ahead."""
    size = max(1, min(LARGEST_BATCH, len(items) // (workers * WAITING)))
    batches = (items[start : start + size] for start in range(0, len(items), size))
    yield from ahead(pool, work, batches, workers * WAITING)


def ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], most: int
) -> Iterator[Result]:
    """What `work` makes of each item, in their order; items are taken as they are handed over, `most` of them ahead."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) == most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def bounded(problems: Sequence[str]) -> tuple[str, ...]:
    """The first 20 problems, and a line that counts the rest."""
    if len(problems) <= SHOWN_PROBLEMS:
        return tuple(problems)
    return (*problems[:SHOWN_PROBLEMS], f"and {len(problems) - SHOWN_PROBLEMS} more")
