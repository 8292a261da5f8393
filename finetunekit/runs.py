"""The run folder: its name, its lock, whole files, and what a finished run's files say."""

from __future__ import annotations

import csv
import errno
import functools
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetunekit.errors import RunFolderError, did_you_mean

CONFIG, PLAN, ENVIRONMENT, STATE = "config.yaml", "plan.json", "environment.json", "run.json"
WEIGHTS, PHOTOS, EPOCHS, PREDICTIONS = "weights.json", "photos.csv", "epochs.csv", "predictions.csv"
METRICS, MODEL, MODEL_H5, REPORTS, LOCK = "metrics.json", "model.keras", "model.h5", "reports", "run.lock"
EXCLUDED = "excluded.csv"
SEEDS, CROSS_VALIDATION = "seeds.json", "cross_validation.json"
SEVERAL = {SEEDS: "seeds", CROSS_VALIDATION: "folds"}
"""File that tells the folder of several runs from that of one → what each of its runs is."""
_LOCK_TIMEOUT_S = 0.5  # a listing that asks whether the lock is free holds it for a moment
LADDER, OVERLAP, GRADCAM, AUDIT = "ladder.json", "overlap.json", "gradcam.json", "audit.json"


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file beside its place and rename it there, so that a reader sees the old content or the new, never a part.

    Raises:
        RunFolderError: If the folder cannot be written or the disk is full; what was there stays.
    """
    data = content.encode() if isinstance(content, str) else content
    with replacing(path) as partial:
        partial.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path`, with the same suffix, that is synced and renamed to it when the block ends well.

    Raises:
        RunFolderError: If the folder cannot be written or the disk is full; what was there stays.
    """
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=f".partial{path.suffix}", dir=path.parent)
        os.close(handle)
        partial = Path(name)
        yield partial
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        _open_to_others(partial, 0o666)
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as exc:
        raise RunFolderError(
            f"{path}: cannot be written ({exc.strerror or exc}). Free space or choose another folder with --out."
        ) from exc
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open a folder for syncing; os.replace is all there is
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: str) -> None:
    """Append one whole line in one write and sync it; a line cut off by a crash is the last one.

    Raises:
        RunFolderError: If the file cannot be written; what was written of the line is taken back.
    """
    data = line.encode()
    try:
        with path.open("ab", buffering=0) as stream:
            before = stream.tell()
            if stream.write(data) != len(data):
                stream.truncate(before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(stream.fileno())
    except OSError as exc:
        raise RunFolderError(f"{path}: cannot be written ({exc.strerror or exc}).") from exc


def to_json(value: Any) -> str:
    """Indented JSON that ends in a newline; non-finite numbers are refused, since JSON has none."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_jsonable) + "\n"


def _jsonable(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON: {value!r}")


def to_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as CSV with a header and `\\n` line ends; floats as Python's shortest exact form."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=columns, lineterminator="\n", extrasaction="raise")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def new_run_path(out: Path, name: str, files: Mapping[str, str] | None = None, now: datetime | None = None) -> Path:
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
        _open_to_others(beside, 0o777)
        for attempt in range(1, 1000):
            path = out / (f"{name}-{stamp}" + (f"-{attempt}" if attempt > 1 else ""))
            if not path.exists() and _is_renamed(beside, path):
                _sync_folder(out)
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


def sweep(path: Path) -> None:
    """Remove what writes that a kill cut off left in a run folder. Hold its lock."""
    for partial in path.rglob(".*.partial*"):
        if partial.is_file():
            partial.unlink(missing_ok=True)


def _open_to_others(path: Path, mode: int) -> None:
    """Give what `tempfile` made for its owner alone the mode that the user's umask allows."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(mode & ~umask)


@contextmanager
def locked(path: Path, *, lock: str = LOCK, job: str = "writing this run") -> Iterator[None]:
    """Hold a folder for one writer; the operating system drops the lock when the process ends, a crash included.

    Args:
        path: A run folder, or another one that is written by one process at a time; made where it is not there.
        lock: Name of the file in it that stands for it.
        job: What another process is doing while it holds the folder, as the error says it.

    Raises:
        RunFolderError: If another process holds it, or it cannot be written.
    """
    import filelock

    held = filelock.FileLock(path / lock, timeout=_LOCK_TIMEOUT_S)
    try:
        path.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except filelock.Timeout as exc:
        raise RunFolderError(f"{path}: another process is {job}. Wait for it, or use another folder.") from exc
    except OSError as exc:
        raise RunFolderError(
            f"{path}: cannot be written ({exc.strerror or exc}). Make it writable, or use another folder."
        ) from exc
    try:
        yield
    finally:
        held.release()


def read_status(path: Path) -> str:
    """`finished`, `failed`, `interrupted`, `running`; `killed` where the folder says `running` and no process holds it.

    A folder of several runs that are not all finished stands as the last of them does, or is `stopped` between two.

    Raises:
        RunFolderError: If the folder does not say.
    """
    several = several_file(path)
    state = FinishedRun(path).optional(several.name) if several else FinishedRun(path).state
    status = str((state or {}).get("status", "unknown"))
    if status != "running" or _is_locked(path):
        return status
    if several is None:
        return "killed"
    unfinished = [status for status in map(read_status, sorted(_run_folders(path))) if status != "finished"]
    return unfinished[-1] if unfinished else "stopped"


def _is_locked(path: Path) -> bool:
    try:
        with locked(path):
            return False
    except RunFolderError:  # held, or a folder where nobody may write, of which one cannot know
        return True


def find_run(argument: str | Path, out: Path = Path("runs")) -> Path:
    """The folder of a run, given as a path, as that of its report, as a name under `out`, or as `last`: the newest that has a model.

    Raises:
        RunFolderError: If there is none; the nearest name is suggested.
    """
    path = Path(argument)
    if path.parent.name == REPORTS and path.is_file():
        path = path.parent.parent
    if (path / CONFIG).is_file():
        return path
    several = find_several(argument, out)
    if several is not None:
        found = ", ".join(sorted(place.parent.name for place in several.glob(f"[!.]*/{CONFIG}")))
        raise RunFolderError(
            f"{several}: is the folder of several runs. Name one of them: {found or 'there is none yet'}."
        )
    folders = {place.name: place for place in _run_folders(out)}
    names = sorted(folders, key=_stamp)
    with_model = [name for name in names if (folders[name] / MODEL).is_file()]
    if str(argument) == "last" and with_model:
        return folders[with_model[-1]]
    if str(argument) in folders:
        return folders[str(argument)]
    if str(argument) == "last":
        raise RunFolderError(f"last: {out} holds no run with a model yet. Make one: finetunekit run felidae4")
    raise RunFolderError(
        f"{argument}: no run there (no {CONFIG}).{did_you_mean(str(argument), names) if names else ''}"
    )


def _run_folders(out: Path) -> Iterator[Path]:
    """Runs of a folder, and of its folders of seeds; one still being made begins with a dot."""
    for place in out.glob("[!.]*"):
        if (place / CONFIG).is_file():
            yield place
        elif (place / SEEDS).is_file():
            yield from _run_folders(place)


def several_file(path: Path) -> Path | None:
    """The file by which a folder is known to be that of several runs; None: it is not."""
    return next((path / name for name in SEVERAL if (path / name).is_file()), None)


def find_several(argument: str | Path, out: Path = Path("runs")) -> Path | None:
    """The folder of several runs (seeds, folds) that is given as a path or as a name under `out`; None: it is none."""
    return next((path for path in (Path(argument), out / argument) if several_file(path)), None)


def report_page(path: Path) -> Path:
    """The page among a run's reports (the first HTML file by name), or the run's folder where it has none."""
    pages = sorted((path / REPORTS).glob("*.html"))
    return pages[0] if pages else path


def _stamp(name: str) -> tuple[str, str]:
    found = re.search(r"\d{8}-\d{6}(-\d+)?$", name)
    return (found.group() if found else "", name)


@dataclass(frozen=True)
class FinishedRun:
    """A finished run as its files tell it; nothing is computed here.

    Attributes:
        path: The run folder.
    """

    path: Path

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
        """Every score, with denominators."""
        return self._json(METRICS)

    @functools.cached_property
    def state(self) -> Mapping[str, Any]:
        """Status, seed, classes, stand-in sentence, versions."""
        return self._json(STATE)

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
    def epochs(self) -> tuple[Mapping[str, str], ...]:
        """Rows of the epoch log, as text."""
        return self._csv(EPOCHS)

    @functools.cached_property
    def predictions(self) -> tuple[Mapping[str, str], ...]:
        """Rows of `predictions.csv`, as text: split, path, sha256, true, predicted, and `p_<class>` for each class."""
        return self._csv(PREDICTIONS)

    @functools.cached_property
    def photos(self) -> tuple[Mapping[str, str], ...]:
        """Rows of the photo manifest, as text: path, sha256, label, split, width_px, height_px."""
        return self._csv(PHOTOS)

    def optional(self, name: str) -> Mapping[str, Any] | None:
        """Content of a JSON file of the run folder that a run may be without, such as `ladder.json`; None without it."""
        return self._json(name) if (self.path / name).is_file() else None

    def photo_path(self, shown: str) -> Path:
        """Where the photo that a row calls `shown` lies now; it may have been moved since."""
        return Path(self.state["photo_root"]) / shown

    def _json(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(self._text(name))
            return content
        except json.JSONDecodeError as exc:
            raise RunFolderError(f"{self.path / name}: is not JSON ({exc}).") from exc

    def _csv(self, name: str) -> tuple[Mapping[str, str], ...]:
        return tuple(csv.DictReader(io.StringIO(self._text(name), newline="")))

    def _text(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except OSError as exc:
            raise RunFolderError(
                f"{self.path / name}: cannot be read ({exc.strerror or exc}). Is the run finished?"
            ) from exc
