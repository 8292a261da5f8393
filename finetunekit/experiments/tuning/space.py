"""What is searched: each setting with its values or its range, checked before the first trial starts."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from finetunekit.config.plan import TUNE, Plan
from finetunekit.config.preset import setting_text
from finetunekit.config.sections import TuneSection
from finetunekit.config.yaml_source import parse_path
from finetunekit.errors import ConfigError
from finetunekit.experiments.ablation.layout import LEAN, Axis, Plans, check_keys, identity_of, own_choice, place_own
from finetunekit.experiments.ablation.vary import SHORT, Choice, Varied, parse_varied
from finetunekit.system.progress import Progress

Kind: TypeAlias = Literal["log", "lin", "int"]
Params: TypeAlias = Mapping[str, Any]
"""Key of a setting → its value as Optuna knows it: a number, or the label of a choice."""

_RANGE = re.compile(r"(log|lin|int):([^:]+):([^:]+)")
_DIGITS = 4
_COMBINATIONS = 64
_SEARCHED = (*LEAN, "evaluate.test=false", f"{TUNE}=null")
"""What every trial has: none of it changes a prediction, and the test split stays shut."""


@dataclass(frozen=True, slots=True)
class Range:
    """A setting that takes any number between two.

    Attributes:
        key: As the user wrote it.
        path: As `--set` takes it.
        written: The range as the user wrote it.
        kind: `log`: uniform in the logarithm; `lin` and `int`: uniform.
        low: Smallest value.
        high: Largest value.
        is_whole: Whether it takes whole numbers only.
        own: The preset's own value; None where it is outside of the range or no number.
    """

    key: str
    path: str
    written: str
    kind: Kind
    low: float
    high: float
    is_whole: bool = False
    own: float | None = None

    @property
    def size(self) -> int | None:
        """Number of values; None: too many to count."""
        return int(self.high) - int(self.low) + 1 if self.is_whole else None

    def value(self, param: Any) -> float | int:
        """A value with four digits, within the range: more would say nothing."""
        if self.is_whole:
            return int(param)
        return min(max(float(f"{param:.{_DIGITS}g}"), self.low), self.high)

    def settings(self, param: Any) -> tuple[str, ...]:
        """`--set` texts that give it."""
        return (f"{self.path}={json.dumps(self.value(param))}",)

    def shown(self, param: Any) -> str:
        """A value in a few letters."""
        return f"{self.value(param):g}"


@dataclass(frozen=True, slots=True)
class Choices:
    """A setting that takes one of several values, the preset's own among them.

    Attributes:
        axis: The values.
    """

    axis: Axis

    @property
    def key(self) -> str:
        """As the user wrote it."""
        return self.axis.varied.key

    @property
    def path(self) -> str:
        """As `--set` takes it."""
        return self.axis.varied.path

    @property
    def written(self) -> str:
        """The values as the user wrote them."""
        return self.axis.varied.written

    @property
    def labels(self) -> tuple[str, ...]:
        """The values in a few letters, no two alike."""
        shown = [choice.shown for choice in self.axis.varied.choices]
        return tuple(text if shown.count(text) == 1 else f"{i + 1}: {text}" for i, text in enumerate(shown))

    @property
    def own(self) -> str:
        """Label of the preset's own value."""
        return self.labels[self.axis.own]

    @property
    def size(self) -> int:
        """Number of values."""
        return len(self.axis.varied.choices)

    def choice(self, param: Any) -> Choice:
        """The value with this label."""
        return self.axis.varied.choices[self.labels.index(param)]

    def settings(self, param: Any) -> tuple[str, ...]:
        """`--set` texts that give it."""
        return self.choice(param).settings

    def shown(self, param: Any) -> str:
        """A value in a few letters."""
        return str(param)


Setting: TypeAlias = Range | Choices


@dataclass(frozen=True, slots=True)
class Search:
    """A search before its first trial.

    Attributes:
        preset: As the user wrote it.
        name: Of the preset's configuration.
        seed: Of every trial, and of the proposals.
        settings: The user's own `--set` texts.
        space: One a searched setting.
        section: How far it goes.
        identity: Of the preset's configuration.
    """

    preset: str
    name: str
    seed: int
    settings: tuple[str, ...]
    space: tuple[Setting, ...]
    section: TuneSection
    identity: str

    @property
    def own(self) -> dict[str, Any]:
        """The preset's own values, of those settings whose range has them."""
        return {setting.key: setting.own for setting in self.space if setting.own is not None}

    @property
    def size(self) -> int | None:
        """Number of configurations; None: too many to count."""
        sizes = [setting.size for setting in self.space]
        return None if None in sizes else math.prod(size or 0 for size in sizes)

    def choices(self, params: Params) -> tuple[str, ...]:
        """`--set` texts that give a trial's values; those first that name a component, since another one has other options."""
        given = [setting for setting in self.space if setting.key in params]
        given.sort(key=lambda setting: (not setting.path.endswith("name"), len(parse_path(setting.path))))
        return tuple(text for setting in given for text in setting.settings(params[setting.key]))

    def trial_settings(self, params: Params) -> tuple[str, ...]:
        """`--set` texts over those of the user, of a trial."""
        return (*_SEARCHED, *self.choices(params))

    def shown(self, params: Params) -> dict[str, str]:
        """Each value in a few letters; a dash for the preset's own where its range has it not."""
        return {s.key: s.shown(params[s.key]) if s.key in params else "–" for s in self.space}


def lay_out_search(
    preset: str | Path,
    vary: Sequence[str] = (),
    *,
    settings: Sequence[str] = (),
    seed: int | None = None,
    trials: int | None = None,
    pruner: str | None = None,
    progress: Progress | None = None,
) -> Search:
    """Find what is searched and check it.

    Args:
        preset: Preset name or path; its section `tune` counts.
        vary: `KEY=V1,V2`, `KEY=log:LOW:HIGH`, `KEY=lin:LOW:HIGH` or `KEY=int:LOW:HIGH`, over those of that section.
        settings: `--set` texts for every trial.
        seed: Replaces the preset's.
        trials: Replaces that of the section.
        pruner: Replaces that of the section.
        progress: Receives warnings about broken plugins.

    Raises:
        ConfigError: With every problem that a list, the ends of a range, or a combination of them has.
    """
    base = Plans(preset, (*settings, *_section_settings(trials, pruner)), seed, progress, {}).need(())
    section = base.config.tune or TuneSection.model_validate({})
    texts, names = _asked(section, vary, base.source)
    with _named_as_written(names):
        parsed = _parse(texts)
        check_keys([one if isinstance(one, Varied) else Varied(one.key, one.path, one.written, ()) for one in parsed])
        _check_photos(parsed, base)
        plans = Plans(preset, (*settings, *_SEARCHED), seed, progress, {one.path: one.key for one in parsed})
        plain = plans.need(())
        space = tuple(
            Choices(place_own(one, plain, plans)) if isinstance(one, Varied) else _place_range(one, plain, plans)
            for one in parsed
        )
        search = Search(
            preset=str(preset),
            name=base.config.name,
            seed=base.config.seed,
            settings=tuple(settings),
            space=space,
            section=section,
            identity=identity_of(plain.to_dict()),
        )
        _check_combinations(search, plans)
    return search


def _section_settings(trials: int | None, pruner: str | None) -> tuple[str, ...]:
    given = {"trials": trials, "pruner": pruner}
    return tuple(setting_text(f"{TUNE}.{key}", value) for key, value in given.items() if value is not None)


# ---- from texts ------------------------------------------------------------------------------------------------------------------


def _asked(section: TuneSection, vary: Sequence[str], source: str) -> tuple[list[str], dict[str, str]]:
    """`KEY=VALUES` of all settings, and how problems of those that the section names begin."""
    given = {_path(text.partition("=")[0].strip()) for text in vary}
    kept = {key: values for key, values in section.vary.items() if _path(key) not in given}
    texts = [f"{key}={_written(values)}" for key, values in kept.items()]
    if not texts and not vary:
        raise ConfigError(
            "nothing is searched. Say what is: --vary KEY=log:LOW:HIGH or --vary KEY=VALUE,VALUE, or the preset's tune.vary."
        )
    return [*texts, *vary], {f"--vary {key}": f"{source}: tune.vary.{key}" for key in kept}


def _written(values: Any) -> str:
    """As `--vary` takes them."""
    return values if isinstance(values, str) else ", ".join(map(json.dumps, values))


def _path(key: str) -> str:
    return SHORT.get(key, key)


@contextlib.contextmanager
def _named_as_written(names: Mapping[str, str]) -> Iterator[None]:
    """Problems of settings that the section names begin with its key, not with `--vary`."""

    def named(problem: str) -> str:
        for words, name in names.items():
            if problem.startswith(f"{words}:"):
                return f"{name}{problem.removeprefix(words)}"
        return problem

    try:
        yield
    except ConfigError as exc:
        raise ConfigError([named(problem) for problem in exc.problems]) from exc


def _parse(texts: Sequence[str]) -> list[Varied | Range]:
    """Every setting in the order of the user."""
    problems: list[str] = []
    found: list[Varied | Range] = []
    for text in texts:
        try:
            found.append(_parse_range(text) or parse_varied([text])[0])
        except ConfigError as exc:
            problems += exc.problems
    paths = [one.path for one in found]
    problems += [f"--vary {one.key}: is given twice." for i, one in enumerate(found) if one.path in paths[:i]]
    if problems:
        raise ConfigError(problems)
    return found


def _parse_range(text: str) -> Range | None:
    """None where it is a list of values."""
    key, _, written = (part.strip() for part in text.partition("="))
    found = _RANGE.fullmatch(written)
    if found is None:
        return None
    where, kind = f"--vary {key}", found[1]
    varied = parse_varied([f"{key}=0"])[0]  # which checks the key
    try:
        low, high = float(found[2]), float(found[3])
    except ValueError:
        raise ConfigError(f"{where}: {kind}:LOW:HIGH needs two numbers. Received: {written}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{where}: LOW has to be below HIGH. Received: {written}")
    if kind == "log" and low <= 0:
        raise ConfigError(f"{where}: log needs numbers above 0. Received: {written}")
    if kind == "int" and not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"{where}: int needs whole numbers. Received: {written}")
    return Range(key, varied.path, written, kind, low, high, is_whole=kind == "int")  # type: ignore[arg-type]


# ---- against the preset ----------------------------------------------------------------------------------------------------------


def _check_photos(parsed: Sequence[Varied | Range], base: Plan) -> None:
    """Trials are compared on the same validation photos."""
    problems = [
        f"--vary {one.key}: trials are compared on the same photos, so these cannot vary."
        for one in parsed
        if one.path.startswith(("data", "train.fold", "train.leave_out"))
    ]
    if base.config.train.folds is not None and base.config.train.fold is None:
        problems.append("train.folds: a trial is one run. Leave out train.folds; --nested K cross-validates a search.")
    if problems:
        raise ConfigError(problems)


def _place_range(asked: Range, base: Plan, plans: Plans) -> Range:
    """Whether it takes whole numbers only, which its middle tells, and the preset's own value."""
    middle = math.sqrt(asked.low * asked.high) if asked.kind == "log" else (asked.low + asked.high) / 2
    broken = middle if not middle.is_integer() else middle + (asked.high - middle) / math.pi
    has_whole_ends = asked.low.is_integer() and asked.high.is_integer()
    is_whole = asked.is_whole or (has_whole_ends and not plans.is_valid((f"{asked.path}={broken!r}",)))
    found = Range(asked.key, asked.path, asked.written, asked.kind, asked.low, asked.high, is_whole=is_whole)
    ends = [plans.get(found.settings(end)) for end in (found.low, found.high)]
    theirs = [None if plan is None else plan.to_dict() for plan in ends]
    if None in theirs:
        return found
    ours = base.to_dict()
    if identity_of(ours) == identity_of(theirs[0] or {}):
        own: float | None = found.low
    else:
        own = own_choice(Varied(found.key, found.path, found.written, ()), ours, theirs).number
    inside = own is not None and found.low <= own <= found.high and (not is_whole or own.is_integer())
    kept = (int(own) if is_whole else own) if inside and own is not None else None
    return Range(found.key, found.path, found.written, found.kind, found.low, found.high, is_whole=is_whole, own=kept)


def _check_combinations(search: Search, plans: Plans) -> None:
    """The problems of every value and every end of a range, then those of some of their combinations."""
    if plans.problems:
        raise ConfigError(plans.problems)
    for params in itertools.islice(_corners(search), _COMBINATIONS):
        plans.get(search.choices(params))
    if plans.problems:
        raise ConfigError(plans.problems)


def _corners(search: Search) -> Iterator[dict[str, Any]]:
    ends = [setting.labels if isinstance(setting, Choices) else (setting.low, setting.high) for setting in search.space]
    keys = [setting.key for setting in search.space]
    return (dict(zip(keys, params, strict=True)) for params in itertools.product(*ends))
