"""The generated parts of `presets.md`: the project's presets, every key of a preset, and every component's options."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from finetunekit.config.preset import read_document
from finetunekit.config.sections import RunConfig
from finetunekit.config.training_sections import Component
from finetunekit.plugins.host import PluginHost
from finetunekit.types import Registered

#: Registry → its heading, and where YAML names its components.
KINDS = {
    "backbone": ("Backbones", "`backbone`"),
    "head": ("Heads", "`head`"),
    "freezing policy": ("Freezing policies", "`stages[].freeze`"),
    "augmentation": ("Augmentations", "`augment[]`"),
    "data source": ("Data sources", "`data.source` with `data.options`, and `data.otherwise`"),
    "reporter": ("Reporters", "`reports[]`"),
    "tracker": ("Trackers", "`track[]`"),
    "executor": ("Executors", "`executor` and by `--on`"),
    "exporter": ("Exporters", "`export.to[]` and by `finetunekit export RUN --to`"),
}


def render_list(host: PluginHost) -> str:
    """A row a preset: name, what it does, what is expected of it."""
    rows = [_preset(name, host) for name in sorted(host.presets)]
    return "\n".join(["| preset | what it does | expected |", "| --- | --- | --- |", *rows])


def _preset(name: str, host: PluginHost) -> str:
    values = read_document(name, host.presets).values
    expected = values.get("expected") or {}
    said = f"{expected['value'] * 100:g} %: {expected['source']}" if expected else "–"
    return f"| `{name}` | {_cell(values['description'])} | {_cell(said)} |"


def render_keys(host: PluginHost) -> str:
    """Tables of every key, section by section, then of every component's options."""
    schema = RunConfig.model_json_schema()
    models = {**schema.pop("$defs"), RunConfig.__name__: schema}
    parts = ["### Keys", _table(schema, models)]
    for key, name in _sections(schema, models):
        parts += [f"#### {key}", models[name]["description"], _table(models[name], models)]
    for kind, registry in host.registries.items():
        title, place = KINDS[kind]
        elsewhere = "" if registry else " None is built in; each is a separate package ([Tracking runs](track.md))."
        parts += [f"### {title}", f"Named in {place}.{elsewhere}"]
        for entry in registry.values():
            parts += list(_component(entry))
    return "\n\n".join(parts)


def _sections(schema: Mapping[str, Any], models: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """Heading → model of every section, in the order of the configuration."""
    for key, field in schema["properties"].items():
        path = f"{at}{key}" + ("[]" if field.get("type") == "array" else "")
        for name in _models(field):
            if name != Component.__name__:
                kind = models[name]["properties"].get("kind", {}).get("const")
                yield f"`{path}`" + (f" of kind `{kind}`" if kind else ""), name
                yield from _sections(models[name], models, f"{path}.")


def _models(field: Mapping[str, Any]) -> list[str]:
    """The sections behind a field: itself, the item of its list, each kind of that, or what it is unless null."""
    item = field.get("items", {})
    candidates = [field, item, *item.get("oneOf", ()), *field.get("anyOf", ())]
    return [found["$ref"].rpartition("/")[2] for found in candidates if "$ref" in found]


def _component(entry: Registered) -> Iterator[str]:
    schema = entry.options.model_json_schema()
    yield f"#### `{entry.name}`"
    if schema.get("properties"):
        yield _table(schema, schema.get("$defs", {}))
    else:
        yield "No options."


def _table(schema: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [_row(key, field, models, is_required=key in required) for key, field in schema["properties"].items()]
    return "\n".join(["| key | value | default | meaning |", "| --- | --- | --- | --- |", *rows])


def _row(key: str, field: Mapping[str, Any], models: Mapping[str, Any], *, is_required: bool) -> str:
    name = next(iter(_models(field)), "")
    meaning = field.get("description") or models.get(name, {}).get("description", "")
    is_section = "$ref" in field and name != Component.__name__
    empty = {} if field.get("type") == "object" else None  # pydantic keeps back the defaults that it makes anew
    default = "required" if is_required else "as below" if is_section else f"`{_json(field.get('default', empty))}`"
    return f"| `{key}` | {_cell(_allowed(field))} | {default} | {_cell(meaning)} |"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _allowed(field: Mapping[str, Any]) -> str:
    """What may stand there, in words: `integer at least 1`, `a or b`, `map`, `list: component`."""
    if "anyOf" in field:
        return " or ".join(_allowed(one) for one in field["anyOf"])
    if "$ref" in field or "oneOf" in field:
        return "component" if field.get("$ref", "").endswith("/Component") else "map"
    if "enum" in field or "const" in field:
        return " or ".join(f"`{value}`" for value in field.get("enum") or [field["const"]])
    if "prefixItems" in field:
        return f"[{', '.join(_allowed(one) for one in field['prefixItems'])}]"
    if field.get("type") == "array":
        return f"list: {_allowed(field.get('items', {}))}"
    kind = {"object": "map", "string": "text", "boolean": "`true` or `false`"}.get(field["type"], field["type"])
    bounds = " and ".join(_bounds(field))
    return f"{kind} {bounds}" if bounds else kind


def _bounds(field: Mapping[str, Any]) -> Iterator[str]:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    for key, word in words.items():
        if key in field:
            yield f"{word} {field[key]:,}".replace(",", " ")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
