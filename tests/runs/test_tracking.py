"""Trackers: what they are told, and that nothing they do costs a run anything."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tracking_plugin
from helpers_plugins import invoke
from run_folders import answers, make_run

import finetunekit as ftk
from finetunekit.config.planning import prepare
from finetunekit.config.yaml_source import dump_yaml, parse_yaml, plain
from finetunekit.engine.api import resume
from finetunekit.engine.track import _members, mark_stopped, track
from finetunekit.plugins.files import PluginFile
from finetunekit.runs import tracking
from finetunekit.runs.folder import FinishedRun
from finetunekit.runs.reproducibility import compare_bits
from finetunekit.runs.run_record import _group_key
from finetunekit.runs.tracked_run import tracked_end
from finetunekit.runs.tracking import RunTrackers
from finetunekit.runs.trust import note_started
from finetunekit.runs.verify import published_sentence
from finetunekit.system.progress import Progress
from finetunekit.system.secrets import has_password, without_secrets

PLUGIN = Path(tracking_plugin.__file__)


@pytest.fixture
def tracked_yaml(tiny_yaml: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`tiny_yaml` with the tracker `written`, which writes into the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "PATIENCE_S", 60.0)  # on a busy machine a thread may have to wait for its turn
    text = tiny_yaml.read_text(encoding="utf-8").replace("plugins: [", f"plugins: [{PLUGIN}, ")
    path = tmp_path / "tracked.yaml"
    path.write_text(f"{text}track: [{{name: written}}]\n", encoding="utf-8")
    return path


@pytest.fixture
def silent_run(copied_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run whose configuration names the tracker `written`, which has not heard of it yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "PATIENCE_S", 60.0)
    file = copied_run / "config.yaml"
    config = plain(parse_yaml(file.read_text(encoding="utf-8"), "config"), "config")
    config = {
        **config,
        "plugins": [*config["plugins"], str(PLUGIN)],
        "track": [{"name": "written", "file": str(tmp_path / "written.jsonl")}],
    }
    file.write_text(dump_yaml(config), encoding="utf-8")
    note_started([PluginFile(PLUGIN, PLUGIN.read_bytes(), PLUGIN)], pytest.fail)
    return copied_run


def tell(path: Path, status: str = "finished") -> list[str]:
    """Tell a run's trackers as the engine does; what was said of them."""
    said: list[str] = []
    trackers = RunTrackers(prepare(str(path / "config.yaml"))[0].track, path, said.append)
    trackers.tell()
    trackers.close(status)
    return said


def run(preset: Path, *settings: str) -> tuple[Path, list[str]]:
    """The run folder, and what was said of trackers."""
    said = io.StringIO()
    result = ftk.run(preset, settings=settings, out="runs", progress=Progress(said))
    return result.path, [line for line in said.getvalue().splitlines() if line.startswith("warning: tracker")]


def calls(file: str = "written.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]


def steps() -> list[int]:
    return [call["step"] for call in calls() if call["call"] == "epoch"]


def stop_after_first_epoch(preset: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUN_STOPS", "1")
    with pytest.raises(KeyboardInterrupt):
        ftk.run(preset, out="runs", progress=Progress(is_quiet=True))
    monkeypatch.delenv("RUN_STOPS")
    (path,) = Path("runs").iterdir()
    return path


# ---- what is told ----------------------------------------------------------------------------------------------------------------


def test_a_tracker_is_told_configuration_epochs_and_every_score_with_its_denominator_and_interval(
    tracked_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, warned = run(tracked_yaml, "insights.baselines=true", "reports=[{name: confusion_matrix}]")
    assert not warned
    start, *epochs, finish = calls()
    finished = FinishedRun(path)
    assert start["params"]["stages[0].optimizer.learning_rate"] == 0.05
    assert start["params"]["head.units"] == 8
    assert {"preset", "photos.sha256", "weights.kind", "version.keras", "machine.processor"} <= set(start["tags"])
    for call, row in zip(epochs, finished.epochs, strict=True):
        assert call["step"] == int(row["epoch"])
        assert {name: call["values"][name] for name in row if name not in ("stage", "epoch")} == {
            name: float(text) for name, text in row.items() if name not in ("stage", "epoch")
        }
    accuracy = finished.metrics["test"]["accuracy"]
    told = {name: finish["scores"][f"test/accuracy{name}"] for name in ("", "/successes", "/photos", "/low", "/high")}
    low, high = accuracy["interval"]["low"], accuracy["interval"]["high"]
    assert list(told.values()) == [accuracy["value"], accuracy["successes"], accuracy["photos"], low, high]
    assert finish["scores"]["test/classes/blue/recall/photos"] == 2
    assert finish["scores"]["baselines/majority/accuracy/photos"] == 6
    assert finish["verdict"] == " ".join(ftk.FinishedRun(path).optional("baselines.json")["words"])  # type: ignore[index]
    assert {"predictions.csv", "config.yaml", "reports/confusion_matrix.svg"} <= set(finish["files"])
    assert "belongs to nobody" not in capsys.readouterr().out


def test_reports_model_card_and_certificates_are_sent_and_what_is_no_result_is_not(copied_run: Path) -> None:
    certificate = copied_run / "exports" / "onnx" / "certificate.json"
    certificate.parent.mkdir(parents=True)
    certificate.write_text("{}", encoding="utf-8")
    sent = tracked_end(FinishedRun(copied_run)).artefacts
    assert {"exports/onnx/certificate.json", "reports/learning_curves.svg", "photos.csv"} <= set(sent)
    assert not {"run.lock", "model.keras", "run.json"} & set(sent)
    assert all(path.is_file() for path in sent.values())


def test_the_commit_of_the_working_folder_is_noted(tracked_yaml: Path) -> None:
    import subprocess

    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "tiny.yaml"], [*names, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], check=True)
    path, _ = run(tracked_yaml)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert FinishedRun(path).state["git"] == {"commit": commit, "is_dirty": False}
    assert calls()[0]["tags"]["git.commit"] == commit


def test_runs_of_one_command_are_of_one_group_and_are_sent_by_the_name_of_their_folder(tracked_yaml: Path) -> None:
    group = ftk.run_seeds(tracked_yaml, 2, out="runs", progress=Progress(is_quiet=True))
    starts = [call for call in calls() if call["call"] == "start"]
    assert [call["group"] for call in starts] == [group.path.name] * 2
    assert starts[0]["group_key"] == starts[1]["group_key"] != None  # noqa: E711
    assert steps() == [1, 2, 1, 2]
    sent = track(group.path, settings=[f"track[0].file={Path('again.jsonl').resolve()}"])
    assert [one.path.parent for one in sent] == [group.path.resolve()] * 2


def test_ablations_of_one_name_are_two_groups(copied_run: Path, tmp_path: Path) -> None:
    """An ablation's folder has no date in its name, and until its end nothing but runs in it."""
    keys = []
    for place in ("first", "second"):
        folder = tmp_path / place / "tiny-ablation"
        for name in ("one", "two"):
            run = Path(shutil.copytree(copied_run, folder / name))
            state = json.loads((run / "run.json").read_text(encoding="utf-8"))
            state |= {"group": folder.name, "group_key": _group_key(folder)}
            (run / "run.json").write_text(json.dumps(state), encoding="utf-8")
        keys.append({FinishedRun(run).state["group_key"] for run in _members(folder)})
    assert len(keys[0]) == len(keys[1]) == 1
    assert keys[0] != keys[1]
    assert len(_members(folder)) == 2
    assert _members(copied_run.parent) == []


def test_the_verdict_says_how_the_run_stands_to_what_was_published(tmp_path: Path) -> None:
    expected = {"value": 0.91875, "correct": 147, "photos": 160, "margin_points": 6.0, "source": "somewhere"}
    run = make_run(tmp_path / "run", answers(range(14)), config={"expected": expected})
    assert published_sentence(FinishedRun(run)) == (
        "Published: 91.9 % of 160 photos. REPRODUCED: this run is as accurate as published, to within 6 points."
    )
    assert published_sentence(FinishedRun(make_run(tmp_path / "other", answers()))) is None


# ---- what it may not cost --------------------------------------------------------------------------------------------------------


def test_a_run_has_the_same_bits_with_and_without_a_tracker(tracked_yaml: Path, finished_run: Path) -> None:
    with_tracker, _ = run(tracked_yaml)
    assert compare_bits(FinishedRun(with_tracker), FinishedRun(finished_run)).is_same
    assert not (finished_run / "trackers.json").exists()
    assert FinishedRun(with_tracker).state["config_key"] == FinishedRun(finished_run).state["config_key"]


@pytest.mark.parametrize("moment", ["start", "epoch 2", "finish"])
def test_a_tracker_that_fails_is_one_warning_and_what_it_lacks_is_sent_later(
    moment: str, silent_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_FAILS", moment)
    (warned,) = tell(silent_run)
    assert "tracker 'written' of plugin 'tracking_plugin'" in warned
    assert f"finetunekit track {silent_run}" in warned
    with pytest.raises(ftk.PluginError, match="no answer"):
        track(silent_run)
    monkeypatch.delenv("TRACKER_FAILS")
    (sent,) = track(silent_run)
    assert (sent.status, sent.run_id) == ("finished", f"id-{silent_run.name}")
    assert steps() == [1, 2]
    assert calls()[-1]["call"] == "finish"
    count = len(calls())
    assert track(silent_run)[0].sent_epochs == 0
    assert len(calls()) == count  # sending twice changes nothing


@pytest.mark.parametrize("moment", ["start", "epoch 1"])
def test_a_tracker_that_hangs_is_left_behind(
    moment: str, silent_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE_S", 0.05)
    monkeypatch.setenv("TRACKER_HANGS", moment)
    (warned,) = tell(silent_run)
    assert "has not answered in time" in warned
    print("the result")
    assert capsys.readouterr().out == "the result\n"
    monkeypatch.delenv("TRACKER_HANGS")
    assert track(silent_run)[0].status == "finished"


def test_trackers_wait_two_seconds_together_at_the_end_of_a_run() -> None:
    assert tracking.PATIENCE_S == 2.0


# ---- resumed and killed ----------------------------------------------------------------------------------------------------------


def test_a_resumed_run_goes_on_in_the_same_tracked_run(tracked_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stop_after_first_epoch(tracked_yaml, monkeypatch)
    assert calls()[-1] == {"call": "fail", "status": "interrupted"}
    resume(path, progress=Progress(is_quiet=True))
    first, second = [call for call in calls() if call["call"] == "start"]
    assert (first["run_id"], second["run_id"]) == (None, f"id-{path.name}")
    assert second["next_step"] == 2
    assert first["key"] == second["key"]
    assert steps() == [1, 2]
    assert calls()[-1]["call"] == "finish"


@pytest.mark.slow
def test_another_tracker_does_not_keep_a_run_from_being_resumed(
    tracked_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stop_after_first_epoch(tracked_yaml, monkeypatch)
    config = path / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("written.jsonl", "other.jsonl"), encoding="utf-8")
    config.write_text(config.read_text(encoding="utf-8").replace("name: written", "name: written\n  file: other.jsonl"))
    resume(path, progress=Progress(is_quiet=True))
    assert [call["step"] for call in calls("other.jsonl") if call["call"] == "epoch"] == [1, 2]


def test_a_killed_run_is_marked_by_whoever_sees_it_first(silent_run: Path) -> None:
    tell(silent_run, "running")
    state = silent_run / "run.json"  # as a kill leaves it
    state.write_text(state.read_text(encoding="utf-8").replace('"finished"', '"running"'), encoding="utf-8")
    listed = invoke("runs", "list", "--out", str(silent_run.parent))
    assert "killed" in listed.stdout
    assert calls()[-1] == {"call": "fail", "status": "killed"}
    count = len(calls())
    mark_stopped([silent_run], Progress(is_quiet=True))
    assert len(calls()) == count


# ---- without a tracker at first --------------------------------------------------------------------------------------------------


def test_a_run_made_without_a_tracker_is_sent_whole(silent_run: Path) -> None:
    later = Path("later.jsonl").resolve()
    result = invoke("track", str(silent_run), "--track", "written", "--set", f"track[0].file={later}")
    assert result.exit_code == 0
    assert f"{silent_run.name} (finished) is run id-{silent_run.name}; 2 epochs sent" in result.stdout
    assert [call["call"] for call in calls("later.jsonl")] == ["start", "epoch", "epoch", "finish"]
    with pytest.raises(ftk.ConfigError, match="only settings of `track`"):
        track(silent_run, ["written"], settings=["seed=1"])


def test_a_run_that_names_no_tracker_needs_one_named(finished_run: Path) -> None:
    with pytest.raises(ftk.ConfigError, match="names no tracker"):
        track(finished_run)


def test_the_command_line_names_a_tracker(tracked_yaml: Path) -> None:
    result = invoke("run", str(tracked_yaml), "--set", "track=[]", "--track", "written", "--quiet")
    assert result.exit_code == 0
    assert steps() == [1, 2]


# ---- secrets ---------------------------------------------------------------------------------------------------------------------


def test_a_password_in_an_address_is_refused_and_not_repeated(tracked_yaml: Path) -> None:
    with pytest.raises(ftk.ConfigError, match=r"track\[0\].uri: holds a password") as caught:
        prepare(tracked_yaml, settings=["track[0].uri=https://me:hunter2@example.org"])
    assert "hunter2" not in str(caught.value)


def test_no_secret_of_the_environment_is_printed_or_written(
    tracked_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_TOKEN", "sesame-open-9")
    monkeypatch.setenv("TRACKER_FAILS", "finish")
    path, warned = run(tracked_yaml, "reports=[{name: html}, {name: model_card}]")
    assert "https://***@example.org with ***" in warned[0]
    with pytest.raises(ftk.PluginError, match=r"with \*\*\*") as caught:
        track(path)
    assert "sesame" not in str(caught.value)
    files = [file for file in path.rglob("*") if file.is_file() and file.parent.name != "plugins"]
    assert len(files) > 10
    for file in files:
        content = file.read_bytes()
        assert b"sesame-open-9" not in content
        assert b"hunter2" not in content


def test_what_counts_as_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789")
    assert has_password("https://me:pass@host/path")
    assert has_password("https://host/?write_token=abc")
    assert not has_password("sqlite:///mlflow.db")
    assert not has_password("http://localhost:5000")
    assert without_secrets("key 0123456789 at http://u:p@h?token=abc&x=1") == "key *** at http://***@h?token=***&x=1"
