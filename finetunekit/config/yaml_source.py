"""YAML as plain values, and where each value was written. No plugin, no schema."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from finetunekit.errors import ConfigError
from finetunekit.system.files import open_regular
from finetunekit.system.formatting import one_line

#: Keys and list positions from the document's root to a value.
KeyPath: TypeAlias = tuple[str | int, ...]
#: Key path → `file:line` or `--set path`.
Places: TypeAlias = dict[KeyPath, str]

_MAX_BYTES = 128 * 1024
"""The largest preset of this project has 4 kB; a class weight for each of 2,000 classes takes 80 kB, which ruamel reads in 1 s."""
_MAX_NODES = 100_000
_MAX_DEPTH = 40
_MAX_MERGED = 2_000_000
"""`<<` keys times letters of the text: what merging costs ruamel at worst."""
_MAX_DIGITS = 40


def show_path(path: KeyPath) -> str:
    """`('augment', 0, 'zoom')` → `augment[0].zoom`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def parse_path(text: str) -> KeyPath:
    """`augment[0].zoom` → `('augment', 0, 'zoom')`.

    Raises:
        ValueError: If it is not of that form.
    """
    path: list[str | int] = []
    for piece in text.split("."):
        name, *indices = piece.split("[")
        if not name:
            raise ValueError(text)
        path.append(name)
        for index in indices:
            if not index.endswith("]") or not index[:-1].isdecimal() or len(index) > _MAX_DIGITS:
                raise ValueError(text)
            path.append(int(index[:-1]))
    if len(path) > _MAX_DEPTH:
        raise ValueError(text)
    return tuple(path)


def place_of(places: Mapping[KeyPath, str], path: KeyPath) -> str | None:
    """Where the value at `path`, or the nearest thing around it, was written."""
    for end in range(len(path), -1, -1):
        if path[:end] in places:
            return places[path[:end]]
    return None


def read_yaml(path: Path, shown: str) -> tuple[dict[str, Any], Places]:
    """Read one YAML 1.2 file whose root is a map.

    Args:
        path: The file.
        shown: What messages call it.

    Returns:
        Plain dicts, lists and scalars, and the place of every value.

    Raises:
        ConfigError: If it cannot be read, is not YAML, repeats a key, is not a map, or is out of bounds.
    """
    return _Reader(shown).document(parse_yaml(read_yaml_text(path, shown), shown))


def read_yaml_text(path: Path, shown: str) -> str:
    """The text of a YAML file; messages call it `shown`.

    Raises:
        ConfigError: If it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with open_regular(path) as stream:
            size_bytes, data = os.fstat(stream.fileno()).st_size, stream.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{shown}: cannot be read ({exc.strerror or exc}).") from exc
    if len(data) > _MAX_BYTES:
        raise ConfigError(
            f"{shown}: {max(size_bytes, len(data))} bytes is too large for a configuration (at most {_MAX_BYTES})."
        )
    try:
        text: str = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{shown}: not UTF-8 text (byte {exc.start}).") from exc
    return text


def parse_yaml(text: str, shown: str) -> Any:
    """Parse YAML 1.2 text into ruamel's nodes.

    Raises:
        ConfigError: With the line, if it is not YAML, repeats a key, or is out of bounds.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if len(text) > _MAX_BYTES:
        raise ConfigError(f"{shown}: {len(text)} letters are too many for a configuration (at most {_MAX_BYTES}).")
    if text.count("<<") * len(text) > _MAX_MERGED:
        raise ConfigError(f"{shown}: merges maps with `<<` too often for its length. Use `extends`, or write them out.")
    try:
        return YAML(typ="rt", pure=True).load(text)
    except YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f"{shown}:{mark.line + 1}" if mark is not None and not shown.startswith("--set") else shown
        problem = " ".join(str(getattr(exc, "problem", None) or exc).split())
        raise ConfigError(f"{where}: not valid YAML: {problem}") from exc
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as exc:
        # ruamel lets errors of its scalar constructors and of its parser's own tables through
        raise ConfigError(f"{shown}: not valid YAML: {one_line(exc)}") from exc


def plain(node: Any, shown: str) -> Any:
    """A parsed value as plain dicts, lists and scalars; messages call it `shown`."""
    return _Reader(shown).value(node, (), shown)


class _Reader:
    """Turns ruamel's nodes into plain values and notes their lines; bounded, since aliases can multiply."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.places: Places = {}
        self.nodes = 0

    def document(self, node: Any) -> tuple[dict[str, Any], Places]:
        if node is None:
            raise ConfigError(f"{self.shown}: is empty. A preset needs at least name, backbone, head and stages.")
        if not isinstance(node, Mapping):
            raise ConfigError(f"{self.shown}:1: a configuration is a map of keys. Received: {type(node).__name__}")
        document: dict[str, Any] = self.value(node, (), f"{self.shown}:1")
        return document, self.places

    def value(self, node: Any, path: KeyPath, place: str) -> Any:
        self.nodes += 1
        if self.nodes > _MAX_NODES or len(path) > _MAX_DEPTH:
            raise ConfigError(f"{place}: too many or too deeply nested values for a configuration.")
        self.places[path] = place
        if isinstance(node, Mapping):
            return {
                str(key): self.value(item, (*path, str(key)), self._line(node, key, place))
                for key, item in node.items()
            }
        if isinstance(node, list):
            return [self.value(item, (*path, i), self._line(node, i, place)) for i, item in enumerate(node)]
        return self._scalar(node, path, place)

    def _line(self, node: Any, key: Any, place: str) -> str:
        lines = getattr(getattr(node, "lc", None), "data", None) or {}
        return f"{self.shown}:{lines[key][0] + 1}" if key in lines else place

    @staticmethod
    def _scalar(node: Any, path: KeyPath, place: str) -> Any:
        if node is None or isinstance(node, bool):
            return node
        if isinstance(node, str) and "\0" in node:
            raise ConfigError(
                f"{place}: {show_path(path)}: a text with a NUL character is not allowed. Received: {node!r:.80}"
            )
        if isinstance(node, float) and not math.isfinite(node):
            raise ConfigError(f"{place}: {show_path(path)}: a number has to be finite. Received: {node}")
        if isinstance(node, int) and abs(node) >= 10**_MAX_DIGITS:
            raise ConfigError(f"{place}: {show_path(path)}: a whole number has {_MAX_DIGITS} digits at most.")
        for kind in (int, float, str):
            if isinstance(node, kind):
                # ruamel keeps the notation in subclasses; YAML 1.2 booleans that carry an anchor are an int subclass
                return bool(node) if type(node).__name__ == "ScalarBoolean" else kind(node)
        raise ConfigError(f"{place}: {show_path(path)}: this kind of value is not allowed. Received: {node!r:.80}")


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML, in the order given."""
    import io

    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    yaml.dump(dict(values), stream)
    return stream.getvalue()
