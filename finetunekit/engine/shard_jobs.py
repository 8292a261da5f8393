"""Shards as jobs for an executor: each job is a folder with a list of photos, in which its shards are made, wherever that is."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import operator
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import pydantic

from finetunekit._version import __version__
from finetunekit.config.executor_choice import executor_settings
from finetunekit.config.moved_inputs import MovedInputs, absolute
from finetunekit.config.plan import Chosen
from finetunekit.config.planning import prepare
from finetunekit.engine.jobs import LIBRARIES_BYTES, carry_out
from finetunekit.errors import ConfigError, DataError, RunError
from finetunekit.evaluation.shards import jobs as questions
from finetunekit.evaluation.shards.drive import Making, how_far, make_here
from finetunekit.evaluation.shards.work import Shard, ShardPhoto
from finetunekit.plugins.host import OWN_DISTRIBUTION
from finetunekit.runs.folder import FinishedRun
from finetunekit.runs.reopening import reopen_network
from finetunekit.system.environment import installed_version
from finetunekit.system.files import read_regular, work_in, write_whole
from finetunekit.system.formatting import counted, one_line
from finetunekit.system.progress import Progress
from finetunekit.system.shard_folder import ROWS, ShardFolder, ShardRecord
from finetunekit.system.storage import is_remote
from finetunekit.types import Job, Outcome

_JOBS, _TASK, _MADE, _MODULE = "jobs", "task.json", "made", "finetunekit.engine.carry_out_shards"
MOST_SHARDS = 16
"""Of one job: enough that starting a process costs little beside them."""
_FEWEST_JOBS = 8
_FIELDS = operator.attrgetter(*(field.name for field in fields(ShardPhoto)))
_KINDS: Mapping[str, type[questions.Job]] = {
    "features": questions.FeaturesJob,
    "predictions": questions.PredictionsJob,
}


@dataclass(frozen=True, slots=True)
class _Needs:
    """What every job of a call needs where it is carried out; see `finetunekit.types.Job`."""

    reads: tuple[Path, ...]
    requires: Mapping[str, str]
    memory_bytes: int


Make: TypeAlias = Callable[[Making], Iterator[ShardRecord]]
"""What `finetunekit.evaluation.shards.drive.write_shards` makes shards with."""


def make_shards(data: str, on: str | None, settings: Sequence[str], progress: Progress) -> Make | None:
    """What makes shards where the user wants them made.

    Args:
        data: The photos, as the user named them.
        on: Name or address of an executor; None: as the settings say.
        settings: `a.b=VALUE` texts over the preset `BASE`; the executor that they choose counts.
        progress: Receives warnings.

    Returns:
        None where they are made in this process, one after the other.

    Raises:
        ConfigError: If there is no such executor, or an option of it is wrong.
    """
    plan, _ = prepare(questions.BASE, settings=[*executor_settings(on), *settings], progress=progress)
    return None if plan.is_carried_out_here else make_on(plan.executor, data)


def make_on(executor: Chosen, data: str) -> Make:
    """What makes shards where an executor carries them out.

    Args:
        executor: The executor.
        data: The photos, as the user named them.
    """

    def make(making: Making) -> Iterator[ShardRecord]:
        folder = making.folder.path / _JOBS
        making.folder.begin(making.asked)
        left = {shard.number: shard for shard in making.shards}
        for old in sorted(folder.glob("*")) if folder.is_dir() else ():  # of a call that was cut off
            for record in _brought_home(old, making):
                if left.pop(record.shard, None) is not None:
                    yield record
        if left:
            yield from _carried_out(executor, making, list(left.values()), _needs(making, data))
        shutil.rmtree(folder, ignore_errors=True)

    return make


def _carried_out(executor: Chosen, making: Making, shards: Sequence[Shard], needs: _Needs) -> Iterator[ShardRecord]:
    size = max(1, min(MOST_SHARDS, len(shards) // _FEWEST_JOBS))
    parts = [shards[start : start + size] for start in range(0, len(shards), size)]
    photos, done, started = sum(len(shard.photos) for shard in shards), 0, time.monotonic()
    count, problems = making.progress.counter("photos"), []
    jobs = (_new_job(making, part, needs) for part in parts)
    with contextlib.closing(carry_out(executor, jobs, making.progress, _check)) as outcomes:
        for outcome in outcomes:
            for record in _brought_home(outcome.job.folder, making):
                done += record.rows + record.unreadable
                count(done, photos)
                yield record
            problems += _complaint(outcome)
            making.progress.say(how_far(started, max(1, done), photos))
    if problems:
        raise RunError(
            f"{counted(len(problems), 'job')} of {len(parts)} could not be carried out, the first because: {problems[0]} "
            "The same command continues with the remaining shards."
        )


def _complaint(outcome: Outcome) -> list[str]:
    return [] if outcome.error is None else [one_line(outcome.error)]


def _new_job(making: Making, shards: Sequence[Shard], needs: _Needs) -> Job:
    folder = (making.folder.path / _JOBS / f"{shards[0].number:05d}").resolve()
    kind = next(name for name, one in _KINDS.items() if isinstance(making.job, one))
    job = making.job
    if isinstance(job, questions.PredictionsJob):  # whose code may be run: looked at here, where it was asked
        job = dataclasses.replace(job, run=str(absolute(job.run)), trust=True)
    task = {
        "kind": kind,
        "job": dataclasses.asdict(job),
        "asked": dict(making.asked),
        "started_in": os.getcwd(),
        "shards": [{"number": one.number, "photos": list(map(_FIELDS, one.photos))} for one in shards],
    }
    write_whole(folder / _TASK, json.dumps(task))
    label = f"shard {shards[0].number}" if len(shards) == 1 else f"shards {shards[0].number} to {shards[-1].number}"
    return Job(
        folder=folder,
        label=label,
        arguments=("-P", "-m", _MODULE),
        here=lambda: carry_out_shards(folder, {}, making.progress),
        reads=needs.reads,
        memory_bytes=needs.memory_bytes,
        requires=needs.requires,
    )


def _needs(making: Making, data: str) -> _Needs:
    job, reads = making.job, [] if is_remote(data) else [_photo_folder(making.shards, data)]
    if isinstance(job, questions.PredictionsJob):
        network = reopen_network(FinishedRun(Path(job.run)), making.progress, trust=job.trust)
        components = [network.backbone, network.head]
        reads.append(absolute(job.run))
    else:
        plan = job.plan(making.progress)
        components = [plan.backbone, *plan.parts]
        reads += [absolute(plan.config.weights.path)] if plan.config.weights.path else []
    origins = {one.registered.origin.distribution: one.registered.origin.version for one in components}
    parameters = sum(one.registered.spec.parameters for one in components if one.registered.spec is not None)
    requires = {OWN_DISTRIBUTION: __version__, "pyarrow": installed_version("pyarrow")}
    known = {name: version for name, version in {**requires, **origins}.items() if version}
    return _Needs(tuple(dict.fromkeys(reads)), known, LIBRARIES_BYTES + 2 * 4 * parameters)


def _photo_folder(shards: Sequence[Shard], data: str) -> Path:
    """The folder that holds all photos.

    Raises:
        ConfigError: If nothing but the root of the file system does.
    """
    folders = {os.path.dirname(photo.path) for shard in shards for photo in shard.photos}
    folder = Path(os.path.commonpath([absolute(folder) for folder in folders]))
    if folder == folder.parent:
        raise ConfigError(f"{data}: its photos lie in no common folder, which --on needs to look for them elsewhere.")
    return folder


def _check(job: Job) -> str | None:
    """What is wrong with a job that was given back as finished: a shard that is not there and whole."""
    wanted = {shard["number"] for shard in _task(job.folder)["shards"]}
    missing = wanted - ShardFolder(job.folder / _MADE).whole(lambda _: None).keys()
    return f"without shard {min(missing)}" if missing else None


def _task(folder: Path) -> dict[str, Any]:
    """What a job was told.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads(read_regular(folder / _TASK))
    except (OSError, ValueError) as exc:
        raise DataError(f"{folder / _TASK}: cannot be read ({one_line(exc)}).") from exc
    return found


def _brought_home(folder: Path, making: Making) -> Iterator[ShardRecord]:
    """Take the whole shards of a job's folder over, and delete what is left of it; a job that was cut off has some, or none.

    Raises:
        ConfigError: If they are of another network than the others.
    """
    made = ShardFolder(folder / _MADE)
    manifest = made.manifest()
    if manifest is not None:
        making.begin(manifest["network"])
        for record in made.whole(lambda _: None).values():
            for name in sorted(record.sha256, key=lambda name: name.startswith(f"{ROWS}/")):  # rows last
                target = making.folder.path / name
                target.parent.mkdir(exist_ok=True)
                os.replace(made.path / name, target)
            yield record
    shutil.rmtree(folder, ignore_errors=True)


def carry_out_shards(folder: Path, places: Mapping[Path, Path], progress: Progress) -> None:
    """Make the shards of a job in its folder; those that are there and whole stay.

    Args:
        folder: Of the job.
        places: What lies elsewhere here than where the job was asked for.
        progress: Says what is under way.

    Raises:
        FinetuneKitError: As `finetunekit.evaluation.shards.drive.write_shards`.
    """
    task = _task(folder)
    try:
        job: questions.Job = pydantic.TypeAdapter(_KINDS[task["kind"]]).validate_python(task["job"])
        moved = MovedInputs(Path(task["started_in"]), places)
        shards = [
            Shard(one["number"], tuple(ShardPhoto(*photo) for photo in one["photos"]), moved) for one in task["shards"]
        ]
    except (KeyError, TypeError, ValueError) as exc:
        raise DataError(f"{folder / _TASK}: is damaged ({one_line(exc)}).") from exc
    kept = ShardFolder(folder / _MADE)
    there = kept.whole(progress.say)
    left = [shard for shard in shards if shard.number not in there]
    with work_in(task["started_in"]):  # where paths of plugin files begin
        for record in make_here(Making(job, left, kept, task["asked"], progress), moved) if left else ():
            kept.record(record)
