"""How far a run came, as one file: what changes while it trains, and nothing that can be had again.

A checkpoint is an .npz without pickle. Its member `about` is JSON: where the run is, the rows of its log, and a SHA-256 over everything
else. The last two epochs' files are kept, so that a damaged one costs an epoch and not the run.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.system.files import replacing
from finetunekit.system.formatting import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = "checkpoints"
_KEPT = 2
_ABOUT = "about"


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
    import numpy as np

    path = run_path / FOLDER / f"{checkpoint.stage:03d}-{checkpoint.epochs:06d}.npz"
    stored = {f"{i:06d}": _plain(array) for i, array in enumerate(checkpoint.arrays.values())}
    about = {
        "stage": checkpoint.stage,
        "epochs": checkpoint.epochs,
        "is_over": checkpoint.is_over,
        "rows": [dict(row) for row in checkpoint.rows],
        "names": list(checkpoint.arrays),
        "dtypes": [array.dtype.name for array in checkpoint.arrays.values()],
    }
    about["sha256"] = _digest(about, stored)
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with replacing(path) as partial, partial.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{_ABOUT: text}, **stored)
    for old in checkpoint_paths(run_path)[:-_KEPT]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(run_path: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint of a run; None where there is none. A damaged one is said and passed over."""
    for path in reversed(checkpoint_paths(run_path)):
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as exc:
            reason = one_line(exc)
            say(f"warning: {path} is damaged ({reason}) and passed over; the epoch before it is trained again.")
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
    import numpy as np

    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        about = json.loads(stored[_ABOUT].tobytes())
        arrays = {name: stored[name] for name in stored.files if name != _ABOUT}
    digest = about.pop("sha256")
    if digest != _digest(about, arrays):
        raise ValueError("it does not match its checksum")
    values = [_typed(arrays[f"{i:06d}"], dtype) for i, dtype in enumerate(about["dtypes"])]
    return Checkpoint(
        stage=about["stage"],
        epochs=about["epochs"],
        is_over=about["is_over"],
        rows=tuple(about["rows"]),
        arrays=dict(zip(about["names"], values, strict=True)),
    )


def _digest(about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    import numpy as np

    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} {arrays[name].dtype.str}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """A dtype that .npz does not know (bfloat16) as integers of its size."""
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def _typed(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    import ml_dtypes
    import numpy as np

    wanted = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    return array if array.dtype == wanted else array.view(wanted)
