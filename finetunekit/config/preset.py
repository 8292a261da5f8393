"""From a preset's name or a path to one document: YAML, `extends`, `--set`, with the place of every value."""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetunekit.config.yaml_source import KeyPath, Places, parse_path, parse_yaml, plain, read_yaml, show_path
from finetunekit.errors import ConfigError, UnknownComponentError, did_you_mean
from finetunekit.system.formatting import counted
from finetunekit.system.user_dirs import expand_home
from finetunekit.types import Origin

#: Maps where a changed `name` means another component, whose options the old one's do not fit. `*` is any list position.
_COMPONENTS: tuple[KeyPath, ...] = (
    ("backbone",),
    ("head",),
    ("augment", "*"),
    ("reports", "*"),
    ("track", "*"),
    ("executor",),
    ("export", "to", "*"),
    ("stages", "*", "freeze"),
    ("stages", "*", "optimizer"),
)


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration before any schema.

    Attributes:
        values: Plain values, `extends` and `--set` applied.
        places: Where each value was written.
        source: What the user called it.
        layers: Every YAML file that went into it, the extended ones first.
    """

    values: dict[str, Any]
    places: Places
    source: str
    layers: tuple[Path, ...]

    @property
    def plugin_files(self) -> tuple[Path, ...]:
        """Files that `plugins:` names; entries that are not text are left to the schema."""
        named = self.values.get("plugins") or []
        return tuple(Path(p) for p in named if isinstance(p, str)) if isinstance(named, list) else ()


def is_path(argument: str) -> bool:
    """Whether an argument is a path: it has a separator or ends in .yaml or .yml. Anything else is a preset's name."""
    return "/" in argument or "\\" in argument or argument.endswith((".yaml", ".yml"))


def setting_text(key: str, value: Any) -> str:
    """`a.b[0].c=VALUE` as `read_document` takes it; VALUE is JSON, which YAML 1.2 reads.

    Args:
        key: Such as `stages[0].epochs`.
        value: Text, number, boolean, None, and lists and maps of such.

    Raises:
        ConfigError: If the value is of another kind.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise ConfigError(
            f"{key}: a setting is text, number, boolean, None, list or map. Received: {value!r:.80}"
        ) from exc
    # YAML has no pairs of surrogates: a letter beyond U+FFFF is one escape there
    pair = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})")
    return f"{key}=" + pair.sub(lambda m: f"\\U{_code(int(m[1], 16), int(m[2], 16)):08x}", text)


def setting_texts(settings: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    """Settings as `read_document` takes them: those of a map as texts, others as they are.

    Raises:
        ConfigError: If a value is of a kind that YAML here has not.
    """
    if isinstance(settings, str):
        raise ConfigError(f"settings: a map or a list of texts. Received: {settings!r}")
    if not isinstance(settings, Mapping):
        return tuple(settings)
    return tuple(setting_text(key, value) for key, value in settings.items())


def _code(high: int, low: int) -> int:
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)


def _file_beside(path: Path) -> str:
    """A suggestion where a YAML file of nearly that name lies in the same folder, else nothing."""
    beside = (other for end in ("yaml", "yml") for other in path.parent.glob(f"*.{end}"))
    names = {other.stem.lower(): other.name for other in beside if other.is_file()}
    close = difflib.get_close_matches(path.stem.lower(), names, n=1, cutoff=0.8)  # by stems: they all end alike
    return f" Did you mean '{names[close[0]]}'?" if close else ""


def find_preset(argument: str, known: Mapping[str, tuple[Path, Origin]], *, relative_to: Path, where: str = "") -> Path:
    """The YAML file that an argument means.

    Raises:
        UnknownComponentError: If no plugin registers a preset of that name.
        ConfigError: If the path does not exist.
    """
    prefix = f"{where}: " if where else ""
    if is_path(argument):
        path = relative_to / expand_home(argument)
        if not path.is_file():
            names = ", ".join(sorted(known)) or "none"
            instead = _file_beside(path) or f" Give a YAML file or a preset's name ({names})."
            raise ConfigError(f"{prefix}{argument}: no such file.{instead}")
        return path
    if argument not in known:
        raise UnknownComponentError(f"{prefix}unknown preset '{argument}'.{did_you_mean(argument, known)}")
    return known[argument][0]


def read_document(argument: str, known: Mapping[str, tuple[Path, Origin]], settings: Sequence[str] = ()) -> Document:
    """Read a preset, everything it extends, and apply `--set` values.

    Args:
        argument: Preset name or path.
        known: Presets that plugins registered.
        settings: `a.b[0].c=VALUE` texts, VALUE being YAML.

    Raises:
        ConfigError: With file and line, or `--set path`.
    """
    layers = _read_layers(find_preset(argument, known, relative_to=Path()), known, seen=())
    values: dict[str, Any] = {}
    places: Places = {}
    for layer_values, layer_places, _ in layers:
        values = _merge(values, layer_values, places, layer_places)
    problems: list[str] = []
    for setting in settings:
        try:
            values = _apply_setting(values, places, setting)
        except ConfigError as exc:
            problems += exc.problems
    if problems:
        raise ConfigError(problems)
    return Document(values, places, argument, tuple(path for _, _, path in layers))


def _read_layers(
    path: Path, known: Mapping[str, tuple[Path, Origin]], seen: tuple[Path, ...]
) -> list[tuple[dict[str, Any], Places, Path]]:
    """This file's values last, those it extends before it."""
    if path.resolve() in seen:
        raise ConfigError(f"{_shown(path)}: extends itself, by way of {', '.join(p.name for p in seen)}.")
    values, places = read_yaml(path, _shown(path))
    base = values.pop("extends", None)
    _resolve_plugins(values, path)
    if base is None:
        return [(values, places, path)]
    where = places.get(("extends",), _shown(path))
    if not isinstance(base, str):
        raise ConfigError(f"{where}: extends: a preset's name or a path. Received: {base!r}")
    base_path = find_preset(base, known, relative_to=path.parent, where=f"{where}: extends")
    return [*_read_layers(base_path, known, (*seen, path.resolve())), (values, places, path)]


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _resolve_plugins(values: dict[str, Any], path: Path) -> None:
    """`plugins:` is relative to the YAML that wrote it."""
    named = values.get("plugins")
    if isinstance(named, list):
        values["plugins"] = [str((path.parent / p).resolve()) if isinstance(p, str) else p for p in named]


def _merge(
    base: dict[str, Any], over: Mapping[str, Any], places: Places, over_places: Places, at: KeyPath = ()
) -> dict[str, Any]:
    """Maps merge, lists replace, a component whose name changes is replaced whole, null removes. Updates `places`."""
    merged = dict(base)
    for key, value in over.items():
        path = (*at, key)
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and not _is_another(path, old, value):
            merged[key] = _merge(old, value, places, over_places, path)
        else:
            _forget(places, path)
            merged.pop(key, None)
            if isinstance(value, dict):
                merged[key] = _merge({}, value, places, over_places, path)
            elif value is not None:
                merged[key] = value
        _copy_places(places, over_places, path, whole=not isinstance(value, dict))
    if at == ("data",):
        _drop_what_no_longer_fits(base, merged, over)
    if at == ():
        _drop_other_backbones(merged, over)
    return merged


def _is_another(path: KeyPath, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return _is_component(path) and "name" in new and new["name"] != old.get("name")


def _is_component(path: KeyPath) -> bool:
    return any(
        len(path) == len(known)
        and all(k == p or (k == "*" and isinstance(p, int)) for k, p in zip(known, path, strict=True))
        for known in _COMPONENTS
    )


def _drop_what_no_longer_fits(base: Mapping[str, Any], merged: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Another source has other options; a root named later than `otherwise` was meant, so that its absence is an error."""
    if "source" in over and over["source"] != base.get("source") and "options" not in over:
        merged.pop("options", None)
    if "root" in over and "otherwise" not in over:
        merged.pop("otherwise", None)


def _drop_other_backbones(merged: dict[str, Any], over: Mapping[str, Any]) -> None:
    """One backbone named later stands for several named before, and the other way round."""
    for one, other in (("backbone", "backbones"), ("backbones", "backbone")):
        if over.get(one) and other not in over:
            merged.pop(other, None)


def _forget(places: Places, path: KeyPath) -> None:
    for known in [p for p in places if p[: len(path)] == path]:
        del places[known]


def _copy_places(places: Places, over: Places, path: KeyPath, *, whole: bool) -> None:
    for known, place in over.items():
        if known == path or (whole and known[: len(path)] == path):
            places[known] = place


def _apply_setting(values: dict[str, Any], places: Places, setting: str) -> dict[str, Any]:
    """One `--set`: a layer that holds one value, so that the rules of `extends` hold for it too."""
    key, equals, text = setting.partition("=")
    where = f"--set {key.strip()}"
    if not equals:
        raise ConfigError(f"--set {setting}: needs the form a.b=VALUE.")
    try:
        path = parse_path(key.strip())
    except ValueError as exc:
        raise ConfigError(f"{where}: not a path of the form a.b[0].c.") from exc
    value = plain(parse_yaml(text, where), where)
    if path[0] == "extends":
        raise ConfigError(f"{where}: not possible here; write a YAML file that extends a preset.")
    if path == ("plugins",) and isinstance(value, list):
        value = [str(Path(p).resolve()) if isinstance(p, str) else p for p in value]
    return _set_in(values, path, value, places, where)


def _set_in(values: dict[str, Any], path: KeyPath, value: Any, places: Places, where: str) -> dict[str, Any]:
    """Merge a one-value layer built along `path`; below a list, the list is copied and its one item merged."""
    cut = next((i for i, part in enumerate(path) if isinstance(part, int)), None)
    if cut is None:
        _check_maps(values, path, where)
        layer: Any = value
        for part in reversed(path):
            layer = {part: layer}
        return _merge(values, layer, places, _everywhere(value, where, path))
    values = copy.deepcopy(values)
    owner: Any = values
    for depth, part in enumerate(path[:-1]):
        owner = _step(owner, path, depth, part, where)
    last = path[-1]
    if isinstance(last, int):
        _step(owner, path, len(path) - 1, last, where)
        owner[last] = value
    else:
        if not isinstance(owner, dict):
            raise ConfigError(f"{where}: {show_path(path[:-1])} is not a map.")
        merged = _merge(owner, {last: value}, places, {}, path[:-1])
        if _is_component(path[:-1]) and last == "name" and value != owner.get("name"):
            merged = {"name": value}
        owner.clear()
        owner.update(merged)
    _forget(places, path)
    places[path] = where
    return values


def _check_maps(values: Mapping[str, Any], path: KeyPath, where: str) -> None:
    """What lies on the way to a value has to be a map, or not to be there yet."""
    owner: Any = values
    for depth, part in enumerate(path[:-1], start=1):
        owner = owner.get(part)
        if owner is None:
            return
        if isinstance(owner, list):
            example = show_path((*path[:depth], 0, *path[depth:]))
            raise ConfigError(
                f"{where}: {show_path(path[:depth])} is a list of {counted(len(owner), 'item')}. Name one of them, such as {example}."
            )
        if not isinstance(owner, dict):
            raise ConfigError(f"{where}: {show_path(path[:depth])} is not a map.")


def _step(owner: Any, path: KeyPath, depth: int, part: str | int, where: str) -> Any:
    shown = show_path(path[:depth])
    if isinstance(part, int):
        if not isinstance(owner, list) or part >= len(owner):
            size = f"has {len(owner)} items" if isinstance(owner, list) else "is not a list"
            raise ConfigError(f"{where}: {shown} {size}.")
        return owner[part]
    if not isinstance(owner, dict):
        raise ConfigError(f"{where}: {shown} is not a map.")
    return owner.setdefault(part, {})


def _everywhere(value: Any, place: str, at: KeyPath) -> Places:
    places: Places = {at: place}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        places |= _everywhere(item, place, (*at, key))
    return places
