"""Plugin files that a configuration names: imported, and kept beside the configuration of a run, so that they can be found again."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from finetunekit.errors import PluginError
from finetunekit.system.files import read_regular

KEPT = "plugins"
"""Folder of a run's folder that holds a copy of each plugin file."""


@dataclass(frozen=True, slots=True)
class PluginFile:
    """A plugin file as it was when it was loaded.

    Attributes:
        path: As the configuration names it.
        content: Its bytes.
        place: Where it was found.
    """

    path: Path
    content: bytes
    place: Path

    @property
    def kept_name(self) -> str:
        """Where a run's folder keeps its copy; no two plugin files of a run have one name."""
        return f"{KEPT}/{self.path.name}"

    @property
    def sha256(self) -> str:
        """Checksum of its content."""
        return hashlib.sha256(self.content).hexdigest()

    def to_dict(self) -> dict[str, str]:
        """Plain values for `plan.json`."""
        return {"path": str(self.path), "sha256": self.sha256}


def locate_file(path: Path, folder: Path, *, is_as_trained: bool = False) -> Path:
    """Where the code of a plugin file is now: at its place, or in the folder of the run that used it.

    Args:
        path: As the configuration names it.
        folder: Of the run, with its copy.
        is_as_trained: Prefer the copy where the file at its place has been changed since.

    Raises:
        PluginError: If neither is there.
    """
    kept = folder / KEPT / path.name
    if path.is_file() and not (is_as_trained and kept.is_file() and read_plugin(kept) != read_plugin(path)):
        return path
    if kept.is_file():
        return kept
    raise PluginError(f"{path}: this plugin file is missing, and so is the run's copy, {kept}. Restore one of them.")


def read_plugin(path: Path) -> bytes:
    """Content of a plugin file.

    Raises:
        PluginError: If it cannot be read.
    """
    try:
        return read_regular(path)
    except OSError as exc:
        raise PluginError(f"{path}: cannot be read ({exc.strerror or exc}).") from exc


def import_file(path: Path) -> ModuleType:
    """Import a Python file under a name of its own.

    Raises:
        PluginError: If there is no such file.
        Whatever the file raises.
    """
    if not path.is_file():
        raise PluginError(f"no such file: {path}")
    name = f"finetunekit_file_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"not a Python file: {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def place_in(file: Path, exc: BaseException) -> str:
    """`file:line: ` of the line of a plugin file that an error came from, or came through; empty where it has to do with no line."""
    place = file.resolve()
    frames = traceback.walk_tb(exc.__traceback__)
    lines: list[int | None] = [line for frame, line in frames if Path(frame.f_code.co_filename).resolve() == place]
    if isinstance(exc, SyntaxError) and exc.filename and Path(exc.filename).resolve() == place:
        lines.append(exc.lineno)
    return f"{file}:{lines[-1]}: " if lines else ""
