"""How far a run came, as one file: what changes while it trains, and nothing that can be had again.

A checkpoint is a file of arrays (`system/array_files.py`) that says where the run is and holds the rows of its log. The last two epochs'
files are kept, so that a damaged one costs an epoch and not the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.system.array_files import read_arrays, write_arrays
from finetunekit.system.files import replacing
from finetunekit.system.formatting import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = "checkpoints"
_KEPT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run at the end of an epoch.

    Attributes:
        stage: Number of the stage, from 0.
        epochs: Epochs of that stage that are complete.
        is_over: Whether no further epoch of the stage is wanted.
        rows: The epoch log of the whole run so far.
        arrays: `weights/...`, `optimizer/...` and `callbacks/...` → array.
    """

    stage: int
    epochs: int
    is_over: bool
    rows: tuple[Mapping[str, Any], ...]
    arrays: Mapping[str, NDArray[Any]]

    def part(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays under `name/`, without it, in the order they were given."""
        prefix = f"{name}/"
        return {key.removeprefix(prefix): a for key, a in self.arrays.items() if key.startswith(prefix)}


def save_checkpoint(run_path: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint whole; only then is the one before the last removed.

    Raises:
        RunFolderError: If it cannot be written; the earlier ones stay.
    """
    path = run_path / FOLDER / f"{checkpoint.stage:03d}-{checkpoint.epochs:06d}.npz"
    about = {
        "stage": checkpoint.stage,
        "epochs": checkpoint.epochs,
        "is_over": checkpoint.is_over,
        "rows": [dict(row) for row in checkpoint.rows],
    }
    with replacing(path) as partial:
        write_arrays(partial, about, checkpoint.arrays)
    for old in checkpoint_paths(run_path)[:-_KEPT]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(run_path: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint of a run; None where there is none. A damaged one is said and passed over."""
    for path in reversed(checkpoint_paths(run_path)):
        try:
            return _read(path)
        except (OSError, ValueError, TypeError, KeyError) as exc:
            reason = one_line(exc)
            say(f"warning: {path} is damaged ({reason}) and is skipped; the epoch before it is trained again.")
    return None


def checkpoint_paths(run_path: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    return sorted((run_path / FOLDER).glob("[0-9]*.npz"))


def remove_checkpoints(run_path: Path) -> None:
    """Drop what a finished run has no use for, leftovers of a write that was cut off included."""
    folder = run_path / FOLDER
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()


def _read(path: Path) -> Checkpoint:
    about, arrays = read_arrays(path)
    return Checkpoint(**{**about, "rows": tuple(about["rows"])}, arrays=arrays)
