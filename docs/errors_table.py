"""The generated part of `errors.md`: every deliberate error, its exit code and its meaning."""

from __future__ import annotations

import inspect

from finetunekit import errors


def render_errors() -> str:
    """A row an error class, in the order of its exit code and of the file."""
    found = vars(errors).values()
    kinds: list[type[errors.FinetuneKitError]] = [
        kind for kind in found if inspect.isclass(kind) and issubclass(kind, errors.FinetuneKitError)
    ]
    rows = [_row(kind) for kind in sorted(kinds, key=lambda kind: kind.exit_code)]
    return "\n".join(["| exit code | error | meaning |", "| --- | --- | --- |", *rows])


def _row(kind: type[errors.FinetuneKitError]) -> str:
    meaning = " ".join((inspect.getdoc(kind) or "").split())
    return f"| {kind.exit_code} | `{kind.__name__}` | {meaning} |"
