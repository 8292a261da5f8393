"""The plan of each cell, and what tells one cell from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetunekit.config.plan import Plan
from finetunekit.config.planning import prepare
from finetunekit.errors import ConfigError
from finetunekit.runs.config_diff import config_key
from finetunekit.system.progress import Progress


def identity_of(plan: Mapping[str, Any]) -> str:
    """What tells one cell from another: its choices and the versions of what gave its components, not its seed.

    Args:
        plan: Content of `plan.json`.

    Returns:
        SHA-256, hexadecimal.
    """
    components = [one for one in plan["components"] if one["kind"] != "reporter"]
    versions = [[one["kind"], one["name"], one["distribution"], one["version"]] for one in components]
    text = json.dumps([config_key(plan["config"], components=components), plan["config"]["view_seed"], versions])
    return hashlib.sha256(text.encode()).hexdigest()


class Plans:
    """Plans by their settings, each made once; problems are kept."""

    def __init__(
        self,
        preset: str | Path,
        shared: tuple[str, ...],
        seed: int | None,
        progress: Progress | None,
        keys: Mapping[str, str],
    ) -> None:
        self.preset, self.shared, self.seed, self.progress = preset, shared, seed, progress
        self.keys = keys  # path as --set takes it → key as the user wrote it
        self.problems: list[str] = []
        self._known: dict[tuple[str, ...], Plan | None] = {}

    def get(self, settings: tuple[str, ...]) -> Plan | None:
        """None where it has problems."""
        if settings not in self._known:
            self._known[settings] = self._make(settings)
        return self._known[settings]

    def _make(self, settings: tuple[str, ...]) -> Plan | None:
        try:
            asked = (*self.shared, *settings)
            return prepare(self.preset, settings=asked, seed=self.seed, progress=self.progress)[0]
        except ConfigError as exc:
            said = [self._as_written(problem) for problem in exc.problems]
            self.problems += [problem for problem in said if problem not in self.problems]
            return None

    def _as_written(self, problem: str) -> str:
        for path, key in self.keys.items():
            if problem.startswith(f"--set {path}:"):
                return f"--vary {key}{problem.removeprefix(f'--set {path}')}"
        return problem
