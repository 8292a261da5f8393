"""Executor `local`: in this process, one run after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from finetunekit import Executor, FinetuneKitError, Job, Options, Outcome


def build_local(options: Options) -> Executor:
    """The executor of whoever names none."""
    return _Local()


class _Local:
    def run(self, jobs: Iterator[Job], say: Callable[[str], None]) -> Iterator[Outcome]:
        """One after the other; what stops the program stops the run."""
        for job in jobs:
            yield Outcome(job, _error_of(job))


def _error_of(job: Job) -> FinetuneKitError | None:
    try:
        job.here()
    except FinetuneKitError as exc:
        return exc
    return None
