"""`finetunekit tune`: real Optuna on sqlite, tiny networks; what is searched, what runs, what is never run again, what is said."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import browser, find_chromium
from click.testing import CliRunner
from conftest import TINY, write_photos

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.config.planning import prepare
from finetunekit.errors import ConfigError, PrunedError, RunFolderError
from finetunekit.experiments.ablation.layout import identity_of
from finetunekit.experiments.tuning.space import Choices, Range, lay_out_search
from finetunekit.experiments.tuning.study import SharedStudy
from finetunekit.reports.tuning_page import tuning_page
from finetunekit.reports.tuning_text import tuning_lines
from finetunekit.runs.folder import read_status
from finetunekit.runs.test_split_ledger import read_openings
from finetunekit.runs.trials import STUDY, Trial, make_trial, open_storage, open_study, read_trial
from finetunekit.statistics.selection import check_selection
from finetunekit.system.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)
FAST = ("data.audit.gate=off", "reports=[]")
RATE = "stages[0].optimizer.learning_rate"


# ---- what is searched ------------------------------------------------------------------------------------------------------------


def test_ranges_and_lists_know_the_presets_own_value(tiny_yaml: Path) -> None:
    rate, units, size, momentum = lay_out_search(
        tiny_yaml,
        [f"{RATE}=log:1e-3:1", "head.units=log:2:64", "image_size=12,16", "stages[0].optimizer.momentum=lin:0:0.5"],
    ).space
    assert isinstance(rate, Range)
    assert (rate.own, rate.size, rate.is_whole) == (0.05, None, False)
    assert rate.settings(0.01234567) == (f"{RATE}=0.01235",)
    assert isinstance(units, Range)
    assert (units.own, units.is_whole, units.size) == (8, True, 63)
    assert units.settings(9) == ("head.units=9",)
    assert isinstance(size, Choices)
    assert (size.labels, size.own) == (("8", "12", "16"), "8")
    assert size.settings("8") == ()
    assert momentum.own is None  # 0.9 lies outside


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{RATE}=log:0:1", r"--vary stages\[0\]\.optimizer\.learning_rate: log needs numbers above 0"),
        (f"{RATE}=log:1:1e-3", "LOW has to be below HIGH"),
        (f"{RATE}=lin:a:b", "lin:LOW:HIGH needs two numbers"),
        (f"{RATE}=lin:0:inf", "LOW has to be below HIGH"),
        (f"{RATE}=log:1e-3:100", r"learning_rate: should be less than or equal to 10. Received: 100"),
        ("head.units=int:0.5:3", "int needs whole numbers"),
        ("head.unit=int:1:3", "unknown option. Did you mean 'units'"),
        ("a..b=lin:1:2", "not a path of the form"),
        ("head.units", "needs the form KEY=VALUE"),
        ("seed=int:1:9", "seeds are no setting to choose"),
        ("data.root=a,b", "compared on the same photos"),
        ("save.h5=true,false", "changes no prediction"),
    ],
)
def test_what_cannot_be_searched_is_said_before_any_run(tiny_yaml: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        lay_out_search(tiny_yaml, [text, "image_size=8,16"])
    assert len(caught.value.problems) == 1
    assert list(tiny_yaml.parent.glob("runs*")) == []


def test_all_problems_come_at_once_those_of_combinations_too(tiny_yaml: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        lay_out_search(tiny_yaml, [f"{RATE}=log:1e-3:100", "image_size=4,16", "head.units=0,8"])
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError, match="crop_pct is for fit: crop"):
        lay_out_search(tiny_yaml, ["pixels.fit=stretch,crop", "pixels.crop_pct=null,0.9"])
    with pytest.raises(ConfigError, match="is given twice"):
        lay_out_search(tiny_yaml, ["image_size=8,16", "pixels.size_px=12"])
    with pytest.raises(ConfigError, match="nothing is searched"):
        lay_out_search(tiny_yaml)
    with pytest.raises(ConfigError, match=r"Leave out train\.folds"):
        lay_out_search(tiny_yaml, ["image_size=8,16"], settings=["train.folds=3"])


def test_the_space_may_stand_in_the_preset(tiny_yaml: Path) -> None:
    text = tiny_yaml.read_text(encoding="utf-8")
    section = f"tune:\n  trials: 7\n  pruner: halving\n  vary:\n    {RATE}: log:1e-3:1\n    image_size: [8, 16]\n"
    tiny_yaml.write_text(text + section, encoding="utf-8")
    search = lay_out_search(tiny_yaml, ["head.units=4,8", "pixels.size_px=8,12"], trials=9)
    assert [setting.path for setting in search.space] == [RATE, "head.units", "pixels.size_px"]
    assert (search.section.trials, search.section.pruner) == (9, "halving")
    assert "tune" not in prepare(tiny_yaml)[0].to_dict()["config"]  # no part of what a run is
    tiny_yaml.write_text(text + section.replace("log:1e-3:1", "log:1e-3:100"), encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"tiny\.yaml: tune\.vary\.stages\[0\]\.optimizer\.learning_rate: should be less"
    ):
        lay_out_search(tiny_yaml)
    tiny_yaml.write_text(text + section.replace("log:1e-3:1", "lag:1e-3:1"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"tiny\.yaml:\d+: tune\.vary.*should be a list of values, or log:LOW:HIGH"):
        lay_out_search(tiny_yaml)


def test_a_component_is_chosen_before_its_options(tiny_yaml: Path) -> None:
    search = lay_out_search(tiny_yaml, [f"{RATE}=log:1e-3:1", "stages[0].optimizer.name=sgd,adamw"])
    given = search.choices({RATE: 0.5, "stages[0].optimizer.name": "adamw"})
    assert given == ('stages[0].optimizer.name="adamw"', f"{RATE}=0.5")
    plan, _ = prepare(tiny_yaml, settings=given)
    assert plan.config.stages[0].model_dump()["optimizer"]["learning_rate"] == 0.5


def test_without_optuna_one_line_says_what_to_install(tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = CliRunner().invoke(main, ["tune", str(tiny_yaml), "--vary", "image_size=8,16"])
    assert (done.exit_code, done.stderr) == (
        2,
        "error: tune needs Optuna, which is not installed: pip install 'finetunekit[tune]'\n",
    )


# ---- what is proposed ------------------------------------------------------------------------------------------------------------


def ended(study: SharedStudy, count: int) -> list[dict[str, Any]]:
    """Values of so many trials, each told a loss that its values give."""
    params = []
    for _ in range(count):
        trial = study.next()
        assert trial is not None
        params.append(dict(trial.params))
        study.tell(trial.number, "complete", loss=float(len(str(trial.params))) + trial.params.get(RATE, 0))
    return params


def test_proposals_begin_with_the_preset_and_go_on_alike_wherever_they_were_stopped(tiny_yaml: Path) -> None:
    search = lay_out_search(tiny_yaml, [f"{RATE}=log:1e-3:1", "image_size=12,16"])
    whole = ended(SharedStudy(tiny_yaml.parent / "whole", search), 11)
    folder = tiny_yaml.parent / "parts"
    parts = [*ended(SharedStudy(folder, search), 10), *ended(SharedStudy(folder, search), 1)]
    assert whole[0] == {RATE: 0.05, "image_size": "8"}
    assert parts == whole
    shares = SharedStudy(folder, search).importances()
    assert shares is not None
    assert set(shares) == {RATE, "image_size"}
    assert sum(shares.values()) == pytest.approx(1.0)
    other = lay_out_search(tiny_yaml, [f"{RATE}=log:1e-3:1", "image_size=12,18"], seed=3)
    with pytest.raises(RunFolderError, match="holds a search with another space and seed"):
        SharedStudy(folder, other)


def test_a_database_that_cannot_be_used_is_one_line(tiny_yaml: Path) -> None:
    search, folder = lay_out_search(tiny_yaml, ["image_size=8,12"]), tiny_yaml.parent / "broken"
    folder.mkdir()
    (folder / STUDY).write_bytes(b"no database" * 100)
    with pytest.raises(RunFolderError, match=r"study\.sqlite3: the trials cannot be read or written \("):
        SharedStudy(folder, search)
    (folder / "file").write_bytes(b"")
    with pytest.raises(RunFolderError, match=r"file: cannot be written"):
        SharedStudy(folder / "file", search)


def test_a_small_space_is_tried_whole_and_nothing_twice(tiny_yaml: Path) -> None:
    search = lay_out_search(tiny_yaml, ["image_size=8,12", "head.units=int:7:9"], trials=40)
    study = SharedStudy(tiny_yaml.parent / "small", search)
    tried = ended(study, 6)
    assert len({tuple(params.values()) for params in tried}) == 6
    assert study.next() is None


# ---- running ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tuned:
    """One search from the command line, stopped in its second trial and gone on with; the last trial is stopped early."""

    preset: Path
    path: Path
    printed: dict[str, Any]
    said_when_stopped: str
    folders_when_stopped: list[str]


class StopsTheThird:
    def prune(self, study: Any, trial: Any) -> bool:
        return int(trial.number) == 2


def complete(tuned: Tuned) -> list[dict[str, Any]]:
    return [trial for trial in tuned.printed["trials"] if trial["state"] == "complete"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    from finetunekit.runs import trials
    from finetunekit.training.stages import Training

    folder, real, calls = tmp_path_factory.mktemp("tuned"), Training.run, list[int]()
    preset = folder / "tiny.yaml"
    preset.write_text(TINY.replace("ROOT", str(write_photos(folder / "photos", per_class=6))), encoding="utf-8")

    def stop_in_second(self: Training) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self)

    fast = [part for setting in FAST for part in ("--set", setting)]
    arguments = ["tune", str(preset), "--vary", f"{RATE}=log:1e-3:1", "--vary", "image_size=12", *fast]
    arguments += ["--trials", "3", "--out", str(folder / "out"), "--json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
        patch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
        patch.setattr(Training, "run", stop_in_second)
        patch.setattr(trials, "_build_pruner", lambda *_: StopsTheThird())
        stopped = CliRunner().invoke(main, arguments)
        assert stopped.exit_code == 130
        assert not (folder / "state/openings").exists()
        folders = sorted(path.parent.name for path in (folder / "out").glob("*/plan.json"))
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert len(calls) == 5  # three trials, one of them begun twice, and the winner
    return Tuned(preset, folder / "out", json.loads(result.stdout), stopped.stderr, folders)


def test_what_was_stopped_is_taken_up(tuned: Tuned) -> None:
    assert "the same command continues with the others" in tuned.said_when_stopped
    assert len(tuned.folders_when_stopped) == 2
    folders = [trial["folder"] for trial in tuned.printed["trials"]]
    assert folders[:2] == tuned.folders_when_stopped
    assert [trial["number"] for trial in tuned.printed["trials"]] == [0, 1, 2]


def test_trials_are_runs_scored_on_validation_only_and_the_winner_meets_the_test_split_once(tuned: Tuned) -> None:
    found = tuned.printed
    for trial in complete(tuned):
        run = ftk.FinishedRun(tuned.path / trial["folder"])
        assert {row["split"] for row in run.predictions} == {"train", "valid"}
        assert run.metrics["valid"]["log_loss"]["value"] == pytest.approx(trial["log_loss"])
        assert "tune" not in run.config
        assert not (run.path / "model.keras").exists()
    best = min(complete(tuned), key=lambda trial: trial["log_loss"])
    assert best["number"] == found["best"]
    assert best["log_loss"] <= found["trials"][0]["log_loss"]
    winner = ftk.FinishedRun(tuned.path / found["winner"]["folder"])
    assert found["winner"]["test"]["photos"] == 9
    assert found["winner"]["valid"]["log_loss"] == pytest.approx(best["log_loss"])
    assert found["winner"]["openings"]["openings"] == 1
    assert (winner.path / "model.keras").exists()
    assert read_openings(winner.state["test_content_key"]).openings == 0  # this test has a ledger of its own


def test_the_figures_say_what_choosing_did_to_them(tuned: Tuned) -> None:
    found, text = tuned.printed, " ".join(tuning_lines(tuned.printed, tuned.path))
    assert found["selection"]["candidates"] == 2
    assert found["selection"]["apparent"] == pytest.approx(min(trial["log_loss"] for trial in complete(tuned)))
    assert "flatters it, since it was chosen by it" in text
    assert "On the test split, which chose nothing" in text
    assert "This test split has now been opened once by 1 configuration." in text
    assert all(len(line) <= 80 for line in tuning_lines(found, tuned.path))


def test_the_winner_is_a_preset_and_the_trials_are_a_table(tuned: Tuned) -> None:
    best = next(trial for trial in tuned.printed["trials"] if trial["number"] == tuned.printed["best"])
    written, _ = prepare(tuned.path / "winner.yaml")
    asked, _ = prepare(tuned.preset, settings=(*FAST, *best["settings"]))
    assert identity_of(written.to_dict()) == identity_of(asked.to_dict())
    with (tuned.path / "trials.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["image_size"] for row in rows] == [trial["values"]["image_size"] for trial in tuned.printed["trials"]]
    assert [float(row["log_loss"] or "nan") for row in rows[:2]] == [trial["log_loss"] for trial in complete(tuned)]


def test_a_trial_that_was_stopped_early_is_kept_without_its_network(tuned: Tuned) -> None:
    last = tuned.printed["trials"][2]
    assert (last["state"], last["epochs"], last["log_loss"]) == ("pruned", 1, None)
    assert "stopped after epoch 1: validation log loss" in last["why"]
    folder = tuned.path / last["folder"]
    assert read_status(folder) == "pruned"
    assert not [path for path in folder.iterdir() if path.name.startswith(("model", "checkpoint"))]
    assert "2 finished, 1 stopped early" in " ".join(tuning_lines(tuned.printed, tuned.path))


def test_the_page_shows_every_trial_and_what_each_setting_did(tuned: Tuned) -> None:
    page = (tuned.path / "tune.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3  # trial by trial, and one a setting; too few trials to say what matters
    assert all(f">{trial['values'][RATE]}</td>" in page for trial in tuned.printed["trials"])
    assert "stopped early" in page
    assert "--vary image_size=12" in page
    assert "http" not in page.replace("http-equiv", "")
    many = {**tuned.printed, "importances": {RATE: 0.75, "image_size": 0.25}}
    assert "What matters" in tuning_page(many).decode()


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed (apt-get install chromium)")
def test_the_page_fits_a_phone(tuned: Tuned) -> None:
    with browser() as chromium:
        for width_px in (1280, 390):
            chromium.open(tuned.path / "tune.html", width_px=width_px)
            assert chromium.evaluate("document.documentElement.scrollWidth") <= width_px
        assert chromium.problems == []


# ---- stopped early ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pruner", "others"), [("median", [0.1, 0.2, 0.3, 0.4, 0.5]), ("halving", [0.1, 0.2, 0.3, 0.4])]
)
def test_a_trial_is_stopped_where_others_were_better_at_the_same_epoch(
    tmp_path: Path, pruner: str, others: list[float]
) -> None:
    study = open_study(open_storage(tmp_path / STUDY))
    for loss in others:
        trial = study.ask()
        reports = Trial(tmp_path / STUDY, trial.number, pruner, 1, 9, QUIET.say)
        with contextlib.suppress(PrunedError):  # halving has worse ones stop at once
            reports.after_epoch({"epoch": 1, "val_loss": loss})
        study.tell(trial, loss)
    good, bad = (Trial(tmp_path / STUDY, study.ask().number, pruner, 1, 9, QUIET.say) for _ in range(2))
    good.after_epoch({"epoch": 0, "val_loss": 99.0})  # a solved stage, which has no epoch
    good.after_epoch({"epoch": 1, "val_loss": 0.05})
    with pytest.raises(PrunedError, match=r"stopped after epoch 1: validation log loss 0\.9000 is worse than"):
        bad.after_epoch({"epoch": 1, "val_loss": 0.9})
    dataclasses.replace(bad, epochs=1).after_epoch({"epoch": 1, "val_loss": 0.9})  # nothing is saved by stopping it now
    dataclasses.replace(bad, number=0).after_epoch({"epoch": 1, "val_loss": 0.9})  # the preset itself


def test_a_trial_that_does_not_reach_the_database_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    run = tmp_path / "run"
    run.mkdir()
    assert read_trial(run, epochs=1, say=said.append) is None
    make_trial(run, 3, pruner="median", min_epochs=1)
    assert read_trial(run, epochs=1, say=said.append) is None
    (tmp_path / STUDY).write_bytes(b"no database" * 100)
    trial = read_trial(run, epochs=2, say=said.append)
    assert trial is not None
    trial.after_epoch({"epoch": 1, "val_loss": 1.0})
    assert ["is not here, so" in said[0], "epoch 1 did not reach" in said[1]] == [True, True]


# ---- several processes -----------------------------------------------------------------------------------------------------------


def test_processes_share_the_trials_and_take_up_those_of_one_that_was_killed(tiny_yaml: Path) -> None:
    search = lay_out_search(tiny_yaml, [f"{RATE}=log:1e-3:1"], trials=4)
    first, second = (SharedStudy(tiny_yaml.parent / "shared", search) for _ in range(2))
    begun = [next_number(study) for study in (first, second, first)]
    assert begun == [0, 1, 2]
    second.tell(1, "complete", loss=1.0)
    first.let_all_go()  # as the system does where its process ends, however it ends
    assert [next_number(second) for _ in range(4)] == [0, 2, 3, None]
    assert next_number(first) is None


def next_number(study: SharedStudy) -> int | None:
    trial = study.next()
    return None if trial is None else trial.number


@pytest.mark.slow
def test_two_commands_at_once_one_of_them_killed(tiny_yaml: Path) -> None:
    """Both run trials of one search; a third process takes up what the killed one had under way, and runs the winner."""
    out = tiny_yaml.parent / "out"
    command = [
        sys.executable,
        "-m",
        "finetunekit",
        "tune",
        str(tiny_yaml),
        "--vary",
        f"{RATE}=log:1e-3:1",
        "--trials",
        "9",
    ]
    command += ["--set", "data.audit.gate=off", "--set", "stages[0].epochs=20", "--out", str(out)]
    killed, other = (
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)
    )
    assert killed.stderr is not None
    for line in killed.stderr:
        if line.startswith("epoch"):
            killed.kill()
            break
    killed.communicate()
    assert other.communicate(timeout=300)[1]
    assert other.returncode == 0
    subprocess.run([*command, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    record = json.loads((out / "tune.json").read_text(encoding="utf-8"))
    assert (record["status"], record["under_way"]) == ("finished", [])
    assert len(record["trials"]) == 9
    assert record["winner"]["test"] is not None
    assert len(list(out.glob("tiny-winner-*"))) == 1


# ---- nested ----------------------------------------------------------------------------------------------------------------------


def test_a_fold_whose_test_split_stays_shut_is_trained_on_photos_of_all_splits(tiny_yaml: Path) -> None:
    settings = (*FAST, "stages[0].epochs=1", "train.folds=3", "train.fold=1", "evaluate.test=false")
    run = ftk.FinishedRun(ftk.run(tiny_yaml, settings=settings, out=tiny_yaml.parent / "out", progress=QUIET).path)
    assert {row["split"] for row in run.predictions} == {"train", "valid"}
    assert any(row["path"].startswith("test/") for row in run.predictions)


def test_nested_needs_the_test_split_and_photos_for_its_folds_before_any_run(tiny_yaml: Path) -> None:
    for settings, said in ((["evaluate.test=false"], "--nested scores every photo once"), ([], "too few for 90 folds")):
        with pytest.raises(ConfigError, match=said):
            ftk.run_tune(
                tiny_yaml,
                [f"{RATE}=log:1e-3:1"],
                settings=settings,
                nested=90,
                out=tiny_yaml.parent / "out",
                progress=QUIET,
            )
    assert not (tiny_yaml.parent / "out").exists()


@pytest.mark.slow
def test_nested_scores_every_photo_by_a_winner_that_never_saw_it(tiny_yaml: Path) -> None:
    out = tiny_yaml.parent / "out"
    found = ftk.run_tune(
        tiny_yaml, [f"{RATE}=log:1e-3:1"], settings=FAST, trials=2, nested=3, out=out, progress=QUIET
    ).scores
    nested = found["nested"]
    assert nested["pooled"]["photos"] == sum(1 for path in (tiny_yaml.parent / "photos").rglob("*.png"))
    assert len(nested["winners"]) == 3
    assert nested["openings"]["openings"] == 2  # the winner's, and that of all folds together
    for fold in (1, 2, 3):
        record = json.loads((out / f"fold-{fold}/tune.json").read_text(encoding="utf-8"))
        trial = ftk.FinishedRun(out / f"fold-{fold}" / record["trials"][1]["folder"])
        assert {row["split"] for row in trial.predictions} == {"train", "valid"}
    assert "Nested cross-validation" in " ".join(tuning_lines(found, out))
    again = ftk.run_tune(tiny_yaml, [f"{RATE}=log:1e-3:1"], settings=FAST, trials=2, nested=3, out=out, progress=QUIET)
    assert again.scores["nested"] == nested


# ---- what choosing does ----------------------------------------------------------------------------------------------------------


def test_the_best_of_many_equals_is_no_better_than_they_are() -> None:
    """Fifty candidates whose losses are chance alone: the lowest is far below their mean, and the correction takes that back."""
    generator = np.random.default_rng(0)
    losses = generator.gamma(1.0, 1.0, size=(50, 200))
    found = check_selection(losses, losses < 1.0, seed=1)
    assert found.apparent < 0.87
    assert found.corrected == pytest.approx(1.0, abs=0.04)
    assert found.corrected_accuracy < found.apparent_accuracy
    assert found.interval.low < 1.0 < found.interval.high
    one = losses[:1] - 0.5
    clear = check_selection(np.concatenate([losses, one]), np.concatenate([losses, one]) < 1.0)
    assert clear.best == 50
    assert clear.stability > 0.95
    assert clear.corrected == pytest.approx(clear.apparent, abs=0.02)
    with pytest.raises(ValueError, match="a selection needs a candidate and two photos"):
        check_selection(losses[:, :1], losses[:, :1] < 1.0)
