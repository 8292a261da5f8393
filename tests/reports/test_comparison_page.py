"""Runs side by side as a page: the verdict, the tests, the photos that changed sides, what differs."""

from __future__ import annotations

import hashlib
import html
import re
from pathlib import Path

import pytest
from chromium import browser, find_chromium
from click.testing import CliRunner
from PIL import Image
from run_folders import CLASSES, answers, make_run, photo_row

from finetunekit.cli import main
from finetunekit.experiments.compare import compare_runs
from finetunekit.reports.comparison_page import comparison_page


def text_of(page: bytes) -> str:
    markup = re.sub(r"<style>.*?</style>", " ", page.decode(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def pair_of_runs(folder: Path) -> list[Path]:
    """Two runs on 40 photos: the second gains ten that the first has wrong, and loses one."""
    first = make_run(folder / "first", answers(range(10), 40), config={"pixels": {"size_px": 75}})
    second = make_run(folder / "second", answers([39], 40), config={"pixels": {"size_px": 100}}, seed=1)
    return [first, second]


def test_the_page_says_what_the_command_says(tmp_path: Path) -> None:
    comparison = compare_runs(pair_of_runs(tmp_path))
    said = text_of(comparison_page(comparison))
    assert "Run 2 is more accurate than run 1 on the same 40 photos (p = 0.012)." in said
    assert "30 of 40, 75.0 %" in said
    assert "39 of 40, 97.5 %" in said
    assert "Only run 2 is right: 10" in said
    assert "Only run 1 is right: 1" in said
    assert "pixels.size_px 75 100" in said
    assert "true: tiger run 1: tiger 90 % run 2: cat 90 %" in said


def test_changed_photos_are_shown_where_they_still_are(tmp_path: Path) -> None:
    picture = tmp_path / "first" / "test" / "cat" / "seen.png"
    rows = answers((), 8)
    Image.new("RGB", (9, 7), "red").save(tmp_path / "seen.png")
    content = (tmp_path / "seen.png").read_bytes()
    seen = {
        **photo_row("seen", "cat", dict.fromkeys(CLASSES, 0.25) | {"lion": 0.4, "cat": 0.1}),
        "path": "test/cat/seen.png",
    }
    seen["sha256"] = hashlib.sha256(content).hexdigest()
    right = {**seen, "predicted": "cat", "p_cat": "0.4", "p_lion": "0.1"}
    first, second = make_run(tmp_path / "first", [*rows, seen]), make_run(tmp_path / "second", [*rows, right])
    gone = comparison_page(compare_runs([first, second]))
    assert "photo is not here any more" in text_of(gone)
    picture.parent.mkdir(parents=True)
    picture.write_bytes(content)
    page = comparison_page(compare_runs([first, second])).decode()
    assert re.search(r'<img src="data:image/jpeg;base64,[^"]+" alt="test/cat/seen\.png"', page)
    assert "left out: the page has reached its size" in text_of(
        comparison_page(compare_runs([first, second]), max_bytes=600_001)
    )


def test_names_are_escaped_and_stand_ins_said(tmp_path: Path) -> None:
    classes = ("<script>alert(1)</script>", "lion")
    rows = [photo_row(f"{i}", classes[i % 2], {classes[0]: 0.8, classes[1]: 0.2}) for i in range(6)]
    other = [photo_row(f"{i}", classes[i % 2], {classes[0]: 0.2, classes[1]: 0.8}) for i in range(6)]
    runs = [
        make_run(tmp_path / name, each, classes=classes, stand_in="Drawn & not photos.")
        for name, each in (("first", rows), ("second", other))
    ]
    page = comparison_page(compare_runs(runs))
    assert b"<script" not in page
    assert "Drawn & not photos." in text_of(page)


def test_three_runs_adjust_their_p_values(tmp_path: Path) -> None:
    paths = [*pair_of_runs(tmp_path), make_run(tmp_path / "third", answers((), 40))]
    said = text_of(comparison_page(compare_runs(paths)))
    assert "adjusted for 2 pairs" in said
    assert "Run 3 against run 1" in said


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed (apt-get install chromium)")
def test_command_writes_a_page_that_a_phone_shows(tmp_path: Path) -> None:
    paths = pair_of_runs(tmp_path)
    target = tmp_path / "comparison.html"
    result = CliRunner().invoke(main, ["compare", *map(str, paths), "--html", str(target)], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == str(target)
    with browser() as chromium:
        for width_px in (1280, 390):
            chromium.open(target, width_px=width_px)
            assert chromium.evaluate("document.documentElement.scrollWidth") <= width_px
        assert chromium.problems == []
