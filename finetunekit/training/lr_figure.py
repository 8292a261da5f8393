"""The figure of a learning rate range test: the smoothed loss over the rate, with both suggestions marked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from finetunekit.reports.html.drawing import line, plot, svg_file, text
from finetunekit.reports.html.markup import Html, h

if TYPE_CHECKING:
    from finetunekit.training.lr_finder import RateTest

WIDTH_PX, HEIGHT_PX = 640, 360
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 58, 22, 36, 56
LABEL_PX, MARK_PX = 6, 150
"""Between a text and what it belongs to, and the room that the words of a mark take."""


def rate_figure(test: RateTest) -> bytes:
    """The smoothed loss over the rate, as an SVG file; a loss beyond twice the first one is cut off."""
    says = (
        f"suggested {test.suggested:.1e}; at most {test.at_most:.1e}; the smoothed loss goes from {test.losses[0]:.3g}"
    )
    drawn = plot(
        _Drawing(test).parts(),
        name="rates",
        title=f"{test.stage}: loss of each step of a rising learning rate",
        says=f"{says} to {min(test.losses):.3g} at its lowest.",
        width_px=WIDTH_PX,
        height_px=HEIGHT_PX,
    )
    return svg_file(drawn)


class _Drawing:
    def __init__(self, test: RateTest) -> None:
        self._test = test
        self._low, self._high = math.log10(test.rates[0]), math.log10(test.rates[-1])
        self._floor, self._top = min(test.losses), min(max(test.losses), 2 * test.losses[0])
        self._bottom = HEIGHT_PX - BOTTOM_PX

    def parts(self) -> Iterator[Html]:
        """Everything, from the paper up."""
        yield h("rect", at={"width": WIDTH_PX, "height": HEIGHT_PX, "class": "ftk-paper-fill"})
        yield from self._levels()
        yield from self._ticks()
        points = " ".join(
            f"{self._x(r)},{self._y(v)}" for r, v in zip(self._test.rates, self._test.losses, strict=True)
        )
        yield h("polyline", at={"points": points, "fill": "none", "class": "whisker-main"})
        suggested, at_most = self._x(self._test.suggested), self._x(self._test.at_most)
        # Where there is room: the one below the falling curve, the other beyond it.
        yield from self._mark(
            self._test.suggested, "suggested", self._bottom - 8, is_left=suggested - LEFT_PX > MARK_PX
        )
        yield from self._mark(self._test.at_most, "at most", HEIGHT_PX / 2, is_left=at_most + MARK_PX > WIDTH_PX)
        middle = (LEFT_PX + WIDTH_PX - RIGHT_PX) / 2
        yield text(middle, self._bottom + 46, "learning rate, logarithmic", "ftk-ink-fill", "middle")
        yield text(LABEL_PX, 16, "smoothed loss, nats", "ftk-ink-fill", "start")

    def _levels(self) -> Iterator[Html]:
        for loss in (self._floor, self._top):
            yield line(LEFT_PX, self._y(loss), WIDTH_PX - RIGHT_PX, self._y(loss), "ftk-grid-stroke")
            yield text(LEFT_PX - LABEL_PX, self._y(loss) + 5, f"{loss:.2f}", "ftk-muted-fill", "end")

    def _ticks(self) -> Iterator[Html]:
        for power in range(math.ceil(self._low - 1e-9), math.floor(self._high + 1e-9) + 1):
            x = self._x(10.0**power)
            yield line(x, self._bottom, x, self._bottom + 5, "ftk-muted-stroke")
            yield text(x, self._bottom + 22, f"1e{power}", "ftk-muted-fill", "middle")

    def _mark(self, rate: float, label: str, y: float, *, is_left: bool) -> Iterator[Html]:
        x = self._x(rate)
        yield line(x, TOP_PX, x, self._bottom, "ftk-muted-stroke")
        place = x - LABEL_PX if is_left else x + LABEL_PX
        yield text(place, y, f"{label} {rate:.1e}", "ftk-ink-fill", "end" if is_left else "start")

    def _x(self, rate: float) -> float:
        share = (math.log10(rate) - self._low) / max(self._high - self._low, 1e-9)
        return round(LEFT_PX + (WIDTH_PX - LEFT_PX - RIGHT_PX) * share, 1)

    def _y(self, loss: float) -> float:
        share = (min(loss, self._top) - self._floor) / max(self._top - self._floor, 1e-9)
        return round(self._bottom - (self._bottom - TOP_PX) * share, 1)
