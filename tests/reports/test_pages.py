"""Pages of one's own: a stranger's template gets the frame, and nothing that it shows becomes markup."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from finetunekit.reports.pages import render, render_page
from finetunekit.reports.thumbnails import Thumbnail
from finetunekit.reports.words import minus

PAGE = """
{% extends "page.html" %}
{% block lead %}<p>{{ words }}</p>{% endblock %}
{% block main %}
{% for name in parts %}
{% call section("part-%d"|format(loop.index), name) %}
{% call(cell, column) table(["class", "right"], [[name, "3"]], "Each of " ~ name, [1]) %}<b>{{ cell }}</b>{% endcall %}
{% call photo(picture, name) %}{{ name }}{% endcall %}
{{ definitions([(name, words)]) }}
{% endcall %}
{% endfor %}
{% endblock %}
"""
HOSTILE = "<script>alert('&\")\x00\ud800</script>"


def test_a_page_lists_its_sections_and_shows_names_as_text(tmp_path: Path) -> None:
    (tmp_path / "mine.html").write_text(PAGE, encoding="utf-8")
    values = {"words": HOSTILE, "parts": [HOSTILE, "lynx"], "picture": Thumbnail(None, problem=HOSTILE)}
    page = render_page(tmp_path / "mine.html", title=HOSTILE, stand_in=HOSTILE, **values).decode()
    assert (
        re.findall(r'<li><a href="#(.+?)">', page) == re.findall(r'<section id="(.+?)"', page) == ["part-1", "part-2"]
    )
    assert "<script" not in page
    assert "<dd>&lt;script&gt;alert(&#39;&amp;&#34;)\\x00\\ud800&lt;/script&gt;</dd>" in page
    assert "\x00" not in page
    assert '<th scope="row"><b>lynx</b></th>' in page
    assert render_page(PAGE, title=HOSTILE, stand_in=HOSTILE, **values).decode() == page


def test_a_value_that_the_template_misses_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'words' is undefined"):
        render("{{ words }}")


def test_in_markdown_names_lose_their_marks_and_lines(tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text(
        "name: {{ name|tojson }}\n| {{ name }} | {{ 3 }} |\n{{ name|safe }}\n", encoding="utf-8"
    )
    written = render(tmp_path / "card.md", name="a|b *c*\n# <d>")
    assert written == 'name: "a|b *c*\\n# \\u003cd\\u003e"\n| a\\|b \\*c\\* \\# &lt;d&gt; | 3 |\na|b *c*\n# <d>\n'


def test_negative_numbers_have_a_minus_sign() -> None:
    assert minus("-6.7 to +6.7; (-1) at 2026-11-23, top-1, 1e-3") == "−6.7 to +6.7; (−1) at 2026-11-23, top-1, 1e-3"
