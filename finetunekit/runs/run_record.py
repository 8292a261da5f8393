"""What the folder of a run is told while it goes on, and what it is not told before it is known that it may."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.runs.checkpoint import remove_checkpoints
from finetunekit.runs.folder import CONFIG, STATE
from finetunekit.system.files import to_json, write_whole
from finetunekit.system.progress import Progress

if TYPE_CHECKING:
    from finetunekit.runs.resume_check import Earlier


@dataclass
class RunRecord:
    """The record of one run.

    Attributes:
        path: The run folder.
        state: Content of `run.json`.
        unsettled: Files that the folder of a resumed run would get, until it is known that the run may go on; None from then on.
        started: Clock when the run began, in seconds since 1970.
    """

    path: Path
    state: dict[str, Any]
    unsettled: dict[str, str] | None = None
    started: float = field(default_factory=time.time)

    def note(self, name: str, content: str) -> None:
        """Write a file of the run folder; while it is not known whether an earlier run may go on, only keep it in mind."""
        if self.unsettled is None:
            write_whole(self.path / name, content)
        else:
            self.unsettled[name] = content

    def settle(self, earlier: Earlier, config: str, progress: Progress) -> None:
        """Refuse to go on with what has changed since an earlier process left the run; else write what is known by now.

        Args:
            earlier: What that process left.
            config: What `config.yaml` will hold.
            progress: Receives a warning for each change that is gone on with all the same.

        Raises:
            RunFolderError: If something has changed and going on was not forced.
        """
        from finetunekit.runs.resume_check import changes_since, refuse_changes

        if self.unsettled is None:
            return
        noted: Mapping[str, str] = self.unsettled
        changes = changes_since(self.path, noted)
        if not earlier.is_forced:
            refuse_changes(self.path, changes)
        for change in changes:
            progress.say(f"warning: changed since, and gone on with all the same: {change}")
        self.state["forced"] = [*self.state.get("forced", []), *changes]
        self.unsettled = None
        for name, content in {**noted, CONFIG: config}.items():
            write_whole(self.path / name, content)
        self.write_state()

    def write_state(self) -> None:
        """Write `run.json`, once the run may go on."""
        if self.unsettled is None:
            write_whole(self.path / STATE, to_json(self.state))

    def finish(self, status: str) -> None:
        """Write how the run ended; a finished one needs no checkpoint."""
        self.state |= {"status": status, "ended": datetime.now(UTC).isoformat(timespec="seconds")}
        self.write_state()
        if status == "finished":
            remove_checkpoints(self.path)
