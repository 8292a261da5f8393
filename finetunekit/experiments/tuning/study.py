"""The search as Optuna keeps it: what to try next, who tries it, and what came of it. Several processes may share it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.errors import RunFolderError
from finetunekit.experiments.tuning.space import Choices, Params, Search, Setting
from finetunekit.runs.trials import STUDY, open_storage, open_study, trial_id
from finetunekit.system.files import file_lock
from finetunekit.system.formatting import one_line

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

_LOCKS = ".trials"
_ASKING_S = 120.0
_DRAWS = 50
_SEARCH, _SETTINGS, _WHY = "search", "settings", "why"


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial as the database has it.

    Attributes:
        number: From 0, which is the preset itself.
        state: `complete`, `pruned`, `failed` or `running`.
        params: Its values.
        loss: Validation log loss, nats; None where it was not finished.
        why: What stopped it early.
    """

    number: int
    state: str
    params: Params
    loss: float | None
    why: str | None


@dataclass
class SharedStudy:
    """The trials of a search, in a database that lies beside their runs.

    Attributes:
        folder: Of the search.
        search: What is searched.
        held: Trials that this process has under way: number → their lock.
    """

    folder: Path
    search: Search
    held: dict[int, contextlib.ExitStack] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise RunFolderError(
                f"{self.folder}: cannot be written ({exc.strerror or exc}). Choose another --out."
            ) from exc
        with self._alone():
            self._storage = open_storage(self.folder / STUDY)
            self._study = open_study(self._storage, sampler=_build_sampler(self.search))
            self._refuse_another_search()

    def _refuse_another_search(self) -> None:
        """Refuse trials of another space, preset or seed: they could not be compared."""
        asked = _facts(self.search)
        known = self._study.user_attrs.get(_SEARCH)
        if known is None:
            self._study.set_user_attr(_SEARCH, asked)
            self._study.enqueue_trial(self.search.own)
        elif changed := [name for name in asked if known.get(name) != asked[name]]:
            other = " and ".join(changed).replace("preset", "preset (or version of finetunekit or a plugin)")
            raise RunFolderError(
                f"{self.folder}: holds a search with another {other}. Go on with it as it was, or choose another folder with --out."
            )

    # ---- what to try -------------------------------------------------------------------------------------------------------------

    def next(self) -> Tried | None:
        """The next trial for this process: one that another process left unfinished, else a new one; None: all are begun."""
        with self._alone():
            for trial in self.trials():
                if trial.state == "running" and trial.number not in self.held and self._take(trial.number):
                    return trial
            counted = [trial for trial in self.trials() if trial.state != "void"]
            if len(counted) >= self.search.section.trials or self._is_exhausted(counted):
                return None
            return self._propose()

    def _propose(self) -> Tried:
        trial = self._study.ask()
        is_preset = trial.number == 0
        for setting in self.search.space:
            if not is_preset or setting.key in self.search.own:
                _suggest(trial, setting)
        if not self._take(trial.number):
            raise RunFolderError(f"{self.folder}: another process holds trial {trial.number}. Run the command again.")
        trial.set_user_attr(_SETTINGS, [] if is_preset else list(self.search.choices(trial.params)))
        return Tried(trial.number, "running", trial.params, None, None)

    def _is_exhausted(self, trials: Sequence[Tried]) -> bool:
        """Whether every configuration has its trial."""
        size = self.search.size
        if size is None:
            return False
        tried = {tuple(trial.params.values()) for trial in trials if len(trial.params) == len(self.search.space)}
        return len(tried) >= size

    def _take(self, number: int) -> bool:
        """Hold a trial; the system lets it go when the process ends, however it ends. False: another process has it."""
        stack = contextlib.ExitStack()
        try:
            stack.enter_context(file_lock(self.folder / _LOCKS / f"{number}.lock", timeout_s=0))
        except TimeoutError:
            return False
        self.held[number] = stack
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with file_lock(self.folder / _LOCKS / "next.lock", timeout_s=_ASKING_S), self._answering():
                yield
        except TimeoutError as exc:
            raise RunFolderError(
                f"{self.folder}: another process has held its trials for {_ASKING_S:g} s. Wait for it."
            ) from exc

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """A database that is damaged, full or held by others for too long is one line."""
        from optuna.exceptions import OptunaError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (OptunaError, SQLAlchemyError) as exc:
            file = self.folder / STUDY
            raise RunFolderError(f"{file}: the trials cannot be read or written ({one_line(exc)}).") from exc

    # ---- what came of it ---------------------------------------------------------------------------------------------------------

    def tell(self, number: int, state: str, *, loss: float | None = None, why: str | None = None) -> None:
        """Note how a trial of this process ended, and let it go.

        Args:
            number: Of the trial.
            state: `complete`, `pruned` or `failed`.
            loss: Validation log loss, where it is complete.
            why: What stopped it, where something did.
        """
        with self._answering():
            if why is not None:
                self._storage.set_trial_user_attr(trial_id(self._storage, number), _WHY, why)
            self._study.tell(number, loss, state=_states()[state])
        self.let_go(number)

    def let_go(self, number: int) -> None:
        """Another process may take the trial up."""
        self.held.pop(number).close()

    def let_all_go(self) -> None:
        """Other processes may take up what this one has under way."""
        for number in list(self.held):
            self.let_go(number)

    def trials(self) -> list[Tried]:
        """Every trial so far, by number; `void`: a process was killed before it had chosen its values."""
        with self._answering():
            return [_tried(trial) for trial in self._frozen()]

    def _frozen(self) -> list[FrozenTrial]:
        """Those that were begun."""
        found: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return [trial for trial in found if trial.state.name != "WAITING"]

    def importances(self) -> dict[str, float] | None:
        """How much of the variance of the logarithm of the loss each setting explains; None where there are too few finished trials to say.

        Source: functional analysis of variance over a random forest, Hutter, Hoos and Leyton-Brown 2014, ICML, as in Optuna.
        """
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances

        keys = [setting.key for setting in self.search.space]
        known = [t for t in self._frozen() if t.state.name == "COMPLETE" and len(t.params) == len(keys)]
        varied = [key for key in keys if len({trial.params[key] for trial in known}) > 1]
        if len(known) < LEAST_FOR_IMPORTANCE or len({trial.value for trial in known}) < 2 or not varied:
            return None
        evaluator = FanovaImportanceEvaluator(seed=self.search.seed)
        found = get_param_importances(self._study, evaluator=evaluator, params=varied, target=_log_of_loss)
        return {key: float(found.get(key, 0.0)) for key in keys}


def _log_of_loss(trial: FrozenTrial) -> float:
    """So that one disaster is not all that there is to explain."""
    return math.log(max(trial.value or 0.0, 1e-9))


LEAST_FOR_IMPORTANCE = 8
"""Finished trials; a forest on fewer says nothing."""


def _facts(search: Search) -> dict[str, Any]:
    """By which a search is known again."""
    space = [[s.path, [*s.labels] if isinstance(s, Choices) else [s.kind, s.low, s.high]] for s in search.space]
    return {"space": space, "preset": search.identity, "seed": search.seed}


def _tried(trial: FrozenTrial) -> Tried:
    names = {state: name for name, state in _states().items()}
    is_void = trial.number > 0 and trial.state.name in ("RUNNING", "FAIL") and _SETTINGS not in trial.user_attrs
    state = "void" if is_void else names[trial.state]
    return Tried(
        trial.number, state, trial.params, trial.value if state == "complete" else None, trial.user_attrs.get(_WHY)
    )


@functools.cache
def _states() -> Mapping[str, Any]:
    from optuna.trial import TrialState

    return {
        "complete": TrialState.COMPLETE,
        "pruned": TrialState.PRUNED,
        "failed": TrialState.FAIL,
        "running": TrialState.RUNNING,
    }


def _suggest(trial: Any, setting: Setting) -> None:
    if isinstance(setting, Choices):
        trial.suggest_categorical(setting.key, setting.labels)
    elif setting.is_whole:
        trial.suggest_int(setting.key, int(setting.low), int(setting.high), log=setting.kind == "log")
    else:
        trial.suggest_float(setting.key, setting.low, setting.high, log=setting.kind == "log")


def _distribution(setting: Setting) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(setting, Choices):
        return CategoricalDistribution(setting.labels)
    if setting.is_whole:
        return IntDistribution(int(setting.low), int(setting.high), log=setting.kind == "log")
    return FloatDistribution(setting.low, setting.high, log=setting.kind == "log")


def _build_sampler(search: Search) -> BaseSampler:
    """TPE, each proposal a function of the seed, the trial's number and the trials before it: a resumed search goes on as it would have.

    What was proposed already is not proposed again: with the same seed it would come out the same.

    Source: Bergstra, Bardenet, Bengio and Kégl 2011, NeurIPS, section 4, as in Optuna.
    """
    from optuna.samplers import BaseSampler as Base
    from optuna.samplers import TPESampler

    space = {setting.key: _distribution(setting) for setting in search.space}

    class Sampler(Base):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
            return space

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            known = [dict(other.params) for other in study.get_trials(deepcopy=False) if other.number != trial.number]
            for draw in range(_DRAWS):
                tpe = TPESampler(seed=_mixed(search.seed, trial.number, draw))
                params = {key: tpe.sample_independent(study, trial, key, one) for key, one in search_space.items()}
                if params not in known:
                    return params
            return next((one for one in _everything(search) if one not in known), params)

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            raise AssertionError(f"{param_name} was not proposed with the others")

    return Sampler()


def _mixed(*numbers: int) -> int:
    import numpy as np

    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _everything(search: Search) -> Iterator[dict[str, Any]]:
    """Every configuration, where there are so few that they run out."""
    if search.size is None:
        return
    keys = [setting.key for setting in search.space]
    values = [_values(setting) for setting in search.space]
    yield from (dict(zip(keys, params, strict=True)) for params in itertools.product(*values))


def _values(setting: Setting) -> Sequence[Any]:
    return setting.labels if isinstance(setting, Choices) else range(int(setting.low), int(setting.high) + 1)
