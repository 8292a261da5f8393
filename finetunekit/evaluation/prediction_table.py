"""Predictions as a table: in a notebook with small pictures, in a terminal as text, as a DataFrame where pandas is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.errors import FinetuneKitError

if TYPE_CHECKING:
    from finetunekit.evaluation.predictor import Prediction
    from finetunekit.reports.thumbnails import Thumbnail

THUMBNAIL_PX = 96
MOST_SHOWN = 50
"""Rows of a notebook; the table itself holds all."""


class Predictions(list["Prediction"]):
    """A list of predictions that displays itself in a notebook.

    Attributes:
        thumbnails: Position → picture, for photos that were given as pixels or bytes; pictures of files are made when
            they are shown.
    """

    def __init__(self, rows: Iterable[Prediction] = (), thumbnails: Mapping[int, Thumbnail] | None = None) -> None:
        super().__init__(rows)
        self.thumbnails = dict(thumbnails or {})

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`: photo, label, probability, and the probability of each class.

        Raises:
            FinetuneKitError: If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as exc:
            raise FinetuneKitError("to_pandas needs pandas, which is not installed: pip install pandas") from exc
        rows = [
            {"photo": str(row.path), "label": row.label, "probability": row.probability, **row.probabilities}
            for row in self
        ]
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        from finetunekit.system.terminal import table

        cells = [(f"{row.probability:.1%}", row.label or "unsure", row.path) for row in self]
        return "\n".join(table(cells, right=(0,)))

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        from finetunekit.reports.pages import TEMPLATES, render

        shown = [(self._thumbnail(i), row) for i, row in enumerate(self[:MOST_SHOWN])]
        return render(TEMPLATES / "predictions.html", rows=shown, left=len(self) - len(shown), size_px=THUMBNAIL_PX)

    def _thumbnail(self, position: int) -> Thumbnail:
        return self.thumbnails.get(position) or thumbnail_of(self[position].path)


def thumbnail_of(path: Path) -> Thumbnail:
    """A small picture of a photo, or why there is none."""
    from finetunekit.reports.thumbnails import make_thumbnail

    return make_thumbnail(path, "", THUMBNAIL_PX, quality=82)
