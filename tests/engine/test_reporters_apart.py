"""Reporters of strangers: whatever they do in their process, the run's files, its reports and its last line stand."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from helpers_plugins import invoke

import finetunekit as ftk
from finetunekit.config.yaml_source import dump_yaml
from finetunekit.engine.api import rebuild_reports, resume
from finetunekit.engine.report_process import checked_files
from finetunekit.errors import PluginError
from finetunekit.plugins.files import PluginFile
from finetunekit.plugins.guard import call_with_timeout, guarded
from finetunekit.runs.folder import CONFIG, REPORTS, STATE
from finetunekit.runs.trust import note_started
from finetunekit.system.files import to_json
from finetunekit.system.progress import Progress

PLUGIN = """
import os, shutil, tempfile, threading
from finetunekit import hookimpl, Options

def hangs(options, run):
    os.system("sleep 1000 &")
    threading.Event().wait()

def leaves(options, run):
    os._exit(0)

def interrupts(options, run):
    raise KeyboardInterrupt

def wanders(options, run):
    print("noise")
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)
    threading.Thread(target=threading.Event().wait).start()
    return {"wanders.txt": str(run.classes).encode()}

def spoils(options, run):
    run.metrics["classes"].append("made up")
    (run.path / "metrics.json").write_text("{}")
    (run.path / "predictions.csv").unlink()
    (run.path / "reports" / "confusion_matrix.svg").write_text("mine")
    (run.path / "reports" / "stray").mkdir()
    return {"Confusion_Matrix.SVG": b"mine"}

class Mapping(dict):
    def items(self):
        raise ZeroDivisionError("no items")

@hookimpl
def register_reporters(register):
    for build in (hangs, leaves, interrupts, wanders, spoils):
        register(build.__name__, build, Options)
    register("raises", lambda options, run: Mapping(a=1), Options)
"""


def ask_for(run: Path, *names: str, timeout_s: float = 60.0) -> Path:
    """Have a finished run ask for reporters of a plugin file, and lack all its reports."""
    plugin = run.parent / "strangers.py"
    plugin.write_text(PLUGIN)
    finished = ftk.FinishedRun(run)
    config = dict(finished.config)
    config["plugins"] = [str(plugin), *config["plugins"]]
    config["reports"] = [{"name": name} for name in (*names, "confusion_matrix")]
    config["save"] = {**config["save"], "report_timeout_s": timeout_s}
    text = dump_yaml(json.loads(json.dumps(config)))
    (run / CONFIG).write_text(text)
    note_started([PluginFile(plugin, plugin.read_bytes(), plugin)], pytest.fail)
    state = {**finished.state, "missing": [{"report": "confusion_matrix", "why": "it was killed"}]}
    (run / STATE).write_text(to_json(state))
    return plugin


def test_whatever_reporters_do_the_run_and_its_last_line_stand(copied_run: Path) -> None:
    ask_for(copied_run, "spoils", "leaves", "interrupts", "wanders", "raises", "html")
    before = {name: (copied_run / name).read_bytes() for name in ("predictions.csv", "photos.csv", "model.npz")}
    shutil.rmtree(copied_run / REPORTS)
    result = invoke("resume", str(copied_run))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == str(copied_run / REPORTS / "report.html")
    assert "noise" not in result.stdout
    missing = {entry["report"]: entry["why"] for entry in ftk.FinishedRun(copied_run).state["missing"]}
    assert missing.keys() == {"spoils", "leaves", "interrupts", "raises"}
    assert "returns 'Confusion_Matrix.SVG', which reporter 'confusion_matrix'" in missing["spoils"]
    assert "ended its process with 0 and returned nothing" in missing["leaves"]
    assert "KeyboardInterrupt" in missing["interrupts"]
    assert "ZeroDivisionError: no items" in missing["raises"]
    assert "changed what it may only read" in result.stderr
    assert result.stderr.count("strangers.py) changed what") == 1
    assert result.stderr.count("strangers.py) wrote into reports/ itself, which reporters leave to the run: stray") == 1
    assert ftk.FinishedRun(copied_run).metrics["classes"] == ["blue", "green", "red"]
    assert before == {name: (copied_run / name).read_bytes() for name in before}
    assert (copied_run / REPORTS / "wanders.txt").read_text() == "('blue', 'green', 'red')"
    assert (copied_run / REPORTS / "confusion_matrix.svg").read_text().startswith("<svg")


def test_a_report_that_is_there_again_is_missing_no_more(copied_run: Path) -> None:
    plugin = ask_for(copied_run, "hangs", timeout_s=1.0)
    rebuild_reports(copied_run)
    why = {entry["report"]: entry["why"] for entry in ftk.FinishedRun(copied_run).state["missing"]}
    assert "has not answered within 1 s; its process was ended" in why["hangs"]
    plugin.write_text(PLUGIN.replace("threading.Event().wait()", 'return {"hung.txt": b"here"}'))
    resume(copied_run, progress=Progress(is_quiet=True))
    assert "hangs" not in {entry["report"] for entry in ftk.FinishedRun(copied_run).state["missing"]}
    assert (copied_run / REPORTS / "hung.txt").read_bytes() == b"here"


@pytest.mark.parametrize(
    "name", ["", ".x", "a/b", "..", "a\0b", "a\ud800b", "a\nb", "c:x", "x" * 201, "\u202etxt", 7, None]
)
def test_names_that_are_no_plain_file_names_are_refused(name: object) -> None:
    with pytest.raises(PluginError, match="reporter must return plain file names and bytes"):
        checked_files("reporter", {name: b""})


@pytest.mark.parametrize("returned", [["x.txt"], {"x.txt": "text"}, None, b"x"])
def test_what_is_no_mapping_to_bytes_is_refused(returned: object) -> None:
    with pytest.raises(PluginError, match="must return"):
        checked_files("reporter", returned)


def test_what_a_thread_that_was_left_behind_prints_is_all_that_goes_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gate = threading.Event()

    def hang() -> None:
        with guarded("x"):
            gate.wait()
            print("noise")

    with pytest.raises(PluginError, match="has not answered"):
        call_with_timeout(0.01, "x", hang)
    print("the last line")
    gate.set()
    for thread in [thread for thread in threading.enumerate() if thread.name == "finetunekit-plugin"]:
        thread.join(10)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("the last line\n", "noise\n")
