"""Executor `launcher`: starts each run with your own command, such as Slurm's `srun`, several at a time, on a shared
file system."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from pydantic import Field

from finetunekit import Executor, Job, Options, Outcome, hookimpl
from finetunekit.hookspecs import Register


class LauncherOptions(Options):
    """Options of `launcher`."""

    command: tuple[str, ...] = Field(
        (), description="What to put in front of the run's own command, such as [srun, -c, 8]."
    )
    at_a_time: int = Field(4, ge=1, le=1000, description="Runs at a time.")
    restarts: int = Field(2, ge=0, le=100, description="How many times a run whose process was killed is resumed.")


class LauncherExecutor:
    """For each run in progress, one thread waits for its process."""

    def __init__(self, options: LauncherOptions) -> None:
        self._options = options
        self._processes: set[subprocess.Popen[str]] = set()
        self._is_stopped = False

    def run(self, jobs: Iterator[Job], say: Callable[[str], None]) -> Iterator[Outcome]:
        """Fill up, wait for one to end, and return it; ask for a job only when there is room for it."""
        futures: set[Future[Outcome]] = set()
        with ThreadPoolExecutor(self._options.at_a_time) as threads:
            try:
                is_more = True
                while is_more or futures:
                    while is_more and len(futures) < self._options.at_a_time:
                        job = next(jobs, None)
                        is_more = job is not None
                        futures |= {threads.submit(self._carry_out, job)} if job is not None else set()
                    ended, futures = wait(futures, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in ended)
            finally:
                self._stop()

    def _carry_out(self, job: Job) -> Outcome:
        """If it was killed and is started again in its folder, a run continues from its last epoch."""
        command = [*self._options.command, sys.executable, *job.arguments]
        for _ in range(1 + self._options.restarts):
            pipe = subprocess.PIPE
            with subprocess.Popen(command, cwd=job.folder, stdin=pipe, stdout=pipe, text=True) as process:
                self._processes.add(process)
                if self._is_stopped:
                    _ask_to_stop(process)
                assert process.stdout is not None
                answer = process.stdout.read()
            self._processes.discard(process)
            if process.returncode >= 0 or self._is_stopped:
                break
        return Outcome.of_process(job, process.returncode, answer)

    def _stop(self) -> None:
        """Runs in progress keep what they have, and can be resumed later."""
        self._is_stopped = True
        for process in tuple(self._processes):
            _ask_to_stop(process)


def _ask_to_stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()


def build_launcher(options: LauncherOptions) -> Executor:
    """Nothing is started yet; a missing package should be reported here."""
    return LauncherExecutor(options)


@hookimpl
def register_executors(register: Register) -> None:
    """One executor."""
    register("launcher", build_launcher, LauncherOptions)
