"""`finetunekit runs`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetunekit.cli.common import (
    WholeLines,
    json_option,
    make_progress,
    out_option,
    print_json,
    print_lines,
    print_table,
)
from finetunekit.system.formatting import counted

if TYPE_CHECKING:
    from finetunekit.runs.run_list import RunEntry, What


@click.group("runs", cls=WholeLines)
def command() -> None:
    """List, show and prune runs."""


@command.command("list")
@out_option
@json_option
def list_all(out: str, as_json: bool) -> None:
    """List the runs in a folder, oldest first, with status, score and size."""
    from finetunekit.runs.run_list import list_runs

    entries = list_runs(Path(out))
    _tell_trackers(entry.path for entry in entries if entry.size_bytes)
    if as_json:
        print_json([_plain(entry) for entry in entries])
        return
    if not entries:
        print_lines([f"no runs in {out}. Make one: finetunekit run PHOTOS/"])
        return
    rows = [(e.path.name, e.status, _epochs(e), _score(e), f"{e.size_bytes / 1e6:.1f}") for e in entries]
    print_table(rows, ("run", "status", "epochs", "test", "MB"), right=(3, 4))
    print_lines(f"{e.path.name}: {e.error}" for e in entries if e.status in ("killed", "unreadable") and e.error)
    stopped = [entry.path for entry in entries if entry.status in ("killed", "interrupted", "stopped")]
    print_lines(f"resume with: finetunekit resume {path}" for path in stopped)


@command.command("show")
@click.argument("run")
@out_option
@json_option
def show(run: str, out: str, as_json: bool) -> None:
    """Show the status of RUN: the folder of a run, of seeds or of a cross-validation, its name, or 'last'."""
    from finetunekit.runs.folder import find_run, find_run_group
    from finetunekit.runs.run_list import describe_run

    entry = describe_run(find_run_group(run, Path(out)) or find_run(run, Path(out)))
    _tell_trackers([entry.path])
    if as_json:
        print_json(_plain(entry))
        return
    facts = [
        ("run:", entry.path),
        ("status:", entry.status),
        ("configuration:", f"{entry.name}, seed {entry.seed}"),
        ("started (UTC):", entry.started),
        ("finished:" if entry.parts else "epochs:", _epochs(entry)),
        ("test photos right:", _score(entry)),
        ("reproducible:", entry.reproducibility or "-"),
        ("size:", f"{entry.size_bytes / 1e6:.1f} MB, {'with' if entry.has_model else 'without'} a model"),
        ("stopped by:", entry.error),
        *(("missing:", why) for why in entry.missing),
        ("go on with:", None if entry.status in ("finished", "running") else f"finetunekit resume {entry.path}"),
    ]
    print_table([(name, value) for name, value in facts if value is not None])


@command.command("prune")
@out_option
@click.option(
    "--keep", type=click.IntRange(0), default=3, show_default=True, help="Number of newest runs to keep for each name."
)
@click.option("--unfinished", is_flag=True, help="Only runs that did not finish.")
@click.option("--models", is_flag=True, help="Delete only models and checkpoints; every figure is kept.")
@click.option("--yes", is_flag=True, help="Really delete. Without it, the command only shows what it would delete.")
@json_option
def prune_old(out: str, keep: int, unfinished: bool, models: bool, yes: bool, as_json: bool) -> None:
    """Delete old runs, and name each. A run in progress is never touched."""
    from finetunekit.runs.run_list import choose_prunable, freed_bytes, list_runs, prune

    what: What = "models" if models else "runs"
    chosen = choose_prunable(list_runs(Path(out)), keep=keep, only_unfinished=unfinished, what=what)
    freed = {entry.path: freed_bytes(entry, what) for entry in chosen}
    done = "deleted" if yes else "would delete"
    for entry in chosen:
        if yes:
            prune(entry, what)
        if not as_json:
            of = f"the model of {entry.path}" if models else str(entry.path)
            print_lines([f"{done} {of} ({entry.status}, {freed[entry.path] / 1e6:.1f} MB)"])
    if as_json:
        print_json({"is_deleted": yes, "runs": [str(path) for path in freed], "bytes": sum(freed.values())})
        return
    advice = "" if yes or not chosen else "; delete them with --yes"
    print_lines([f"{counted(len(chosen), 'run')}, {sum(freed.values()) / 1e6:.1f} MB{advice}"])


def _tell_trackers(paths: Iterable[Path]) -> None:
    """Trackers that still believe a killed run to be running hear of it from whoever sees it first."""
    from finetunekit.engine.track import mark_stopped

    mark_stopped(paths, make_progress())


def _plain(entry: RunEntry) -> dict[str, Any]:
    return {**dataclasses.asdict(entry), "path": str(entry.path)}


def _epochs(entry: RunEntry) -> str:
    if entry.parts:
        return f"{entry.finished_parts} of {entry.planned_parts or '?'} {entry.parts}"
    return (
        f"{entry.epochs}"
        if entry.planned_epochs in (None, entry.epochs)
        else f"{entry.epochs} of {entry.planned_epochs}"
    )


def _score(entry: RunEntry) -> str:
    return "-" if entry.test_correct is None else f"{entry.test_correct:g}/{entry.test_photos}"
