"""What works on this machine, asked for rather than assumed."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from finetunekit.errors import FinetuneKitError
from finetunekit.plugins.host import PluginHost, load_plugins
from finetunekit.system.environment import (
    available_cpus,
    has_fast_bfloat16,
    may_have_gpu,
    processor_name,
    start_tensorflow,
    without_chatter,
)
from finetunekit.system.formatting import counted
from finetunekit.system.user_dirs import cache_dir, state_dir

_LIMIT_S = 3.0
"""Longest wait for all look-ups together; they go on beside the other checks."""
_LIBRARY = "libtensorflow_cc.so.2"
_LARGE_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: The thing.
        is_ok: Whether it works.
        detail: What was found; where it does not work, what to do.
        is_needed: Whether nothing can be run without it.
    """

    what: str
    is_ok: bool
    detail: str
    is_needed: bool = False


def examine(*, is_offline: bool = False) -> Iterator[Finding]:
    """Look at everything a run needs, one finding at a time.

    Args:
        is_offline: Do not try to reach any host.
    """
    warnings: list[str] = []
    host = load_plugins(warnings.append)
    asked = [] if is_offline or os.environ.get("FINETUNEKIT_OFFLINE") else _ask(_lookups(host))
    yield _python()
    yield from _tensorflow()
    yield Finding(
        "plugins", not warnings, "; ".join(warnings) or f"{len(host.origins)} loaded: {', '.join(host.origins)}"
    )
    for name, folder in (("cache", cache_dir()), ("state", state_dir())):
        yield _folder(name, folder)
    yield _weights(host)
    yield from _worth_fetching(host)
    yield from _fonts()
    yield from (one.answer() for one in asked)


class _Lookup:
    """A look-up in a thread of its own, which nobody waits for longer than the limit: a resolver heeds no timeout."""

    def __init__(self, what: str, find: Callable[[], Finding]) -> None:
        self._what, self._find, self._found = what, find, queue.SimpleQueue[Finding]()
        self._began = time.monotonic()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        self._found.put(self._find())

    def answer(self) -> Finding:
        """What was found; that there was no answer where the limit is over."""
        left_s = max(0.0, self._began + _LIMIT_S - time.monotonic())
        try:
            return self._found.get(timeout=left_s)
        except queue.Empty:
            return Finding(self._what, False, f"no answer within {_LIMIT_S:.0f} s; a fetch would wait longer")


def _ask(lookups: Iterable[tuple[str, Callable[[], Finding]]]) -> list[_Lookup]:
    return [_Lookup(what, find) for what, find in lookups]


def _python() -> Finding:
    version = sys.version.split()[0]
    return Finding(
        "python",
        sys.version_info >= (3, 11),
        f"{version} on {processor_name()}, {counted(available_cpus(), 'processor')}",
        is_needed=True,
    )


def _tensorflow() -> Iterator[Finding]:
    try:
        devices = _loaded_devices()
    except (ImportError, OSError) as exc:
        again = "Install it again: pip install --force-reinstall tensorflow"
        yield Finding("tensorflow", False, f"cannot be loaded ({exc}). {again}", is_needed=True)
        return
    versions = f"{metadata.version('tensorflow')}, Keras {metadata.version('keras')}"
    yield Finding("tensorflow", True, f"{versions}, devices: {', '.join(devices)}")
    fast = has_fast_bfloat16()
    yield Finding(
        "bfloat16",
        fast,
        "fast here; precision: auto uses it" if fast else "not fast here; precision: auto uses float32",
    )


def _loaded_devices() -> list[str]:
    """Kinds of devices that TensorFlow finds.

    Its Python side takes seconds to import. Where no driver of a GPU is, loading its library shows the same in a tenth of that: that
    this processor and this system can run it. What the Python side needs besides is looked up by name and version.

    Raises:
        ImportError: If TensorFlow or a package that it needs is missing, or has another version than it needs.
        OSError: If the library cannot be loaded.
    """
    for name in ("tensorflow", "keras"):
        _check_requirements(name)
    spec = importlib.util.find_spec("tensorflow")
    library = Path(spec.origin).with_name(_LIBRARY) if spec is not None and spec.origin else Path(_LIBRARY)
    if may_have_gpu() or not library.is_file():
        start_tensorflow()
        import tensorflow as tf

        return [device.device_type for device in tf.config.list_physical_devices()]
    with without_chatter():
        ctypes.CDLL(str(library))
    return ["CPU"]


def _check_requirements(distribution: str) -> None:
    from packaging.requirements import Requirement

    for text in metadata.requires(distribution) or ():
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        version = metadata.version(need.name)
        if not need.specifier.contains(version, prereleases=True):
            raise ImportError(f"{distribution} needs {need.name} {need.specifier}, not {version}")


def _folder(name: str, folder: Path) -> Finding:
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as exc:
        variable = f"FINETUNEKIT_{name.upper()}"
        return Finding(
            f"{name} folder",
            False,
            f"{folder}: cannot be written ({exc.strerror}). Set {variable} to another folder.",
            is_needed=True,
        )
    free = shutil.disk_usage(nearest).free
    return Finding(f"{name} folder", free > _LARGE_BYTES or name == "state", f"{folder}, {free / 1e9:.1f} GB free")


def _weights(host: PluginHost) -> Finding:
    """Those of all backbones in one line; one whose weights are not here yet is no fault."""
    from finetunekit.models.weights import weights_availability

    entries = sorted(host.registries["backbone"].items())
    here = [name for name, entry in entries if entry.spec and weights_availability(name, entry.spec).is_on_disk]
    names = f" ({', '.join(here)})" if here else ""
    others = len(entries) - len(here)
    detail = f"{counted(len(here), 'backbone')} here{names}; {others} more can be fetched: finetunekit backbones"
    return Finding("weights", True, detail)


def _worth_fetching(host: PluginHost) -> Iterator[Finding]:
    """Strong backbones that are not here yet, with what each takes: a hint, no fault."""
    from finetunekit.models.weights import weights_availability

    for name, entry in sorted(host.registries["backbone"].items()):
        if entry.spec is None or not entry.spec.worth:
            continue
        found = weights_availability(name, entry.spec)
        if not found.is_on_disk:
            yield Finding(f"backbone {name}", True, f"{entry.spec.worth}; {found.words}")


def _package_index() -> Finding:
    """Ask the user's own index for one small package's versions, by way of pip, as a fetch of weights would."""
    from finetunekit.models.weights.package_index import pip_command

    try:
        with tempfile.TemporaryDirectory() as folder:
            command = [*pip_command(), "download", "--quiet", "--no-deps", "--no-cache-dir", "--dest", folder, "pluggy"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=10 * _LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return Finding("package index", False, "no answer. Check the network or pip's index-url.")
    except (OSError, FinetuneKitError) as exc:
        return Finding("package index", False, f"{exc}")
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return Finding("package index", done.returncode == 0, "reachable" if done.returncode == 0 else last)


def _lookups(host: PluginHost) -> Iterator[tuple[str, Callable[[], Finding]]]:
    """The package index, and hosts that weight sources name, with how many backbones that are not here have no other source."""
    yield "package index", _package_index
    from finetunekit.models.weights import weights_availability

    wanting: dict[str, int] = {}
    for key, entry in host.registries["backbone"].items():
        if entry.spec is None or weights_availability(key, entry.spec).is_on_disk:
            continue
        sources = entry.spec.weight_sources
        names = {urlsplit(s.location).hostname or s.location for s in sources if s.kind != "package_index"}
        has_other = len(names) > 1 or any(source.kind == "package_index" for source in sources)
        for name in names:
            wanting[name] = wanting.get(name, 0) + (not has_other)
    for name, backbones in sorted(wanting.items()):
        yield f"hub {name}", partial(_reach, name, backbones)


def _reach(name: str, wanting: int, connect: Callable[..., socket.socket] = socket.create_connection) -> Finding:
    try:
        connect((name, 443), timeout=_LIMIT_S).close()
    except OSError as exc:
        lost = f"{counted(wanting, 'backbone has', 'backbones have')} no other source"
        lost = lost if wanting else "every backbone has another source"
        return Finding(f"hub {name}", False, f"not reachable ({exc.strerror or exc}); {lost}")
    return Finding(f"hub {name}", True, "reachable")


def _fonts() -> Iterator[Finding]:
    from finetunekit.reports.fonts import font_report

    report = font_report()
    lacking = [script for script, font in report.items() if font is None]
    have = ", ".join(script for script, font in report.items() if font is not None)
    detail = f"figures can show {have}" + (f"; no font for {', '.join(lacking)}" if lacking else "")
    yield Finding("fonts", not lacking, detail)
