"""`--vary KEY=V1,V2`: which setting, and each value as the `--set` texts that give it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetunekit.config.yaml_source import parse_path, parse_yaml, plain
from finetunekit.errors import ConfigError

SHORT = {
    "image_size": "pixels.size_px",
    "source_px": "pixels.source_px",
    "contract": "pixels.contract",
    "freeze.n": "stages[0].freeze.n",
}
"""Short key → path as `--set` takes it."""
AUGMENTATION = "augmentation"
_ON, _OFF = ("on", "true"), ("off", "false")
_SHOWN = 24


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of a varied setting.

    Attributes:
        shown: The value in a few letters.
        settings: `--set` texts that give it; none where it is the preset's own.
        number: The value where it is a number.
    """

    shown: str
    settings: tuple[str, ...]
    number: float | None = None


@dataclass(frozen=True, slots=True)
class Varied:
    """One setting and its values.

    Attributes:
        key: As the user wrote it.
        path: As `--set` takes it.
        written: The values as the user wrote them.
        choices: In the order of the user, each once.
    """

    key: str
    path: str
    written: str
    choices: tuple[Choice, ...]


def parse_varied(texts: Sequence[str]) -> tuple[Varied, ...]:
    """Every `--vary`.

    Args:
        texts: `KEY=V1,V2`, the values being the items of a YAML list; KEY as for `--set`, or one of `SHORT`, or
            `augmentation` with `on` (the preset's own) and `off` (none).

    Raises:
        ConfigError: With every text that is not of that form; a key or a value that comes twice.
    """
    problems: list[str] = []
    found: list[Varied] = []
    for text in texts:
        try:
            found.append(_parse(text))
        except ConfigError as exc:
            problems += exc.problems
    paths = [varied.path for varied in found]
    problems += [f"--vary {v.key}: is given twice." for i, v in enumerate(found) if v.path in paths[:i]]
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def _parse(text: str) -> Varied:
    key, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not key or not values:
        raise ConfigError(f"--vary {text}: needs the form KEY=VALUE,VALUE.")
    where = f"--vary {key}"
    items: list[Any] = plain(parse_yaml(f"[{values}]", where), where)
    shown = [json.dumps(item, sort_keys=True) for item in items]
    if twice := [one for i, one in enumerate(shown) if one in shown[:i]]:
        raise ConfigError(f"{where}: {twice[0]} is there twice.")
    if key == AUGMENTATION:
        return Varied(key, "augment", values, tuple(_on_or_off(item, where) for item in items))
    path = SHORT.get(key, key)
    try:
        parse_path(path)
    except ValueError as exc:
        raise ConfigError(f"{where}: not a path of the form a.b[0].c, nor one of {', '.join(_names())}.") from exc
    return Varied(key, path, values, tuple(_choice(path, item) for item in items))


def _names() -> tuple[str, ...]:
    return (*SHORT, AUGMENTATION)


def _on_or_off(item: Any, where: str) -> Choice:
    word = str(item).lower()
    if word in _ON:
        return Choice("on", ())
    if word in _OFF:
        return Choice("off", ("augment=[]",))
    raise ConfigError(f"{where}: on (the preset's own) or off (none). Received: {item!r}")


def _choice(path: str, item: Any) -> Choice:
    return Choice(show_value(path, item), (f"{path}={json.dumps(item)}",), number_of(item))


def number_of(value: Any) -> float | None:
    """A value as a number; None where it is none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def show_value(path: str, value: Any) -> str:
    """A value of the setting at `path` in a few letters."""
    if path == SHORT["source_px"] and value is None:
        return "as is"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
