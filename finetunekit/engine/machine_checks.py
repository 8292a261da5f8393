"""What works on this machine, asked for rather than assumed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from finetunekit.errors import FinetuneKitError
from finetunekit.plugins.host import PluginHost, load_plugins
from finetunekit.system.environment import available_cpus, has_fast_bfloat16, processor_name, start_tensorflow
from finetunekit.system.user_dirs import cache_dir, state_dir

_TIMEOUT_S = 10.0
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
    yield _python()
    yield from _tensorflow()
    yield Finding(
        "plugins", not warnings, "; ".join(warnings) or f"{len(host.origins)} loaded: {', '.join(host.origins)}"
    )
    for name, folder in (("cache", cache_dir()), ("state", state_dir())):
        yield _folder(name, folder)
    yield _weights(host)
    if not is_offline and not os.environ.get("FINETUNEKIT_OFFLINE"):
        yield _package_index()
        yield from _hubs(host)
    yield from _fonts()


def _python() -> Finding:
    version = sys.version.split()[0]
    return Finding(
        "python",
        sys.version_info >= (3, 11),
        f"{version} on {processor_name()}, {available_cpus()} processors",
        is_needed=True,
    )


def _tensorflow() -> Iterator[Finding]:
    try:
        start_tensorflow()
        import tensorflow as tf
    except ImportError as exc:
        yield Finding(
            "tensorflow",
            False,
            f"cannot be imported ({exc}). Install it again: pip install --force-reinstall tensorflow",
            is_needed=True,
        )
        return
    devices = [device.device_type for device in tf.config.list_physical_devices()]
    yield Finding(
        "tensorflow", True, f"{tf.__version__}, Keras {metadata.version('keras')}, devices: {', '.join(devices)}"
    )
    fast = has_fast_bfloat16()
    yield Finding(
        "bfloat16",
        fast,
        "fast here; precision: auto uses it" if fast else "not fast here; precision: auto uses float32",
    )


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
    detail = f"{len(here)} backbones here{names}; where {others} others can be had: finetunekit backbones"
    return Finding("weights", True, detail)


def _package_index() -> Finding:
    """Ask the user's own index for one small package's versions, by way of pip, as a fetch of weights would."""
    from finetunekit.models.weights.package_index import pip_command

    try:
        with tempfile.TemporaryDirectory() as folder:
            command = [*pip_command(), "download", "--quiet", "--no-deps", "--no-cache-dir", "--dest", folder, "pluggy"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=3 * _TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Finding(
            "package index", False, f"no answer within {3 * _TIMEOUT_S:.0f} s. Check the network or pip's index-url."
        )
    except (OSError, FinetuneKitError) as exc:
        return Finding("package index", False, f"{exc}")
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return Finding("package index", done.returncode == 0, "reachable" if done.returncode == 0 else last)


def _hubs(host: PluginHost) -> Iterator[Finding]:
    """Hosts that weight sources name, and how many backbones that are not here have no other source."""
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
        yield _reach(name, backbones)


def _reach(name: str, wanting: int, connect: Callable[..., socket.socket] = socket.create_connection) -> Finding:
    try:
        connect((name, 443), timeout=_TIMEOUT_S).close()
    except OSError as exc:
        counted = "1 backbone has" if wanting == 1 else f"{wanting} backbones have"
        lost = f"{counted} no other source" if wanting else "every backbone has another source"
        return Finding(f"hub {name}", False, f"not reachable ({exc.strerror or exc}); {lost}")
    return Finding(f"hub {name}", True, "reachable")


def _fonts() -> Iterator[Finding]:
    from finetunekit.reports.fonts import font_report

    report = font_report()
    lacking = [script for script, font in report.items() if font is None]
    have = ", ".join(script for script, font in report.items() if font is not None)
    detail = f"figures can show {have}" + (f"; no font for {', '.join(lacking)}" if lacking else "")
    yield Finding("fonts", not lacking, detail)
