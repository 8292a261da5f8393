"""The JSON Schema of a preset, with the options of every loaded plugin: editors complete and check YAML by it.

It says what reaches a plan as the plan does, as far as a schema can: a bound that spans two values is the plan's alone. Where a file
`extends` another, what it leaves out comes from there, so that nothing is required of it; null removes, except inside a list, which
replaces the whole list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pydantic
from pydantic.errors import PydanticInvalidForJsonSchema

from finetunekit.config.sections import DataSection, RunConfig
from finetunekit.config.training_sections import Component
from finetunekit.plugins.host import PluginHost
from finetunekit.system.formatting import one_line
from finetunekit.types import Options, Registered

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema: TypeAlias = dict[str, Any]
#: How a map is read: `whole` in a file that stands alone, `over` in one that extends another, `item` inside a list.
Reading: TypeAlias = Literal["whole", "over", "item"]

#: Key of the configuration → registry in which its components are looked up.
_KINDS = {
    "backbone": "backbone",
    "head": "head",
    "augment": "augmentation",
    "freeze": "freezing policy",
    "reports": "reporter",
    "track": "tracker",
    "to": "exporter",
    "executor": "executor",
}


def preset_schema(host: PluginHost) -> Schema:
    """The schema of a preset's YAML.

    Args:
        host: Loaded plugins; their components and presets are the names that it allows.

    Returns:
        JSON Schema, draft 2020-12, as plain values. The same plugins give the same schema.
    """
    writer = _Writer(host)
    whole, over = writer.section("RunConfig", "whole"), writer.section("RunConfig", "over")
    return {
        "$schema": DIALECT,
        "title": "finetunekit preset",
        "description": "One run of finetunekit. `finetunekit plan FILE` shows it with every default filled in.",
        "type": "object",
        "if": {"required": ["extends"]},
        "then": over,
        "else": whole,
        "$defs": writer.written,
    }


@dataclass(frozen=True, slots=True)
class _Models:
    """Schemas of pydantic models by class name; `prefix` keeps those of one plugin apart from those of another."""

    prefix: str
    schemas: Mapping[str, Schema]

    @staticmethod
    def of(model: type[pydantic.BaseModel], prefix: str = "") -> _Models:
        schema = model.model_json_schema(ref_template="{model}")
        nested = schema.pop("$defs", {})
        return _Models(prefix, {model.__name__: schema, **nested})  # a model inside itself is among the nested ones


class _Writer:
    """Rewrites pydantic's schemas for each reading, and notes every definition that is needed."""

    def __init__(self, host: PluginHost) -> None:
        self.host = host
        self.written: dict[str, Schema] = {}
        self.config = _Models.of(RunConfig)

    def section(self, name: str, reading: Reading, models: _Models | None = None) -> Schema:
        models = models or self.config
        key = f"{models.prefix}{name}" + ("" if reading == "whole" else f" ({reading})")
        if key not in self.written:
            self.written[key] = {}  # taken, so that a model inside itself ends
            self.written[key] = self.convert(models.schemas[name], reading, models)
            if reading != "item":
                self.written[key] = _or_null(self.written[key])
            if models is self.config and name in _ADDITIONS:
                self.written[key] = _ADDITIONS[name](self, self.written[key], reading)
        return _ref(key)

    def convert(self, schema: Schema, reading: Reading, models: _Models, key: str = "") -> Schema:
        """Any schema of pydantic's; `key` is the property that holds it."""
        hidden = ("title", "default") if reading == "over" else ("title",)  # there the other file has the default
        converted = {k: v for k, v in schema.items() if k not in hidden}
        if "$ref" in schema:
            name = schema["$ref"]
            is_component = models is self.config and name == Component.__name__ and key in _KINDS
            found = self.component(_KINDS[key], reading) if is_component else self.section(name, reading, models)
            converted |= found
        for word in ("anyOf", "oneOf", "allOf", "prefixItems"):
            if word in schema:
                converted[word] = [self.convert(one, reading, models, key) for one in schema[word]]
        if "oneOf" in schema:
            kinds = [
                models.schemas.get(one.get("$ref"), {}).get("properties", {}).get("kind") for one in schema["oneOf"]
            ]
            if all(kinds):
                converted = _by_kind(kinds, converted["oneOf"])
        if isinstance(schema.get("items"), dict):
            converted["items"] = self.convert(schema["items"], "item", models, key)
        if "properties" in schema:
            converted |= self.properties(schema, reading, models)
        return converted

    def properties(self, schema: Schema, reading: Reading, models: _Models) -> Schema:
        required = [] if reading == "over" else schema.get("required", [])
        properties = {key: self.convert(one, reading, models, key) for key, one in schema["properties"].items()}
        if reading != "item":
            properties = {key: _not_null(one) if key in required else _or_null(one) for key, one in properties.items()}
        return {"properties": properties, "required": required}

    # ---- components --------------------------------------------------------------------------------------------------------------

    def component(self, kind: str, reading: Reading) -> Schema:
        """`{name: …, option: …}` of one kind."""
        key = kind + ("" if reading == "whole" else f" ({reading})")
        if key not in self.written:
            entries = self.host.registries[kind].values()
            options = {entry.name: self.options(kind, entry, reading) for entry in entries}
            cases = [_when("name", name, _named(name, one)) for name, one in options.items()]
            self.written[key] = {
                "type": "object" if reading == "item" else ["object", "null"],
                "description": f"A {kind}: its name, and its own options.",
                "properties": {"name": _one_of(options, f"Name of the {kind}.")},
                **({"allOf": cases} if cases else {}),
            } | self.unnamed(list(options.values()), reading)
        return _ref(key)

    def unnamed(self, options: list[Schema], reading: Reading) -> Schema:
        """Only a file that extends another may leave the name to it; the options may then be those of any."""
        if reading != "over":
            return {"required": ["name"]}
        return {"if": {"not": {"required": ["name"]}}, "then": {"anyOf": options}}

    def options(self, kind: str, entry: Registered, reading: Reading) -> Schema:
        """A component's own options; unchecked where its plugin's model cannot be said in a schema."""
        try:
            models = _Models.of(entry.options, f"{kind} {entry.name}: ")
        except PydanticInvalidForJsonSchema as exc:
            origin = entry.origin
            reason = one_line(exc)
            self.host.warn(f"warning: plugin '{origin.plugin}' ({origin}): options of {kind} '{entry.name}': {reason}")
            return {}
        found = self.convert(models.schemas[entry.options.__name__], reading, models)
        del found["type"]  # the map that holds the options says whether it may be null
        if entry.options is Options:
            found["description"] = "No options."
        return {"properties": {}, **found}

    # ---- what the configuration's own schema does not say --------------------------------------------------------------------------

    def with_extends(self, schema: Schema, reading: Reading) -> Schema:
        extends = {
            "description": "Preset that this one goes over: its name, or the path of a YAML file relative to this one. "
            "Maps merge, lists replace, null removes.",
            "anyOf": [_one_of(sorted(self.host.presets)), {"type": "string", "pattern": r"[/\\]|\.ya?ml$"}],
        }
        names = _one_of(self.host.registries["backbone"])
        backbones = {**schema["properties"]["backbones"], "items": names}
        properties = {"extends": extends, **schema["properties"], "backbones": backbones}
        if reading == "over":
            return {**schema, "properties": properties}
        several = {"required": ["backbones"], "properties": {"backbones": {"type": "array", "minItems": 1}}}
        one = {"required": ["backbone"], "properties": {"backbone": {"type": "object"}}}
        return {**schema, "properties": properties, "if": several, "else": one}

    def with_sources(self, schema: Schema, reading: Reading) -> Schema:
        entries = self.host.registries["data source"]
        options = {name: self.options("data source", entry, reading) for name, entry in entries.items()}
        fields = DataSection.model_fields
        properties = schema["properties"] | {
            "source": _or_null(_one_of(options, fields["source"].description)),
            "otherwise": _or_null(_one_of(options, fields["otherwise"].description)),
            "options": {
                "description": fields["options"].description,
                "type": ["object", "null"],
                "anyOf": [{"type": "null"}, *options.values()],
            },
        }
        default = fields["source"].default if reading == "whole" else None
        fits = [
            _when("source", name, {"properties": {"options": one}}, is_default=name == default)
            for name, one in options.items()
        ]
        return {**schema, "properties": properties, "allOf": fits}


_ADDITIONS = {RunConfig.__name__: _Writer.with_extends, DataSection.__name__: _Writer.with_sources}


def _ref(key: str) -> Schema:
    """A pointer to a definition, escaped as a URI fragment."""
    from urllib.parse import quote

    return {"$ref": "#/$defs/" + quote(key.replace("~", "~0").replace("/", "~1"), safe="~")}


def _when(key: str, value: str, then: Schema, *, is_default: bool = False) -> Schema:
    """`then`, where the key has this value, or where it is left out or null and this is its default."""
    allowed = [value, None] if is_default else [value]
    present = {} if is_default else {"required": [key]}
    return {"if": {"properties": {key: {"enum": allowed}}, **present}, "then": then}


def _by_kind(kinds: list[Schema], then: list[Schema]) -> Schema:
    """A map whose `kind` says which keys it has. No `oneOf`, since what is wrong inside one is hard to tell."""
    names = [kind["const"] for kind in kinds]
    meaning = " ".join(f"{kind['const']}: {kind['description']}" for kind in kinds)
    pairs = zip(kinds, then, strict=True)
    cases = [_when("kind", kind["const"], one, is_default="default" in kind) for kind, one in pairs]
    return {"properties": {"kind": _one_of(names, meaning)}, "allOf": cases}


def _named(name: str, options: Schema) -> Schema:
    meaning = {"const": name, "description": options.get("description", "")}
    return {**options, "properties": {"name": meaning, **options["properties"]}} if "properties" in options else options


def _one_of(names: Iterable[str], description: str | None = None) -> Schema:
    names = list(names)
    found: Schema = {"enum": names} if names else {"type": "string"}  # no plugin that is installed has any
    return {"description": description, **found} if description else found


def _not_null(schema: Schema) -> Schema:
    return {**schema, "type": "object"} if "$ref" in schema else schema


def _or_null(schema: Schema) -> Schema:
    """The same, or null. No `anyOf` is put around it, since what is wrong inside one is hard to tell."""
    if "$ref" in schema:
        return schema  # maps that may be null say so themselves
    if "anyOf" in schema:
        has_null = {"type": "null"} in schema["anyOf"]
        return schema if has_null else {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    found = dict(schema)
    if "type" in schema:
        found["type"] = [schema["type"], "null"]
    if "const" in schema or "enum" in schema:
        found["enum"] = [*(schema.get("enum") or [found.pop("const")]), None]
    return found
