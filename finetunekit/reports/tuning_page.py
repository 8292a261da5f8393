"""A search as one page: what it found, what each setting did, every trial."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from finetunekit.reports.figures import Drawing, SlicePoint, importance_plot, slice_plot
from finetunekit.reports.pages import TEMPLATES, render_page
from finetunekit.reports.tuning_text import ranked, sentences
from finetunekit.reports.words import NONE

_LOSS = "validation log loss, nats; ★ the best, ◆ the preset"


def tuning_page(record: Mapping[str, Any]) -> bytes:
    """One self-contained HTML page.

    Args:
        record: Content of `tune.json`.
    """
    keys = [setting["key"] for setting in record["space"]]
    return render_page(
        TEMPLATES / "tune.html",
        title=f"{record['name']}, tuned",
        stand_in=record["stand_in"],
        record=record,
        sentences=tuple(sentences(record)),
        importance=_importance(record),
        history=_history(record),
        slices=[_slice(record, setting, i) for i, setting in enumerate(record["space"])],
        keys=keys,
        trials=[_row(trial, keys) for trial in ranked(record)],
        command=_command(record),
    )


def _importance(record: Mapping[str, Any]) -> Drawing | None:
    shares = record["importances"]
    title = "Share of the spread of the losses that each setting explains"
    return importance_plot(shares, name="importance-plot", title=title) if shares else None


def _history(record: Mapping[str, Any]) -> Drawing | None:
    points = [_point(record, trial, str(trial["number"]), trial["number"]) for trial in _drawn(record)]
    title = "Loss of each trial, in the order in which they began"
    return _plot(points, name="history-plot", title=title, x_axis="trial", is_log=False)


def _slice(record: Mapping[str, Any], setting: Mapping[str, Any], i: int) -> dict[str, Any]:
    key = setting["key"]
    trials = [trial for trial in _drawn(record) if trial["values"][key] != NONE]
    points = [_point(record, trial, trial["values"][key], trial["numbers"].get(key)) for trial in trials]
    if setting["kind"] == "choices":
        order = {label: place for place, label in enumerate(setting["choices"])}
        points.sort(key=lambda point: order[point.label])
    title, is_log = f"Loss over {key}", setting["kind"] == "log"
    plot = _plot(points, name=f"slice-plot-{i}", title=title, x_axis=key, is_log=is_log)
    return {"name": f"slice-{i}", "plot": plot, **setting}


def _plot(points: Sequence[SlicePoint], *, name: str, title: str, x_axis: str, is_log: bool) -> Drawing | None:
    """None where no trial was finished."""
    if all(point.loss is None for point in points):
        return None
    return slice_plot(points, name=name, title=title, x_axis=x_axis, y_axis=_LOSS, is_log=is_log)


def _drawn(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [trial for trial in record["trials"] if trial["state"] != "failed"]


def _point(record: Mapping[str, Any], trial: Mapping[str, Any], label: str, number: float | None) -> SlicePoint:
    is_best = trial["number"] == record["best"]
    return SlicePoint(label, number, trial["log_loss"], is_preset=trial["number"] == 0, is_best=is_best)


def _row(trial: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """Cells of the table; the first one is its heading."""
    return [
        f"{trial['number']}{' (the preset)' if trial['number'] == 0 else ''}",
        {"complete": "finished", "pruned": "stopped early", "failed": "failed"}[trial["state"]],
        NONE if trial["log_loss"] is None else f"{trial['log_loss']:.4f}",
        NONE if trial["correct"] is None else f"{trial['correct']:,}",
        *(trial["values"][key] for key in keys),
        NONE if trial["epochs"] is None else str(trial["epochs"]),
        NONE if trial["seconds"] is None else f"{trial['seconds']:.0f}",
    ]


def _command(record: Mapping[str, Any]) -> str:
    """A command that asks for the same search."""
    parts = ["finetunekit", "tune", record["preset"]]
    for setting in record["space"]:
        parts += ["--vary", f"{setting['key']}={setting['written']}"]
    for text in record["settings"]:
        parts += ["--set", text]
    asked = record["asked"]
    parts += ["--seed", str(record["seed"]), "--trials", str(asked["trials"]), "--pruner", asked["pruner"]]
    parts += ["--nested", str(record["nested"]["folds"])] if record["nested"] else []
    return shlex.join(parts)
