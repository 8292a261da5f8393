"""A run that is a trial of a search: each epoch goes into the search's database, by which it is decided whether the run goes on."""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.errors import ConfigError, PrunedError
from finetunekit.runs.folder import FinishedRun
from finetunekit.system.files import write_whole
from finetunekit.system.formatting import one_line

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.storages import BaseStorage

TRIAL, STUDY = "trial.json", "study.sqlite3"
"""File of the run folder that makes it a trial, and the database beside the run folders of a search."""
_NAME = "tune"
_LOCKED_S = 60.0
_WHY = {"median": "the median of the other trials", "halving": "those that go on"}


def require_optuna() -> None:
    """Find Optuna, without loading it.

    Raises:
        ConfigError: If it is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("tune needs Optuna, which is not installed: pip install 'finetunekit[tune]'")


def open_storage(path: Path) -> BaseStorage:
    """Open the database of a search, or make it; several processes may have it open."""
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    arguments = {"connect_args": {"timeout": _LOCKED_S}}
    return optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}", engine_kwargs=arguments)


def open_study(storage: BaseStorage, **options: Any) -> Any:
    """The search in a database, begun where there is none.

    Args:
        storage: See `open_storage`.
        options: `sampler` and `pruner` of `optuna.create_study`.
    """
    import optuna

    return optuna.create_study(storage=storage, study_name=_NAME, load_if_exists=True, **options)


def trial_id(storage: BaseStorage, number: int) -> int:
    """What the database calls the trial of this number."""
    return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(_NAME), number)


def make_trial(folder: Path, number: int, *, pruner: str, min_epochs: int) -> None:
    """Make a run folder beside the database that of a trial.

    Args:
        folder: The run folder.
        number: Of the trial.
        pruner: `median`, `halving` or `none`.
        min_epochs: Epochs that it may train before it is stopped.
    """
    write_whole(folder / TRIAL, json.dumps({"number": number, "pruner": pruner, "min_epochs": min_epochs}) + "\n")


def read_trial(folder: Path, *, epochs: int, say: Callable[[str], None]) -> Trial | None:
    """The trial that a run is; None where it is none, or where the search's database cannot be reached.

    Args:
        folder: The run folder.
        epochs: Of all its stages; after the last one there is nothing to save.
        say: Hears of what keeps it from being judged.
    """
    values = FinishedRun(folder).optional(TRIAL)
    if values is None:
        return None
    database = folder.parent / STUDY
    if not database.is_file():
        say(f"note: {database} is not here, so this trial is not stopped early")
        return None
    return Trial(database, values["number"], values["pruner"], values["min_epochs"], epochs, say)


@dataclass(frozen=True)
class Trial:
    """What a run knows of the search that it is a trial of.

    Attributes:
        database: Of the search.
        number: Of the trial.
        pruner: `median`, `halving` or `none`.
        min_epochs: Epochs that it may train before it is stopped.
        epochs: Of all its stages.
        say: Hears of what keeps it from being judged.
    """

    database: Path
    number: int
    pruner: str
    min_epochs: int
    epochs: int
    say: Callable[[str], None]

    @functools.cached_property
    def _storage(self) -> BaseStorage:
        return open_storage(self.database)

    def after_epoch(self, row: Mapping[str, Any]) -> None:
        """Report an epoch; a database that does not answer stops no run.

        Args:
            row: Line of `epochs.csv`; that of a solved stage is no epoch of its own and is passed over.

        Raises:
            PrunedError: If others were better at this epoch.
        """
        epoch = int(row["epoch"])
        if epoch == 0 or self.pruner == "none":
            return
        try:
            is_over = self._is_over(epoch, float(row["val_loss"]))
        except Exception as exc:  # noqa: BLE001 - whatever the database raises, the run is worth more
            self.say(f"warning: epoch {epoch} did not reach {self.database}: {one_line(exc)}")
            return
        if is_over and epoch < self.epochs:
            raise PrunedError(
                f"stopped after epoch {epoch}: validation log loss {row['val_loss']:.4f} is worse than {_WHY[self.pruner]}"
            )

    def _is_over(self, epoch: int, loss: float) -> bool:
        storage, known = self._storage, trial_id(self._storage, self.number)
        if storage.get_trial(known).state.is_finished():  # gone on with by hand
            return False
        storage.set_trial_intermediate_value(known, epoch, loss)
        if self.number == 0:  # the preset itself, which every other trial is compared with
            return False
        study = open_study(storage)
        return bool(_build_pruner(self.pruner, self.min_epochs).prune(study, storage.get_trial(known)))


def _build_pruner(name: str, min_epochs: int) -> BasePruner:
    """See `TuneSection.pruner`; five trials come first, so that there is something to compare with (Optuna's default)."""
    from optuna.pruners import MedianPruner, SuccessiveHalvingPruner

    if name == "median":
        return MedianPruner(n_startup_trials=5, n_warmup_steps=min_epochs)
    return SuccessiveHalvingPruner(min_resource=min_epochs, reduction_factor=4)
