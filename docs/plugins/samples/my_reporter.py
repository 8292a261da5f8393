"""A reporter: the test photos that were taken for something else, the surest mistakes first, as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from finetunekit import FinishedRun, Options, hookimpl
from finetunekit.hookspecs import Register


class MistakesOptions(Options):
    """Options of `mistakes`."""

    most: int = Field(20, ge=1, le=10_000, description="How many mistakes to show.")


def build_mistakes(options: MistakesOptions, run: FinishedRun) -> Mapping[str, bytes]:
    """Write `mistakes.md`. Probabilities are read from `run.predictions`: a reporter computes no score.

    Args:
        options: How many to show.
        run: The finished run's folder; nothing in it may be changed.

    Returns:
        File name → content; the engine writes it under the run's `reports/`.
    """
    wrong = [row for row in run.predictions if row["split"] == "test" and row["true"] != row["predicted"]]
    wrong.sort(key=_sureness, reverse=True)
    lines = ["| photo | is | taken for | how sure |", "| --- | --- | --- | --- |"]
    lines += [_line(row) for row in wrong[: options.most]]
    head = [run.stand_in, ""] if run.stand_in else []  # whoever sees the page must learn what the photos are
    return {"mistakes.md": "\n".join([*head, *lines, ""]).encode()}


def _line(row: Mapping[str, str]) -> str:
    cells = (row["path"], row["true"], row["predicted"], f"{_sureness(row):.2f}")
    return f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |"


def _sureness(row: Mapping[str, str]) -> float:
    return float(row[f"p_{row['predicted']}"])


@hookimpl
def register_reporters(register: Register) -> None:
    """One reporter."""
    register("mistakes", build_mistakes, MistakesOptions)
