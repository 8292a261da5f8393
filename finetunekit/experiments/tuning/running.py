"""Running the trials of a search, in as many processes as there are, then the winner once on the test split."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetunekit.config.executor_choice import executor_settings, without_executor
from finetunekit.config.plan import TUNE, Plan, config_text
from finetunekit.config.planning import prepare
from finetunekit.engine.result import RunResult, read_result
from finetunekit.errors import ConfigError, RunError, RunFolderError
from finetunekit.experiments.ablation.layout import identity_of
from finetunekit.experiments.ablation.record import Finished, check_same_photos
from finetunekit.experiments.run_group import Conclusion, GroupResult, Member, Outcomes, RunGroup
from finetunekit.experiments.tuning.nested import deal_folds, search_folds
from finetunekit.experiments.tuning.record import make_record, trials_csv
from finetunekit.experiments.tuning.space import Search, lay_out_search
from finetunekit.experiments.tuning.study import SharedStudy, Tried
from finetunekit.plugins.host import PluginHost
from finetunekit.reports.notebook import default_progress
from finetunekit.reports.tuning_page import tuning_page
from finetunekit.reports.tuning_text import tuning_lines
from finetunekit.runs.checkpoint import remove_checkpoints
from finetunekit.runs.folder import CONFIG, PRUNED, FinishedRun, drop_model
from finetunekit.runs.trials import make_trial, require_optuna
from finetunekit.system.files import locked
from finetunekit.system.formatting import counted, one_line, show_duration
from finetunekit.system.progress import Progress
from finetunekit.types import VALID, Job, Outcome

TUNING, PAGE, TRIALS, WINNER = "tune.json", "tune.html", "trials.csv", "winner.yaml"


def run_tune(
    preset: str | Path,
    vary: Sequence[str] = (),
    *,
    settings: Sequence[str] = (),
    seed: int | None = None,
    trials: int | None = None,
    pruner: str | None = None,
    nested: int | None = None,
    out: str | Path | None = None,
    on: str | None = None,
    progress: Progress | None = None,
) -> GroupResult:
    """Search the settings of a preset for the lowest validation log loss, and run the winner once on the test split.

    The preset itself is trial 0, so that the winner is never worse than it on the validation photos. Trials are whole runs of one seed,
    proposed by Optuna (TPE), scored on the validation split, and stopped early where others were better at the same epoch. The same
    call goes on where an earlier one was stopped; called in several processes at once, they share the trials.

    Args:
        preset: Preset name or path of a YAML file; what its section `tune` says counts too.
        vary: `KEY=V1,V2`, `KEY=log:LOW:HIGH`, `KEY=lin:LOW:HIGH` or `KEY=int:LOW:HIGH`.
        settings: `a.b[0].c=VALUE` texts for every trial.
        seed: Of every trial and of the proposals; default: the preset's.
        trials: In all, the preset among them; default: `tune.trials` of the preset, 40.
        pruner: `median`, `halving` or `none`; default: `tune.pruner` of the preset, `median`.
        nested: Search again in each of so many folds, and score its winner there: what this way of choosing is worth. Takes as many times
            as long; opens the test split.
        out: Folder of the search; default: `runs/<name>-tune`.
        on: Name or address of the executor that carries out the runs; default: the preset's.
        progress: Where progress is printed; default: stderr, or a live line in a notebook.

    Raises:
        ConfigError: Before anything is run, with every problem of the space and of the preset; or if Optuna is not installed.
        RunFolderError: If `out` holds another search, photos have changed since, or it cannot be written.
        As `finetunekit.run`: what is finished by then is kept.
    """
    require_optuna()
    progress = progress or default_progress()
    asked = (*executor_settings(on), *settings)
    search = lay_out_search(preset, vary, settings=asked, seed=seed, trials=trials, pruner=pruner, progress=progress)
    folded = deal_folds(str(preset), asked, seed, nested, progress) if nested else None
    path = Path("runs") / f"{search.name}-tune" if out is None else Path(out)
    if (path / CONFIG).exists():
        raise ConfigError(f"{path}: is the folder of a run. Choose another folder with --out.")
    executor = prepare(preset, settings=asked, progress=Progress(is_quiet=True))[0].executor
    state = {"preset": search.preset, "settings": without_executor(asked)}
    study = SharedStudy(path, search)
    group = TuneGroup(path=path, state=state, progress=progress, executor=executor, study=study)
    result = group.run()
    if folded is None or result.scores["status"] != "finished":
        return result

    def search_without(more: tuple[str, ...], place: Path) -> GroupResult:
        given = {"seed": seed, "trials": trials, "pruner": pruner, "on": on, "progress": progress}
        return run_tune(preset, vary, settings=(*settings, *more), out=place, **given)  # type: ignore[arg-type]

    group.nested = search_folds(*folded, path, search_without, progress)
    return group.run()


@dataclass(kw_only=True)
class TuneGroup(RunGroup):
    """A run for every trial of a search, and one for its winner.

    Attributes:
        study: The trials.
        first: A finished trial, on whose photos the others are scored as well.
        winner: The best trial, to be run on the test split.
        nested: What the search is worth by nested cross-validation, where that was asked for.
    """

    file = TUNING
    notes_failures = True

    study: SharedStudy
    first: Finished | None = field(default=None, init=False)
    winner: Member | None = field(default=None, init=False)
    nested: Mapping[str, Any] | None = field(default=None, init=False)

    @property
    def search(self) -> Search:
        """What is searched."""
        return self.study.search

    @property
    def members(self) -> Sequence[Member]:
        """The trials that have ended, and the winner where it was run."""
        ended = [self._member(trial) for trial in self.study.trials() if trial.state not in ("running", "void")]
        return [*ended, *([self.winner] if self.winner else [])]

    def _member(self, trial: Tried) -> Member:
        values = ", ".join(f"{key} {text}" for key, text in self.search.shown(trial.params).items())
        return Member(
            key=self._trial_name(trial.number),
            label=f"trial {trial.number}" + (f": {values}" if trial.number else ", the preset itself"),
            name=self._trial_name(trial.number),
            settings=self.search.trial_settings(trial.params if trial.number else {}),
            seed=self.search.seed,
        )

    def _trial_name(self, number: int) -> str:
        return f"{self.search.name[:60]}-trial-{number}"

    def key_of(self, run: FinishedRun) -> Hashable | None:
        """Its name says which trial it is; a winner is known by its configuration too, since another one may win later."""
        name = str(run.state["name"])
        return name if "-trial-" in name else _winner_key(name, run)

    # ---- the trials --------------------------------------------------------------------------------------------------------------

    def run(self, *, is_forced: bool = False) -> GroupResult:
        """Run trials until all are begun; the last process to end runs the winner.

        Args:
            is_forced: Go on with runs that were stopped although photos, versions or machine changed.

        Raises:
            As `run_tune`.
        """
        with self._stopped_in_words():
            try:
                self._run_trials(is_forced=is_forced)
            finally:
                self.study.let_all_go()
            if self._others():
                return self._sum_up(self._outcomes())
            with locked(self.path, job="ending this search"):
                return self._sum_up({**self._outcomes(), **self._run_winner(is_forced=is_forced)})

    def _others(self) -> list[int]:
        """Trials that other processes have under way."""
        return [trial.number for trial in self.study.trials() if trial.state == "running"]

    def _run_trials(self, *, is_forced: bool) -> None:
        known = self._known_runs()
        ended = [trial for trial in self.study.trials() if trial.state not in ("running", "void")]
        left = max(0, self.search.section.trials - len(ended))
        self.progress.say(f"{counted(self.search.section.trials, 'trial')}: {len(ended)} finished, {left} to do")
        with contextlib.closing(self.carry_out(self._proposed(), known, is_forced=is_forced)) as results:
            for member, result in results:
                self._note(member, result)

    def _proposed(self) -> Iterator[Member]:
        """The next trial each time; one whose values do not go together is noted and passed over."""
        started, begun = time.monotonic(), 0
        while (trial := self.study.next()) is not None:
            member = self._member(trial)
            try:
                self._prepare(member)
            except ConfigError as exc:
                self.progress.say(f"{member.label}: cannot be run: {one_line(exc)}")
                self.study.tell(trial.number, "failed", why=one_line(exc))
                continue
            self.progress.say(f"{member.label}{self._left(trial.number, begun, time.monotonic() - started)}")
            begun += 1
            yield member

    def _left(self, number: int, begun: int, seconds: float) -> str:
        """By what those before took, several at a time or not."""
        if not begun:
            return ""
        return f"; about {show_duration(seconds / begun * (self.search.section.trials - number))} left for all"

    def _job(self, member: Member, known: Path | None, *, is_forced: bool) -> Job:
        job = super()._job(member, known, is_forced=is_forced)
        if member.key in self._numbers:
            section = self.search.section
            make_trial(job.folder, self._numbers[member.key], pruner=section.pruner, min_epochs=section.min_epochs)
        return job

    @property
    def _numbers(self) -> dict[Hashable, int]:
        return {self._trial_name(number): number for number in self.study.held}

    def _result(self, outcome: Outcome) -> RunResult | RunError:
        """A trial that was stopped early or cannot go on is noted; what is wrong with the preset itself stops the search."""
        if outcome.error is None or not outcome.job.label.startswith("trial "):
            return super()._result(outcome)
        number = int(outcome.job.label.split()[1].strip(":,"))
        if isinstance(outcome.error, RunError) or (isinstance(outcome.error, ConfigError) and number):
            self.progress.say(f"trial {number}: {one_line(outcome.error)}")
            return RunError(one_line(outcome.error))
        raise outcome.error

    def _note(self, member: Member, result: RunResult | RunError) -> None:
        """Tell the study how a trial ended."""
        number = self._numbers[member.key]
        if isinstance(result, RunError):
            self.study.tell(number, self._clear_away(member), why=str(result))
            return
        drop_model(result.path)
        scored = Finished.read(result.path, self.path, is_test=False)
        self.first = self.first or next(iter(self._scored().values()), scored)
        check_same_photos(self.first, scored, is_training_varied=False)
        loss = scored.scores[VALID].log_loss
        self.study.tell(number, "complete", loss=loss)
        self.progress.say(f"trial {number}: validation log loss {loss:.4f}{self._best_words()}")

    def _best_words(self) -> str:
        best = self._best()
        return f"; lowest so far: {best.loss:.4f}, trial {best.number}" if best else ""

    def _clear_away(self, member: Member) -> str:
        """Keep no network of a trial that was not finished; `pruned` or `failed`."""
        folder = self._known_runs().get(member.key)
        if folder is None:  # it was refused before it trained
            return "failed"
        drop_model(folder)
        is_pruned = FinishedRun(folder).state["status"] == PRUNED
        if is_pruned:
            remove_checkpoints(folder)
        return "pruned" if is_pruned else "failed"

    def _best(self) -> Tried | None:
        """The lowest loss; of two alike the earlier trial."""
        ended = [trial for trial in self.study.trials() if trial.loss is not None]
        return min(ended, key=lambda trial: (trial.loss, trial.number), default=None)

    # ---- the winner --------------------------------------------------------------------------------------------------------------

    def _run_winner(self, *, is_forced: bool) -> Outcomes:
        best = self._best()
        if best is None:
            return {}
        self.winner = member = self._winner(best)
        known = self._known_runs()
        if member.key in known and FinishedRun(known[member.key]).state.get("reported"):
            return {member.key: read_result(known[member.key])}
        self.progress.say(f"{member.label}: run once more, now with the test split")
        with contextlib.closing(self.carry_out([member], known, is_forced=is_forced)) as results:
            ((_, result),) = results
        return {member.key: result}

    def _winner(self, best: Tried) -> Member:
        name = f"{self.search.name[:60]}-winner"
        settings = (f"{TUNE}=null", *self.search.choices(best.params if best.number else {}))
        member = Member(name, f"the winner, trial {best.number}", name, settings, self.search.seed)
        plan, _ = self._prepare(member)
        return Member(f"{name} {identity_of(plan.to_dict())}", member.label, name, settings, self.search.seed)

    # ---- what they say -----------------------------------------------------------------------------------------------------------

    def _outcomes(self) -> dict[Hashable, RunResult | RunError]:
        known = self._known_runs()
        outcomes: dict[Hashable, RunResult | RunError] = {}
        for trial in self.study.trials():
            key = self._trial_name(trial.number)
            if trial.state == "complete":
                if key not in known:
                    raise RunFolderError(
                        f"{self.path}: the run of trial {trial.number} is missing. Start a new search with another --out."
                    )
                outcomes[key] = read_result(known[key])
            elif trial.state in ("pruned", "failed"):
                outcomes[key] = RunError(trial.why or trial.state)
        return outcomes

    def _scored(self) -> dict[int, Finished]:
        known = self._known_runs()
        ended = [trial.number for trial in self.study.trials() if trial.state == "complete"]
        return {n: Finished.read(known[self._trial_name(n)], self.path, is_test=False) for n in ended}

    def conclude(self, outcomes: Outcomes) -> Conclusion:
        """Every trial, what choosing did to the figure of the best, and the winner's figure on the test split."""
        known = self._known_runs()
        folders = {t.number: known[key] for t in self.study.trials() if (key := self._trial_name(t.number)) in known}
        record = make_record(
            self.search,
            self.study.trials(),
            self._scored(),
            folders,
            importances=self.study.importances(),
            winner=outcomes[self.winner.key] if self.winner else None,
            nested=self.nested,
        )
        page = tuning_page({**self.state, **record})
        files: dict[str, str | bytes] = {PAGE: page, TRIALS: trials_csv(record)}
        best = self._best()
        if best is not None:
            files[WINNER] = self._winner_text(best, record)
        return record, tuning_lines(record, self.path), files

    def _winner_text(self, best: Tried, record: Mapping[str, object]) -> str:
        """The winner as a preset of its own."""
        member = self._winner(best)
        settings = [*self._settings(member), f"name={self.search.name[:73]}-tuned"]
        plan, _ = self.plan_with(settings, self.search.seed)
        chosen = "".join(f"#   {text}\n" for text in self.search.choices(best.params if best.number else {}))
        said = chosen or "#   nothing: the preset itself won\n"
        return (
            f"# finetunekit run {WINNER}\n# Trial {best.number} of a search over {self.search.preset}, which it changes in:\n{said}"
            f"{config_text(plan)}"
        )

    def plan_with(self, settings: Sequence[str], seed: int | None) -> tuple[Plan, PluginHost]:
        """The preset itself."""
        return prepare(self.search.preset, settings=settings, seed=seed, progress=self.progress)

    @property
    def how_to_go_on(self) -> str:
        """By the same command, which may ask for more."""
        return f"finished trials are kept in {self.path}; the same command continues with the others"


def _winner_key(name: str, run: FinishedRun) -> Hashable | None:
    try:
        return f"{name} {identity_of(run.plan)}"
    except (RunFolderError, KeyError, TypeError, ValueError):
        return None
