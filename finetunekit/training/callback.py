"""What accompanies the epochs of a stage: averaged weights, early stopping, the best epoch. Each can be saved and resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray


class Callback(Protocol):
    """Follows one stage of training and may end it early.

    It is built for the stage's model before the first step, and rebuilt, then restored, when a run is resumed. Everything it will need
    later has to be in `state()`: a resumed run ends with the same bits only if `restore(state())` on a new one leaves nothing behind.
    """

    @property
    def name(self) -> str:
        """Unlike the names of the stage's other callbacks; letters, digits and `_`."""
        ...

    def after_step(self, step: int) -> None:
        """A step changed the weights. `step` counts the steps of this stage, from 1, on across epochs."""
        ...

    def after_epoch(self, row: Mapping[str, Any]) -> bool:
        """An epoch was trained and validated; `row` is its line of `epochs.csv`. True ends the stage."""
        ...

    def finish(self) -> None:
        """The stage is over: put into the model the weights that it ends with. Follows from `state()` and the weights alone."""
        ...

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Everything that was learnt so far, as arrays that no later step changes."""
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state()` gave in another process."""
        ...


def callback_arrays(callbacks: Sequence[Callback]) -> dict[str, NDArray[Any]]:
    """The state of every callback: `<callback>/<key>` → array."""
    return {f"{p.name}/{key}": array for p in callbacks for key, array in p.state().items()}


def restore_callbacks(callbacks: Sequence[Callback], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Give every callback what `callback_arrays` held for it."""
    for callback in callbacks:
        prefix = f"{callback.name}/"
        callback.restore({key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)})
