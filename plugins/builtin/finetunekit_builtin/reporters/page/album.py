"""Photos on the page: thumbnails from where the run recorded them, counted so that the page stays small."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetunekit.reports.html import Child, Html, Thumbnail, h, make_thumbnail, photo_figure

if TYPE_CHECKING:
    from finetunekit import FinishedRun

    Row = Mapping[str, str]

FULL = "left out: the page has reached its size (max_mb)"


@dataclass
class Album:
    """The photos of one page.

    Attributes:
        run: Whose photos.
        side_px: Of a thumbnail on the page; twice as many pixels are kept where the photo has them.
        left_bytes: What may still be added.
        missing: Photos that could not be shown.
    """

    run: FinishedRun
    side_px: int
    left_bytes: int
    missing: int = 0

    def take(self, row: Row) -> Thumbnail:
        """The photo of a row of `photos.csv` or `predictions.csv`."""
        path, views = self.run.photo_path(row["path"]), self.run.views
        found = make_thumbnail(path, row["sha256"], self.side_px, quality=82, views=views)
        if found.content is None:
            self.missing += 1
        return self.bounded(found)

    def bounded(self, thumbnail: Thumbnail) -> Thumbnail:
        """The picture, or the sentence that the page is full."""
        if thumbnail.content is None:
            return thumbnail
        self.left_bytes -= len(thumbnail.content) * 4 // 3
        return thumbnail if self.left_bytes >= 0 else Thumbnail(None, problem=FULL)

    def figure(self, row: Row, caption: Child, *, kind: str = "", beside: Child = None) -> Html:
        """A photo with its caption."""
        return photo_figure(self.take(row), row["path"], caption, kind=kind, beside=beside)


def choose(rows: Iterable[Row], count: int, seed: int) -> list[Row]:
    """Draw rows: those with the smallest hash of seed, checksum and path, whatever the order of the rows."""

    def rank(row: Row) -> bytes:
        return hashlib.sha256(f"{seed}\n{row['sha256']}\n{row['path']}".encode()).digest()

    return sorted(rows, key=rank)[:count]


def grid(figures: Sequence[Html], kind: str = "") -> Html:
    """Photos side by side, as many as fit."""
    return h("div", figures, at={"class": f"photos {kind}".strip()})
