"""HTML that is escaped unless it was built here: text can become markup nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import TypeAlias

VOID = frozenset({"br", "hr", "img", "meta", "link"})


class Html(str):
    """Finished markup. Everything else is text and is escaped."""

    __slots__ = ()


Child: TypeAlias = "Html | str | int | Iterable[Child] | None"
Attributes: TypeAlias = Mapping[str, "str | int | float | bool | None"]


def h(name: str, *children: Child, at: Attributes | None = None) -> Html:
    """An element.

    Args:
        name: Tag name.
        children: Text, which is escaped; `Html`, which is not; None, which is nothing; or several of these.
        at: Attributes, escaped; True writes the name alone, None and False leave it out.
    """
    opening = f"<{name}{_attributes(at or {})}>"
    return Html(opening if name in VOID else f"{opening}{join(children)}</{name}>")


def join(children: Iterable[Child], between: str = "") -> Html:
    """Children one after the other, with escaped text between them."""
    return Html(escape(between).join(_child(child) for child in children))


def _child(child: Child) -> str:
    if isinstance(child, Html):
        return child
    if child is None:
        return ""
    if isinstance(child, str):
        return escape(visible(child))
    return str(child) if isinstance(child, int) else join(child)


def _attributes(attributes: Attributes) -> str:
    written = []
    for name, value in attributes.items():
        if value is True:
            written.append(f" {name}")
        elif value is not None and value is not False:
            written.append(f' {name}="{escape(visible(str(value)))}"')
    return "".join(written)


def visible(text: str) -> str:
    """Text without control characters, which HTML forbids, and with surrogates shown as a replacement character."""
    return "".join(" " if ord(c) < 32 and c not in "\n\t" else c for c in text).encode("utf-8", "replace").decode()


def minus(text: str) -> str:
    """Text whose negative numbers have a minus sign instead of a hyphen."""
    return re.sub(r"(?<![\w.-])-(?=\d)", "−", text)


def table(
    head: Iterable[Child], rows: Iterable[Iterable[Child]], *, caption: str, numbers: Iterable[int] = (), kind: str = ""
) -> Html:
    """A table that scrolls by itself where it is wider than the page, and that a keyboard can scroll.

    Args:
        head: Column headings.
        rows: Cells; the first of each row is its heading.
        caption: What the table shows, for everyone.
        numbers: Columns, counted from 0, that are set to the right in figures of one width.
        kind: Further class of the table.
    """
    right = frozenset(numbers)

    def cell(tag: str, i: int, child: Child, scope: str | None = None) -> Html:
        return h(tag, child, at={"scope": scope, "class": "number" if i in right else None})

    heading = h("tr", [cell("th", i, child, "col") for i, child in enumerate(head)])
    body = [
        h("tr", [cell("td" if i else "th", i, child, None if i else "row") for i, child in enumerate(row)])
        for row in rows
    ]
    # The caption stands outside the box that scrolls: within it a phone would cut it.
    shown = h("table", h("thead", heading), h("tbody", body), at={"class": kind or None, "aria-label": caption})
    return h("div", h("p", caption, at={"class": "caption"}), scrolling(shown, caption), at={"class": "table"})


def scrolling(content: Html, label: str) -> Html:
    """A box that scrolls sideways on its own, reachable by keyboard."""
    return h("div", content, at={"class": "scroll", "tabindex": "0", "role": "region", "aria-label": label})


def definitions(pairs: Iterable[tuple[Child, Child]]) -> Html:
    """A list of terms and what they are."""
    return h("dl", [h("div", h("dt", term), h("dd", value)) for term, value in pairs])
