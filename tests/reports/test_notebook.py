"""A result that shows itself, and progress that knows where it runs."""

from __future__ import annotations

import base64
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from run_folders import CLASSES, STAND_IN, make_metrics

from finetunekit.engine.result import RunResult
from finetunekit.engine.summary import summary_lines
from finetunekit.reports.notebook import default_progress, is_in_notebook
from finetunekit.system.progress import Progress

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><rect id="a" width="4" height="4"/></svg>'
VOID = {"img"}


class Outline(HTMLParser):
    """Text of each cell, sources of images, and whether every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.images: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] in (["td"], ["th"]):
            self.rows[-1][-1] += data


def make_result(folder: Path, *, stand_in: str | None = None, classes: tuple[str, ...] = CLASSES) -> RunResult:
    metrics = {**make_metrics(range(14), stand_in=stand_in), "classes": list(classes), "openings": None}
    return RunResult(folder, metrics, summary_lines(metrics, None, 370.0))


def test_it_shows_the_sentences_the_scores_and_where_the_run_lies(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    html = result._repr_html_()
    assert "\n".join(result.summary) in unescape(html)
    rows = {row[0]: row[1:] for row in Outline(html).rows}
    assert rows[""] == ["valid", "test"]
    assert rows["photos"] == ["160", "160"]
    assert rows["accuracy"] == ["91.2 % (146 of 160; 85.8 to 94.7 %)"] * 2
    assert re.fullmatch(r"9\d\.\d % \(\d\d\.\d to \d\d\.\d %\)", rows["macro F1"][1])
    assert re.fullmatch(r"0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)", rows["log loss, nats"][1])
    assert rows["lynx"][0] == "40"
    assert re.fullmatch(r"\d+\.\d % \(\d+ of 40; .*", rows["lynx"][1])
    assert f"<code>{tmp_path}</code>" in html


def test_figures_are_shown_and_what_is_no_figure_is_not(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    (reports / "learning_curves.svg").write_text(SVG, encoding="utf-8")
    (reports / "confusion_matrix.svg").write_text(SVG, encoding="utf-8")
    (reports / "confusion_matrix.csv").write_text("a,b\n", encoding="utf-8")
    html = make_result(tmp_path)._repr_html_()
    images = Outline(html).images
    assert [base64.b64decode(image.removeprefix("data:image/svg+xml;base64,")).decode() for image in images] == [
        SVG
    ] * 2
    assert re.findall(r'alt="(.*?)"', html) == ["confusion matrix", "learning curves"]
    assert "<svg" not in html  # its names would meet those of the other figure


def test_names_are_text_and_not_part_of_the_page(tmp_path: Path) -> None:
    html = make_result(tmp_path / "<run>", classes=("<b>cat", "lion & lioness", "лев", "tiger"))._repr_html_()
    assert [row[0] for row in Outline(html).rows][-4:] == ["<b>cat", "lion & lioness", "лев", "tiger"]
    assert "<b>" not in html
    assert "&lt;run&gt;" in html


def test_the_stand_in_is_said_first(tmp_path: Path) -> None:
    html = unescape(make_result(tmp_path, stand_in=STAND_IN)._repr_html_())
    assert html.index("STAND-IN PHOTOS: ") < html.index("accuracy")


def test_outside_a_kernel_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert is_in_notebook() is False
    progress = default_progress()
    assert type(progress) is Progress
    progress.say("one line")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "one line\n")


CELL = """
from finetunekit.reports.notebook import NotebookProgress, default_progress, is_in_notebook
progress = default_progress()
assert is_in_notebook() and type(progress) is NotebookProgress
progress.say("<first>")
progress.show("epoch 1", 3, 4, 61.0)
progress.show("epoch 1 again, too soon")
progress.say("second")
progress.counter("photos")(1, 1)
"""


def test_in_a_kernel_all_lines_share_one_output_and_the_live_line_goes() -> None:
    """With a real kernel, where one is installed."""
    pytest.importorskip("ipykernel")
    manager = pytest.importorskip("jupyter_client.manager")
    kernel, client = manager.start_new_kernel(kernel_name="python3", startup_timeout=60)
    try:
        seen: list[dict[str, Any]] = []
        reply = client.execute_interactive(CELL, timeout=60, output_hook=seen.append)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok", json.dumps(reply["content"], default=str)
    shown = [m["content"] for m in seen if m["msg_type"] in ("display_data", "update_display_data")]
    assert len({content["transient"]["display_id"] for content in shown}) == 1
    texts = [content["data"]["text/plain"] for content in shown]
    assert texts == ["<first>", "<first>\nepoch 1, 3 of 4, 1 min 01 s left", "<first>\nsecond", "<first>\nsecond"]
    assert "&lt;first&gt;" in shown[0]["data"]["text/html"]
