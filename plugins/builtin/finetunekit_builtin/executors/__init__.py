"""Executors: one run after the other in this process, or several at a time in separate processes."""

from __future__ import annotations

from finetunekit_builtin.executors.local import build_local
from finetunekit_builtin.executors.processes import ProcessesOptions, build_processes

__all__ = ["ProcessesOptions", "build_local", "build_processes"]
