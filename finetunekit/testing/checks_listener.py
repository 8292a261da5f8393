"""The contract of a listener: a plugin that is told what happens in a run."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pluggy

from finetunekit.config.plan import Chosen
from finetunekit.plugins import hookspecs
from finetunekit.plugins.host import NOTIFY_HOOKS
from finetunekit.runs.folder import CONFIG, FinishedRun
from finetunekit.runs.reopening import reopen_plan
from finetunekit.system.environment import start_tensorflow
from finetunekit.system.progress import Progress
from finetunekit.testing.contract import Subject
from finetunekit.testing.data import AWKWARD_CLASSES, tiny_run
from finetunekit.testing.guards import changed, fingerprint, watched_output
from finetunekit.types import Options, Origin, Registered


def check_listener(plugin: object, *, run: Path | None = None) -> None:
    """Check a plugin that implements notify hooks: it is told of a tiny run from its beginning to its end, in an empty folder.

    Args:
        plugin: The module, or whatever the entry point names.
        run: Run folder; default: one is made (`tiny_run(folder, classes=AWKWARD_CLASSES)`). It is copied, not changed.

    Raises:
        ContractError: If it implements no notify hook, raises in one, prints to stdout, draws from the global random numbers that the
            run may use, changes a file of the run folder, or leaves a thread behind that keeps the process from ending.
    """
    name = getattr(plugin, "__name__", type(plugin).__name__)
    verify_listener(plugin, name, Origin(name, str(getattr(plugin, "__file__", name)), None), run)


def verify_listener(plugin: object, name: str, origin: Origin, run: Path | None = None) -> None:
    """`check_listener` of a plugin as a host holds it."""
    start_tensorflow()
    subject = Subject(Chosen("listener", Registered(name, lambda: plugin, Options, origin), Options(), ()))
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin)
    heard = [hook for hook in NOTIFY_HOOKS if getattr(manager.hook, hook).get_hookimpls()]
    subject.require(heard, f"implements none of {', '.join(NOTIFY_HOOKS)}.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        made = run or tiny_run(Path(scratch) / "tiny", classes=AWKWARD_CLASSES)
        copy = Path(shutil.copytree(made, Path(scratch) / "copy" / made.name))
        work = Path(scratch) / "work"
        work.mkdir()
        before, threads = fingerprint(copy), set(threading.enumerate())
        with contextlib.chdir(work), watched_output(subject):
            for hook, values in _events(copy):
                with subject.part(), subject.during(hook):
                    getattr(manager.hook, hook)(**values, run_path=copy)
        altered = [path for path in changed(before, fingerprint(copy)) if path in before]
        subject.expect(
            not altered, f"changes files of the run folder ({', '.join(Path(path).name for path in altered[:3])})."
        )
        left = [thread.name for thread in set(threading.enumerate()) - threads if not thread.daemon]
        subject.expect(
            not left, f"leaves a thread behind ({', '.join(left[:3])}) that is not a daemon; the process could not end."
        )
    subject.settle()


def _events(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a run tells, in order."""
    run = FinishedRun(path)
    plan, _ = reopen_plan(path / CONFIG, progress=Progress(is_quiet=True))
    rows = tuple({column: _number(text) for column, text in row.items()} for row in run.epochs)
    yield "before_run", {"plan": plan}
    for row in rows:
        yield "after_epoch", {"row": dict(row)}
    yield "after_stage", {"stage": str(rows[-1]["stage"]), "rows": rows}
    yield "after_run", {"metrics": dict(run.metrics)}


def _number(text: str) -> float | int | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
