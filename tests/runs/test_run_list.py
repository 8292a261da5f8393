"""Listing, showing and pruning runs, on folders as runs leave them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import fuzz_commands
import pytest
from click.testing import CliRunner

from finetunekit.cli import main
from finetunekit.errors import RunFolderError
from finetunekit.runs.folder import CALLING, CONFIG, EPOCHS, FORMAT, METRICS, MODEL, PLAN, STATE
from finetunekit.runs.run_list import list_runs
from finetunekit.system.files import locked, write_whole


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Four runs of one name and one of another: two finished, one killed, one failed; one finished."""
    for number, (name, status) in enumerate(
        [("a", "finished"), ("a", "running"), ("b", "finished"), ("a", "failed"), ("a", "finished")]
    ):
        path = tmp_path / f"{name}-{number}"
        state = {
            "format": FORMAT,
            "status": status,
            "name": name,
            "seed": number,
            "started": f"2026-01-0{number + 1}T00:00:00+00:00",
        }
        write_whole(path / CONFIG, "name: x\n")
        write_whole(path / STATE, json.dumps(state | ({"error": "boom"} if status == "failed" else {})))
        write_whole(path / PLAN, json.dumps({"config": {"stages": [{"kind": "solve"}, {"epochs": 4}]}}))
        write_whole(path / EPOCHS, "epoch\n1\n2\n")
        if status == "finished":
            write_whole(path / METRICS, json.dumps({"test": {"accuracy": {"successes": 4, "photos": 6}}}))
            write_whole(path / MODEL, b"x" * 2_000_000)
    (tmp_path / ".a-x.partial").mkdir()
    (tmp_path / ".a-x.partial" / CONFIG).touch()
    return tmp_path


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["runs", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_listing_says_how_each_stands(out: Path) -> None:
    lines = invoke("list", "--out", str(out)).splitlines()
    assert [line.split()[:2] for line in lines[1:6]] == [
        ["a-0", "finished"],
        ["a-1", "killed"],
        ["b-2", "finished"],
        ["a-3", "failed"],
        ["a-4", "finished"],
    ]
    assert lines[1].split()[2:] == ["2", "of", "4", "4/6", "2.0"]
    assert lines[-1] == f"resume with: finetunekit resume {out / 'a-1'}"
    found = json.loads(invoke("list", "--out", str(out), "--json"))
    assert [entry["status"] for entry in found][:2] == ["finished", "killed"]


def test_a_run_that_another_process_writes_is_running(out: Path) -> None:
    with locked(out / "a-1"):
        assert json.loads(invoke("show", "a-1", "--out", str(out), "--json"))["status"] == "running"
        assert "a-1" not in invoke("prune", "--out", str(out), "--keep", "0", "--yes")
        assert (out / "a-1" / CONFIG).is_file()
    assert "status:             killed" in invoke("show", "a-1", "--out", str(out))


def test_show_says_why_it_stopped_and_how_to_go_on(out: Path) -> None:
    shown = invoke("show", "a-3", "--out", str(out))
    assert "stopped by:         boom" in shown
    assert "finetunekit resume" in shown


def test_prune_names_what_goes_and_deletes_only_when_told(out: Path) -> None:
    said = invoke("prune", "--out", str(out), "--keep", "2")
    assert said.splitlines() == [
        f"would delete {out / 'a-0'} (finished, 2.0 MB)",
        f"would delete {out / 'a-1'} (killed, 0.0 MB)",
        "2 runs, 2.0 MB; delete them with --yes",
    ]
    assert (out / "a-0").is_dir()
    said = invoke("prune", "--out", str(out), "--keep", "2", "--unfinished", "--yes")
    assert said.splitlines()[0] == f"deleted {out / 'a-1'} (killed, 0.0 MB)"
    assert {p.name for p in out.glob("[!.]*")} == {"a-0", "b-2", "a-3", "a-4"}


def test_prune_can_keep_every_figure(out: Path) -> None:
    said = invoke("prune", "--out", str(out), "--keep", "1", "--models", "--yes")
    assert said.splitlines() == [f"deleted the model of {out / 'a-0'} (finished, 2.0 MB)", "1 run, 2.0 MB"]
    assert not (out / "a-0" / MODEL).exists()
    assert (out / "a-0" / METRICS).is_file()
    assert (out / "b-2" / MODEL).is_file()


def test_a_damaged_folder_is_listed_all_the_same(out: Path) -> None:
    (out / "a-0" / STATE).write_text("{")
    (out / "a-0" / METRICS).write_text("[]")
    (found,) = [e for e in json.loads(invoke("list", "--out", str(out), "--json")) if e["path"].endswith("a-0")]
    assert found["status"] == "unreadable"


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
def test_a_folder_of_runs_that_may_not_be_listed_is_no_empty_one(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    (tmp_path / "loop").symlink_to("loop")
    with fuzz_commands.without_root_powers():
        for name in ("locked", "loop"):
            with pytest.raises(RunFolderError, match=rf"{name}: cannot be listed"):
                list_runs(tmp_path / name)
    assert list_runs(tmp_path / "gone") == ()


def test_a_folder_that_may_not_be_looked_into_is_named_and_the_others_are_listed(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_file = Path.is_file

    def refused(path: Path) -> bool:
        if path.parent.name == "b-2":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refused)
    lines = invoke("list", "--out", str(out)).splitlines()
    assert len(lines) == 8
    assert "b-2: cannot be looked into (Permission denied)" in lines
    assert "b-2" not in invoke("prune", "--out", str(out), "--keep", "0")


def test_a_process_that_ended_inside_a_plugin_is_told_by_its_mark(out: Path) -> None:
    (out / "a-1" / CALLING).write_text("head 'odd' of plugin 'theirs' (theirs.py)")
    said = "the process ended without a word, inside head 'odd' of plugin 'theirs' (theirs.py)"
    assert f"a-1: {said}" in invoke("list", "--out", str(out)).splitlines()
    assert said in invoke("show", "a-1", "--out", str(out))
    with locked(out / "a-1"):
        assert "it is inside head 'odd'" in invoke("show", "a-1", "--out", str(out))
