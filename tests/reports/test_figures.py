"""Figures: the same bytes twice, nothing of a name is markup, several on one page, letters without a font."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from PIL import Image

from finetunekit.reports.figures import CurvePoint, Drawing, IntervalRow, curve_plot, inline_svg, interval_plot
from finetunekit.reports.figures import png_file as png
from finetunekit.reports.figures import svg_file as svg
from finetunekit.reports.fonts import font_report

AWKWARD = ("<&\">'", "$x^2$ _ \\frac", "fill: #0072b2", "أسد", "nul\x00 and line\nbreak")


def drawing(label: str = "this run", name: str = "glance") -> Drawing:
    rows = [
        IntervalRow(label, 0.9, 0.8, 0.95, "36 of 40", is_main=True),
        IntervalRow("guess", 0.25, 0.1, 0.4, "10 of 40"),
    ]
    return interval_plot(rows, name=name, title="Beside what it has to beat", axis="photos right")


def curve(label: str) -> Drawing:
    points = [CurvePoint(label, None, 0.8, 0.7, 0.9), CurvePoint("other", None, 0.7, 0.6, 0.8)]
    return curve_plot(points, name="curve", title="t", x_axis="x", y_axis="y")


def test_the_same_figure_gives_the_same_bytes_without_a_date() -> None:
    assert svg(drawing()) == svg(drawing())
    assert png(drawing()) == png(drawing())
    assert b"<dc:date>" not in svg(drawing())


@pytest.mark.parametrize("label", AWKWARD)
def test_a_label_is_shown_as_it_is_written(label: str) -> None:
    for one in (drawing(label), curve(label)):
        texts = [
            "".join(e.itertext()) for e in ElementTree.fromstring(svg(one)).iter("{http://www.w3.org/2000/svg}text")
        ]
        assert " ".join(label.replace("\x00", " ").split()) in texts


def test_marks_of_a_name_turn_no_text_of_a_figure() -> None:
    """Ours leave them out; what a stranger's reporter draws has them as escapes."""
    label = "a\u202egpj.b\u2066"
    own = Drawing("own", "t", "said " + label, lambda figure: figure.text(0, 0, label))
    for one in (drawing(label), curve(label), own):
        for written in (svg(one).decode(), inline_svg(one)):
            assert all(line.isprintable() for line in written.split("\n"))
    assert svg(own).count(rb"a\u202egpj.b\u2066") == 2


class Ids(HTMLParser):
    """Identifiers of a page, and what refers to them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.used: set[str] = set(re.findall(r"url\(#(.*?)\)", page))
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [str(found["id"])] if "id" in found else []
        self.used |= {str(found["href"])[1:]} if str(found.get("href", "")).startswith("#") else set()
        self.used |= set(str(found.get("aria-labelledby") or "").split())


def test_figures_of_one_page_share_no_identifier_and_take_the_colours_of_the_page() -> None:
    page = inline_svg(drawing()) + inline_svg(drawing(name="again"))
    found = Ids(page)
    assert len(found.ids) == len(set(found.ids))
    assert found.used <= set(found.ids)
    assert "var(--ink, #1a1c1b)" in page
    assert "<style" not in page
    assert "font-family" not in page


def test_a_file_of_its_own_has_light_and_dark_colours_and_falls_back_to_light_ones() -> None:
    content = svg(drawing()).decode()
    assert "prefers-color-scheme:dark" in content
    assert "fill: #1a1c1b" in content
    assert "var(" not in content


def test_letters_without_a_font_are_spelled_out_in_a_png_which_says_so() -> None:
    for named in (drawing, curve):
        heights = [Image.open(io.BytesIO(png(named(label)))).height for label in ("a", "\U0010fffd")]
        assert heights[1] > heights[0]
        assert "\U0010fffd" in svg(named("\U0010fffd")).decode()


def test_letters_of_a_font_at_hand_are_drawn_in_it() -> None:
    if font_report()["Japanese"] is None:
        pytest.skip("no font with Japanese letters is installed")
    assert len({png(drawing(label)) for label in ("猫", "虎", "狮")}) == 3  # and none of them the same box
