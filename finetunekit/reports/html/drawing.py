"""Pieces of a plot as inline SVG, in the colours of the page around it, and a plot as a file of its own."""

from __future__ import annotations

from collections.abc import Iterable

from finetunekit.reports.html.markup import Html, h

#: Colours of the page's style on paper, for a file that has no page around it.
_STYLE = (
    "text{font:14px system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif;font-variant-numeric:tabular-nums}"
    ".ftk-paper-fill{fill:#fff}.ftk-ink-fill{fill:#1a1c1b}.ftk-muted-fill{fill:#50575a}.ftk-grid-stroke{stroke:#d8dbd9}"
    ".ftk-muted-stroke{stroke:#50575a}.dot-main{fill:#0072b2}.dot-other{fill:#6a6f72}.whisker-main{stroke:#0072b2;stroke-width:2.5}"
    ".whisker-other{stroke:#6a6f72;stroke-width:2}"
)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    """A line of the class `kind`."""
    return h("line", at={"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": kind})


def text(x: float, y: float, content: str, kind: str, anchor: str, weight: str | None = None) -> Html:
    """A text of the class `kind`; `anchor` is `start`, `middle` or `end`."""
    return h("text", content, at={"x": x, "y": y, "class": kind, "text-anchor": anchor, "font-weight": weight})


def dot(x: float, y: float, *, is_main: bool) -> Html:
    """A disc for what a plot is about, a square for anything else: colour is not all that tells them apart."""
    if is_main:
        return h("circle", at={"cx": x, "cy": y, "r": 6, "class": "dot-main"})
    return h("rect", at={"x": x - 5, "y": y - 5, "width": 10, "height": 10, "class": "dot-other"})


def plot(parts: Iterable[Html], *, name: str, title: str, says: str, width_px: int, height_px: int) -> Html:
    """A plot, with its title and what it says in words for those who cannot see it.

    Args:
        parts: Drawn in this order.
        name: Identifier within the page, ASCII letters, digits and `-`.
        title: What the plot shows.
        says: Its figures in words.
        width_px: Width.
        height_px: Height.
    """
    words = (h("title", title, at={"id": f"{name}-title"}), h("desc", says, at={"id": f"{name}-desc"}))
    size: dict[str, str | int] = {"viewBox": f"0 0 {width_px} {height_px}", "width": width_px, "height": height_px}
    labels = {"role": "img", "aria-labelledby": f"{name}-title {name}-desc", "class": "plot"}
    return h("svg", words, parts, at={**size, **labels})


def svg_file(drawn: Html) -> bytes:
    """A plot of this package as an SVG document of its own, on white."""
    inside = str(drawn).removeprefix("<svg")
    start, end = inside.split(">", 1)
    return f'<svg xmlns="http://www.w3.org/2000/svg"{start}><style>{_STYLE}</style>{end}\n'.encode()
