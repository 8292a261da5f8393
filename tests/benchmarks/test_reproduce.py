"""`benchmarks/reproduce.py`: what is asked, what is not run twice, and the page that shows its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import reproduce
from common import FRESH_VIEWS
from conftest import TINY, write_photos

import finetunekit as ftk
from finetunekit.config.planning import prepare
from finetunekit.system.progress import Progress
from finetunekit.training.stages import Training

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)


def trials(seeds: tuple[int, ...] = (0, 1, 2), **asked: object) -> list[reproduce.Trial]:
    return reproduce.plan_trials(
        reproduce.EXPERIMENT, tuple(reproduce.SOURCES), seeds, epochs=None, data=Path("images"), **asked
    )


def test_every_preset_runs_from_both_sources_with_every_seed() -> None:
    asked = trials()
    assert len(asked) == len(set(asked)) == 6 * 2 * 3
    six = {"felidae4", "felidae4-50px", "felidae4-exact", "felidae4-noaug", "felidae4-pixels", "felidae4-transfer"}
    assert {trial.preset for trial in asked} == six <= set(reproduce.PRESETS)
    assert [trial.seed for trial in asked[:12]] == [0] * 12  # the table is whole after the first seed
    keys = reproduce.identify(asked)
    assert (
        len({keys[trial] for trial in asked if trial.source == "75"} & {keys[t] for t in asked if t.source != "75"})
        == 0
    )
    of_name = {trial.preset: keys[trial] for trial in asked if (trial.source, trial.seed) == ("full", 0)}
    assert len({of_name[name] for name in reproduce.EXPERIMENT}) == 6


@pytest.mark.slow
def test_seeds_may_share_their_views_and_the_table_says_so() -> None:
    asked = trials((0, 1), is_shared=True)
    plans = [prepare(trial.path, settings=trial.settings, seed=trial.seed)[0].config for trial in asked]
    assert {(plan.seed, plan.view_seed) for plan in plans} == {(0, 0), (1, 0)}
    assert not set(reproduce.identify(asked).values()) & set(reproduce.identify(trials((0, 1))).values())
    banks = {(trial.preset, plan.cache.mode, plan.cache.views) for trial, plan in zip(asked, plans, strict=True)}
    assert {name: (mode, views) for name, mode, views in banks} == {
        name: ("bank", FRESH_VIEWS if name == "felidae4-exact" else 64) for name in reproduce.EXPERIMENT
    }
    assert not any("cache" in setting for trial in trials() for setting in trial.settings)
    assert "All seeds share one set of augmented views" in reproduce.render_table(asked, {})
    assert "share one set" not in reproduce.render_table(trials(), {})


def test_the_page_has_a_row_for_each_and_what_is_published_of_it() -> None:
    page = (ROOT / "docs/reproduction.md").read_text(encoding="utf-8")
    shown = page.split("--table -->", 1)[1].split("<!-- end of table -->", 1)[0].strip().splitlines()
    wanted = reproduce.render_table(trials(is_shared=True), {}).splitlines()
    assert [line.split("|")[1:4] for line in shown] == [line.split("|")[1:4] for line in wanted]
    assert sum(reproduce.NOT_MEASURED in line for line in wanted) == 12


@pytest.mark.slow
def test_what_came_out_has_counts_and_both_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = tmp_path / "tiny.yaml"
    preset.write_text(TINY.replace("ROOT", "unused"), encoding="utf-8")
    photos = write_photos(tmp_path / "photos")
    monkeypatch.setattr(reproduce, "PRESET", preset)
    asked = [reproduce.Trial("tiny", "75", seed, 1, str(photos)) for seed in (0, 1, 2)]
    for trial in asked[:2]:
        ftk.run(trial.path, settings=trial.settings, seed=trial.seed, out=tmp_path / "out", progress=QUIET)
    found = reproduce.find_finished(asked, tmp_path / "out")
    assert list(found) == asked[:2]
    counts = [run.metrics["test"]["accuracy"]["successes"] for run in found.values()]
    table = reproduce.render_table(asked, found)
    assert f"| `tiny` | 75 px | no figure | {counts[0]}, {counts[1]} of 6 | {100 * sum(counts) / 12:.1f} % |" in table
    assert "Epochs cut to 1: another experiment than the published one." in table
    reproduce.run_missing(asked[:2], tmp_path / "out")  # would start a process for each that is missing

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run", _interrupt)
        with pytest.raises(KeyboardInterrupt, match="resume with: finetunekit resume"):
            reproduce.run_one(asked[2], tmp_path / "out")
    folders = sorted(path.parent for path in (tmp_path / "out").glob("*/plan.json"))
    assert len(folders) == 3
    reproduce.run_one(asked[2], tmp_path / "out")  # takes up what was stopped
    assert sorted(path.parent for path in (tmp_path / "out").glob("*/plan.json")) == folders
    assert list(reproduce.find_finished(asked, tmp_path / "out")) == asked
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["run"] in {path.name for path in folders}


def _interrupt(training: Training) -> None:
    raise KeyboardInterrupt
