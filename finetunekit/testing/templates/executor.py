"""Executor `my_component`: each run in a separate process, one after the other, started again if it was killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from pydantic import Field

from finetunekit import Executor, Job, Options, Outcome, hookimpl
from finetunekit.hookspecs import Register


class MyComponentOptions(Options):
    """Options of `my_component`."""

    restarts: int = Field(2, ge=0, le=100, description="How many times a run whose process was killed is resumed.")


class MyComponentExecutor:
    """Carries out jobs, here one at a time. It does not need to know what a job does; everything the job needs is in
    its folder."""

    def __init__(self, options: MyComponentOptions) -> None:
        """Take the options; nothing is started yet."""
        self._restarts = options.restarts

    def run(self, jobs: Iterator[Job], say: Callable[[str], None]) -> Iterator[Outcome]:
        """Ask for the next job when there is room for it, and yield each as soon as it has ended, in any order."""
        for job in jobs:
            for _ in range(1 + self._restarts):
                say(f"{job.label}: starts in a separate process")
                exit_code, answer = _carry_out(job)
                if exit_code >= 0:  # below 0 it was killed; started again in the same folder, it continues where it was
                    break
            yield Outcome.of_process(job, exit_code, answer)


def _carry_out(job: Job) -> tuple[int, str]:
    """Exit code and answer of one process. It stops when its stdin is closed, which also happens if this process
    ends."""
    command = [sys.executable, *job.arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=job.folder, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            answer = process.stdout.read()
        finally:
            process.stdin.close()
    return process.returncode, answer


def build_my_component(options: MyComponentOptions) -> Executor:
    """If a package is missing, raise `ConfigError` here."""
    return MyComponentExecutor(options)


@hookimpl
def register_executors(register: Register) -> None:
    """One executor."""
    register("my_component", build_my_component, MyComponentOptions)
