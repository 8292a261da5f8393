"""Why a run answers as it does about some photos, as one page: the photo, what spoke for its two first classes, and its neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetunekit.reports.pages import TEMPLATES, render_page
from finetunekit.reports.thumbnails import Album, Thumbnail, heat_picture, make_thumbnail
from finetunekit.runs.folder import FinishedRun
from finetunekit.system.formatting import counted

THUMBNAIL_PX, NEIGHBOUR_PX = 240, 120


def explanation_page(
    run: FinishedRun, content: Mapping[str, Any], words: Sequence[str], *, max_bytes: int = 8_000_000
) -> bytes:
    """Draw explanations as a page in one file that fetches nothing and runs no script.

    Args:
        run: Whose they are.
        content: Plain values of `finetunekit.evaluation.explanation.Explanations`.
        words: What holds for all of them: temperature, sets, what could not be told.
        max_bytes: Size of the page; pictures that would go over it are left out, and it says so.

    Returns:
        UTF-8 HTML.
    """
    from pathlib import Path

    album, neighbours = (Album(run, side_px, max_bytes // 2) for side_px in (THUMBNAIL_PX, NEIGHBOUR_PX))
    shown = []
    for one in content["photos"]:
        picture = make_thumbnail(Path(one["path"]), "", THUMBNAIL_PX, quality=85)
        laid = {name: album.bounded(_laid(run, picture, heat)) for name, heat in one["maps"].items()}
        near = [(photo, neighbours.take(photo["path"], photo["sha256"])) for photo in one["neighbours"]]
        shown.append((one, album.bounded(picture), laid, near))
    count = len(shown)
    return render_page(
        TEMPLATES / "explanation.html",
        title=f"Why {run.path.name} answers so: {counted(count, 'photo')}",
        stand_in=run.stand_in,
        names=[*run.classes, *(one["path"] for one in content["photos"])],
        shown=shown,
        reading=content["reading"],
        words=words,
    )


def _laid(run: FinishedRun, picture: Thumbnail, heat: Sequence[Sequence[float]]) -> Thumbnail:
    pixels = run.config["pixels"]
    return heat_picture(picture, heat, fit=pixels["fit"], crop_pct=pixels.get("crop_pct"))
