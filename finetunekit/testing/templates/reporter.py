"""Reporter `my_component`: how many test photos of each class were recognised, as a web page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from pydantic import Field

from finetunekit import FinishedRun, Options, hookimpl
from finetunekit.plugins.hookspecs import Register


class MyComponentOptions(Options):
    """Options of `my_component`."""

    title: str = Field("Recognised test photos", min_length=1, description="Heading of the page.")


def build_my_component(options: MyComponentOptions, run: FinishedRun) -> Mapping[str, bytes]:
    """Write one page. Every score is read from `run.metrics`: a reporter computes none.

    Args:
        options: The heading.
        run: The finished run's folder; nothing in it may be changed.

    Returns:
        File name → content; the engine writes it under the run's `reports/`.
    """
    rows = [_row(name, scores) for name, scores in zip(run.classes, run.metrics["test"]["classes"], strict=True)]
    note = f"<p>{escape(run.stand_in)}</p>" if run.stand_in else ""
    table = f"<table>{''.join(rows)}</table>"
    page = f"<!doctype html><meta charset='utf-8'><h1>{escape(options.title)}</h1>{note}{table}\n"
    return {"my_component.html": page.encode()}


def _row(name: str, scores: Mapping[str, Mapping[str, object]]) -> str:
    recall = scores["recall"]
    return f"<tr><th>{escape(name)}</th><td>{recall['successes']} of {recall['photos']}</td></tr>"


@hookimpl
def register_reporters(register: Register) -> None:
    """One reporter."""
    register("my_component", build_my_component, MyComponentOptions)
