"""A stage that has to earn its weights: those from before it are put back unless validation says that they got better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.weight_arrays import arrays_of, assign, copies, numbered

_LOSS = "loss"

#: What a stage trains and moves, as variables.
Variables = Sequence[Any]


class RevertUnlessBetter:
    """A callback that compares validation log loss after a stage with that before it.

    It comes last among the callbacks of its stage: what it judges is what the others leave.
    """

    name = "revert_unless_better"

    def __init__(
        self, variables: Variables, validate: Callable[[], float], tell: Callable[[Mapping[str, Any]], None]
    ) -> None:
        """Remember the weights and measure what they are worth.

        Args:
            variables: Everything that the stage changes.
            validate: Mean log loss of the validation photos, each once, by the network as it is.
            tell: Receives `before`, `after` (log losses in nats) and `reverted` when the stage is over.
        """
        self._variables, self._validate, self._tell = variables, validate, tell
        self._before = copies(variables)
        self._loss = validate()

    def after_step(self, step: int) -> None:
        """Nothing to do."""

    def after_epoch(self, row: Mapping[str, Any]) -> bool:
        """Never ends a stage."""
        return False

    def finish(self) -> None:
        """Put the former weights back unless the loss is lower now; a loss that is not finite is not lower."""
        after = self._validate()
        is_better = after < self._loss
        if not is_better:
            assign(self._variables, self._before)
        self._tell({"before": self._loss, "after": after, "reverted": not is_better})

    def state(self) -> Mapping[str, NDArray[Any]]:
        """The weights from before the stage, and their loss."""
        return {_LOSS: np.array(self._loss), **numbered("before", self._before)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state()` gave in another process."""
        self._loss = float(state[_LOSS])
        self._before = arrays_of(state, "before")


def revert_sentence(stage: str, before_stage: str, record: Mapping[str, Any]) -> str:
    """One sentence on how it ended.

    Args:
        stage: The stage's name.
        before_stage: What the network was before it, such as the name of the stage before.
        record: What `RevertUnlessBetter` told.
    """
    losses = f"({record['after']:.4f} against {record['before']:.4f})"
    if record["reverted"]:
        return f"{stage} did not beat {before_stage} on validation log loss {losses}: {before_stage} is what is saved."
    return f"{stage} beat {before_stage} on validation log loss {losses}."


def revert_notes(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each stage that was reverted, from `stages` of `run.json`."""
    names = ["the untrained head", *(stage["name"] for stage in stages)]
    return [
        revert_sentence(stage["name"], before, stage["revert"])
        for before, stage in zip(names, stages, strict=False)
        if stage.get("revert", {}).get("reverted")
    ]


def kept_rows(rows: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The epoch log without the stages at its end that were reverted, and without epochs after the one that was brought back.

    Args:
        rows: Of `epochs.csv`.
        stages: `stages` of `run.json`, in order.

    Returns:
        Its last row is that of the weights that are saved; empty where the first stage was reverted as well.
    """
    kept = list(rows)
    for stage in reversed(stages):
        if not stage.get("revert", {}).get("reverted"):
            break
        kept = [row for row in kept if int(row["epoch"]) <= stage["first_epoch"]]
    else:
        return kept
    stopping = stage.get("early_stopping", {})
    return [row for row in kept if not stopping.get("is_restored") or int(row["epoch"]) <= stopping["best_epoch"]]
