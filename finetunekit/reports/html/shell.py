"""One self-contained HTML document: its style inside it, nothing fetched, no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetunekit.reports.html.markup import Html, h, join

#: Nothing may be fetched and no script may run, whatever a class is called. Source: W3C Content Security Policy Level 3.
POLICY = (
    "default-src 'none'; img-src data:; font-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True, slots=True)
class PageSection:
    """A section of a page.

    Attributes:
        name: Anchor, ASCII letters and `-`.
        title: Its heading, also in the contents.
        body: Its markup.
    """

    name: str
    title: str
    body: Html


def document(
    title: str, lead: Html, sections: Sequence[PageSection], *, font_css: str = "", stand_in: str | None = None
) -> bytes:
    """A page with a heading, a lead, contents and sections.

    Args:
        title: Of the page and its heading.
        lead: Below the heading, before the contents.
        sections: In order.
        font_css: `@font-face` rules of the family `ftk-names`.
        stand_in: The sentence to show before everything else where the photos are a stand-in.

    Returns:
        UTF-8 HTML, the same bytes for the same content.
    """
    head = h(
        "head",
        h("meta", at={"charset": "utf-8"}),
        h("meta", at={"http-equiv": "Content-Security-Policy", "content": POLICY}),
        h("meta", at={"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        h("meta", at={"name": "color-scheme", "content": "light dark"}),
        h("meta", at={"name": "generator", "content": "finetunekit"}),
        h("link", at={"rel": "icon", "href": "data:,"}),
        h("title", title),
        h("style", Html(font_css + style_sheet())),
    )
    warning = (
        h("p", h("strong", "Stand-in photos. "), stand_in, at={"class": "stand-in", "role": "note"})
        if stand_in
        else None
    )
    body = h(
        "body",
        h(
            "a",
            "Skip to the first section",
            at={"class": "skip", "href": f"#{sections[0].name}" if sections else "#top"},
        ),
        h("header", warning, h("h1", title), lead, at={"id": "top"}),
        _contents(sections),
        h("main", [_section(section) for section in sections]),
    )
    return f'<!doctype html>\n<html lang="en">\n{join([head, body])}\n</html>\n'.encode()


def style_sheet() -> str:
    """The style of every page: light and dark, screen and paper."""
    return (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def _contents(sections: Sequence[PageSection]) -> Html:
    links = [h("li", h("a", section.title, at={"href": f"#{section.name}"})) for section in sections]
    return h("nav", h("ul", links), at={"aria-label": "Contents"})


def _section(section: PageSection) -> Html:
    heading = h("h2", section.title, at={"id": f"{section.name}-title"})
    return h("section", heading, section.body, at={"id": section.name, "aria-labelledby": f"{section.name}-title"})
