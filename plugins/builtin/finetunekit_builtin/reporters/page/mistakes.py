"""The photos that a network was most confidently wrong about, with where it looked; and the display photos with its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from finetunekit.reports.thumbnails import heat_picture

from .data import choose

if TYPE_CHECKING:
    from finetunekit import FinishedRun
    from finetunekit.reports.thumbnails import Album, Thumbnail

    Row = Mapping[str, str]


def mistakes(run: FinishedRun, album: Album, most: int) -> dict[str, Any]:
    """Test photos that were got wrong, most confident first: row, picture, map."""
    test = [row for row in run.split_predictions("test") if row["true"]]
    wrong = sorted((row for row in test if row["predicted"] != row["true"]), key=_by_confidence)
    maps = (run.optional("gradcam.json") or {}).get("maps") or {}
    pixels = run.config.get("pixels") or {}
    shown = [(row, *_pictures(row, album, maps.get(row["sha256"]), pixels)) for row in wrong[:most]]
    return {"tested": len(test), "wrong": len(wrong), "shown": shown}


def _by_confidence(row: Row) -> tuple[float, str]:
    return -float(row[f"p_{row['predicted']}"]), row["path"]


def _pictures(row: Row, album: Album, map_: Any, pixels: Mapping[str, Any]) -> tuple[Thumbnail, Thumbnail | None]:
    """The photo, and where the network looked; None without a map, and without a photo to lay it over."""
    picture = album.take(row["path"], row["sha256"])
    if map_ is None or picture.content is None:
        return picture, None
    laid = album.bounded(heat_picture(picture, map_, fit=pixels.get("fit", "stretch"), crop_pct=pixels.get("crop_pct")))
    return picture, laid if laid.content else None


def display(run: FinishedRun, most: int) -> dict[str, Any]:
    """Display photos drawn by the run's seed: row and true class, where that is known."""
    rows = run.split_predictions("display")
    truths = {row["sha256"]: row["true"] for row in run.split_predictions("test") if row["true"]}
    shown = [(row, truths.get(row["sha256"]) or row["true"]) for row in choose(rows, most, run)]
    return {"photos": len(rows), "shown": shown}
