"""Several seeds in one folder: interrupted for real in the second of three, they go on to the bits of seeds that were not."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import TINY, write_photos
from finetunekit_builtin.executors import build_local
from kill_cases import differences

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.errors import ConfigError, RunError, RunFolderError
from finetunekit.experiments.run_group import Conclusion, Outcomes
from finetunekit.experiments.seeds import SeedGroup
from finetunekit.runs import folder as runs
from finetunekit.system.progress import Progress
from finetunekit.testing.contract import choose

QUIET = Progress(is_quiet=True)
SEEDS = ("--seeds", "3", "--seed", "5", "--set", "save.seeds=all")

#: Sends its own process a real SIGINT after the first epoch of the second seed, once.
INTERRUPT = """
import os, signal
from pathlib import Path
from finetunekit import hookimpl
@hookimpl
def after_epoch(row, run_path):
    mark = Path(__file__).with_suffix(".done")
    if "seed-6" in run_path.name and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGINT)
"""


@dataclass(frozen=True)
class Stopped:
    """Three seeds, and the same three interrupted in the second."""

    folder: Path
    whole: Path
    stopped: Path
    said: str


def invoke(folder: Path, *arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
        patch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
        return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    folder = tmp_path_factory.mktemp("seeds")
    write_photos(folder / "photos")
    (folder / "stop.py").write_text(INTERRUPT)
    text = TINY.replace("ROOT", "photos").replace("plugins: [", "plugins: [stop.py, ")
    (folder / "tiny.yaml").write_text(text)
    (folder / "stop.done").touch()
    whole = invoke(folder, "run", "tiny.yaml", *SEEDS, "--out", "whole", "--quiet")
    assert whole.exit_code == 0, whole.output
    (folder / "stop.done").unlink()
    # a shell's background jobs start with it ignored
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = invoke(folder, "run", "tiny.yaml", *SEEDS)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert done.exit_code == 130, done.output
    (path,) = (folder / "runs").glob("tiny-seeds-*")
    return Stopped(folder, folder / whole.stdout.splitlines()[-1], path, done.stderr)


def test_seeds_interrupted_in_the_second_of_three_go_on_to_the_same_bits(stopped: Stopped) -> None:
    last_words = stopped.said.splitlines()[-2:]
    relative = stopped.stopped.relative_to(stopped.folder)
    assert last_words[0] == "interrupted; what was finished is kept."
    assert last_words[1] == f"finished seeds are kept; resume with: finetunekit resume {relative}"

    shown = invoke(stopped.folder, "runs", "list").stdout.splitlines()
    assert shown[1].split()[:6] == [stopped.stopped.name, "interrupted", "1", "of", "3", "seeds"]
    assert shown[-1] == f"resume with: finetunekit resume {relative}"
    entry = json.loads(invoke(stopped.folder, "runs", "show", stopped.stopped.name, "--json").stdout)
    assert (entry["status"], entry["seed"], entry["finished_parts"], entry["planned_parts"]) == ("interrupted", 5, 1, 3)
    assert entry["error"].startswith("KeyboardInterrupt")

    (stopped.folder / "photos").rename(
        stopped.folder / "away"
    )  # the same command is told of them; here it has no photos
    again = invoke(stopped.folder, "run", "tiny.yaml", *SEEDS)
    assert f"note: the same seeds were interrupted in {relative}; finetunekit resume continues them" in again.stderr
    assert "note:" not in stopped.said
    assert len(list((stopped.folder / "runs").iterdir())) == 1
    (stopped.folder / "away").rename(stopped.folder / "photos")

    copy = shutil.copytree(stopped.stopped, stopped.folder / "other" / stopped.stopped.name)
    first = next(stopped.stopped.glob("tiny-seed-5-*"))
    made_ns = (first / runs.METRICS).stat().st_mtime_ns
    (stopped.folder / "tiny.yaml").rename(stopped.folder / "gone.yaml")  # nothing is read from the preset again
    resumed = invoke(stopped.folder, "resume", stopped.stopped.name, "--quiet")
    assert resumed.exit_code == 0, resumed.output
    assert resumed.stdout.splitlines()[-1] == str(stopped.stopped)
    assert (first / runs.METRICS).stat().st_mtime_ns == made_ns
    for seed in (5, 6, 7):
        reference, other = (next(path.glob(f"tiny-seed-{seed}-*")) for path in (stopped.whole, stopped.stopped))
        assert list(differences(reference, other)) == []
    (second,) = stopped.stopped.glob("tiny-seed-6-*")
    assert len(ftk.FinishedRun(second).state["resumed"]) == 1
    whole, scores = (json.loads((path / runs.SEEDS).read_text()) for path in (stopped.whole, stopped.stopped))
    assert scores["status"] == "finished"
    for key in ("seeds", "runs", "over_seeds", "over_photos"):
        assert scores[key] == whole[key]

    again = invoke(stopped.folder, "resume", str(stopped.stopped), "--json", "--quiet")
    assert json.loads(again.stdout)["scores"]["over_seeds"] == scores["over_seeds"]
    listed = invoke(stopped.folder, "runs", "list").stdout.splitlines()[1].split()
    assert listed[1:5] == ["finished", "3", "of", "3"]

    # what is missing would not be like what is there: nothing is run
    photo = stopped.folder / "photos/train/red/red-0.png"
    photo.rename(photo.with_suffix(".txt"))
    refused = invoke(stopped.folder, "resume", str(copy), "--quiet")
    assert refused.exit_code == 1
    assert "1 photo gone (train: " in refused.stderr
    assert len(list(copy.glob("tiny-seed-*"))) == 2
    photo.with_suffix(".txt").rename(photo)


def test_a_run_of_a_seed_is_found_by_its_name_and_by_last_and_the_folder_goes_as_one(stopped: Stopped) -> None:
    out = stopped.whole.parent
    names = sorted(place.name for place in stopped.whole.glob("tiny-seed-*"))
    assert runs.find_run(names[0], out).samefile(stopped.whole / names[0])
    assert runs.find_run("last", out).name in names
    with pytest.raises(RunFolderError, match=rf"several runs\. Name one of them: {names[0]}, "):
        runs.find_run(stopped.whole.name, out)
    shutil.copytree(stopped.whole, stopped.folder / "old" / stopped.whole.name)
    models = invoke(stopped.folder, "runs", "prune", "--out", "old", "--keep", "0", "--models", "--yes")
    assert models.stdout.splitlines()[-1].startswith("1 run, ")
    assert not list((stopped.folder / "old").rglob(runs.MODEL))
    assert len(list((stopped.folder / "old").rglob(runs.METRICS))) == 3
    assert invoke(stopped.folder, "runs", "prune", "--out", "old", "--keep", "0", "--yes").exit_code == 0
    assert not list((stopped.folder / "old").iterdir())


def test_seeds_that_cannot_be_are_refused_and_leave_nothing(tiny_yaml: Path, own_cache: Path) -> None:
    out = tiny_yaml.parent / "runs"
    with pytest.raises(ConfigError, match="seeds: at least 1"):
        ftk.run_seeds(tiny_yaml, 0, out=out, progress=QUIET)
    with pytest.raises(ConfigError, match=r"several runs\. Use finetunekit\.run_folds"):
        ftk.run_seeds(tiny_yaml, 2, settings=["train.folds=3"], out=out, progress=QUIET)
    with pytest.raises(ftk.DataError, match="nowhere"):
        ftk.run_seeds(tiny_yaml, 2, settings=["data.root=nowhere"], out=out, progress=QUIET)
    assert not list(out.iterdir())
    with pytest.raises(RunFolderError, match="holds no seeds"):
        ftk.resume_seeds(tiny_yaml.parent, progress=QUIET)


def test_how_to_go_on_is_said_only_where_something_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Stopped(SeedGroup):
        error: BaseException = RunError("no")

        def conclude(self, outcomes: Outcomes) -> Conclusion:
            raise self.error

    def stop(*, is_new: bool) -> None:
        (tmp_path / "group").mkdir(exist_ok=True)
        state = {"status": "running", "name": "tiny", "seeds": [], "settings": [], "preset": "tiny"}
        executor = choose("executor", build_local, None)
        group = Stopped(path=tmp_path / "group", state=state, progress=Progress(), executor=executor, is_new=is_new)
        group.run()

    with pytest.raises(RunError, match="no"):
        stop(is_new=False)
    assert capsys.readouterr().err.splitlines()[1:] == [
        f"finished seeds are kept; resume with: finetunekit resume {tmp_path / 'group'}"
    ]
    with pytest.raises(RunError, match="no"):
        stop(is_new=True)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "group").exists()
    Stopped.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt, match="finished seeds are kept; resume with"):
        stop(is_new=True)
    assert (tmp_path / "group").exists()
