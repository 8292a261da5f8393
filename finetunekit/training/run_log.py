"""The epochs of a run as they go to its folder: checkpoint, log, listeners; and where an earlier process left it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.errors import RunFolderError
from finetunekit.models.classifier import Classifier
from finetunekit.models.freezing import leaf_layers, own_variables
from finetunekit.models.layer_names import weights_by_name
from finetunekit.models.weight_arrays import views
from finetunekit.runs.checkpoint import Checkpoint, save_checkpoint
from finetunekit.runs.folder import EPOCHS, FinishedRun
from finetunekit.system.files import append_line, to_csv, write_whole
from finetunekit.training.stage_job import Row, StageState
from finetunekit.types import TRAIN, FreezeDecision

if TYPE_CHECKING:
    import keras

    from finetunekit.runs.events import RunEvents
    from finetunekit.runs.trials import Trial

EPOCH_COLUMNS = {
    "stage": "Name of the stage.",
    "epoch": "Counted from 1 through all stages.",
    "loss": "Mean training loss of the draws, as the stage minimises it: with label smoothing and class weights.",
    "log_loss": "Mean cross-entropy of the draws without smoothing and weights, in nats.",
    "accuracy": "`correct / draws`.",
    "draws": "Photos drawn for training, each counted as often as it was drawn.",
    "correct": "Draws that were right at the moment they were trained on.",
    "val_loss": "Mean cross-entropy of the validation draws, in nats.",
    "val_accuracy": "`val_correct / val_draws`.",
    "val_draws": "Validation photos, each counted as often as it was drawn (`train.validation_draws`).",
    "val_correct": "Validation draws that were right.",
    "val_photos": "Distinct validation photos.",
    "val_photos_correct": "Distinct validation photos that were right.",
    "learning_rate": "Rate of the epoch's last step; 0 if the stage is solved.",
    "seconds": "Wall-clock time.",
    "images_per_s": "`draws` per second.",
}
"""Column of `epochs.csv` → what it holds."""


@dataclass
class RunLog:
    """The epoch log of one run, and its checkpoints.

    Attributes:
        path: The run folder.
        events: Hear of each epoch.
        classifier: The network.
        earlier: Where another process left the run; None: from the start.
        trial: Judges each epoch, where the run is a trial of a search.
        rows: The epochs so far.
        stage: Number of the stage under way, from 0.
    """

    path: Path
    events: RunEvents
    classifier: Classifier
    earlier: Checkpoint | None
    trial: Trial | None = None
    rows: list[Row] = field(default_factory=list)
    stage: int = 0

    def __post_init__(self) -> None:
        self._changing: set[int] = set()  # variables of the network, by position, that a stage so far may have changed

    @property
    def _variables(self) -> Sequence[keras.Variable]:
        variables: Sequence[keras.Variable] = self.classifier.logits.variables
        return variables

    def _names(self) -> list[str]:
        """Of the variables, in order; empty for those that are no weights, such as the state of dropout."""
        names = {id(weight): name for name, weight in weights_by_name(self.classifier.logits).items()}
        return [names.get(id(variable), "") for variable in self._variables]

    def take_up(self) -> None:
        """Put the network and the log where the earlier process left them, and begin the file of the log.

        Raises:
            RunFolderError: If its checkpoint is of another network, or of the same one with its layers in another order.
        """
        if self.earlier:
            names = self._names()
            for text, array in self.earlier.part("weights").items():
                number, name = int(text.partition(":")[0]), text.partition(":")[2]
                if name in names and names[number : number + 1] != [name]:
                    raise RunFolderError(
                        f"{self.path}: its checkpoint has '{name}' at another place: a plugin builds its layers in an order of chance. "
                        "Have it build them in one order (not that of a set), and run it anew."
                    )
                if number >= len(self._variables) or tuple(self._variables[number].shape) != array.shape:
                    raise RunFolderError(
                        f"{self.path}: its checkpoint is of another network than the one of this configuration. Run it anew."
                    )
                self._variables[number].assign(array)
                self._changing.add(number)
            self.rows = [dict(row) for row in self.earlier.rows]
            self.stage = self.earlier.stage
        write_whole(self.path / EPOCHS, to_csv(self.rows, tuple(EPOCH_COLUMNS)))

    def begin_stage(self, number: int, decision: FreezeDecision) -> StageState | None:
        """A stage begins, its layers frozen by this decision; where an earlier process left it, None if nowhere."""
        self.stage = number
        frozen = set(_frozen_variables(self.classifier, decision))
        # all others may change: the head's, statistics and the state of dropout are among them
        self._changing |= {i for i, variable in enumerate(self._variables) if id(variable) not in frozen}
        left = self.earlier
        if left is None or left.stage != number:
            return None
        optimizer = tuple(left.part("optimizer").values())
        return StageState(left.epochs, left.is_over, optimizer, left.part("callbacks"))

    def keep(self, row: Row, state: StageState) -> None:
        """See `EpochSink`. The checkpoint comes first: a line of the log that it does not know is trained, and written, again.

        Raises:
            PrunedError: If the run is a trial that is not worth going on with.
        """
        self.rows.append(row)
        save_checkpoint(self.path, self._checkpoint(state))
        append_line(self.path / EPOCHS, to_csv([row], tuple(EPOCH_COLUMNS)).split("\n", 1)[1])
        self.events.after_epoch(row)
        if self.trial is not None:
            self.trial.after_epoch(row)

    def name_photos(self, indices: Sequence[int]) -> str:
        """See `EpochSink`."""
        names = [row["path"] for row in FinishedRun(self.path).photos if row["split"] == TRAIN]
        shown = [names[i] for i in indices[:4]]
        return ", ".join(shown) + (f" and {len(indices) - 4} more" if len(indices) > 4 else "")

    def _checkpoint(self, state: StageState) -> Checkpoint:
        changing, names = sorted(self._changing), self._names()
        values: dict[str, Any] = {}
        for i, array in zip(changing, views([self._variables[i] for i in changing]), strict=True):
            values[f"weights/{i}:{names[i]}"] = array
        values |= {f"optimizer/{i}": array for i, array in enumerate(state.optimizer)}
        values |= {f"callbacks/{key}": array for key, array in state.callbacks.items()}
        return Checkpoint(self.stage, state.epochs, state.is_over, tuple(self.rows), values)


def _frozen_variables(classifier: Classifier, decision: FreezeDecision) -> Iterator[int]:
    for path, layer in leaf_layers(classifier.backbone.model):
        if decision[path] == 0:
            yield from (id(variable) for variable in own_variables(layer))
