"""Reporter `my_component`: how many test photos of each class were recognised, as a web page."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from finetunekit import FinishedRun, Options, hookimpl
from finetunekit.hookspecs import Register
from finetunekit.reports.pages import render_page

PAGE = """
{% extends "page.html" %}
{% block main %}
{% call section("recognised", "Recognised") %}
{{ table(["class", "recognised"], rows, "Test photos of each class", [1]) }}
{% endcall %}
{% endblock %}
"""


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
    recalls = [scores["recall"] for scores in run.metrics["test"]["classes"]]
    rows = [
        (name, f"{recall['successes']} of {recall['photos']}")
        for name, recall in zip(run.classes, recalls, strict=True)
    ]
    page = render_page(PAGE, title=options.title, stand_in=run.stand_in, names=run.classes, rows=rows)
    return {"my_component.html": page}


@hookimpl
def register_reporters(register: Register) -> None:
    """One reporter."""
    register("my_component", build_my_component, MyComponentOptions)
