"""The run folder: its name, its lock, whole files, and what a finished run's files say."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.errors import RunFolderError, did_you_mean
from finetunekit.system.files import (
    locked,
    open_to_others,
    read_regular,
    sync_folder,
    to_json,
    work_in,
    write_whole,
)
from finetunekit.system.formatting import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 3
"""Of run folders: names of files and what stands in them. A run of another format is refused."""

CONFIG, PLAN, ENVIRONMENT, STATE = "config.yaml", "plan.json", "environment.json", "run.json"
WEIGHTS, PHOTOS, EPOCHS, PREDICTIONS = "weights.json", "photos.csv", "epochs.csv", "predictions.csv"
METRICS, REPORTS = "metrics.json", "reports"
EXPORTS, CERTIFICATE = "exports", "certificate.json"

MODEL, MODEL_KERAS, MODEL_H5 = "model.npz", "model.keras", "model.h5"
"""The network that finetunekit itself loads; the same for others, where Keras can write it, and as HDF5 where it was asked for."""
MODEL_FILES = (MODEL, MODEL_KERAS, MODEL_H5)

CALLING = "calling.txt"
"""Whose code a run is in, while it is: what is left of it where the process ended there without a word."""
_CALLING_BYTES = 4096

REPORT_PAGE = "report.html"
"""The page that is the report of a run, whatever others its reporters write."""

EXCLUDED, DECIDED, FEATURES = "excluded.csv", "decided.csv", "train_features.npz"
WAITING = "waiting"
"""Status of a run that nobody has begun: its folder was made for an executor."""
PRUNED = "pruned"
"""Status of a trial of a search that was stopped before its last epoch."""

SEEDS, CROSS_VALIDATION, LEFT_OUT = "seeds.json", "cross_validation.json", "left_out.json"
RUN_GROUPS = {SEEDS: "seeds", CROSS_VALIDATION: "folds", LEFT_OUT: "sources"}
"""File that tells the folder of several runs from that of one → what each of its runs is."""

BASELINES, OVERLAP, GRADCAM, AUDIT = "baselines.json", "overlap.json", "gradcam.json", "audit.json"
NEXT_STEPS, UNSEEN_SOURCES = "next_steps.json", "unseen_sources.json"


MEMBERS = "members"
"""Folder of an ensemble with a folder for each member, from 1: its configuration, plan, plugin files and scores, not its model."""
ENSEMBLE_WEIGHTS, PROBABILITIES = "weights", "probabilities"
"""What an ensemble is the mean of."""


def new_run_path(
    out: Path, name: str, files: Mapping[str, str | bytes] | None = None, now: datetime | None = None
) -> Path:
    """Create the folder `out/<name>-<UTC time>`; a number is appended where it exists.

    Args:
        out: Folder of runs.
        name: Of the run's configuration.
        files: What the folder holds from its first moment on, file name → content.
        now: Default: now.

    Raises:
        RunFolderError: If `out` cannot be written.
    """
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%d-%H%M%S")
    beside: Path | None = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{name}-", suffix=".partial", dir=out))
        for file, content in (files or {}).items():
            write_whole(beside / file, content)
        open_to_others(beside, 0o777)
        for attempt in range(1, 1000):
            path = out / (f"{name}-{stamp}" + (f"-{attempt}" if attempt > 1 else ""))
            if not path.exists() and _is_renamed(beside, path):
                sync_folder(out)
                return path
    except OSError as exc:
        reason = (
            "is not a folder" if out.exists() and not out.is_dir() else f"cannot be written ({exc.strerror or exc})"
        )
        raise RunFolderError(f"{out}: {reason}. Choose another folder with --out.") from exc
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)
    raise RunFolderError(f"{out}: no free name for '{name}-{stamp}'.")


def _is_renamed(beside: Path, path: Path) -> bool:
    try:
        beside.rename(path)
    except OSError:
        if path.exists():  # another process took the name just now
            return False
        raise
    return True


def read_status(path: Path) -> str:
    """`finished`, `failed`, `interrupted`, `pruned`, `running`, `waiting`; `killed` where it says `running` and no process holds it.

    A folder of several runs that are not all finished stands as the last of them does, or is `stopped` between two.

    Raises:
        RunFolderError: If the folder does not say.
    """
    group = run_group_file(path)
    state = FinishedRun(path).optional(group.name) if group else FinishedRun(path).state
    status = str((state or {}).get("status", "unknown"))
    if status != "running" or _is_locked(path):
        return status
    if group is None:
        return "killed"
    begun = [status for status in map(read_status, sorted(_run_folders(path))) if status != WAITING]
    unfinished = [status for status in begun if status != "finished"]
    return unfinished[-1] if unfinished else "stopped"


def cut_off_in(path: Path) -> str | None:
    """The plugin in whose code the process ended that wrote this run, or is now; None: in none."""
    try:
        return one_line(read_regular(path / CALLING, most_bytes=_CALLING_BYTES).decode(errors="replace"))
    except OSError:
        return None


def _is_locked(path: Path) -> bool:
    try:
        with locked(path):
            return False
    except RunFolderError:  # held, or a folder where nobody may write, of which one cannot know
        return True


def find_run(argument: str | Path, out: Path = Path("runs"), *, prefers_finished: bool = False) -> Path:
    """The folder of a run, given as a path, as that of its report, as a name under `out`, or as `last`: the newest that has a model.

    Args:
        argument: What the user wrote.
        out: Folder of runs.
        prefers_finished: Let `last` be the newest that is finished, where there is one: an interrupted run leaves a model as well.

    Raises:
        RunFolderError: If there is none; the nearest name is suggested.
    """
    path = Path(argument)
    if path.parent.name == REPORTS and path.is_file():
        path = path.parent.parent
    if (path / CONFIG).is_file():
        return path
    group = find_run_group(argument, out)
    if group is not None:
        found = ", ".join(sorted(place.parent.name for place in group.glob(f"[!.]*/{CONFIG}")))
        raise RunFolderError(
            f"{group}: is the folder of several runs. Name one of them: {found or 'there is none yet'}."
        )
    folders = {place.name: place for place in _run_folders(out)}
    names = sorted(folders, key=_stamp)
    with_model = [name for name in names if (folders[name] / MODEL).is_file()]
    if str(argument) == "last" and with_model:
        finished = [name for name in with_model if prefers_finished and read_status(folders[name]) == "finished"]
        return folders[(finished or with_model)[-1]]
    if str(argument) in folders:
        return folders[str(argument)]
    if str(argument) == "last":
        raise RunFolderError(f"last: {out} holds no run with a model yet. Make one: finetunekit run PHOTOS/")
    raise RunFolderError(
        f"{argument}: no run there (no {CONFIG}).{did_you_mean(str(argument), names) if names else ''}"
    )


def unfinished_since(path: Path, out: Path = Path("runs")) -> list[Path]:
    """Runs of a folder that began after this one and were interrupted, failed or killed, oldest first."""
    began = _stamp(path.name)
    later = sorted(
        (place for place in _run_folders(out) if _stamp(place.name) > began), key=lambda run: _stamp(run.name)
    )
    return [place for place in later if read_status(place) in ("interrupted", "failed", "killed")]


def _run_folders(out: Path) -> Iterator[Path]:
    """Runs of a folder, and of its folders of seeds; one still being made begins with a dot."""
    for place in entries_of(out):
        with contextlib.suppress(OSError):  # that may not be entered: a listing names it
            if (place / CONFIG).is_file():
                yield place
            elif (place / SEEDS).is_file() or (place / LEFT_OUT).is_file():
                yield from _run_folders(place)


def entries_of(out: Path) -> list[Path]:
    """What lies in a folder of runs, by name; nothing where it is not there yet, and what is still being made begins with a dot.

    Raises:
        RunFolderError: If it cannot be listed.
    """
    try:
        with os.scandir(out) as found:
            return [out / name for name in sorted(entry.name for entry in found) if not name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise RunFolderError(
            f"{out}: cannot be listed ({exc.strerror or exc}). Choose another folder with --out."
        ) from exc


def run_group_file(path: Path) -> Path | None:
    """The file by which a folder is known to be that of several runs; None: it is not."""
    return next((path / name for name in RUN_GROUPS if (path / name).is_file()), None)


def find_run_group(argument: str | Path, out: Path = Path("runs")) -> Path | None:
    """The folder of several runs (seeds, folds) that is given as a path or as a name under `out`; None: it is none."""
    return next((path for path in (Path(argument), out / argument) if run_group_file(path)), None)


def report_page(path: Path) -> Path:
    """The report of a run: `report.html`, whichever reporter wrote it; else its first page by name, or its folder where it has none."""
    pages = sorted((path / REPORTS).glob("*.html"), key=lambda page: (page.name != REPORT_PAGE, page.name))
    return pages[0] if pages else path


def _stamp(name: str) -> tuple[str, str]:
    found = re.search(r"\d{8}-\d{6}(-\d+)?$", name)
    return (found.group() if found else "", name)


@dataclass(frozen=True)
class FinishedRun:
    """A finished run as its files tell it; nothing is computed here.

    Attributes:
        path: The run folder.
        miniatures: SHA-256 of a photo file → its miniature, `(height, width, 3)` uint8, the right way up; empty but in the process that
            trained. `finetunekit.reports.thumbnails.make_thumbnail` reads the file where there is none.
    """

    path: Path
    miniatures: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict, compare=False, repr=False)

    @functools.cached_property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration, as plain values."""
        config: Mapping[str, Any] = self._json(PLAN)["config"]
        return config

    @functools.cached_property
    def plan(self) -> Mapping[str, Any]:
        """The plan: every component with its options, defaults filled in, and where it came from."""
        return self._json(PLAN)

    @functools.cached_property
    def metrics(self) -> Mapping[str, Any]:
        """Every score with its denominator."""
        return self._json(METRICS)

    @functools.cached_property
    def state(self) -> Mapping[str, Any]:
        """Status, seed, classes, stand-in sentence, versions."""
        state = self._json(STATE)
        if state.get("format") != FORMAT:
            raise RunFolderError(
                f"{self.path / STATE}: was not written by this version of finetunekit (run folder format "
                f"{state.get('format', 1)}, not {FORMAT}). Run its preset again."
            )
        return state

    @functools.cached_property
    def environment(self) -> Mapping[str, Any]:
        """Machine, versions and thread counts."""
        return self._json(ENVIRONMENT)

    @functools.cached_property
    def weights(self) -> Mapping[str, Any]:
        """Where the pretrained arrays came from, with licence and attribution."""
        return self._json(WEIGHTS)

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names; position is the class index."""
        return tuple(self.state["classes"])

    @functools.cached_property
    def stand_in(self) -> str | None:
        """The sentence to show beside every figure when the photos are a stand-in."""
        sentence: str | None = self.state["stand_in"]
        return sentence

    @functools.cached_property
    def temperature(self) -> float:
        """What logits are divided by to get calibrated probabilities, fitted on validation photos; 1 before the run
        was scored."""
        return float(self.state.get("calibration", {}).get("temperature", 1.0))

    @functools.cached_property
    def epochs(self) -> tuple[Mapping[str, str], ...]:
        """Rows of the epoch log, as text."""
        return self._csv(EPOCHS)

    @functools.cached_property
    def predictions(self) -> tuple[Mapping[str, str], ...]:
        """Rows of `predictions.csv`, as text: split, path, sha256, true, predicted, and for each class `p_<class>`,
        the calibrated probability, and `uncalibrated_<class>`, the network's own."""
        return self._csv(PREDICTIONS)

    def split_predictions(self, split: str) -> list[Mapping[str, str]]:
        """Rows of `predictions.csv` of one split."""
        return [row for row in self.predictions if row.get("split") == split]

    @functools.cached_property
    def photos(self) -> tuple[Mapping[str, str], ...]:
        """Rows of the photo manifest, as text: path, sha256, label, split, width_px, height_px."""
        return self._csv(PHOTOS)

    @functools.cached_property
    def decided(self) -> tuple[Mapping[str, str], ...]:
        """What people's decisions changed in the list of photos, as text: number, when, who, path, sha256, split,
        kind, was, now, why."""
        return self._csv(DECIDED) if (self.path / DECIDED).is_file() else ()

    def optional(self, name: str) -> Mapping[str, Any] | None:
        """Content of a JSON file that not every run folder has, such as `baselines.json`; None if it is missing."""
        return self._json(name) if (self.path / name).is_file() else None

    @functools.cached_property
    def certificates(self) -> Mapping[str, Mapping[str, Any]]:
        """Folder in `exports/` → certificate of the exported model there."""
        found = sorted(self.path.glob(f"{EXPORTS}/[!.]*/{CERTIFICATE}"))
        return {file.parent.name: self._json(file.relative_to(self.path).as_posix()) for file in found}

    def photo_path(self, name: str) -> Path:
        """Where the photo with this `path` in the run's tables is now; it may have been moved since."""
        return Path(self.state["photo_root"]) / name

    def _json(self, name: str) -> Mapping[str, Any]:
        from finetunekit.runs.run_files import read_json_file

        return read_json_file(self.path / name)

    def _csv(self, name: str) -> tuple[Mapping[str, str], ...]:
        from finetunekit.runs.run_files import read_table_file

        return read_table_file(self.path / name)

    def text(self, name: str) -> str:
        """Content of a text file in the run folder, with its line ends unchanged."""
        from finetunekit.runs.run_files import read_text_file

        return read_text_file(self.path / name, errors="surrogateescape")


@contextlib.contextmanager
def run_from(path: Path) -> Iterator[None]:
    """Work in the folder that a run was started from, where relative paths of its configuration begin."""
    with work_in(FinishedRun(path).state.get("folder")):
        yield


def drop_model(path: Path) -> None:
    """Delete the model of a finished run; its figures stay."""
    for name in (*MODEL_FILES, FEATURES):
        (path / name).unlink(missing_ok=True)


def note_seconds(path: Path, metrics: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, Any]:
    """Write into a run's metrics what a part of it took.

    Args:
        path: Run folder.
        metrics: Content of `metrics.json`.
        seconds: Such as `report_s`.

    Returns:
        The metrics as they were written.
    """
    complete = {
        **metrics,
        "seconds": {**metrics["seconds"], **{key: round(value, 2) for key, value in seconds.items()}},
    }
    write_whole(path / METRICS, to_json(complete))
    return complete
