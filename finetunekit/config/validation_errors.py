"""What is wrong with a configuration, in lines: place, path, what was received, what is allowed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

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
        loc = tuple(part for part in error["loc"] if not str(part).startswith(("function-", "union-")))
        written, problem = _problem(error, model, loc)
        path: KeyPath = (*at, *written)
        where = place_of(places, path) or source
        shown = show_path(path) or "the file"
        subject = where if where == f"--set {shown}" else f"{where}: {shown}"
        lines.append(f"{subject}: {problem}")
    return lines


def _problem(error: Any, model: type[pydantic.BaseModel], loc: KeyPath) -> tuple[KeyPath, str]:
    """The path as the user wrote it, and what is wrong there."""
    if error["type"] == "union_tag_invalid":  # its context quotes each tag
        kinds = [kind.strip("' ") for kind in error["ctx"]["expected_tags"].split(",")]
        written, _ = _follow(model, loc)
        return (*written, "kind"), f"unknown kind '{error['ctx']['tag']}'.{did_you_mean(error['ctx']['tag'], kinds)}"
    if error["type"] == "extra_forbidden":
        written, sections = _follow(model, loc[:-1])
        key = str(loc[-1])
        return (*written, key), _unknown(key, sections, "option" if issubclass(model, Options) else "key")
    written, _ = _follow(model, loc)
    if error["type"] == "missing":
        return written, "is required."
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    received = json.dumps(error.get("input"), ensure_ascii=False, default=str)
    return written, f"{message}. Received: {received if len(received) <= 80 else received[:79] + '…'}"


def _unknown(key: str, sections: _Sections, word: str) -> str:
    """`key` is not allowed in the first of these sections, and may be in another kind of it."""
    kind, section = next(iter(sections.items()), (None, None))
    help_ = did_you_mean(key, section.model_fields) if section else ""
    others = [other for other, model in sections.items() if key in model.model_fields]
    if others:
        return f"a {kind} stage has no `{key}`, a {others[0]} stage has.{help_}"
    return f"unknown {word}.{help_}"


#: Kind → section, the one in question first; None where there is but one kind.
_Sections = dict[str | None, type[pydantic.BaseModel]]


def _follow(model: type[pydantic.BaseModel], loc: KeyPath) -> tuple[KeyPath, _Sections]:
    """Where a place in pydantic's words lies: its path without the kinds that pydantic puts there, and the sections at its end."""
    written: list[str | int] = []
    sections: _Sections = {None: model}
    for part in loc:
        if isinstance(part, str) and part in sections:
            sections = {part: sections.pop(part), **sections}
            continue
        written.append(part)
        if isinstance(part, str):
            field = next(iter(sections.values())).model_fields.get(part) if sections else None
            sections = dict(_sections_in(field.annotation)) if field else {}
    return tuple(written), sections


def _sections_in(annotation: Any, kind: str | None = None) -> Iterator[tuple[str | None, type[pydantic.BaseModel]]]:
    """Each section inside `X`, `X | None`, `tuple[X, ...]` or a union of tagged kinds, with its kind."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield kind, annotation
        return
    inner = get_args(annotation)
    kind = next((one.tag for one in inner if isinstance(one, pydantic.Tag)), kind)
    for one in inner:
        yield from _sections_in(one, kind)


def line_order(problem: str) -> tuple[str, int]:
    """Problems in the order of their lines, those of `--set` last."""
    found = re.match(r"(.*?):(\d+): ", problem)
    return (found.group(1), int(found.group(2))) if found else ("~", 0)
