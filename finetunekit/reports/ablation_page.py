"""An ablation as figures and as one page: a curve and a table for each varied setting."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from finetunekit.reports.ablation_text import interval_of, number, sentences, spread_words
from finetunekit.reports.figures import CurvePoint, Drawing, curve_plot, svg_file
from finetunekit.reports.pages import TEMPLATES, render_page
from finetunekit.reports.words import minus
from finetunekit.system.formatting import show_points_range, show_range
from finetunekit.types import TEST

_UNITS = {"pixels.size_px": "input side, px", "pixels.source_px": "long side of the photos, px"}


def figures(record: Mapping[str, Any]) -> dict[str, bytes]:
    """SVG files, one a varied setting and split; none for a setting all of whose cells failed.

    Args:
        record: Content of `ablation.json`.

    Returns:
        File name, such as `image_size.svg`, → content.
    """
    drawn: dict[str, bytes] = {}
    for split in record["splits"]:
        for i, curve in enumerate(record["curves"]):
            plot = _plot(record, curve, split, f"curve-{i}-{split}")
            if plot is not None:
                name = re.sub(r"[^A-Za-z0-9_-]+", "-", curve["key"]).strip("-_") or f"setting-{i}"
                drawn[f"{name}-test.svg" if split == TEST else f"{name}.svg"] = svg_file(plot, record["stand_in"])
    return drawn


def ablation_page(record: Mapping[str, Any]) -> bytes:
    """One self-contained HTML page.

    Args:
        record: Content of `ablation.json`.
    """
    keys = [curve["key"] for curve in record["curves"]]
    return render_page(
        TEMPLATES / "ablation.html",
        title=f"{record['name']}, varied",
        stand_in=record["stand_in"],
        record=record,
        sentences=sentences(record),
        spread=spread_words(record["seeds"]),
        curves=[_curve(record, i, split) for split in record["splits"] for i in range(len(keys))],
        keys=keys,
        cells=[_cell(record, cell, keys) for cell in record["cells"]],
        command=_command(record),
    )


def _curve(record: Mapping[str, Any], i: int, split: str) -> dict[str, Any]:
    curve = record["curves"][i]
    return {
        "name": f"curve-{i}-{split}",
        "key": curve["key"],
        "path": curve["path"],
        "split": _split_words(split),
        "plot": _plot(record, curve, split, f"plot-{i}-{split}"),
        "rows": [
            [{"value": point["value"], "is_own": j == curve["own"]}, *_figures(record["cells"][point["cell"]], split)]
            for j, point in enumerate(curve["points"])
        ],
    }


def _cell(record: Mapping[str, Any], cell: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    folders = ", ".join(run["folder"] for run in cell["runs"]) or "–"
    return [*(cell["values"][key] for key in keys), *_figures(cell, record["splits"][-1]), folders]


def _figures(cell: Mapping[str, Any], split: str) -> list[str]:
    if cell["scores"] is None:
        return ["failed", *["–"] * 6]
    score = cell["scores"][split]
    against = score["against_preset"]
    return [
        f"{number(score['correct'])} of {score['photos']:,}",
        f"{100 * score['accuracy']:.1f}",
        show_range(interval_of(score)),
        "–" if against is None else minus(f"{100 * against['difference']:+.1f}"),
        "–" if against is None else minus(show_points_range(interval_of(against))),
        f"{score['log_loss']:.3f}",
        f"{cell['seconds']:.0f}",
    ]


def _split_words(split: str) -> str:
    return "test" if split == TEST else "validation"


def _plot(record: Mapping[str, Any], curve: Mapping[str, Any], split: str, name: str) -> Drawing | None:
    points = []
    for i, point in enumerate(curve["points"]):
        scores = record["cells"][point["cell"]]["scores"]
        if scores is not None:
            interval = interval_of(scores[split])
            low, high = max(0.0, interval["low"]), min(1.0, interval["high"])
            value = scores[split]["accuracy"]
            points.append(CurvePoint(point["value"], point["number"], value, low, high, i == curve["own"]))
    if not points:
        return None
    if all(point.number is not None for point in points):
        points.sort(key=lambda point: point.number or 0.0)
    axis = _UNITS.get(curve["path"], curve["key"])
    title = f"{record['name']}: {_split_words(split)} accuracy over {curve['key']}"
    y_axis = f"{_split_words(split)} accuracy, 95 % {spread_words(record['seeds'])}; ● the preset's own"
    return curve_plot(points, name=name, title=title, x_axis=axis, y_axis=y_axis)


def _command(record: Mapping[str, Any]) -> str:
    """A command that asks for the same cells; values are shown as they were written where they are short."""
    parts = ["finetunekit", "ablate", record["preset"]]
    for curve in record["curves"]:
        parts += ["--vary", f"{curve['key']}={curve['written']}"]
    for setting in record["settings"]:
        parts += ["--set", setting]
    parts += ["--seed", str(record["seeds"][0])]
    parts += ["--seeds", str(len(record["seeds"]))] if len(record["seeds"]) > 1 else []
    parts += ["--grid"] if record["mode"] == "grid" else []
    parts += ["--test"] if TEST in record["splits"] else []
    return shlex.join(parts)
