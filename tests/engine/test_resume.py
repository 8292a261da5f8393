"""Taking a run up again: what is gone on with, what is refused, what a damaged checkpoint costs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers_terminal import Terminal
from PIL import Image

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.engine.api import resume, summarise_run
from finetunekit.errors import RunFolderError
from finetunekit.runs.checkpoint import FOLDER, Checkpoint, checkpoint_paths, load_checkpoint, save_checkpoint
from finetunekit.runs.folder import CONFIG, ENVIRONMENT, METRICS, read_status
from finetunekit.system.files import LOCK, locked, to_json, write_whole
from finetunekit.system.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)
STOP = """
from finetunekit import hookimpl
@hookimpl
def after_epoch(row, run_path):
    if row["epoch"] == 2 and not (run_path / "stopped").exists():
        (run_path / "stopped").touch()
        raise KeyboardInterrupt
"""


def stopped_run(tiny_yaml: Path, *settings: str) -> Path:
    """A run of three epochs that was stopped after two, as Ctrl-C does."""
    plugin = tiny_yaml.parent / "stop.py"
    plugin.write_text(STOP)
    tiny_yaml.write_text(tiny_yaml.read_text().replace("plugins: [", f"plugins: [{plugin}, "))
    with pytest.raises(KeyboardInterrupt):
        ftk.run(
            str(tiny_yaml), settings=["stages[0].epochs=3", *settings], out=tiny_yaml.parent / "runs", progress=QUIET
        )
    (path,) = (tiny_yaml.parent / "runs").iterdir()
    return path


def test_an_end_and_an_interruption_leave_no_live_line_and_say_how_to_go_on(tiny_yaml: Path) -> None:
    plugin = tiny_yaml.parent / "stop.py"
    plugin.write_text(STOP)
    tiny_yaml.write_text(tiny_yaml.read_text().replace("plugins: [", f"plugins: [{plugin}, "))
    stopped, resumed, out = Terminal(), Terminal(), tiny_yaml.parent / "runs"
    with pytest.raises(KeyboardInterrupt, match=f"resume with: finetunekit resume {out}/tiny-"):
        ftk.run(str(tiny_yaml), settings=["stages[0].epochs=3"], out=out, progress=Progress(stopped))
    result = resume("last", out=out, progress=Progress(resumed))
    assert result.summary[-1].endswith(" since it was resumed.")
    assert result.summary[-1] == summarise_run(result.path)[-1]
    for stream in (stopped, resumed):
        screens = stream.screens()
        assert any("━" in line for screen in screens for line in screen)  # there was one
        assert "━" not in "".join(screens[-1])


def test_the_command_that_was_interrupted_names_the_one_that_goes_on(
    tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny_yaml.parent / "stop.py").write_text(STOP)
    tiny_yaml.write_text(tiny_yaml.read_text().replace("plugins: [", "plugins: [./stop.py, "))
    monkeypatch.chdir(tiny_yaml.parent)
    result = CliRunner().invoke(main, ["run", "tiny.yaml", "--set", "stages[0].epochs=3"])
    assert result.exit_code == 130
    assert "\nresume with: finetunekit resume runs/tiny-" in result.stderr


def test_an_interrupted_run_goes_on_after_its_last_epoch(tiny_yaml: Path) -> None:
    path = stopped_run(tiny_yaml)
    assert read_status(path) == "interrupted"
    (path / "reports").mkdir()
    (path / "reports" / ".x-1.partial.svg").touch()  # as a write that was cut off leaves it
    result = resume(path, progress=QUIET)
    finished = ftk.FinishedRun(result.path)
    assert [row["epoch"] for row in finished.epochs] == ["1", "2", "3"]
    assert finished.state["status"] == "finished"
    assert len(finished.state["resumed"]) == 1
    assert "error" not in finished.state
    assert not (path / FOLDER).exists()
    assert not list(path.rglob("*.partial*"))


def test_a_finished_run_is_returned_as_it_is(tiny_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = ftk.run(str(tiny_yaml), out=tiny_yaml.parent / "runs", progress=QUIET)
    before = (result.path / METRICS).read_bytes()
    again = resume(result.path, progress=Progress())
    assert (result.path / METRICS).read_bytes() == before
    assert to_json(again.metrics) == to_json(result.metrics)
    assert "is finished" in capsys.readouterr().err


def test_what_changed_is_said_and_refused_and_the_folder_left_alone(tiny_yaml: Path, photos: Path) -> None:
    path = stopped_run(tiny_yaml)
    left = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    config = path / CONFIG
    config.write_text(config.read_text().replace("learning_rate: 0.05", "learning_rate: 0.04"))
    changed = sorted((photos / "train" / "red").iterdir())[0]
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(changed)
    sorted((photos / "train" / "blue").iterdir())[1].unlink()
    environment = json.loads((path / ENVIRONMENT).read_text())
    environment["versions"]["keras"] = "3.0.0"
    (path / ENVIRONMENT).write_text(json.dumps(environment))
    with pytest.raises(RunFolderError, match=r"cannot end with the same bits") as refused:
        resume(path, progress=QUIET)
    text = str(refused.value)
    assert "stages[0].optimizer.learning_rate (0.05 → 0.04)" in text
    assert "versions.keras (3.0.0 → " in text
    assert "1 photo gone (train: train/blue/" in text
    assert "1 photo with other content or label (train: train/red/red-0.png)" in text
    assert "--force" in text
    touched = {config, path / ENVIRONMENT, path / LOCK}
    assert all(p.read_bytes() == content for p, content in left.items() if p not in touched)
    result = resume(path, is_forced=True, progress=QUIET)
    finished = ftk.FinishedRun(result.path)
    assert [row["epoch"] for row in finished.epochs] == ["1", "2", "3"]
    assert len(finished.state["forced"]) == 4


def test_another_network_is_refused_even_by_force(tiny_yaml: Path) -> None:
    path = stopped_run(tiny_yaml)
    config = path / CONFIG
    config.write_text(config.read_text().replace("units: 8", "units: 9"))
    with pytest.raises(RunFolderError, match="checkpoint is of another network"):
        resume(path, is_forced=True, progress=QUIET)


def test_a_run_of_which_nothing_is_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"no run there"):
        resume(tmp_path / "none", progress=QUIET)


def test_a_run_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "x" / CONFIG, "name: x\n")
    with (
        locked(tmp_path / "x"),
        pytest.raises(RunFolderError, match="another process is writing this run"),
    ):
        resume(tmp_path / "x", progress=QUIET)


def some(stage: int, epochs: int) -> Checkpoint:
    import ml_dtypes

    arrays = {
        "weights/3": np.full((2, 3), epochs, np.float32),
        "weights/10": np.arange(4).astype(ml_dtypes.bfloat16),
        "optimizer/0": np.array(7, np.int64),
        "callbacks/ema/x": np.zeros((0, 2), np.float32),
    }
    return Checkpoint(stage, epochs, is_over=False, rows=({"epoch": epochs, "loss": 0.1 + 0.2},), arrays=arrays)


def test_a_checkpoint_reads_back_to_the_bit_and_two_are_kept(tmp_path: Path) -> None:
    for epochs in (1, 2, 3):
        save_checkpoint(tmp_path, some(0, epochs))
    assert [p.name for p in checkpoint_paths(tmp_path)] == ["000-000002.npz", "000-000003.npz"]
    found = load_checkpoint(tmp_path, pytest.fail)
    assert found is not None
    assert (found.stage, found.epochs, found.rows) == (0, 3, some(0, 3).rows)
    for name, array in some(0, 3).arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape
        assert np.array_equal(found.arrays[name], array)
    assert list(found.part("weights")) == ["3", "10"]


@pytest.mark.parametrize("where", [0.0, 0.3, 0.5, 0.8, 0.99])
def test_a_damaged_checkpoint_costs_one_epoch(tmp_path: Path, where: float) -> None:
    for epochs in (1, 2):
        path = save_checkpoint(tmp_path, some(0, epochs))
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 0xFF
    path.write_bytes(data)
    said: list[str] = []
    found = load_checkpoint(tmp_path, said.append)
    assert found is not None
    assert found.epochs in ({1} if said else {2})  # a byte of padding changes nothing that is read
    assert all("is damaged" in line for line in said)
    path.write_bytes(path.read_bytes()[: len(data) // 2])
    shorter = load_checkpoint(tmp_path, said.append)
    assert shorter is not None
    assert shorter.epochs == 1
