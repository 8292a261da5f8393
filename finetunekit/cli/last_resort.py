"""The last resort of the command line: what nobody foresaw is one line, a file that tells all, and exit code 70; never a traceback."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetunekit._version import __version__
from finetunekit.cli.common import complain
from finetunekit.system.formatting import one_line

DEBUG_VARIABLE = "FINETUNEKIT_DEBUG"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EFBIG)
EXIT_UNFORESEEN = 70  # EX_SOFTWARE of BSD's sysexits.h
_VERSIONS = ("tensorflow", "keras", "numpy", "pillow", "pydantic", "pluggy", "click", "rich", "scikit-learn", "scipy")
_MOST_CONFIGURATION_BYTES = 256 * 1024


@contextlib.contextmanager
def last_resort(arguments: Sequence[str]) -> Iterator[None]:
    """Turn whatever escapes a command into one line on stderr and an exit code.

    A file or folder that the system refuses, a stream that cannot be written and memory that is not there are foreseen: exit code 1.
    Anything else is reported, see `write_report`, with exit code 70. With `FINETUNEKIT_DEBUG=1` the traceback is shown as well.

    Args:
        arguments: Of the command, as the user gave them; in a report without secrets.
    """
    _open_missing_streams()
    try:
        yield
    except SystemExit as exc:
        if not _is_stdout_written():
            sys.exit(exc.code or 1)
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # noqa: BLE001 (whatever it is, a plugin's own kind of exception too)
        if os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
            complain(traceback.format_exc().splitlines(), most=None)
        sys.exit(_end_of(exc, arguments))


def _end_of(exc: BaseException, arguments: Sequence[str]) -> int:
    """Say what happened; the exit code."""
    if isinstance(exc, OSError) and exc.filename is None and exc.errno in _FULL:  # click's own words, on stdout
        complain([f"error: stdout cannot be written ({exc.strerror})."])
        _is_stdout_written()
        return 1
    if isinstance(exc, OSError) and exc.filename is not None:
        complain([f"error: {os.fsdecode(_name(exc.filename))}: {exc.strerror or one_line(exc)}."])
        return 1
    if isinstance(exc, MemoryError):
        complain(
            ["error: there is not enough memory for this. Close other programs, or give it smaller files or batches."]
        )
        return 1
    where = write_report(exc, arguments)
    what = f"{type(exc).__name__}: {_said(exc)}"
    told = f"A report is in {where}; send it along if you ask for help." if where else "No report could be written."
    complain([f"error: finetunekit stumbled over something that it does not foresee ({what}). {told}"])
    return EXIT_UNFORESEEN


def _name(filename: Any) -> str | bytes:
    return filename if isinstance(filename, str | bytes) else str(filename)


def _said(exc: BaseException) -> str:
    try:
        return one_line(exc)
    except Exception:  # noqa: BLE001 (an error whose text raises is a plugin's)
        return "its text cannot be had"


def _is_stdout_written() -> bool:
    """Whether stdout has all that was printed; where it cannot have it, the rest is dropped, else Python would complain at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _open_missing_streams() -> None:
    """Stand-ins for standard streams that were closed before the start: the next files opened would get their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_RDWR)
                if null != number:
                    _take_number(null, number)
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115


def _take_number(null: int, number: int) -> None:
    """Give a descriptor another number, unless that one is in use by now."""
    try:
        os.fstat(number)
    except OSError as exc:
        if exc.errno == errno.EBADF:
            os.dup2(null, number)
    os.close(null)


def write_report(exc: BaseException, arguments: Sequence[str]) -> Path | None:
    """Write what is needed to understand an error: traceback, versions, command and configuration; no secrets.

    Returns:
        The file, in the state folder, or in the system's folder for temporary files where that cannot be written; None: nowhere.
    """
    from finetunekit.system.secrets import without_assigned_secrets
    from finetunekit.system.user_dirs import state_dir

    text = without_assigned_secrets("\n\n".join(_report(exc, arguments))) + "\n"
    name = f"error-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    for folder in (state_dir() / "errors", Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError, ValueError):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            return path
    return None


def _report(exc: BaseException, arguments: Sequence[str]) -> Iterator[str]:
    yield "".join(traceback.format_exception(exc)).rstrip()
    yield "command: " + " ".join(["finetunekit", *map(ascii, arguments)])
    yield f"finetunekit {__version__}, Python {platform.python_version()} on {platform.platform()}"
    yield ", ".join(f"{name} {version}" for name in _VERSIONS if (version := _version(name)))
    steering = sorted(name for name in os.environ if name.startswith("FINETUNEKIT_"))
    yield "environment: " + (", ".join(f"{name}={os.environ[name]}" for name in steering) or "nothing set")
    for argument in arguments:
        yield from _configuration(argument)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _configuration(argument: str) -> Iterator[str]:
    """The YAML file that an argument names, or that of the run whose folder it names."""
    from finetunekit.runs.folder import CONFIG
    from finetunekit.system.files import read_regular

    with contextlib.suppress(OSError, ValueError, RuntimeError):
        path = Path(argument)
        path = path / CONFIG if path.is_dir() else path
        if path.suffix in (".yaml", ".yml"):
            text = read_regular(path, most_bytes=_MOST_CONFIGURATION_BYTES).decode("utf-8", errors="replace")
            yield f"{argument}:\n{text}"
