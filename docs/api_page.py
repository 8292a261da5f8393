"""The page `plugins/api.md`: what a script or a notebook calls, from the docstrings of the functions themselves."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import finetunekit as ftk
from finetunekit.engine.export import ExportableRun
from finetunekit.evaluation.prediction_table import Predictions
from finetunekit.evaluation.predictor import Prediction
from finetunekit.serving.server import Server

_HEAD = """\
<!-- Written by docs/generate.py from docstrings: change those and run `make docs`. -->

# Python API

```python
import finetunekit as ftk
```

This page lists what a script or a notebook calls. Nothing heavy is loaded before a function needs it. Every error
that a caller can cause is
a `finetunekit.FinetuneKitError` whose text says what to do ([Errors](../errors.md)). [Hooks](hooks.md) describes what
a plugin implements, and
[What a run holds](run_folder.md) describes the content of a run folder.
"""
#: Heading → what stands below it: functions, classes, and methods as (class, name).
_PARTS: dict[str, tuple[Any, ...]] = {
    "Train": (ftk.run, ftk.RunResult, ftk.run_seeds, ftk.run_folds, ftk.run_left_out, ftk.run_ablation),
    "Look at photos, choose a network": (ftk.audit, ftk.probe),
    "Use a run": (
        ftk.load,
        (ftk.LoadedRun, "predict"),
        (ExportableRun, "export"),
        Predictions,
        Prediction,
        ftk.serve,
        Server,
    ),
    "Compare": (ftk.compare, ftk.verify_run),
}


def render_api(value: Callable[[type[Any]], str]) -> str:
    """The page.

    Args:
        value: Renders a dataclass.
    """
    parts = [_HEAD]
    for heading, members in _PARTS.items():
        parts += [f"## {heading}", *(text for member in members for text in _member(member, value))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _member(member: Any, value: Callable[..., str]) -> Iterator[str]:
    if isinstance(member, tuple):
        owner, name = member
        member, shown = getattr(owner, name), f"load(...).{name}"
    else:
        shown = member.__name__
    if not isinstance(member, type):
        yield f"### {shown}\n\n{_signature(member)}\n\n{_sections(member)}"
    elif hasattr(member, "__dataclass_fields__"):
        yield value(member)
    else:
        yield f"### {shown}\n\n{_sections(member)}"
        for name, method in vars(member).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                yield f"#### {shown}.{name}\n\n{_signature(method)}\n\n{_sections(method)}"


def _signature(function: Callable[..., Any]) -> str:
    """As in the source, a line a parameter where one line would be long."""
    signature = inspect.signature(function)
    listed, is_keyword = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not is_keyword:
            is_keyword = True
            listed += ["*"] if not any(text.startswith("*") for text in listed) else []
        if parameter.name != "self":
            star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
            listed.append(f"{star}{parameter.name}: {parameter.annotation}{_default(parameter.default)}")
    head, tail = f"def {function.__name__}(", f") -> {signature.return_annotation}: ..."
    short = f"{head}{', '.join(listed)}{tail}"
    lines = short if len(short) <= 100 else "\n".join([head, *(f"    {each}," for each in listed), tail])
    return f"```python\n{lines}\n```"


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return ""
    shown = "..." if inspect.isfunction(value) else repr(value).replace("'", '"')
    return f" = {shown}"


def _sections(documented: Any) -> str:
    """A docstring with its sections as lists: what stands deeper than a name goes on with it."""
    summary, *rest = re.split(r"\n(Args|Returns|Yields|Raises|Attributes|Source):", inspect.getdoc(documented) or "")
    parts = [summary.strip()]
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        is_list = title in ("Args", "Raises", "Attributes")
        parts.append(f"**{title}**\n\n{_list(body)}" if is_list else f"**{title}**: {' '.join(body.split())}")
    return "\n\n".join(parts)


def _list(body: str) -> str:
    items: list[str] = []
    for line in textwrap.dedent(body.strip("\n")).rstrip().splitlines():
        if line.startswith(" ") and items:
            items[-1] += f" {line.strip()}"
        else:
            name, _, meaning = line.partition(": ")
            items.append(f"- `{name}`: {meaning}" if re.fullmatch(r"\w+", name) else f"- {line}")
    return "\n".join(items)
