"""The page of a run: what it says, that it holds together in a browser, on a phone and on paper."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from chromium import Browser, browser, find_chromium
from finetunekit_builtin.reporters import HtmlOptions, ModelCardOptions, build_html, build_model_card
from run_folders import make_pictured_run

from finetunekit import FinishedRun
from finetunekit.config.yaml_source import parse_yaml
from finetunekit.evaluation.scores import score_splits
from finetunekit.reports.words import minus, show_expected
from finetunekit.runs.folder import (
    AUDIT,
    BASELINES,
    ENVIRONMENT,
    GRADCAM,
    OVERLAP,
    PHOTOS,
    PLAN,
    REPORTS,
    STATE,
    WEIGHTS,
    find_run,
    report_page,
)
from finetunekit.system.files import to_json, write_whole
from finetunekit.testing import check_reporter, shared_tiny_run
from finetunekit.testing.data import AWKWARD_CLASSES


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the engine whose class names are awkward."""
    return shared_tiny_run(tmp_path_factory)


def test_page_and_card_keep_the_contract_of_a_reporter(made: Path) -> None:
    check_reporter(build_html, HtmlOptions(), run=made)
    check_reporter(build_model_card, ModelCardOptions(), run=made)


SECTIONS = {
    *("data", "plan", "curves", "scores", "confusion", "classes", "reliability", "mistakes", "baselines"),
    *("openings", "environment", "licences", "commands"),
}


class Tags(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(page: bytes) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(page.decode())
    return parser.found


def text_of(page: bytes) -> str:
    markup = re.sub(r"<style>.*?</style>", " ", page.decode(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


@pytest.fixture(scope="module")
def page(made: Path) -> bytes:
    return build_html(HtmlOptions(), FinishedRun(made))["report.html"]


def test_every_section_is_there_and_the_contents_lead_to_it(page: bytes) -> None:
    found = tags(page)
    sections = [attributes["id"] for tag, attributes in found if tag == "section"]
    assert set(sections) >= SECTIONS
    links = [str(attributes["href"]) for tag, attributes in found if tag == "a"]
    assert {f"#{name}" for name in sections} <= set(links)
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_fetches_nothing_runs_nothing_and_is_small(page: bytes) -> None:
    found = tags(page)
    assert len(page) < 3_000_000
    assert not [tag for tag, _ in found if tag in ("script", "iframe", "object", "form")]
    addresses = [str(value) for _, attributes in found for key, value in attributes.items() if key in ("src", "href")]
    assert all(address.startswith(("data:", "#")) for address in addresses)


def test_every_picture_says_what_it_shows(page: bytes) -> None:
    found = tags(page)
    assert all(attributes.get("alt") for tag, attributes in found if tag == "img")
    assert [tag for tag, _ in found if tag == "img"]
    pictures = [attributes for tag, attributes in found if tag == "svg"]
    ids = {attributes.get("id") for _, attributes in found}
    assert len(pictures) >= 4
    assert all(set(str(one["aria-labelledby"]).split()) <= ids for one in pictures)


def test_the_same_run_gives_the_same_page(made: Path, page: bytes) -> None:
    assert build_html(HtmlOptions(), FinishedRun(made))["report.html"] == page


def test_scores_stand_with_denominators_and_intervals(made: Path, page: bytes) -> None:
    accuracy = FinishedRun(made).metrics["test"]["accuracy"]
    said = text_of(page)
    assert f"{accuracy['successes']} of {accuracy['photos']} test photos right" in said
    assert f"expect {show_expected(accuracy['interval'])} on more photos like these" in said


def test_the_first_paragraphs_say_what_fine_tuning_added(made: Path, page: bytes) -> None:
    baselines = FinishedRun(made).optional("baselines.json")
    assert baselines is not None
    lead = page.decode().split("<nav", 1)[0].encode()
    sentences = [html.unescape(one.decode()) for one in re.findall(rb'<p class="lead[^"]*">(.*?)</p>', lead)]
    assert "test photos right (" in sentences[0]
    assert sentences[1] == minus(baselines["words"][0])
    steps = FinishedRun(made).optional("next_steps.json")
    assert steps is not None
    assert all(minus(step["what"]) in html.unescape(lead.decode()) for step in steps["steps"])
    said = text_of(page)
    assert all(
        baseline["title"] in said for baseline in baselines["baselines"] if AWKWARD_CLASSES[0] not in baseline["title"]
    )


def test_mistakes_stand_beside_where_the_network_looked(made: Path, page: bytes) -> None:
    run = FinishedRun(made)
    wrong = [row for row in run.predictions if row["split"] == "test" and row["predicted"] != row["true"]]
    heat = [
        attributes
        for tag, attributes in tags(page)
        if str(attributes.get("alt", "")).startswith("where the network looked")
    ]
    assert len(heat) == len(wrong)
    assert "Grad-CAM" in text_of(page)


def test_what_the_audit_found_stands_with_its_photos(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "run")
    row = FinishedRun(made).photos[0]
    seen = {"path": row["path"], "sha256": row["sha256"], "split": "train", "label": "<b>", "note": "the same photo"}
    found = {"kind": "leak", "severity": "error", "title": "1 photo is there twice", "remedy": "Leave it out"}
    audit = {"findings": [{**found, "groups": [[seen], [seen]]}, {**found, "severity": "note", "groups": [[seen]]}]}
    write_whole(tmp_path / "run" / AUDIT, to_json(audit))
    page = build_html(HtmlOptions(samples_per_class=0), FinishedRun(tmp_path / "run"))["report.html"]
    said = text_of(page)
    assert "error: 1 photo is there twice. Leave it out" in said
    assert "leak: 2 photos of those found" in said
    assert said.count(f"{row['path']} (train, <b>); the same photo") == 2


def test_a_result_stands_beside_the_published_one(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "run")
    for name, change in (
        (PLAN, {"expected": {"value": 0.5, "photos": 160, "source": "a paper"}}),
        (STATE, {"stand_in": None}),
    ):
        content = json.loads((tmp_path / "run" / name).read_text())
        (content["config"] if name == PLAN else content).update(change)
        write_whole(tmp_path / "run" / name, to_json(content))
    page = build_html(HtmlOptions(), FinishedRun(tmp_path / "run"))["report.html"]
    assert "Published: 50.0 % of 160 photos. " in text_of(page)
    assert "published: 80 of 160, 50.0 %" in text_of(page)


def test_photos_that_are_gone_are_said_to_be_gone(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "run")
    state = json.loads((tmp_path / "run" / STATE).read_text())
    (tmp_path / "run" / STATE).write_text(json.dumps({**state, "photo_root": str(tmp_path / "nowhere")}))
    page = build_html(HtmlOptions(), FinishedRun(tmp_path / "run"))["report.html"]
    assert "photo is not here any more" in text_of(page)
    assert "<img" not in page.decode()


def test_a_full_page_leaves_photos_out_and_says_so(made: Path) -> None:
    page = build_html(HtmlOptions(max_mb=0.601), FinishedRun(made))["report.html"]
    assert "left out: the page has reached its size" in text_of(page)
    assert len(page) < 601_000


def test_a_run_without_optional_files_still_has_a_page(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "run")
    for name in (PHOTOS, WEIGHTS, ENVIRONMENT, BASELINES, OVERLAP, GRADCAM):
        (tmp_path / "run" / name).unlink(missing_ok=True)
    said = text_of(build_html(HtmlOptions(), FinishedRun(tmp_path / "run"))["report.html"])
    assert "no list of its photos" in said


def test_what_the_pretraining_had_seen_is_a_table(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "run")
    row = {"class": "lynx", "relation": "seen as itself", "by_name": "lynx", "by_photos": None}
    overlap = {"words": ["It knew one class."], "pretrained_on": "ImageNet", "caution": "Beware.", "rows": [row]}
    write_whole(tmp_path / "run" / OVERLAP, to_json(overlap))
    said = text_of(build_html(HtmlOptions(), FinishedRun(tmp_path / "run"))["report.html"])
    assert "It knew one class." in said
    assert "lynx seen as itself lynx –" in said
    assert "Caution. Beware." in said


def test_a_run_solved_in_closed_form_has_no_epochs_and_is_not_called_fine_tuned(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "run")
    stage = {"kind": "solve", "name": "probe", "solver": "logistic"}
    for name, change in ((PLAN, {"stages": [stage]}), (BASELINES, {"is_finetuned": False})):
        content = json.loads((tmp_path / "run" / name).read_text())
        (content["config"] if name == PLAN else content).update(change)
        if name == PLAN:
            content["components"] = [one for one in content["components"] if one["kind"] != "freezing policy"]
        write_whole(tmp_path / "run" / name, to_json(content))
    page = build_html(HtmlOptions(), FinishedRun(tmp_path / "run"))["report.html"]
    said = text_of(page)
    assert 'id="curves"' not in page.decode()
    assert "batches none, solved and not trained by steps" in said
    assert "freezing policy" not in said
    (card,) = build_model_card(ModelCardOptions(), FinishedRun(tmp_path / "run")).values()
    assert "learning_curves" not in page.decode() + card.decode()
    assert "this run adds, points" in said
    assert "Each baseline compared with this run, photo by photo" in said
    assert "fine-tuned" not in said


def test_a_run_is_named_by_its_page_as_well(made: Path, tmp_path: Path, page: bytes) -> None:
    shutil.copytree(made, tmp_path / "run")
    assert report_page(tmp_path / "run") == tmp_path / "run"
    write_whole(tmp_path / "run" / REPORTS / "report.html", page)
    shown = report_page(tmp_path / "run")
    assert shown == tmp_path / "run" / "reports" / "report.html"
    assert find_run(shown) == tmp_path / "run"


def test_a_page_of_many_classes_stays_small(tmp_path: Path) -> None:
    names = [f"species number {i:03d}" for i in range(100)]
    rows = make_pictured_run(tmp_path / "made", names, photos_per_class=2).predictions
    metrics = {"seconds": {}, **score_splits(rows, names, ("test",))}
    run = make_pictured_run(tmp_path / "scored", names, photos_per_class=2, metrics=metrics)
    page = build_html(HtmlOptions(), run)["report.html"]
    assert len(page) < 3_000_000
    assert text_of(page).count("species number 099") >= 2


# ---- in a browser ----------------------------------------------------------------------------------------------------------------

needs_chromium = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium is installed (apt-get install chromium)"
)


@pytest.fixture(scope="module")
def shown(made: Path, page: bytes) -> Iterator[tuple[Browser, Path]]:
    path = made / "page.html"
    path.write_bytes(page)
    with browser() as chromium:
        yield chromium, path


@needs_chromium
@pytest.mark.parametrize("width_px", [1280, 390, 320])
@pytest.mark.parametrize("is_dark", [False, True])
def test_page_loads_without_a_word_on_the_console_and_does_not_scroll_sideways(
    shown: tuple[Browser, Path], width_px: int, is_dark: bool
) -> None:
    chromium, path = shown
    chromium.problems.clear()
    chromium.open(path, width_px=width_px, is_dark=is_dark)
    assert chromium.problems == []
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width_px
    background = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 23, 26)" if is_dark else "rgb(255, 255, 255)")


@needs_chromium
def test_page_is_readable_by_its_own_measure(shown: tuple[Browser, Path]) -> None:
    """Text stands out from what is behind it, and nothing is smaller than a phone can show."""
    chromium, path = shown
    for is_dark in (False, True):
        chromium.open(path, width_px=390, is_dark=is_dark)
        assert chromium.evaluate(LOW_CONTRAST) == []
    assert chromium.evaluate("Math.min(...[...document.querySelectorAll('p, td, th, dd, dt, figcaption, li')].map(e => "
                             "parseFloat(getComputedStyle(e).fontSize)))") >= 12  # fmt: skip


#: Elements whose text has a contrast below 4.5 : 1 with the nearest background. Source: WCAG 2.2, success criterion 1.4.3.
LOW_CONTRAST = """
(() => {
  const numbers = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = text => { const [r, g, b] = numbers(text).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (numbers(c).length === 3 || numbers(c)[3] > 0) return c; } return 'rgb(255, 255, 255)'; };
  return [...document.querySelectorAll('h1, h2, h3, p, a, td, th, dd, dt, figcaption, caption, summary, strong, code')].filter(e => {
    const pair = [light(getComputedStyle(e).color), light(behind(e))].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05) < 4.5; }).map(e => e.outerHTML.slice(0, 80));
})()
"""


@needs_chromium
def test_keyboard_reaches_the_contents_and_every_box_that_scrolls(shown: tuple[Browser, Path]) -> None:
    chromium, path = shown
    chromium.open(path, width_px=390)
    number = chromium.evaluate("document.querySelectorAll('a, [tabindex], summary').length")
    seen = set()
    for _ in range(number):
        chromium.press_tab()
        seen.add(
            chromium.evaluate(
                "document.activeElement.getAttribute('href') || document.activeElement.getAttribute('aria-label')"
            )
        )
    assert seen >= {"#data", "#commands", "Photos of each class and split"}
    assert chromium.evaluate("[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 && "
                             "getComputedStyle(e).overflowX === 'auto' && e.tabIndex < 0).length") == 0  # fmt: skip


@needs_chromium
def test_page_prints_on_a_few_sheets(shown: tuple[Browser, Path]) -> None:
    chromium, path = shown
    chromium.open(path, width_px=1280, is_dark=True)
    chromium.ask("Emulation.setEmulatedMedia", media="print")
    assert chromium.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chromium.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    paper = chromium.print_pdf()
    assert paper.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 12


# ---- the model card --------------------------------------------------------------------------------------------------------------


def test_card_has_front_matter_whose_figures_are_those_of_the_run(made: Path) -> None:
    run = FinishedRun(made)
    card = build_model_card(ModelCardOptions(), run)["README.md"].decode()
    _, front, body = card.split("---\n", 2)
    values = parse_yaml(front, "README.md")
    assert values["library_name"] == "keras"
    assert values["pipeline_tag"] == "image-classification"
    (entry,) = values["model-index"]
    metrics = {metric["type"]: metric for metric in entry["results"][0]["metrics"]}
    accuracy = run.metrics["test"]["accuracy"]
    assert metrics["accuracy"]["value"] == round(accuracy["value"], 4)
    assert "95 % interval" in metrics["accuracy"]["name"]
    assert f"{accuracy['successes']} of {accuracy['photos']}" in body


@pytest.mark.parametrize(
    ("fit", "crop_pct", "seen"),
    [("stretch", None, (20, 40)), ("crop", None, (20, 20)), ("crop", 0.5, (10, 10)), ("pad", None, (20, 40))],
)
def test_a_map_lies_where_the_network_saw_the_photo(fit: str, crop_pct: float | None, seen: tuple[int, int]) -> None:
    from finetunekit.reports.thumbnails import _spread, seen_size

    spread = _spread(np.ones((4, 4), np.float32), (20, 40), seen_size((20, 40), fit, crop_pct))
    rows, columns = np.flatnonzero(spread.any(axis=1)), np.flatnonzero(spread.any(axis=0))
    assert spread.shape == (20, 40)
    assert (len(rows), len(columns)) == seen
    assert (rows[0] + rows[-1], columns[0] + columns[-1]) == (19, 39)  # in the middle
