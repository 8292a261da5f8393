"""Many files at once, every problem of theirs together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from finetunekit.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress: TypeAlias = Callable[[int, int], None]

SHOWN_PROBLEMS = 20


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

    def attempt(item: Item) -> tuple[tuple[Result, ...], tuple[str, ...]]:
        try:
            return (work(item),), ()
        except DataError as exc:
            return (), exc.problems

    results: list[Result] = []
    problems: list[str] = []
    pool = ThreadPoolExecutor(workers, thread_name_prefix="photos")
    try:
        for done, (result, problem) in enumerate(pool.map(attempt, items), start=1):
            results += result
            problems += problem
            if progress is not None:
                progress(done, len(items))
    finally:
        # After an interruption only what is under way is waited for.
        pool.shutdown(wait=True, cancel_futures=True)
    return results, problems


def bounded(problems: Sequence[str]) -> tuple[str, ...]:
    """The first 20 problems, and a line that counts the rest."""
    if len(problems) <= SHOWN_PROBLEMS:
        return tuple(problems)
    return (*problems[:SHOWN_PROBLEMS], f"and {len(problems) - SHOWN_PROBLEMS} more")
