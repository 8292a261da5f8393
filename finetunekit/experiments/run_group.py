"""Many runs of one question in one folder: its file, its members, and the one loop that has those run that are missing."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import shutil
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from finetunekit.config.executor_choice import executor_values, without_executor
from finetunekit.config.plan import Chosen, Plan, config_text
from finetunekit.engine.jobs import carry_out, job_of, new_job, result_of
from finetunekit.engine.result import RunResult, read_result
from finetunekit.errors import FinetuneKitError, RunError, RunFolderError
from finetunekit.plugins.host import PluginHost
from finetunekit.reports.notebook import default_progress
from finetunekit.runs.folder import (
    CONFIG,
    ENVIRONMENT,
    PHOTOS,
    PLAN,
    RUN_GROUPS,
    STATE,
    FinishedRun,
    new_run_path,
    read_status,
)
from finetunekit.runs.reopening import reopen_plan
from finetunekit.runs.reproducibility import processor_lines
from finetunekit.runs.run_files import read_json_file
from finetunekit.runs.trust import executor_that_resumes, note_started
from finetunekit.system.files import locked, to_json, work_in, write_whole
from finetunekit.system.formatting import counted, show_duration
from finetunekit.system.progress import Progress
from finetunekit.types import Job, Outcome

Outcomes = Mapping[Hashable, RunResult | RunError]
"""Key of a member → its finished run, or why it failed."""
Conclusion = tuple[Mapping[str, Any], tuple[str, ...], Mapping[str, str | bytes]]
"""Scores for the group's file; sentences for the user, at most 80 columns a line; further files of the folder, name → content."""


@dataclass(frozen=True, slots=True)
class Member:
    """One run of a group before it is run: with the configuration of the group, all that the run needs.

    Attributes:
        key: What tells its run from the others in the folder; see `RunGroup.key_of`.
        label: The same for the user, such as `seed 5`.
        name: Of its configuration, with which the name of its run folder begins.
        settings: `--set` texts over the configuration of the group and the settings of the user.
        seed: Replaces the seed of that configuration; None: it stays.
        cost: How long it takes, relative to the other members.
    """

    key: Hashable
    label: str
    name: str
    settings: tuple[str, ...] = ()
    seed: int | None = None
    cost: float = 1.0


@dataclass(frozen=True, slots=True)
class GroupResult:
    """A finished group of runs.

    Attributes:
        path: Its folder; the runs lie in it.
        runs: One result a finished member: a seed, a fold, or a cell and seed of an ablation.
        scores: Content of `seeds.json`, `cross_validation.json` or `ablation.json`.
        summary: Sentences for the user, in lines of at most 80 columns.
        files: What was written beside the runs, the group's file last.
    """

    path: Path
    runs: tuple[RunResult, ...]
    scores: Mapping[str, Any]
    summary: tuple[str, ...]
    files: tuple[Path, ...]


@dataclass(kw_only=True)
class RunGroup(ABC):
    """Many runs of one question in one folder. A kind of group says what its members are and what they say together.

    Attributes:
        file: By which the folder is known.
        notes_failures: Whether a member whose training cannot go on is noted, and the others go on.
        path: The folder.
        state: Content of the file before there are scores; `preset` and `settings` at least, as the user gave them.
        progress: Where progress is printed.
        executor: Carries out the runs.
        is_new: Whether the folder was just made for this group.
        trust: Run plugin files that came with the run, although this user did not start it here.
    """

    file: ClassVar[str]
    notes_failures: ClassVar[bool] = False

    path: Path
    state: Mapping[str, Any]
    progress: Progress
    executor: Chosen
    is_new: bool = False
    trust: bool = False

    @property
    @abstractmethod
    def members(self) -> Sequence[Member]:
        """The runs that the group is to have, in order."""

    def key_of(self, run: FinishedRun) -> Hashable | None:
        """The key of a run that lies in the folder, finished or not; None: it is no member of such a group."""
        return str(run.state["name"])

    def accept(self, member: Member, result: RunResult, *, is_new: bool) -> None:  # noqa: B027  not every kind need do more
        """Look at a member's run as soon as it is finished (`is_new`) or found finished."""

    @abstractmethod
    def conclude(self, outcomes: Outcomes) -> Conclusion:
        """What the members say together; ValueError if they cannot be summarised. Without `notes_failures` no member has failed."""

    def plan_with(self, settings: Sequence[str], seed: int | None) -> tuple[Plan, PluginHost]:
        """The configuration that every member varies, with `--set` texts and a seed, as a plan."""
        config = config_path(self.path, self.file)
        return reopen_plan(config, settings=settings, seed=seed, progress=self.progress, trust=self.trust)

    @property
    def how_to_go_on(self) -> str:
        """What the user is told where the group is stopped."""
        return (
            f"finished {RUN_GROUPS[self.file]} are kept; resume with: finetunekit resume {shlex.quote(str(self.path))}"
        )

    # ---- the loop ----------------------------------------------------------------------------------------------------------------

    def run(self, *, is_forced: bool = False) -> GroupResult:
        """Take up the member that was under way, run those that are missing, and write what all of them say together.

        Args:
            is_forced: Go on with a group that was stopped although configuration, photos, versions or machine changed.

        Raises:
            RunFolderError: If another process writes the folder, something changed, or the runs cannot be summarised.
            As `finetunekit.run`: what is finished by then is kept.
        """
        if self.state.get("status") == "running" and not (self.is_new or is_forced):
            self._refuse_changes()
        with locked(self.path), self._stopped_in_words():
            return self._sum_up(self._run_all(is_forced=is_forced))

    def _sum_up(self, outcomes: Outcomes) -> GroupResult:
        """Write what the members say together."""
        try:
            scores, summary, files = self.conclude(outcomes)
        except ValueError as exc:
            raise RunFolderError(f"{self.path}: its runs cannot be summarised: {exc}. Run them again.") from exc
        runs = tuple(run for member in self.members if isinstance(run := outcomes[member.key], RunResult))
        scores = {**self.state, "status": "finished", **scores, "folders": [run.path.name for run in runs]}
        contents = {**files, self.file: to_json(scores)}
        for name, content in contents.items():
            write_whole(self.path / name, content)
        summary = (*summary, *processor_lines(FinishedRun(run.path) for run in runs))
        return GroupResult(self.path, runs, scores, summary, tuple(self.path / name for name in contents))

    def _run_all(self, *, is_forced: bool) -> Outcomes:
        """Every member's run: first those that are finished, then those to do."""
        known, outcomes = self._known_runs(), dict[Hashable, RunResult | RunError]()
        keys = {m.key for m in self.members if m.key in known and _is_complete(known[m.key])}
        to_do = [member for member in self.members if member.key not in keys]
        self.progress.say(f"{counted(len(self.members), 'run')}: {len(keys)} finished, {len(to_do)} to do")
        for member in (member for member in self.members if member.key in keys):
            outcomes[member.key] = result = read_result(known[member.key])
            self.accept(member, result, is_new=False)
        with contextlib.closing(self._run_members(to_do, known, outcomes, is_forced=is_forced)) as ended:
            for member, outcome in ended:
                outcomes[member.key] = outcome
                if isinstance(outcome, RunResult):
                    self.accept(member, outcome, is_new=True)
        return outcomes

    def _run_members(
        self, members: Sequence[Member], known: Mapping[Hashable, Path], outcomes: Outcomes, *, is_forced: bool
    ) -> Generator[tuple[Member, RunResult | RunError]]:
        """Run members, or take up those that are known, and say how far that is; each as soon as it has ended."""
        ended = 0

        def announced() -> Iterator[Member]:
            for number, member in enumerate(members):
                left = self._time_left(members[number:], outcomes, at_a_time=number - ended + 1)
                self.progress.say(f"run {number + 1} of {len(members)}: {member.label}{left}")
                yield member

        with contextlib.closing(self.carry_out(announced(), known, is_forced=is_forced)) as results:
            for member, result in results:
                ended += 1
                yield member, result

    def carry_out(
        self, members: Iterable[Member], known: Mapping[Hashable, Path], *, is_forced: bool = False
    ) -> Generator[tuple[Member, RunResult | RunError]]:
        """Have the executor run members; each as soon as it has ended.

        Args:
            members: Asked for one by one, when there is room for the next.
            known: Runs that are taken up, by key.
            is_forced: See `run`.
        """
        under_way: dict[Path, Member] = {}

        def jobs() -> Iterator[Job]:
            for member in members:
                job = self._job(member, known.get(member.key), is_forced=is_forced)
                under_way[job.folder] = member
                yield job

        with contextlib.closing(carry_out(self.executor, jobs(), self.progress)) as ended:
            for outcome in ended:
                member = under_way.pop(outcome.job.folder)
                yield member, self._result(outcome)

    def _result(self, outcome: Outcome) -> RunResult | RunError:
        """Of a member's run; an error of training where the kind of group notes it.

        Raises:
            FinetuneKitError: Any other error, which stops the group.
        """
        if self.notes_failures and isinstance(outcome.error, RunError):
            self.progress.say(f"failed: {outcome.error}")
            return outcome.error
        return result_of(outcome, self.progress)

    def _job(self, member: Member, known: Path | None, *, is_forced: bool) -> Job:
        if known is not None:
            plan, _ = reopen_plan(known / CONFIG, progress=self.progress, trust=self.trust)
            return job_of(known, plan, label=member.label, progress=self.progress, is_forced=is_forced)
        plan, _ = self._prepare(member)
        settings, group = self._settings(member), self.path.name
        return new_job(plan, settings, self.path, label=member.label, progress=self.progress, group=group)

    def _settings(self, member: Member) -> tuple[str, ...]:
        return (*self.state["settings"], *member.settings)

    def _prepare(self, member: Member) -> tuple[Plan, PluginHost]:
        settings = (*self._settings(member), f"name={member.name}")
        plan, host = self.plan_with(settings, member.seed)
        return dataclasses.replace(plan, source=self.state["preset"]), host

    def _known_runs(self) -> dict[Hashable, Path]:
        return known_runs(self.path, self.key_of)

    def _time_left(self, members: Sequence[Member], outcomes: Outcomes, *, at_a_time: int) -> str:
        """By the runs that are finished, in proportion to what each costs."""
        runs = [(outcomes.get(member.key), member.cost) for member in self.members]
        seconds = [run.metrics["seconds"]["whole"] / cost for run, cost in runs if isinstance(run, RunResult)]
        left = statistics.fmean(seconds) * sum(member.cost for member in members) / at_a_time if seconds else 0.0
        return f"; about {show_duration(left)} left for all" if seconds else ""

    def _refuse_changes(self) -> None:
        """Refuse to add runs that would differ from those that are there in more than what makes them members."""
        from finetunekit.data.index import manifest_csv
        from finetunekit.data.listing import index_listing, list_photos
        from finetunekit.runs.resume_check import changes_since, refuse_changes
        from finetunekit.system.environment import describe_environment, start_tensorflow

        known = self._known_runs()
        for member in [member for member in self.members if member.key in known][:1]:
            plan, _ = self._prepare(member)
            start_tensorflow()
            now = {
                PLAN: to_json(plan.to_dict()),
                ENVIRONMENT: to_json(describe_environment()),
                PHOTOS: manifest_csv(index_listing(plan, list_photos(plan, self.progress), self.progress)),
            }
            refuse_changes(self.path, changes_since(known[member.key], now))

    @contextlib.contextmanager
    def _stopped_in_words(self) -> Iterator[None]:
        """Where the group is stopped, say how to go on; a new folder whose first run was refused before it trained is removed.

        The sentence becomes the last note of a `KeyboardInterrupt`, which the command line prints after that of the run under way.
        """
        try:
            yield
        except KeyboardInterrupt as exc:
            exc.add_note(self.how_to_go_on)
            raise
        except BaseException as exc:
            if self.is_new and isinstance(exc, FinetuneKitError) and not self._has_trained():
                shutil.rmtree(self.path, ignore_errors=True)
            else:
                self.progress.say(self.how_to_go_on)
            raise

    def _has_trained(self) -> bool:
        """Whether a run of it came as far as training."""
        return any("stages" in FinishedRun(path).state for path in self._known_runs().values())


def _is_complete(path: Path) -> bool:
    """Whether nothing is left to do for a run, its reports included."""
    state = FinishedRun(path).state
    return bool(state["status"] == "finished" and state.get("reported"))


def known_runs(path: Path, key_of: Callable[[FinishedRun], Hashable | None]) -> dict[Hashable, Path]:
    """Runs that lie in a folder, by key (see `RunGroup.key_of`): a finished one before others, else the newest."""
    found: dict[Hashable, FinishedRun] = {}
    for run in (FinishedRun(file.parent) for file in sorted(path.glob(f"[!.]*/{STATE}"))):
        key = key_of(run)
        if key is None:
            continue
        other = found.get(key)
        if other is None or run.state["status"] == "finished" or other.state["status"] != "finished":
            found[key] = run
    return {key: run.path for key, run in found.items()}


# ---- the folder of a group -------------------------------------------------------------------------------------------------------


def config_path(path: Path, file: str) -> Path:
    """Where a group keeps its configuration, so that later changes of the preset change none of its runs."""
    return path / Path(file).with_suffix(".yaml")


def make_group_folder(
    file: str,
    plan: Plan,
    settings: Sequence[str],
    out: Path,
    progress: Progress,
    files: Mapping[str, str],
    **facts: Any,
) -> tuple[Path, dict[str, Any]]:
    """Make the folder of a new group; say where the same one waits to be gone on with.

    Args:
        file: The group's file.
        plan: The configuration that its members vary.
        settings: The user's `--set` texts.
        out: Where the folder is made; RunFolderError if it cannot be written.
        progress: Is told of groups like this one that were stopped.
        files: What else the folder holds from its first moment on, name → content.
        facts: What else the group's file holds, by which the members are known again; `planned`, their number, at least.

    Returns:
        The folder, and the content of the group's file.
    """
    noun, config, name = RUN_GROUPS[file], config_text(plan), plan.config.name
    for stopped in _stopped_alike(out, file, config, facts):
        progress.say(f"note: the same {noun} were interrupted in {stopped}; finetunekit resume continues them")
    started = datetime.now(UTC).isoformat(timespec="seconds")
    state: dict[str, Any] = {
        "status": "running",
        "name": name,
        "preset": plan.source,
        "settings": list(without_executor(settings)),
    }
    state |= {"executor": executor_values(plan.executor), "folder": str(Path.cwd()), "started": started, **facts}
    contents: dict[str, str | bytes] = {plugin.kept_name: plugin.content for plugin in plan.plugin_files}
    contents |= {file: to_json(state), config_path(out, file).name: config, **files}
    path = new_run_path(out, f"{name}-{noun}", contents)
    note_started(plan.plugin_files, progress.say, state["executor"])
    return path, state


def reopen_group(
    path: Path, state: Mapping[str, Any], file: str, on: str | None, progress: Progress, *, trust: bool
) -> Plan:
    """The plan that a group's members vary, with the executor that carried them out, or another where `on` names one."""
    settings = executor_that_resumes(path, state["executor"], on, trust=trust)
    return reopen_plan(config_path(path, file), settings=settings, progress=progress, trust=trust)[0]


def resume_group(
    path: Path,
    file: str,
    make: Callable[..., RunGroup],
    *,
    is_forced: bool,
    on: str | None,
    progress: Progress | None,
    trust: bool,
) -> GroupResult:
    """Go on with a group that was stopped, in the folder that it was started from.

    Args:
        path: Its folder.
        file: By which the folder is known.
        make: Given the plan that its members vary, and by name what every `RunGroup` has: the group.
        is_forced: See `RunGroup.run`.
        on: Executor that carries the runs out from now on; None: the one that did.
        progress: Where progress is printed.
        trust: Run plugin files that came with it although it was not started here by this user.

    Raises:
        RunFolderError: If the folder holds no such group; and what `make` and `RunGroup.run` raise.
    """
    progress, path = progress or default_progress(), path.resolve()
    state = read_group(path, file)
    with work_in(state["folder"]):
        plan = reopen_group(path, state, file, on, progress, trust=trust)
        group = make(plan, path=path, state=state, progress=progress, executor=plan.executor, trust=trust)
        return group.run(is_forced=is_forced)


def read_group(path: Path, file: str) -> dict[str, Any]:
    """The content of a group's file; RunFolderError if the folder holds no such group."""
    try:
        return read_json_file(path / file)
    except RunFolderError as exc:
        raise RunFolderError(f"{path}: holds no {RUN_GROUPS[file]} that can be read ({exc})") from exc


def _stopped_alike(out: Path, file: str, config: str, facts: Mapping[str, Any]) -> Iterator[Path]:
    """Folders in which the same group of the same configuration waits to be gone on with."""
    for place in sorted(found.parent for found in out.glob(f"[!.]*/{file}")):
        with contextlib.suppress(OSError, ValueError, RunFolderError):  # what cannot be read is not spoken of
            state = read_group(place, file)
            is_same = config_path(place, file).read_text(encoding="utf-8") == config
            if is_same and state.items() >= facts.items() and read_status(place) not in ("finished", "running"):
                yield place
