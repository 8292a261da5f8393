"""The record of one run while it goes on: `run.json`, and what its folder is not told before it is known that the run may go on."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from finetunekit.config.plan import Plan, config_text
from finetunekit.runs.checkpoint import Checkpoint, load_checkpoint, remove_checkpoints
from finetunekit.runs.folder import CALLING, CONFIG, FORMAT, PLAN, STATE, WAITING, FinishedRun, cut_off_in, new_run_path
from finetunekit.system.environment import git_state
from finetunekit.system.files import to_json, write_whole
from finetunekit.system.progress import Progress


@dataclass
class RunRecord:
    """The record of one run.

    Attributes:
        path: The run folder.
        state: Content of `run.json`.
        pending: Files that the folder of a resumed run would get, until it is known that the run may go on; None from then on.
        checkpoint: How far an earlier process came; None: not to the end of its first epoch.
        started: Clock when the run began, in seconds since 1970.
        has_made_out: Whether the folder of runs was not there before.
        inside: Whose code the run is in, the outermost first.
    """

    path: Path
    state: dict[str, Any]
    pending: dict[str, str | bytes] | None = None
    checkpoint: Checkpoint | None = None
    started: float = field(default_factory=time.time)
    has_made_out: bool = False
    inside: list[str] = field(default_factory=list)

    @classmethod
    def create(
        cls,
        out: Path,
        plan: Plan,
        settings: Sequence[str],
        group: str | None = None,
        *,
        status: str = "running",
        executor: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make the folder of a new run; from its first moment on it holds enough to begin again wherever the run is killed.

        Args:
            out: Folder of runs.
            plan: The run's plan.
            settings: The user's `--set` texts.
            group: Name of the folder of several runs that this one belongs to; None: it stands alone.
            status: `running`, or `waiting` where another process is to begin it.
            executor: What carries it out, as a configuration names it, for whoever resumes it; None: this process, or that of its group.

        Raises:
            RunFolderError: If `out` cannot be written.
        """
        state = {
            "format": FORMAT,
            "status": status,
            "name": plan.config.name,
            "seed": plan.config.seed,
            "preset": plan.source,
            "settings": list(settings),
            "folder": str(Path.cwd()),
            "group": group,
            "group_key": _group_key(out) if group else None,
            "git": git_state(),
            "started": _now(),
            **({"executor": dict(executor)} if executor else {}),
        }
        files = {CONFIG: config_text(plan), PLAN: to_json(plan.to_dict()), STATE: to_json(state)}
        copies = {file.kept_name: file.content for file in plan.plugin_files}
        has_made_out = not out.exists()
        return cls(new_run_path(out, plan.config.name, {**copies, **files}), state, has_made_out=has_made_out)

    def forget(self) -> None:
        """Remove the run, and the folder of runs where it was made for it and holds no other."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.has_made_out:
            with contextlib.suppress(OSError):  # another run has begun there
                self.path.parent.rmdir()

    @classmethod
    def reopen(cls, path: Path, say: Callable[[str], None]) -> Self:
        """The record of a run that another process left: what it says of its end is gone, when it was taken up is noted.

        One that nobody has begun is as new as if this process had made it.

        Args:
            path: The run folder, locked.
            say: Hears how the process ended where it could not say so itself, and of a damaged checkpoint.

        Raises:
            RunFolderError: If there is no record that can be read.
        """
        left, culprit = FinishedRun(path).state, cut_off_in(path)
        if culprit is not None:
            say(f"note: the process that wrote this run ended without a word, inside {culprit}.")
            (path / CALLING).unlink(missing_ok=True)
        if left["status"] == WAITING:
            return cls(path, {**left, "status": "running"})
        state = {key: value for key, value in left.items() if key not in ("error", "ended")}
        state["resumed"] = [*left.get("resumed", []), _now()]
        if left["status"] == "finished":
            return cls(path, state)
        return cls(path, {**state, "status": "running"}, {}, load_checkpoint(path, say))

    @property
    def is_resumed(self) -> bool:
        """Whether another process began the run."""
        return "resumed" in self.state

    def note(self, name: str, content: str | bytes) -> None:
        """Write a file of the run folder; while it is not known whether an earlier run may go on, only keep it in mind."""
        if self.pending is None:
            write_whole(self.path / name, content)
        else:
            self.pending[name] = content

    def check_unchanged(self, config: str, progress: Progress, *, is_forced: bool) -> None:
        """Refuse to go on with what has changed since an earlier process left the run; else write what is pending.

        Args:
            config: What `config.yaml` will hold.
            progress: Receives a warning for each change that is gone on with all the same.
            is_forced: Go on although something changed.

        Raises:
            RunFolderError: If something has changed and going on was not forced.
        """
        from finetunekit.runs.resume_check import changes_since, refuse_changes

        if self.pending is None:
            return
        noted: Mapping[str, str | bytes] = self.pending
        changes = changes_since(self.path, noted)
        if not is_forced:
            refuse_changes(self.path, changes)
        for change in changes:
            progress.say(f"warning: continuing although these have changed since: {change}")
        self.state["forced"] = [*self.state.get("forced", []), *changes]
        self.pending = None
        for name, content in {**noted, CONFIG: config}.items():
            write_whole(self.path / name, content)
        self.write_state()

    @contextlib.contextmanager
    def calling(self, who: str) -> Iterator[None]:
        """Leave a mark in the folder for as long as the run is in someone's code, which may end the process or never come back."""
        self.inside.append(who)
        self._write_mark()
        try:
            yield
        finally:
            self.inside.pop()
            self._write_mark()

    def _write_mark(self) -> None:
        with contextlib.suppress(OSError):  # a run does not depend on it
            if self.inside:
                (self.path / CALLING).write_text(self.inside[-1], encoding="utf-8", errors="replace")
            else:
                (self.path / CALLING).unlink(missing_ok=True)

    def write_state(self) -> None:
        """Write `run.json`, once the run may go on."""
        if self.pending is None:
            write_whole(self.path / STATE, to_json(self.state))

    def finish(self, status: str) -> None:
        """Write how the run ended; a finished one needs no checkpoint."""
        self.state |= {"status": status, "ended": _now()}
        self.write_state()
        if status == "finished":
            remove_checkpoints(self.path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _group_key(folder: Path) -> str:
    """What tells a folder of several runs from others, whatever they are called: the first of its runs was given it."""
    states = (FinishedRun(file.parent).state for file in sorted(folder.glob(f"[!.]*/{STATE}")))
    return next((state["group_key"] for state in states if state.get("group_key")), None) or uuid.uuid4().hex
