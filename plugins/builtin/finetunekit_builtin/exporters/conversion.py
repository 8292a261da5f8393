"""What the exporters share: the extra they need, converters in processes of their own, and what travels with a model."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence

from finetunekit import ConfigError, ExportError, Servable

TIMEOUT_S = 1800.0


def need(modules: Sequence[str]) -> None:
    """Say what to install where a module is missing.

    Raises:
        ConfigError: Naming the extra.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"{', '.join(missing)}: not installed. Exporting needs: pip install 'finetunekit[export]'")


def convert(module: str, *arguments: str) -> None:
    """Run a module of this package on files; converters keep gigabytes that nothing gives back, and what they print is theirs.

    Raises:
        ExportError: With the line that says why.
    """
    command = [sys.executable, "-m", f"{__package__}.{module}", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as exc:
        raise ExportError(f"the converter did not end within {TIMEOUT_S:.0f} s.") from exc
    if done.returncode:
        raise ExportError(f"the converter failed: {_reason(done.stderr) or f'exit {done.returncode}'}")


def _reason(said: str) -> str:
    """The operation at fault where the converter names it, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    named = [line for line in lines if "op is neither" in line or "not supported" in line.lower()]
    return (named or lines or [""])[-1 if not named else 0][:300]


def texts_of(servable: Servable) -> dict[str, str]:
    """What travels with a model as named texts; class names in order, as a JSON list, among them."""
    return {**servable.metadata, "classes": json.dumps(servable.classes, ensure_ascii=False)}
