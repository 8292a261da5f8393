"""Candidates of a probe as jobs for an executor: each job is a folder with one candidate's configuration, and gets its score."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetunekit.config.moved_inputs import MovedInputs
from finetunekit.config.plan import Plan, config_text
from finetunekit.data.listing import index_listing, list_photos
from finetunekit.engine.jobs import carry_out, job_of
from finetunekit.errors import DataError
from finetunekit.experiments.probe_ranking import ProbeScore, RankedProbe, Tried, try_probe
from finetunekit.models.linear_probe.cross_validation import NestedScores
from finetunekit.runs.folder import CONFIG, PLAN
from finetunekit.runs.reopening import reopen_plan
from finetunekit.statistics import Interval
from finetunekit.system.array_files import read_arrays, write_arrays
from finetunekit.system.files import read_regular, replacing, to_json, work_in, write_whole
from finetunekit.system.formatting import one_line
from finetunekit.system.progress import Progress
from finetunekit.types import Job

if TYPE_CHECKING:
    from finetunekit.errors import FinetuneKitError

_TASK, _SCORE, _MODULE = "task.json", "score.npz", "finetunekit.experiments.carry_out_probe"


def try_elsewhere(
    plans: Sequence[Plan], progress: Progress, *, folds: int
) -> Iterator[tuple[int, Tried | FinetuneKitError]]:
    """Have the executor of the first plan try every plan.

    Args:
        plans: The candidates.
        progress: Says what is under way.
        folds: Outer and inner folds.

    Yields:
        Position of a plan and what came of it, as soon as it is known.

    Raises:
        FinetuneKitError: If no jobs can be carried out at all.
    """
    with tempfile.TemporaryDirectory(prefix="finetunekit-probe-", ignore_cleanup_errors=True) as scratch:
        number_of: dict[Path, int] = {}

        def jobs() -> Iterator[Job]:
            for number, plan in enumerate(plans):
                job = _new_job(Path(scratch) / f"{number:04d}", plan, folds, progress, label=f"probe {number + 1}")
                number_of[job.folder] = number
                yield job

        with contextlib.closing(carry_out(plans[0].executor, jobs(), progress, _check)) as outcomes:
            for outcome in outcomes:
                yield number_of[outcome.job.folder], outcome.error or _read(outcome.job.folder)


def _new_job(folder: Path, plan: Plan, folds: int, progress: Progress, *, label: str) -> Job:
    task = {"folds": folds, "started_in": os.getcwd(), "source": plan.source}
    for name, content in {CONFIG: config_text(plan), PLAN: to_json(plan.to_dict()), _TASK: json.dumps(task)}.items():
        write_whole(folder / name, content)
    for file in plan.plugin_files:
        write_whole(folder / file.kept_name, file.content)
    run = job_of(folder, plan, label=label, progress=progress)
    return dataclasses.replace(
        run,
        arguments=("-P", "-m", _MODULE),
        here=lambda: carry_out_probe(run.folder, {}, progress),
        is_divisible=False,
    )


def _check(job: Job) -> str | None:
    return None if (job.folder / _SCORE).is_file() else "without a score"


def carry_out_probe(folder: Path, places: Mapping[Path, Path], progress: Progress) -> None:
    """Try the candidate of a job, and write its score into the job's folder.

    Args:
        folder: Of the job.
        places: What lies elsewhere here than where the job was asked for.
        progress: Says what is under way.

    Raises:
        FinetuneKitError: As `try_probe`.
    """
    try:
        task: dict[str, Any] = json.loads(read_regular(folder / _TASK))
    except (OSError, ValueError) as exc:
        raise DataError(f"{folder / _TASK}: cannot be read ({one_line(exc)}).") from exc
    with work_in(task["started_in"]):  # where relative paths of the configuration begin
        plan, _ = reopen_plan(folder / CONFIG, progress=progress, trust=True)
        here = MovedInputs(Path(task["started_in"]), places).here(dataclasses.replace(plan, source=task["source"]))
        index = index_listing(here, list_photos(here, progress), progress)
        tried = try_probe(here, index, progress, folds=task["folds"])
    with replacing(folder / _SCORE) as place:
        nested = tried.nested
        about = {
            "row": dataclasses.asdict(tried.row),
            "inner_losses": nested.inner_losses,
            "penalties": nested.penalties,
        }
        write_arrays(place, about, {"probabilities": nested.probabilities, "fold": nested.fold})


def _read(folder: Path) -> Tried:
    about, arrays = read_arrays(folder / _SCORE)
    row, score = about["row"], about["row"]["score"]
    intervals = {key: Interval(**score[key]) for key in ("accuracy_interval", "log_loss_interval")}
    nested = NestedScores(
        arrays["probabilities"],
        arrays["fold"].astype(np.int64),
        tuple(about["inner_losses"]),
        tuple(about["penalties"]),
    )
    return Tried(RankedProbe(**{**row, "score": ProbeScore(**{**score, **intervals})}), nested)
