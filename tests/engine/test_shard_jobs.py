"""Shards by an executor: the bytes of the loop in one process, whoever carries the jobs out and however often one is cut off."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import TESTS

from finetunekit.cli import main
from finetunekit.config.plan import Chosen
from finetunekit.config.planning import prepare
from finetunekit.engine.shard_jobs import carry_out_shards, make_on
from finetunekit.errors import ConfigError, RunError
from finetunekit.evaluation.shards.drive import Written, write_shards
from finetunekit.evaluation.shards.jobs import FeaturesJob, PredictionsJob, features_job
from finetunekit.evaluation.shards.photos import labelled_photos, plain_photos
from finetunekit.system.progress import Progress

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)
TINY_NETWORK = (f"plugins=[{TESTS / 'tiny_plugin.py'}]", "weights.mode=random", "pixels.size_px=8")


def in_this_process() -> Chosen:
    return prepare("fast")[0].executor


def features(**changes: Any) -> FeaturesJob:
    return features_job("tiny", settings=TINY_NETWORK, dtype=changes.get("dtype", "float32"))


def write(photos: Path, out: Path, make: Any = None) -> Written:
    listed = labelled_photos(str(photos), (), QUIET, is_unlabelled=False)
    return write_shards(features(), listed, out, QUIET, shard_photos=7, make=make)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.[pj]*") if file.is_file()}


def test_an_executor_makes_the_bytes_of_the_loop(photos: Path, tmp_path: Path, finished_run: Path) -> None:
    (photos / "valid/red/broken.png").write_bytes(b"broken")
    write(photos, tmp_path / "here")
    written = write(photos, tmp_path / "there", make_on(in_this_process(), str(photos)))
    assert (written.made, written.unreadable) == (4, 1)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    listed, job = plain_photos(str(photos), (), QUIET), PredictionsJob(str(finished_run))
    write_shards(job, listed, tmp_path / "p-here", QUIET, shard_photos=7)
    write_shards(job, listed, tmp_path / "p", QUIET, shard_photos=7, make=make_on(in_this_process(), str(photos)))
    assert contents(tmp_path / "p") == contents(tmp_path / "p-here")


def test_what_a_job_had_made_when_it_was_cut_off_is_taken_over(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetunekit.engine import shard_jobs

    write(photos, tmp_path / "whole")
    out, begun = tmp_path / "f", []
    monkeypatch.setattr(shard_jobs, "_FEWEST_JOBS", 2)  # two jobs of two shards each

    def cut_off(folder: Path, places: Any, progress: Progress) -> None:
        begun.append(folder.name)
        if len(begun) == 2:
            carry_out_shards(folder, places, progress)
            (folder / "made/rows/part-00003.parquet").unlink()
            raise KeyboardInterrupt
        carry_out_shards(folder, places, progress)

    monkeypatch.setattr(shard_jobs, "carry_out_shards", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write(photos, out, make_on(in_this_process(), str(photos)))
    assert begun == ["00000", "00002"]
    assert sorted(file.name for file in (out / "rows").iterdir()) == ["part-00000.parquet", "part-00001.parquet"]
    assert write(photos, out, make_on(in_this_process(), str(photos))).made == 2
    assert begun == ["00000", "00002", "00003"]  # the third shard was in the job's folder
    assert contents(out) == contents(tmp_path / "whole")


def test_a_job_that_fails_leaves_the_others_and_says_how_to_go_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetunekit.engine import shard_jobs

    def fails(folder: Path, places: Any, progress: Progress) -> None:
        if folder.name == "00001":
            raise RunError("the node is on fire.")
        carry_out_shards(folder, places, progress)

    monkeypatch.setattr(shard_jobs, "carry_out_shards", fails)
    with pytest.raises(
        RunError, match=r"1 job of 4 could not be carried out, .*: the node is on fire. The same command"
    ):
        write(photos, tmp_path / "f", make_on(in_this_process(), str(photos)))
    assert len(list((tmp_path / "f/rows").iterdir())) == 3
    monkeypatch.setattr(shard_jobs, "carry_out_shards", carry_out_shards)
    assert write(photos, tmp_path / "f", make_on(in_this_process(), str(photos))).made == 1


def test_photos_that_lie_elsewhere_are_read_there_and_named_as_they_were(photos: Path, tmp_path: Path) -> None:
    from finetunekit.engine import shard_jobs

    write(photos, tmp_path / "whole")
    out, moved = tmp_path / "f", tmp_path / "elsewhere"

    def there(folder: Path, places: Any, progress: Progress) -> None:
        photos.rename(moved)
        carry_out_shards(folder, {photos: moved}, progress)
        moved.rename(photos)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_jobs, "carry_out_shards", there)
        write(photos, out, make_on(in_this_process(), str(photos)))
    assert contents(out) == contents(tmp_path / "whole")


def test_an_executor_that_is_not_there_is_named_before_photos_are_looked_for(tmp_path: Path) -> None:
    asked = ["features", str(tmp_path / "none"), "--backbone", "efficientnet_lite0", "--out", str(tmp_path / "f")]
    done = CliRunner().invoke(main, [*asked, "--on", "nowhere"])
    assert done.exit_code == 2
    said = "unknown executor 'nowhere'. Allowed: local, processes. If a plugin brings it, install that plugin."
    assert said in done.stderr
    done = CliRunner().invoke(main, ["predict", "last", "photo.jpg", "--on", "processes"])
    assert (done.exit_code, "--on and --set go with --data" in done.output) == (2, True)
    asked = ["predict", "last", "--data", "photos", "--out", "p", "--set"]
    done = CliRunner().invoke(main, [*asked, "pixels.size_px=8"])
    assert (done.exit_code, "--set is for options of the executor here" in done.output) == (2, True)


def test_options_of_the_executor_are_kept_whatever_names_it() -> None:
    from finetunekit.engine.shard_jobs import make_shards

    assert make_shards("photos", None, (), QUIET) is None
    assert make_shards("photos", "local", (), QUIET) is None
    with pytest.raises(ConfigError, match=r"executor.workers: .*greater than or equal to 1"):
        make_shards("photos", "processes", ("executor.workers=0",), QUIET)
    assert make_shards("photos", None, ("executor.name=processes",), QUIET) is not None


def test_photos_without_a_folder_above_them_cannot_be_sent(tmp_path: Path) -> None:
    from finetunekit.engine.shard_jobs import _photo_folder
    from finetunekit.evaluation.shards.work import Shard, ShardPhoto

    shard = Shard(0, (ShardPhoto("/a/1.jpg"), ShardPhoto("/b/2.jpg")))
    with pytest.raises(ConfigError, match=r"t.csv: its photos lie in no common folder"):
        _photo_folder([shard], "t.csv")


@pytest.mark.slow
def test_processes_that_are_killed_come_to_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    """As users call it: two processes at a time, killed with their parent, and the same command again."""
    asked = ["features", "photos", "--backbone", "tiny", "--shard-photos", "256", "--unlabelled"]
    asked += [word for text in TINY_NETWORK for word in ("--set", text)]
    for number in range(100):
        shutil.copytree(photos / "train", photos / f"more-{number}")
    command = [sys.executable, "-m", "finetunekit", *asked]
    subprocess.run([*command, "--out", "whole"], check=True, cwd=tmp_path, capture_output=True)
    asked_on = [*command, "--out", "killed", "--on", "processes", "--set", "executor.workers=2"]
    parent = subprocess.Popen(asked_on, cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True)
    assert parent.stderr is not None
    for line in parent.stderr:
        if b": shard " in line:  # of one of its processes
            break
    os.killpg(parent.pid, 9)
    parent.wait()
    parent.stderr.close()
    done = subprocess.run(asked_on, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert json.loads((tmp_path / "whole/manifest.json").read_text())["photos"] == 1224
