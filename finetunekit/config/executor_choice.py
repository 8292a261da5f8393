"""The executor of a configuration: named on the command line, left out of what a run notes, kept for whoever goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetunekit.config.plan import EXECUTOR, Chosen
from finetunekit.config.preset import setting_text


def executor_settings(on: str | None) -> tuple[str, ...]:
    """`--on NAME`, or `--on NAME://ADDRESS`, as `--set` texts; other options of an executor of that name stay."""
    if on is None:
        return ()
    name, has_address, _ = on.partition("://")
    address = (setting_text(f"{EXECUTOR}.address", on),) if has_address else ()
    return (setting_text(f"{EXECUTOR}.name", name), *address)


def without_executor(settings: Sequence[str]) -> tuple[str, ...]:
    """`--set` texts as a run notes them: where it was carried out is not part of what it is."""
    return tuple(text for text in settings if text.partition("=")[0].strip().partition(".")[0] != EXECUTOR)


def executor_values(executor: Chosen) -> dict[str, Any]:
    """An executor as a configuration names it."""
    return {"name": executor.name, **executor.options.model_dump(mode="json")}
