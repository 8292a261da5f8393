"""What is wrong with a configuration, in lines: place, path, what was received, what is allowed."""

from __future__ import annotations

import json
import re
from typing import Any

import pydantic

from finetunekit.config.yaml_source import KeyPath, Places, place_of, show_path
from finetunekit.errors import did_you_mean
from finetunekit.types import Options


def describe_problems(
    exc: pydantic.ValidationError, model: type[pydantic.BaseModel], places: Places, source: str, at: KeyPath
) -> list[str]:
    """One line a problem: place, path, what is wrong, what is allowed."""
    lines = []
    errors = exc.errors(include_url=False)
    for error in errors:
        # a list whose items are wrong counts as empty for pydantic; the items' own errors say what is wrong
        inner = [
            e for e in errors if len(e["loc"]) > len(error["loc"]) and e["loc"][: len(error["loc"])] == error["loc"]
        ]
        if error["type"] == "too_short" and inner:
            continue
        loc = tuple(
            part for part in error["loc"] if not (isinstance(part, str) and part.startswith(("function-", "union-")))
        )
        path: KeyPath = (*at, *loc)
        where = place_of(places, path) or source
        shown = show_path(path) or "the file"
        subject = where if where == f"--set {shown}" else f"{where}: {shown}"
        lines.append(f"{subject}: {_problem(error, model, loc)}")
    return lines


def _problem(error: Any, model: type[pydantic.BaseModel], loc: KeyPath) -> str:
    if error["type"] == "extra_forbidden":
        allowed = _fields_at(model, loc[:-1])
        return f"unknown {'option' if issubclass(model, Options) else 'key'}.{did_you_mean(str(loc[-1]), allowed)}"
    if error["type"] == "missing":
        return "is required."
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    received = json.dumps(error.get("input"), ensure_ascii=False, default=str)
    return f"{message}. Received: {received if len(received) <= 80 else received[:79] + '…'}"


def _fields_at(model: type[pydantic.BaseModel], path: KeyPath) -> list[str]:
    """Names allowed in the section at `path`."""
    current: Any = model
    for part in path:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part) if _is_model(current) else None
        current = _inner_model(field.annotation) if field else None
    return list(current.model_fields) if _is_model(current) else []


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, pydantic.BaseModel)


def _inner_model(annotation: Any) -> Any:
    """The section inside `X`, `X | None` or `tuple[X, ...]`."""
    if _is_model(annotation):
        return annotation
    return next((found for arg in getattr(annotation, "__args__", ()) if (found := _inner_model(arg))), None)


def line_order(problem: str) -> tuple[str, int]:
    """Problems in the order of their lines, those of `--set` last."""
    found = re.match(r"(.*?):(\d+): ", problem)
    return (found.group(1), int(found.group(2))) if found else ("~", 0)
