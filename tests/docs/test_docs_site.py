"""The site builds without a network, its commands print what it shows, and every sample plugin runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from chromium import browser, find_chromium
from conftest import write_counted_photos
from helpers_docs import DOCS, blocks
from helpers_plugins import invoke
from PIL import Image

import finetunekit as ftk
from finetunekit.plugins.host import load_plugins

pytestmark = pytest.mark.usefixtures("networks_built_again_here")

ROOT = Path(__file__).parents[2]
SAMPLES = DOCS / "plugins" / "samples"
#: Verbs that need weights, a finished run or minutes: what they print was checked when it was written.
SLOW = ("run", "predict", "explain", "export", "compare", "evaluate", "verify")
PLACES = ("river", "wood", "rock", "road", "pond", "moor")


def check_printed(command: str, shown: list[str]) -> None:
    result = invoke(*shlex.split(command))
    printed = iter((result.stderr + result.stdout).splitlines())
    for line in filter(lambda line: line != "...", shown):
        pattern = ".*".join(map(re.escape, line.split("...")))
        assert any(re.fullmatch(pattern, candidate) for candidate in printed), f"{command}: {line}"


def write_shown_files(page: str, folder: Path) -> None:
    """Files that a page tells its reader to write."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for name, content in re.findall(r"<!-- write: (.+?) -->\n```\w+\n(.+?)```", text, flags=re.DOTALL):
        (folder / name).write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    "page", ["tutorial.md", "step_by_step.md", "errors.md", "experiment.md", "reuse.md", "quickstart.ja.md"]
)
def test_a_page_shows_what_its_commands_print(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_counted_photos(tmp_path / "photos" / "birds", {"train": 12, "valid": 4, "test": 4}, ("robin", "wren"))
    if page in ("tutorial.md", "step_by_step.md"):
        monkeypatch.setenv("FINETUNEKIT_CACHE", str(tmp_path / "cache"))
        (tmp_path / "photos").rename(tmp_path / "others")
    write_shown_files(page, tmp_path)
    ran = 0
    for command, shown in blocks(page):
        needs_weights = command.split()[0] in SLOW or "--network" in command
        if not needs_weights or "error: " in "".join(shown):
            check_printed(command, shown)
            ran += 1
    assert ran


def test_the_page_of_seams_shows_what_its_commands_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SAMPLES)
    for command, shown in blocks("plugins/seams.md"):
        check_printed(command, shown)


def test_what_a_page_shows_of_a_terminal_fits_80_columns() -> None:
    text = "".join((DOCS / page).read_text(encoding="utf-8") for page in ("tutorial.md", "step_by_step.md", "reuse.md"))
    shown = [
        line for block in re.findall(r"```console\n(.+?)```", text, flags=re.DOTALL) for line in block.splitlines()
    ]
    assert [line for line in shown if len(line) > 80] == []


def write_traps(folder: Path) -> Path:
    """Photos of two classes at six places, as `my_source` names them."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in (f"{label}_{place}_{n}.png" for label in ("cat", "lion") for place in PLACES for n in range(2)):
        Image.fromarray(generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "my_application",
        "my_backbone",
        "my_head",
        "my_freezing",
        "my_augmentation",
        "my_reporter",
        "my_tracker",
        "my_executor",
        "my_exporter",
    ],
)
def test_a_sample_keeps_its_contract(name: str) -> None:
    result = invoke("plugins", "check", str(SAMPLES / f"{name}.py"))
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "1 checked: 1 ok")


def test_the_sample_source_keeps_its_contract_and_each_place_on_one_side(tmp_path: Path) -> None:
    from finetunekit.testing import check_data_source

    source = load_plugins(pytest.fail, files=[SAMPLES / "my_source.py"]).find("data source", "file_names", "test")
    root = write_traps(tmp_path / "traps")
    check_data_source(source.build, source.options(), root=root)
    listing = source.build(source.options(), ftk.SourceContext(root, tmp_path, 0, pytest.fail))
    sides = {(photo.group, photo.split) for photo in listing.photos}
    assert len(sides) == len(PLACES)
    assert {split for _, split in sides} == {"train", "valid", "test"}
    (root / "lion.png").touch()
    with pytest.raises(ftk.DataError, match="a name has to be like lion_river_07"):
        source.build(source.options(), ftk.SourceContext(root, tmp_path, 0, pytest.fail))


def test_the_sample_policy_slows_blocks_towards_the_input_and_refuses_to_freeze_all() -> None:
    policy = load_plugins(pytest.fail, files=[SAMPLES / "my_freezing.py"]).find(
        "freezing policy", "block_decay", "test"
    )
    layers = tuple(ftk.LayerInfo(f"conv{n}", n, "Conv2D", f"block{n}", 9, False) for n in range(4))
    rates = policy.build(policy.options(factor=2.0, frozen=1), layers)
    assert rates == {"conv0": 0.0, "conv1": 0.25, "conv2": 0.5, "conv3": 1.0}
    with pytest.raises(ftk.ConfigError, match="leaves none of the backbone's 4 blocks"):
        policy.build(policy.options(frozen=4), layers)


def test_the_sample_augmentation_hides_a_square_somewhere() -> None:
    import tensorflow as tf

    found = load_plugins(pytest.fail, files=[SAMPLES / "my_augmentation.py"]).find("augmentation", "cutout", "test")
    (step,) = found.build(found.options(side=0.5, grey=7.0))
    assert step.apply is not None
    images, _ = step.apply(tf.zeros((64, 16, 16, 3)), tf.zeros((64, 2)), tf.range(64, dtype=tf.int64))
    hidden = np.count_nonzero(images.numpy()[..., 0] == 7.0, axis=(1, 2))
    assert hidden.max() == 64  # 8 × 8 of 16 × 16 where the square lies inside
    assert 0 < hidden.min() < 64
    assert set(np.unique(images)) == {0.0, 7.0}


@pytest.mark.slow
def test_all_sample_plugins_work_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNEKIT_CACHE", str(tmp_path / "cache"))
    write_traps(tmp_path / "photos" / "traps")
    run = ftk.run(str(SAMPLES / "all_seams.yaml"), out=str(tmp_path / "runs"))
    report = (run.path / "reports" / "mistakes.md").read_text(encoding="utf-8")
    wrong = [row for row in ftk.FinishedRun(run.path).predictions if row["split"] == "test"]
    assert len(wrong) == 8
    assert (run.path / "exports" / "one_file" / "model.zip").is_file()
    assert report.count(".png") == sum(row["true"] != row["predicted"] for row in wrong)


def test_the_site_builds_strictly_and_asks_no_other_host(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material makes the site; it is a development dependency")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    pages = list((tmp_path / "site").rglob("*.html"))
    asked = r"<(?:script|img|link(?! rel=.?canonical)|iframe)[^>]*?(?:src|href)=.?(https?://[^\s\">]+)"
    assert len(pages) > 10
    assert [found for page in pages for found in re.findall(asked, page.read_text(encoding="utf-8"))] == []
    assert (tmp_path / "site" / "plugins" / "samples" / "my_backbone.py").is_file()
    assert not (tmp_path / "site" / "generate.py").exists()
    if find_chromium():
        check_in_browser(tmp_path / "site")


SEARCH = """new Promise(found => {
  const field = document.querySelector("[data-md-component=search-query]");
  document.querySelector("[data-md-toggle=search]").click();
  field.dispatchEvent(new Event("focus"));
  new MutationObserver(() => {
    const titles = [...document.querySelectorAll(".md-search-result__item h1")].map(title => title.textContent);
    if (titles.length) return found(titles);
    field.value = "temperature";
    field.dispatchEvent(new KeyboardEvent("keyup", { key: "e", bubbles: true }));
  }).observe(document.querySelector(".md-search-result"), { childList: true, subtree: true, characterData: true });
})"""
CUT_OFF = """[document.documentElement.scrollWidth - innerWidth,
  ...[...document.querySelectorAll("pre > code")].map(code => code.scrollWidth - code.clientWidth)]"""


def check_in_browser(site: Path) -> None:
    with browser() as page:
        page.open(site / "index.html")
        assert "Glossary" in page.evaluate(SEARCH)
        for name in ("index.html", "tutorial.html", "plugins/api.html"):
            for width_px in (1280, 390):
                page.open(site / name, width_px=width_px)
                assert max(page.evaluate(CUT_OFF)) <= 0, (name, width_px)
        assert page.problems == []
