"""Configurations that nobody would write, and YAML that nobody could: what `fuzz_configs.py` and the tests feed the plan.

Documents are drawn along the JSON Schema of a preset and then spoilt in places; texts are presets of the project with letters lost, doubled
and mixed in. The oracle is one line: a plan, or a deliberate error of bounded length.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from finetunekit.config.json_schema import preset_schema
from finetunekit.config.planning import make_plan
from finetunekit.config.preset import read_document
from finetunekit.config.yaml_source import dump_yaml
from finetunekit.errors import FinetuneKitError
from finetunekit.plugins.host import PluginHost, load_plugins

MAX_CHARACTERS = 200_000
_DEPTH = 6
_HOSTILE = (
    "!!python/object/apply:os.system [true]",
    "&a [*a]",
    "<<: *x",
    "? ? ?",
    "{[}]",
    "\x00",
    "\ufeff",
    "\u2028",
    "'",
    '"\\x',
    "- - - -",
    "!!binary x",
    "2026-01-01",
    "0o17",
    ".nan",
    ".inf",
    "1e999",
    "~",
    "%YAML 9.9\n---\n",
    "---\n---\n",
    "[" * 2000,
    "{a: " * 300,
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**63, max_value=2**80),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=20),
    st.sampled_from(["", " ", "a/b", "../x.yaml", "felidae4", "none", "null", "~", "0", "1e-4", "\n", "x" * 300]),
)
junk = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


def load_host() -> PluginHost:
    """The project's plugins, which every case shares."""
    return load_plugins(lambda line: None, disabled=frozenset({"all"}))


class Drawer:
    """Values along a JSON Schema: mostly what it allows, here and there what it does not."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.root = schema

    def document(self, draw: st.DrawFn) -> Any:
        """A whole preset."""
        return self.value(draw, self.root["$defs"]["RunConfig"], _DEPTH)

    def value(self, draw: st.DrawFn, schema: Any, depth: int) -> Any:
        """One value."""
        if not isinstance(schema, dict) or depth == 0 or draw(st.integers(0, 24)) == 0:
            return draw(junk)
        schema = self.resolved(schema)
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self.value(draw, draw(st.sampled_from(schema[choice])), depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return draw(st.sampled_from(schema["enum"]))
        if "properties" in schema:
            return self.object(draw, schema, depth)
        return self.plain(draw, schema, depth)

    def resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Without references, and with one branch of each condition."""
        from urllib.parse import unquote

        for _ in range(8):
            if "$ref" in schema:
                name = unquote(schema["$ref"].rsplit("/", 1)[-1])
                schema = {**self.root["$defs"].get(name, {}), **{k: v for k, v in schema.items() if k != "$ref"}}
        return schema

    def object(self, draw: st.DrawFn, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """A map: what is required nearly always, the rest now and then, unknown keys rarely."""
        required = set(schema.get("required", ()))
        found: dict[str, Any] = {}
        for name, inner in schema["properties"].items():
            if draw(st.integers(0, 19)) < (19 if name in required else 6):
                found[name] = self.value(draw, inner, depth - 1)
        if draw(st.integers(0, 9)) == 0:
            found[draw(st.text(string.ascii_letters + "_ .[]-é", max_size=12))] = draw(junk)
        return found

    def plain(self, draw: st.DrawFn, schema: dict[str, Any], depth: int) -> Any:
        """A list or a scalar, at and around its bounds."""
        kinds = schema.get("type", "string")
        kind = draw(st.sampled_from(kinds)) if isinstance(kinds, list) else kinds
        if kind == "array":
            return [self.value(draw, schema.get("items", {}), depth - 1) for _ in range(draw(st.integers(0, 3)))]
        if kind in ("integer", "number"):
            bounds = [schema[b] for b in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") if b in schema]
            near = [b + step for b in bounds for step in (-1, 0, 1)] or [0, 1]
            numbers: st.SearchStrategy[Any] = st.integers(-(10**6), 10**6) if kind == "integer" else st.floats()
            return draw(st.one_of(st.sampled_from(near), numbers))
        if kind == "boolean":
            return draw(st.booleans())
        if kind == "object":
            return draw(st.dictionaries(st.text(max_size=8), junk, max_size=3))
        return None if kind == "null" else draw(st.text(max_size=12))


def documents(host: PluginHost) -> st.SearchStrategy[str]:
    """Presets as YAML, drawn along the schema."""
    drawer = Drawer(preset_schema(host))

    @st.composite
    def draw_document(draw: st.DrawFn) -> str:
        value = drawer.document(draw)
        return dump_yaml(value) if isinstance(value, dict) else dump_yaml({"name": value})

    return draw_document()


def spoilt_texts(presets: Path) -> st.SearchStrategy[str]:
    """The project's presets with letters lost, doubled and mixed in, and lines moved."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(presets.glob("*.yaml"))]

    @st.composite
    def draw_text(draw: st.DrawFn) -> str:
        text = draw(st.sampled_from(texts))
        for _ in range(draw(st.integers(1, 6))):
            at = draw(st.integers(0, len(text)))
            length = draw(st.integers(0, 30))
            text = text[:at] + draw(st.one_of(st.text(max_size=5), st.sampled_from(_HOSTILE))) + text[at + length :]
        return text

    return draw_text()


settings = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.builds(
            "{}={}".format,
            st.sampled_from(
                ["seed", "stages[0].epochs", "augment[9].name", "a..b", "head", "plugins", "stages", "data.root", "[0]"]
            ),
            st.one_of(st.text(max_size=10), st.sampled_from(_HOSTILE), st.integers().map(str)),
        ),
    ),
    max_size=2,
)


PLAN, CLEAN = "a plan", "a clean error"


def verdict(host: PluginHost, path: Path, content: bytes, changes: list[str]) -> str:
    """How one case ended: `PLAN`, `CLEAN`, or what is wrong with it."""
    path.write_bytes(content)
    try:
        document = read_document(str(path), host.presets, changes)
        for plugin in document.plugin_files:
            PluginHost(warn=lambda line: None).load_file(plugin)
        make_plan(document, host).to_dict()
    except FinetuneKitError as exc:
        text = str(exc)
        if not text.strip():
            return "an error without a word"
        return f"an error of {len(text)} characters" if len(text) > MAX_CHARACTERS else CLEAN
    except BaseException as exc:
        if isinstance(exc, KeyboardInterrupt):
            raise
        return f"{type(exc).__name__}: {' '.join(str(exc).split())[:200]}"
    return PLAN
