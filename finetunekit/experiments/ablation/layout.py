"""Which runs an ablation consists of: every cell checked before the first one starts."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetunekit.config.plan import Plan
from finetunekit.config.planning import prepare
from finetunekit.config.yaml_source import parse_path
from finetunekit.errors import ConfigError
from finetunekit.experiments.ablation.vary import Choice, Varied, number_of, parse_varied, show_value
from finetunekit.runs.config_diff import NOT_A_CHOICE, config_key, plan_changes
from finetunekit.system.progress import Progress

MAX_CELLS = 1000
LEAN = ("insights={baselines: false, gradcam_photos: 0}", "pixels.check_photos=0", "reports=[]", "save.h5=false")
"""What no cell needs: none of it changes a prediction."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A varied setting with the preset's own value among its values.

    Attributes:
        varied: The setting; its choices begin to count at 0.
        own: Which choice is the preset's own.
    """

    varied: Varied
    own: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One configuration, run once a seed.

    Attributes:
        at: Which choice of each axis.
        settings: Over those of the user, those that every cell shares included.
        identity: What tells its configuration from others, whatever the seed.
        size_px: Side of its input.
    """

    at: tuple[int, ...]
    settings: tuple[str, ...]
    identity: str
    size_px: int


@dataclass(frozen=True, slots=True)
class Layout:
    """An ablation before its first run.

    Attributes:
        preset: As the user wrote it.
        name: Of the preset's configuration.
        axes: One a varied setting.
        cells: The preset itself first.
        seed: The first seed.
        is_grid: Whether every combination is a cell, or only one setting at a time differs from the preset.
        is_test: Whether the test split is opened.
        settings: The user's own.
    """

    preset: str
    name: str
    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...]
    seed: int
    is_grid: bool
    is_test: bool
    settings: tuple[str, ...]

    def curve(self, axis: int) -> tuple[int, ...]:
        """Cells, by position, where only this axis differs from the preset; one a choice, in order."""
        own = [one.own for one in self.axes]
        found = {cell.at: i for i, cell in enumerate(self.cells)}
        choices = range(len(self.axes[axis].varied.choices))
        return tuple(found[(*own[:axis], choice, *own[axis + 1 :])] for choice in choices)


def lay_out(
    preset: str | Path,
    vary: Sequence[str],
    *,
    settings: Sequence[str] = (),
    seed: int | None = None,
    is_grid: bool = False,
    is_test: bool = False,
    progress: Progress | None = None,
) -> Layout:
    """Find every cell and check its configuration.

    Args:
        preset: Preset name or path.
        vary: See `parse_varied`; at least one.
        settings: `--set` texts for every cell.
        seed: The first seed; default: the preset's.
        is_grid: Every combination; else one setting at a time.
        is_test: Score the test split too.
        progress: Receives warnings about broken plugins.

    Raises:
        ConfigError: With the problems of every cell, each once.
    """
    varied = parse_varied(vary)
    if not varied:
        raise ConfigError("nothing varies. Say what does: --vary KEY=VALUE,VALUE.")
    check_keys(varied)
    shared = (*LEAN, f"evaluate.test={'true' if is_test else 'false'}")
    plans = Plans(preset, (*settings, *shared), seed, progress, {one.path: one.key for one in varied})
    base = plans.need(())
    _check_base(base)
    axes = tuple(place_own(one, base, plans) for one in varied)
    combinations = list(_combinations(axes, is_grid=is_grid))
    if len(combinations) > MAX_CELLS:
        raise ConfigError(f"{len(combinations)} cells are too many (at most {MAX_CELLS}). Vary less.")
    cells = []
    for at in combinations:
        asked = tuple(s for axis, i in zip(axes, at, strict=True) for s in axis.varied.choices[i].settings)
        plan = plans.get(asked)
        if plan is not None:
            cells.append(Cell(at, (*shared, *asked), identity_of(plan.to_dict()), plan.config.pixels.size_px))
    problems = plans.problems or _same_cells(axes, cells)
    if problems:
        raise ConfigError(problems)
    return Layout(
        str(preset), base.config.name, axes, tuple(cells), base.config.seed, is_grid, is_test, tuple(settings)
    )


def identity_of(plan: Mapping[str, Any]) -> str:
    """What tells one cell from another: its choices and the versions of what gave its components, not its seed.

    Args:
        plan: Content of `plan.json`.

    Returns:
        SHA-256, hexadecimal.
    """
    components = [one for one in plan["components"] if one["kind"] not in ("reporter", "tracker", "exporter")]
    versions = [[one["kind"], one["name"], one["distribution"], one["version"]] for one in components]
    text = json.dumps([config_key(plan["config"], components=components), plan["config"]["view_seed"], versions])
    return hashlib.sha256(text.encode()).hexdigest()


def cell_name(layout: Layout, cell: Cell) -> str:
    """Name of a cell's runs, such as `felidae4-size_px-50`, at most 80 letters."""
    parts = [layout.name[:40]]
    for axis, i in zip(layout.axes, cell.at, strict=True):
        if i != axis.own:
            parts.append(f"{axis.varied.key.rpartition('.')[2]}-{axis.varied.choices[i].shown}")
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts))[:80]


def cell_label(layout: Layout, cell: Cell) -> str:
    """What differs from the preset, such as `image_size 50`."""
    differs = [
        f"{axis.varied.key} {axis.varied.choices[i].shown}"
        for axis, i in zip(layout.axes, cell.at, strict=True)
        if i != axis.own
    ]
    return ", ".join(differs) or "the preset itself"


def check_keys(varied: Sequence[Varied]) -> None:
    """Refuse what makes no other prediction, or is asked for otherwise."""
    problems = []
    for one in varied:
        root = str(parse_path(one.path)[0])
        if root == "seed":
            problems.append(f"--vary {one.key}: seeds are no setting to choose. Use --seeds.")
        elif root in NOT_A_CHOICE and root != "view_seed":
            problems.append(f"--vary {one.key}: changes no prediction, so there is nothing to compare.")
        elif one.path in ("evaluate", "evaluate.test"):
            problems.append(f"--vary {one.key}: use --test to score the test split.")
    if problems:
        raise ConfigError(problems)


def _same_cells(axes: Sequence[Axis], cells: Sequence[Cell]) -> list[str]:
    """Two values that come to one configuration, such as an option at its default and left out."""
    first: dict[str, Cell] = {}
    problems = []
    for cell in cells:
        other = first.setdefault(cell.identity, cell)
        if other is not cell:
            names = [
                f"{axis.varied.key} {axis.varied.choices[a].shown} and {axis.varied.choices[b].shown}"
                for axis, a, b in zip(axes, other.at, cell.at, strict=True)
                if a != b
            ]
            problems.append(f"--vary: {', '.join(names)} are the same configuration. Leave one out.")
    return problems


def _check_base(plan: Plan) -> None:
    if plan.config.train.folds is not None:
        raise ConfigError("train.folds: a cell of an ablation is one run. Leave out train.folds.")


def place_own(varied: Varied, base: Plan, plans: Plans) -> Axis:
    """Find the preset's own value among the choices, or put it there: by size among numbers, after them, or first of what is none."""
    ours = base.to_dict()
    theirs = [None if (plan := plans.get(choice.settings)) is None else plan.to_dict() for choice in varied.choices]
    for i, other in enumerate(theirs):
        if other is not None and identity_of(other) == identity_of(ours):
            same = replace(varied.choices[i], settings=())
            return Axis(replace(varied, choices=(*varied.choices[:i], same, *varied.choices[i + 1 :])), i)
    own = own_choice(varied, ours, theirs)
    numbers = [choice.number for choice in varied.choices if choice.number is not None]
    at = 0
    if len(numbers) == len(varied.choices):
        at = sum(1 for number in numbers if own.number is None or number < own.number)
    return Axis(replace(varied, choices=(*varied.choices[:at], own, *varied.choices[at:])), at)


def own_choice(varied: Varied, ours: Mapping[str, Any], theirs: Sequence[Mapping[str, Any] | None]) -> Choice:
    """The preset's own value, which plans with other values (content of `plan.json`) tell."""
    if varied.path == "augment":
        return Choice("on", ())
    for plan in theirs:
        for change in plan_changes(ours, plan) if plan is not None else ():
            if change.key == varied.path:
                return Choice(show_value(varied.path, change.first), (), number_of(change.first))
    return Choice("the preset's", ())


def _combinations(axes: Sequence[Axis], *, is_grid: bool) -> Iterator[tuple[int, ...]]:
    own = tuple(axis.own for axis in axes)
    yield own
    if is_grid:
        everything = itertools.product(*(range(len(axis.varied.choices)) for axis in axes))
        yield from (at for at in everything if at != own)
        return
    for place, axis in enumerate(axes):
        for choice in range(len(axis.varied.choices)):
            if choice != axis.own:
                yield (*own[:place], choice, *own[place + 1 :])


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

    def need(self, settings: tuple[str, ...]) -> Plan:
        """A plan that nothing goes without.

        Raises:
            ConfigError: If it has problems.
        """
        plan = self.get(settings)
        if plan is None:
            raise ConfigError(self.problems)
        return plan

    def is_valid(self, settings: tuple[str, ...]) -> bool:
        """Whether it has no problems; those that it has are not kept."""
        kept = list(self.problems)
        is_valid = self.get(settings) is not None
        self.problems = kept
        return is_valid

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
