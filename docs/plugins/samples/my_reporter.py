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
    lines += [f"| {row['path']} | {row['true']} | {row['predicted']} | {_sureness(row):.2f} |" for row in wrong]
    head = [run.stand_in, ""] if run.stand_in else []
    return {"mistakes.md": "\n".join([*head, *lines[: options.most + 2], ""]).encode()}


def _sureness(row: Mapping[str, str]) -> float:
    return float(row[f"p_{row['predicted']}"])


@hookimpl
def register_reporters(register: Register) -> None:
    """One reporter."""
    register("mistakes", build_mistakes, MistakesOptions)
