"""Executor `processes`: several runs at a time on this machine, each in a process of its own that may be killed."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

from pydantic import Field

from finetunekit import (
    Executor,
    Job,
    Options,
    Outcome,
    RunError,
    available_cpus,
    show_bytes,
)

MEMORY_VARIABLE = "FINETUNEKIT_MEMORY_GB"
THREADS_VARIABLE = "TF_NUM_INTRAOP_THREADS"
_PROCESSORS_A_RUN = 4
_INTERRUPTED = 130
NOTICE_S = 10.0
"""How long a process may take to notice that one of those that it works with has ended."""
PATIENCE_S = 30.0
"""How long a run that is told to stop may take to keep what it has; an epoch's checkpoint is there already."""


class ProcessesOptions(Options):
    """Options of `processes`."""

    workers: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Runs at a time, fewer if memory is short; null: one per `threads` processors, or one per four, and at least two.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="TensorFlow's threads in each run, which change the last bits of its weights; null: as many as if it ran alone.",
    )
    processes_per_run: int = Field(
        1,
        ge=1,
        le=1024,
        description="Processes that train one network together, each with `train.devices` devices and its own copy of the photos; they "
        "share each batch. Only in a network that you trust: TensorFlow listens there and asks nobody who they are.",
    )
    restarts: int = Field(
        2, ge=0, le=100, description="How many times a run whose process was killed is resumed from its last epoch."
    )


def build_processes(options: ProcessesOptions) -> Executor:
    """Nothing is started yet."""
    return _Processes(options)


def _free_memory_bytes() -> int | None:
    from finetunekit import free_memory_bytes  # which loads numpy, and listings need none

    return free_memory_bytes()


@dataclass
class _Process:
    """A process that carries out a job.

    Attributes:
        job: The job.
        process: Leader of a session of its own, so that the user's Ctrl-C comes to this one alone.
        answer: What it writes to stdout.
        deaths: How many processes of this job were killed before it.
        helpers: Other processes that carry it out together with it.
    """

    job: Job
    process: subprocess.Popen[str]
    answer: IO[bytes]
    deaths: int
    helpers: tuple[_Helper, ...] = ()

    def listen(self, hear: Callable[[str | None], None]) -> None:
        """Have its progress heard, and None when it has ended."""
        reader = threading.Thread(target=self._read, args=(hear,), daemon=True)
        reader.start()
        threading.Thread(target=self._wait, args=(hear, reader), daemon=True).start()
        for helper in self.helpers:
            threading.Thread(target=self._watch, args=(helper,), daemon=True).start()

    def _watch(self, helper: _Helper) -> None:
        """The others cannot go on without one that has ended. Most notice and say why; what was done is in the folder."""
        helper.process.wait()
        try:
            self.process.wait(NOTICE_S)
        except subprocess.TimeoutExpired:
            self._end(self.process)

    def _read(self, hear: Callable[[str | None], None]) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as progress:
            for line in progress:
                hear(line.rstrip("\n"))

    def _wait(self, hear: Callable[[str | None], None], reader: threading.Thread) -> None:
        self.process.wait()
        reader.join(1.0)  # what it has started may live on and hold its stderr
        hear(None)

    def ask_to_stop(self) -> None:
        """Close its stdin; see `finetunekit.Job.arguments`."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended meanwhile
            self.process.stdin.close()

    def kill(self) -> None:
        """End it and its helpers, and what they have started."""
        self._end(self.process)
        for helper in self.helpers:
            self._end(helper.process)

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing of it is left
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()

    def close(self) -> None:
        """Let go of what it was heard through, once it has ended; and end what it has left behind."""
        self.kill()
        helpers = [stream for one in self.helpers for stream in (one.process.stdin, one.answer)]
        for stream in (self.process.stdin, self.answer, *helpers):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def killed_by(self) -> int:
        """Signal that ended it, or one of its helpers, once it has ended; 0: none."""
        codes = [self.process.returncode, *(helper.process.poll() or 0 for helper in self.helpers)]
        return -min(0, *codes)

    def refusals(self) -> list[tuple[int, str]]:
        """Exit codes and words of helpers that could be why it has ended; a `RunError` of a helper is what all of them ended with."""
        code = self.process.returncode
        if code == RunError.exit_code:  # maybe because a helper is gone, which this side may not know yet
            for helper in self.helpers:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    helper.process.wait(NOTICE_S)
        found = [refusal for helper in self.helpers if (refusal := helper.refusal())]
        return [one for one in found if one[0] != RunError.exit_code and (code < 0 or code == RunError.exit_code)]

    def outcome(self, killed_by: int, refusals: Sequence[tuple[int, str]]) -> Outcome:
        """How the job ended, once the process has."""
        code = self.process.returncode
        if refusals:
            return Outcome.of_process(self.job, *refusals[0])
        if killed_by and code:
            times = "" if self.deaths == 0 else f" {self.deaths + 1} times, the last time"
            why = f"its process was killed{times} by {_signal_name(killed_by)}. Memory may be short: let fewer run at a time."
            return Outcome(self.job, RunError(f"{self.job.label}: {why}"))
        if code == _INTERRUPTED:
            return Outcome(self.job, RunError(f"{self.job.label}: was interrupted; what it has is kept."))
        self.answer.seek(0)
        return Outcome.of_process(self.job, code, self.answer.read().decode(errors="backslashreplace"))


def _free_addresses(count: int) -> tuple[str, ...]:
    """Of this machine alone, free a moment ago."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(f"127.0.0.1:{one.getsockname()[1]}" for one in sockets)


@dataclass(frozen=True, slots=True)
class _Helper:
    """A process that trains a network together with the one that carries out the job.

    Attributes:
        process: Leader of a session of its own.
        answer: What it writes to stdout.
    """

    process: subprocess.Popen[str]
    answer: IO[bytes]

    def refusal(self) -> tuple[int, str] | None:
        """Exit code and why, where it ended by itself."""
        code = self.process.poll()
        if code is None or code < 0:
            return None
        self.answer.seek(0)
        return code, self.answer.read().decode(errors="backslashreplace")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass
class _Processes:
    """The processes of one call.

    Attributes:
        options: As the configuration gives them.
        under_way: Number of a process → what it is.
        heard: A number with a line of that process' progress, or with None where it has ended.
        most: Processes at a time; None: not known before the first job.
    """

    options: ProcessesOptions
    under_way: dict[int, _Process] = field(default_factory=dict)
    heard: queue.SimpleQueue[tuple[int, str | None]] = field(default_factory=queue.SimpleQueue)
    most: int | None = None

    def run(self, jobs: Iterator[Job], say: Callable[[str], None]) -> Iterator[Outcome]:
        """As many at a time as there is room for; the next one begins when one has ended."""
        self._numbers = itertools.count()
        try:
            self._fill(jobs, say)
            while self.under_way:
                outcome = self._next_outcome(say)
                if outcome is not None:
                    yield outcome
                    self._fill(jobs, say)
        finally:
            self._stop()

    def _fill(self, jobs: Iterator[Job], say: Callable[[str], None]) -> None:
        while self._has_room() and (job := next(jobs, None)) is not None:
            if self.most is None:
                self.most = self._most(job, say)
            self._start(job)

    def _has_room(self) -> bool:
        """Whether one more can begin: memory is asked for each time, since others may have taken it."""
        if not self.under_way or self.most is None:
            return True
        free = _free_memory_bytes()
        need = max(one.job.memory_bytes for one in self.under_way.values()) * self.options.processes_per_run
        return len(self.under_way) < self.most and (free is None or free >= need)

    def _most(self, job: Job, say: Callable[[str], None]) -> int:
        each = available_cpus() // (self.options.threads or _PROCESSORS_A_RUN)
        wanted, free = self.options.workers or max(each, 1 if self.options.threads else 2), _free_memory_bytes()
        fitting = wanted if free is None or not job.memory_bytes else max(1, free // job.memory_bytes)
        if fitting < wanted:
            say(
                f"note: {fitting} at a time, not {wanted}: {show_bytes(free or 0)} of memory are free, and a run may need "
                f"{show_bytes(job.memory_bytes)}"
            )
        return min(wanted, fitting)

    def _start(self, job: Job, deaths: int = 0) -> None:
        number, parts = next(self._numbers), self.options.processes_per_run if job.is_divisible else 1
        addresses = _free_addresses(parts) if parts > 1 else ()
        first, *others = (self._started(job, i, addresses) for i in range(parts))
        helpers = tuple(_Helper(process, answer) for process, answer in others)
        self.under_way[number] = one = _Process(job, *first, deaths, helpers)
        one.listen(lambda line: self.heard.put((number, line)))

    def _started(self, job: Job, part: int, addresses: Sequence[str]) -> tuple[subprocess.Popen[str], IO[bytes]]:
        answer = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        process = subprocess.Popen(
            [sys.executable, *job.arguments, *([f"--together={part}@{','.join(addresses)}"] if addresses else [])],
            cwd=job.folder,
            stdin=subprocess.PIPE,
            stdout=answer,
            stderr=subprocess.DEVNULL if part else subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
            env={**os.environ, **self._share_of_memory(), **self._threads()},
            start_new_session=True,
        )
        return process, answer

    def _share_of_memory(self) -> dict[str, str]:
        """What keeps a process from taking as free what another one counts on."""
        free = _free_memory_bytes()
        if free is None or self.most is None:
            return {}
        return {
            MEMORY_VARIABLE: f"{free / (self.most - len(self.under_way)) / self.options.processes_per_run / (1 << 30):.3f}"
        }

    def _threads(self) -> dict[str, str]:
        return {} if self.options.threads is None else {THREADS_VARIABLE: str(self.options.threads)}

    def _next_outcome(self, say: Callable[[str], None]) -> Outcome | None:
        """What is heard next; None: nothing that ends a job."""
        number, line = self.heard.get()
        if line is not None:
            if number in self.under_way:  # what it has started may speak on when it has ended
                say(f"{self.under_way[number].job.label}: {line}")
            return None
        one = self.under_way.pop(number)
        refusals = one.refusals()
        killed_by = one.killed_by()
        outcome = one.outcome(killed_by, refusals)
        one.close()
        if killed_by and one.process.returncode and not refusals and one.deaths < self.options.restarts:
            say(f"{one.job.label}: its process was killed by {_signal_name(killed_by)}; resumed")
            self._start(one.job, one.deaths + 1)
            return None
        return outcome

    def _stop(self) -> None:
        """Have those that are under way keep what they have; kill those that do not come to an end."""
        left = list(self.under_way.values())
        for one in left:
            one.ask_to_stop()
        try:
            deadline = time.monotonic() + PATIENCE_S
            with contextlib.suppress(subprocess.TimeoutExpired):
                for one in left:
                    one.process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for one in left:
                one.close()
            self.under_way.clear()
