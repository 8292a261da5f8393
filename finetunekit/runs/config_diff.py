"""What makes two runs two configurations, and where finished runs differ before any photo is looked at."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetunekit.config.yaml_source import KeyPath, show_path
from finetunekit.runs.folder import ENVIRONMENT, WEIGHTS, FinishedRun

LEFT_OUT = ("name", "description", "track")
NOT_A_CHOICE = (
    "name",
    "description",
    "track",
    "reports",
    "executor",
    "tune",
    "export",
    "insights",
    "save",
    "expected",
    "seed",
    "view_seed",
    "plugins",
)
"""Parts of a configuration that are no choice of recipe.

Names, trackers, reports, executors, exports and saved files change no prediction. A seed is a new draw of the same recipe: it makes
another opening, not another configuration. Paths of plugin files differ between machines; the components they give are named elsewhere
in the configuration.
"""

#: What decides most of a result first; what is not named here comes after, what changes no prediction last.
_FIRST = (
    "ensemble",
    "data",
    "backbone",
    "weights",
    "stages",
    "pixels",
    "augment",
    "head",
    "train",
    "cache",
    "precision",
    "seed",
)
_LAST = ("version of", "reports", "insights", "save", "export", "expected", "plugins")
_MACHINE = ("python", "platform", "processor", "cpus", "devices", "training_devices", "versions", "threads", "switches")


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs between two runs.

    Attributes:
        key: Dotted, such as `stages[0].optimizer.learning_rate`.
        first: The first run's value; None where it is null or absent.
        second: The second run's.
    """

    key: str
    first: Any
    second: Any


def plan_changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Change, ...]:
    """As `configuration_changes`, of two contents of `plan.json`."""
    return _differences(_describe_plan(first), _describe_plan(second))


def environment_changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Change, ...]:
    """What differs between two contents of `environment.json`: machine, versions, threads, switches."""
    sides = [flatten({key: side.get(key) for key in _MACHINE}) for side in (first, second)]
    return _differences(*sides)


def configuration_changes(first: FinishedRun, second: FinishedRun) -> tuple[Change, ...]:
    """Where two configurations differ, defaults filled in, and the versions of what gave their components.

    What matters most comes first: photos, backbone, stages, pixels, augmentation. Reporters, which change no prediction, are one change.
    Where a stage is of another kind, the keys that only one of them has are left out: the kind says the difference.
    """
    sides = _describe_plan(first.plan), _describe_plan(second.plan)
    changes = _differences(*sides)
    others = tuple(c.key.removesuffix("kind") for c in changes if re.fullmatch(r"stages\[\d+\]\.kind", c.key))
    kept = [c for c in changes if not c.key.startswith(others) or all(c.key in side for side in sides)]
    return tuple(sorted(_with_reporters_as_one(kept, first, second), key=_weight))


def _with_reporters_as_one(changes: Sequence[Change], first: FinishedRun, second: FinishedRun) -> Iterator[Change]:
    is_shown = False
    for change in changes:
        if _section(change.key) != "reports":
            yield change
        elif not is_shown:
            is_shown = True
            names = [", ".join(r["name"] for r in run.config.get("reports", ())) or None for run in (first, second)]
            yield Change("reports", names[0], names[1] if names[0] != names[1] else f"{names[1]}; other options")


def _weight(change: Change) -> int:
    """Place of a change in a list; changes of one section stay in their order."""
    section = _section(change.key)
    if section in _FIRST:
        return _FIRST.index(section)
    return len(_FIRST) + (1 + _LAST.index(section) if section in _LAST else 0)


def _section(key: str) -> str:
    """`stages[0].epochs` → `stages`."""
    return "version of" if key.startswith("version of ") else re.split(r"[.\[ ]", key, maxsplit=1)[0]


def machine_changes(first: FinishedRun, second: FinishedRun) -> tuple[Change, ...]:
    """Where machines, library versions, computed precision and pretrained arrays differ; files that are not there
    in both runs are passed over."""
    sides: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for side, run in zip(sides, (first, second), strict=True):
        side["precision"] = run.state.get("precision")
    if all((run.path / ENVIRONMENT).is_file() for run in (first, second)):
        for side, run in zip(sides, (first, second), strict=True):
            side |= {key: run.environment.get(key) for key in _MACHINE}
    if all((run.path / WEIGHTS).is_file() for run in (first, second)):
        for side, run in zip(sides, (first, second), strict=True):
            side["weights"] = {key: run.weights.get(key) for key in ("kind", "arrays_sha256")}
    return _differences(flatten(sides[0]), flatten(sides[1]))


def config_key(
    config: Mapping[str, Any],
    *,
    components: Sequence[Mapping[str, Any]] = (),
    photo_keys: Sequence[str] = (),
) -> str:
    """What tells one configuration from another in the ledger.

    Args:
        config: The resolved configuration as plain values, as `config` in `plan.json`.
        components: `components` of `plan.json`: with them an option written out and the same option left at its default
            are the same configuration.
        photo_keys: Content keys of the train and valid splits. Where given they stand for the whole `data` section, so
            that moved photos are the same configuration and other training photos behind the same path are not.

    Returns:
        SHA-256, hexadecimal, of the configuration without `NOT_A_CHOICE`; the order of keys does not matter.
    """
    left_out = (*NOT_A_CHOICE, *(("data",) if photo_keys else ()))
    kept = flatten({key: value for key, value in config.items() if key not in left_out})
    kept.pop("train.devices", None)  # as another kind of processor: last digits differ, the recipe does not
    for component in components:
        if component["kind"] not in ("reporter", "tracker", "exporter", "data source"):
            kept |= {f"{component['path']}.{key}": value for key, value in flatten(component["options"]).items()}
    text = json.dumps([kept, *photo_keys], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def flatten(value: Any, path: KeyPath = ()) -> dict[str, Any]:
    """Nested maps and lists as one map of dotted keys; empty ones have no key."""
    if isinstance(value, Mapping):
        parts = [flatten(inner, (*path, str(key))) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        parts = [flatten(inner, (*path, i)) for i, inner in enumerate(value)]
    else:
        return {show_path(path): value}
    return {key: inner for part in parts for key, inner in part.items()}


def _describe_plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    described = flatten({key: value for key, value in plan["config"].items() if key not in LEFT_OUT})
    described |= flatten({"ensemble": plan.get("ensemble", {})})
    source = plan["config"].get("data", {}).get("source")
    for component in plan.get("components", ()):
        path = str(component["path"])
        if component["kind"] == "tracker":
            continue
        if component["kind"] == "data source":
            if component["name"] != source:  # the stand-in's options are not the source's
                continue
            path = "data.options"
        # Options written out and options left at the same default are the same choice.
        described |= {f"{path}.{key}": value for key, value in flatten(component["options"]).items()}
        described[f"{path} (from)"] = component["distribution"]
        described[f"version of {component['distribution']}"] = component["version"]
    return described


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Change, ...]:
    keys = [*first, *(key for key in second if key not in first)]
    return tuple(Change(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key))
