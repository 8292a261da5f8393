"""Pages and Markdown from jinja2 templates: what a template shows is escaped, and a page fetches nothing and runs no script.

What a reporter of our own uses, a stranger's may use: `render_page` with a template that extends `page.html`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from finetunekit.reports import words
from finetunekit.reports.figures import Drawing, inline_svg
from finetunekit.reports.fonts import embedded_font_css
from finetunekit.system.terminal import printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.nodes import EvalContext
    from markupsafe import Markup

#: `page.html`, the frame of every page; `parts.html`, its macros; and the pages that are no reporter's.
TEMPLATES = Path(__file__).parent / "templates"
#: Functions of `words` that every template has as filters.
FILTERS = ("between", "counted", "minus", "number", "of", "percent", "seconds")
PHONE_PX, LEAST_PX = 540, 900
"""A figure up to the first width is shrunk to fit a phone; a wider one scrolls, no narrower than the second."""
_CONTROLS = {code: " " for code in range(32) if chr(code) not in "\n\t"}


def render_page(
    template: Path | str, *, title: str, stand_in: str | None, names: Iterable[str] = (), **values: object
) -> bytes:
    """Fill in a template that extends `page.html`.

    Args:
        template: Its file, or its text. Its block `lead` stands below the heading, its block `main` is made of `section`s, which the
            contents list in their order.
        title: Of the page and its heading.
        stand_in: The sentence to show before everything else where the photos are a stand-in.
        names: Texts whose letters the page brings along where few machines have them.
        values: What the template shows: texts, which are escaped; a `Thumbnail` as `photo`, a `Drawing` as `figure`.

    Returns:
        UTF-8 HTML in one file, the same bytes for the same values.
    """
    font_css = embedded_font_css(names)
    return render(template, title=title, stand_in=stand_in, font_css=font_css, **values).encode("utf-8", "replace")


def render(template: Path | str, **values: object) -> str:
    """Fill in a template of any kind.

    Args:
        template: Its file, or the text of an HTML template. What an expression shows is escaped; in `.md` it is put on one line without
            Markdown's marks. `|safe` exempts what is markup on purpose.
        values: What it shows; a name that is missing is an error.

    Returns:
        The text, without control characters, which HTML forbids.
    """
    if isinstance(template, Path):
        compiled = _environment(template.parent).get_template(template.name)
    else:
        compiled = _environment(TEMPLATES).from_string(template)
    return compiled.render(values).translate(_CONTROLS)


@functools.cache
def _environment(folder: Path) -> Environment:
    """Where templates of a folder, and those they extend or import, are compiled once."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_eval_context
    from markupsafe import Markup

    @pass_eval_context
    def plain_text(context: EvalContext, value: object) -> object:
        if not isinstance(value, str) or isinstance(value, Markup):
            return value
        plain = value if value.isprintable() else "\n".join(map(printable, value.split("\n")))
        return plain if context.autoescape else markdown_text(plain)

    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=lambda name: name is None or not name.endswith(".md"),
        undefined=StrictUndefined,
        extensions=["jinja2.ext.do"],
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=plain_text,
    )
    environment.filters |= {name: getattr(words, name) for name in FILTERS} | {"svg": inline_figure}
    return environment


def inline_figure(drawing: Drawing) -> Markup:
    """A figure as an element of a page; one that is wider than a phone is not shrunk below what can be read."""
    from markupsafe import Markup

    svg = inline_svg(drawing)
    width = float(svg.split(' width="', 1)[1].split('"', 1)[0])
    wide = f'style="max-width:none;min-width:{min(width, LEAST_PX):.0f}px;'
    return Markup(svg.replace('style="', wide, 1) if width > PHONE_PX else svg)


def markdown_text(text: str) -> str:
    """Text as Markdown shows it: on one line, nothing of it markup."""
    from html import escape

    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", escape(" ".join(text.split()), quote=False))
