"""A reporter of another distribution in a process of its own, so that whatever it does there, the run that asked for it goes on.

`python -m finetunekit.engine.report_process` is that process: it loads the plugins, calls the reporter, and leaves its files in a folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetunekit.config.plan import Chosen
from finetunekit.errors import FinetuneKitError, PluginError
from finetunekit.plugins.components import call_builder, component_label
from finetunekit.plugins.files import PluginFile
from finetunekit.plugins.host import load_plugins
from finetunekit.runs.folder import FinishedRun
from finetunekit.system.formatting import one_line

_START_S = 120.0
"""How long the process may take to load Python, finetunekit and plugins; the reporter's own time begins after that."""
_READY = b"ready\n"
_ANSWER = "answer.json"


def report_apart(chosen: Chosen, run: Path, plugin_files: Sequence[PluginFile], timeout_s: float) -> dict[str, bytes]:
    """Files of a report: name → content, as `checked_files` allows them.

    Args:
        chosen: The reporter.
        run: The run folder.
        plugin_files: Of the run, one of which it may come from.
        timeout_s: How long it may take once its process has started.

    Raises:
        PluginError: If it fails, hangs, ends its process, or returns something else.
    """
    label = component_label(chosen)
    with tempfile.TemporaryDirectory(prefix="finetunekit-report-") as folder:
        asked = {
            "run": str(run.resolve()),
            "folder": folder,
            "name": chosen.name,
            "options": chosen.options.model_dump(mode="json"),
            "plugin_files": [[str(file.path), str(file.place.resolve())] for file in plugin_files],
            "import_from": sys.path,
        }
        code = _run_process(json.dumps(asked).encode(), label, timeout_s)
        return _read_answer(Path(folder), label, code)


def checked_files(label: str, returned: Any) -> dict[str, bytes]:
    """What a reporter returned, as plain values.

    Raises:
        PluginError: If it is not a mapping of plain file names to bytes.
        Whatever the mapping raises.
    """
    if not isinstance(returned, Mapping):
        raise PluginError(f"{label} must return a mapping of file name to bytes. Received: {type(returned).__name__}")
    files: dict[str, bytes] = {}
    for name, content in returned.items():
        is_plain = isinstance(name, str) and name.isprintable() and 0 < len(name.encode()) <= 200 and name[0] != "."
        if not is_plain or not isinstance(content, bytes) or set(name) & set('/\\<>:"|?*'):
            raise PluginError(
                f"{label} must return plain file names and bytes. Received: {one_line(repr(name), 80)}: {type(content).__name__}"
            )
        files[str(name)] = bytes(content)
    return files


def _run_process(asked: bytes, label: str, timeout_s: float) -> int:
    """Run it to its end; returns its exit code."""
    command = [sys.executable, "-m", "finetunekit.engine.report_process"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True).start()
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(asked)
        for limit_s in (_START_S, timeout_s):
            if not lines.get(timeout=limit_s):  # the pipe was closed: it has ended, or will
                break
        return process.wait(timeout=_START_S)
    except (queue.Empty, subprocess.TimeoutExpired):
        raise PluginError(f"{label} has not answered within {timeout_s:g} s; its process was ended.") from None
    finally:
        _end(process)


def _read_lines(stream: Any, lines: queue.Queue[bytes]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(b"")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and what it has started."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _read_answer(folder: Path, label: str, code: int) -> dict[str, bytes]:
    try:
        answer = json.loads((folder / _ANSWER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise PluginError(f"{label} ended its process with {code} and returned nothing.") from None
    if answer["error"] is not None:
        raise PluginError(answer["error"])
    return {name: (folder / str(number)).read_bytes() for number, name in enumerate(answer["names"])}


# ---- in the process --------------------------------------------------------------------------------------------------------------


def main() -> None:
    """Say `ready`, leave the files and then their names in the folder; what plugins print goes to stderr."""
    told = os.dup(1)
    os.dup2(2, 1)
    asked = json.loads(sys.stdin.buffer.read())
    folder = Path(asked["folder"])
    sys.path[:] = asked["import_from"]
    names: list[str] = []
    error: str | None = None
    try:
        files = _report(asked, told)
        for number, (name, content) in enumerate(files.items()):
            names.append(name)
            (folder / str(number)).write_bytes(content)
    except FinetuneKitError as exc:
        error = str(exc)
    (folder / _ANSWER).write_text(json.dumps({"error": error, "names": names}), encoding="utf-8")
    os.write(told, b"done\n")
    os._exit(0)  # threads that a reporter has left running end here


def _report(asked: Mapping[str, Any], told: int) -> dict[str, bytes]:
    host = load_plugins(lambda _: None)
    for path, place in asked["plugin_files"]:
        host.load_file(Path(path), Path(place))
    registered = host.find("reporter", asked["name"], "reports")
    chosen = Chosen("reporter", registered, registered.options.model_validate_json(json.dumps(asked["options"])), ())
    os.write(told, _READY)
    label = component_label(chosen)
    try:
        return checked_files(label, call_builder(chosen, FinishedRun(Path(asked["run"]))))
    except FinetuneKitError:
        raise
    except BaseException as exc:
        raise PluginError(f"{label} failed: {type(exc).__name__}: {one_line(exc)}") from exc


if __name__ == "__main__":
    main()
