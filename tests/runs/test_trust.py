"""Python that comes with a run folder is run where the user started that run, and nowhere else unasked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers_plugins import invoke

import finetunekit as ftk
from finetunekit.config.executor_choice import executor_settings
from finetunekit.errors import ConfigError
from finetunekit.plugins.files import PluginFile
from finetunekit.runs import trust
from finetunekit.runs.folder import CONFIG, STATE
from finetunekit.system.files import to_json


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a user who started nothing yet."""
    path = tmp_path / "another-user" / "started.jsonl"
    monkeypatch.setattr(trust, "marks_path", lambda: path)
    return path


@pytest.fixture
def strange_run(copied_run: Path, marks: Path) -> Path:
    """A run of somebody else, whose plugin file says when it is run."""
    plugin = copied_run / "plugins" / "tiny_plugin.py"
    plugin.write_text(f"{plugin.read_text()}\nopen({str(copied_run / 'executed')!r}, 'w').close()\n")
    config = copied_run / CONFIG
    named = ftk.FinishedRun(copied_run).config["plugins"][0]
    gone = str(copied_run / "not" / "here" / "tiny_plugin.py")
    config.write_text(config.read_text().replace(named, gone))
    plan = copied_run / "plan.json"
    plan.write_text(plan.read_text().replace(named, gone))
    return copied_run


VERBS = (
    ("predict", "RUN", "PHOTO"),
    ("evaluate", "RUN", "--data", "PHOTOS"),
    ("report", "RUN"),
    ("resume", "RUN"),
    ("replay", "RUN"),
    ("track", "RUN", "--track", "none"),
    ("export", "RUN", "--to", "savedmodel"),
    ("data", "changes", "RUN"),
)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_no_verb_runs_python_of_a_stranger_s_run(verb: tuple[str, ...], strange_run: Path) -> None:
    root = Path(ftk.FinishedRun(strange_run).state["photo_root"])
    names = {"RUN": strange_run, "PHOTO": next(root.rglob("*.png")), "PHOTOS": root / "test"}
    result = invoke(*(str(names.get(part, part)) for part in verb))
    assert result.exit_code == 2
    plugin = strange_run / "plugins" / "tiny_plugin.py"
    assert f"was not started here by you, and this would run Python that comes with it: {plugin}." in result.stderr
    assert "--trust" in result.stderr
    assert not (strange_run / "executed").exists()


def test_nor_does_a_listing_that_tells_trackers_of_a_killed_run(strange_run: Path) -> None:
    state = json.loads((strange_run / STATE).read_text())
    (strange_run / STATE).write_text(to_json({**state, "status": "running"}))
    (strange_run / "trackers.json").write_text(json.dumps({"x": {"status": "running", "epochs": 0, "run_id": "1"}}))
    result = invoke("runs", "list", "--out", str(strange_run.parent))
    assert result.exit_code == 0
    assert not (strange_run / "executed").exists()


def test_with_trust_it_is_run(strange_run: Path) -> None:
    with pytest.raises(ConfigError, match="trust=True"):
        ftk.load(strange_run)
    assert ftk.load(strange_run, trust=True).classes == ("blue", "green", "red")
    assert (strange_run / "executed").exists()


def test_a_plugin_file_is_known_by_its_content_wherever_it_lies_and_by_its_place_whatever_it_says(
    copied_run: Path, marks: Path, tmp_path: Path
) -> None:
    named = Path(ftk.FinishedRun(copied_run).config["plugins"][0])
    for _ in range(2):
        trust.note_started([PluginFile(named, named.read_bytes(), named)], pytest.fail)
    assert len(marks.read_text().splitlines()) == 1
    moved = Path(shutil.move(copied_run, tmp_path / "moved"))
    kept = moved / "plugins" / named.name
    trust.refuse_strange_code(moved, [(tmp_path / "gone" / named.name, kept), (named, named)])
    kept.write_text("x = 1\n")
    with pytest.raises(ConfigError, match="would run Python"):
        trust.refuse_strange_code(moved, [(named, kept)])
    marks.write_text(json.dumps({"path": str(named), "sha256": "0"}))
    trust.refuse_strange_code(moved, [(named, named)])
    with pytest.raises(ConfigError, match="would run Python"):
        trust.refuse_strange_code(moved, [(tmp_path / named.name, named)])


def test_what_is_installed_needs_no_trust(marks: Path) -> None:
    ours = Path(ftk.__file__).parent / "testing" / "tiny_plugin.py"
    trust.refuse_strange_code(marks.parent, [(ours, ours)])


def test_marks_that_cannot_be_written_or_read_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = tmp_path / "a.py"
    plugin.write_text("")
    monkeypatch.setattr(trust, "marks_path", lambda: plugin / "started.jsonl")
    said: list[str] = []
    trust.note_started([PluginFile(plugin, b"", plugin)], said.append)
    assert len(said) == 1
    assert "will ask for --trust" in said[0]
    monkeypatch.setattr(trust, "marks_path", lambda: tmp_path / "torn")
    (tmp_path / "torn").write_text('null\n[]\n{"path": "torn\n')
    with pytest.raises(ConfigError, match="was not started here"):
        trust.refuse_strange_code(tmp_path, [(plugin, plugin)])


def test_nothing_connects_to_the_address_that_a_stranger_s_run_names(tmp_path: Path, marks: Path) -> None:
    noted = {"name": "ray", "address": "ray://head:1", "workers": 3}
    for on in (None, "ray"):
        with pytest.raises(ConfigError, match=r"not started here by you, and would go on at ray://head:1\. Say where"):
            trust.executor_that_resumes(tmp_path, noted, on, trust=False)
    for on in ("local", "ray://mine:1"):
        assert trust.executor_that_resumes(tmp_path, noted, on, trust=False)[-1] == executor_settings(on)[-1]
    assert trust.executor_that_resumes(tmp_path, {"name": "processes"}, None, trust=False)
    assert trust.executor_that_resumes(tmp_path, {}, None, trust=False) == ()
    trusted = trust.executor_that_resumes(tmp_path, noted, None, trust=True)
    trust.note_started((), print, noted)
    assert trust.executor_that_resumes(tmp_path, noted, None, trust=False) == trusted
