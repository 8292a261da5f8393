"""Features and predictions of many photos: the same bits as the verbs for few, whole shards, taken up where they were cut off."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TESTS

from finetunekit.cli import main
from finetunekit.errors import ConfigError, DataError
from finetunekit.evaluation.shards.drive import Written, write_shards
from finetunekit.evaluation.shards.jobs import FeaturesJob, PredictionsJob, features_job
from finetunekit.evaluation.shards.photos import labelled_photos, plain_photos
from finetunekit.system.progress import Progress
from finetunekit.system.shard_folder import MANIFEST, RECORDS, ShardFolder

parquet = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)
TINY_NETWORK = (f"plugins=[{TESTS / 'tiny_plugin.py'}]", "weights.mode=random", "pixels.size_px=8")


class Heard(Progress):
    """Keeps what is said; interrupts as Ctrl-C does when a line begins so."""

    def __init__(self, *, interrupt_at: str = "\0") -> None:
        super().__init__(is_quiet=True)
        self.lines: list[str] = []
        self._at = interrupt_at

    def say(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith(self._at):
            raise KeyboardInterrupt


def job(*settings: str, dtype: Any = "float32") -> FeaturesJob:
    return features_job("tiny", settings=[*TINY_NETWORK, *settings], dtype=dtype)


def write(photos: Path, out: Path, progress: Progress = QUIET, *, of: FeaturesJob | None = None) -> Written:
    """24 photos in shards of seven."""
    listed = labelled_photos(str(photos), (), QUIET, is_unlabelled=False)
    return write_shards(of or job(), listed, out, progress, shard_photos=7)


def rows(folder: Path, kind: str = "rows") -> list[dict[str, Any]]:
    return [row for file in sorted((folder / kind).iterdir()) for row in parquet.read_table(file).to_pylist()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.[pj]*") if file.is_file()}


def test_rows_are_the_features_that_probes_see_with_labels_and_splits(tiny_yaml: Path, photos: Path) -> None:
    from finetunekit.config.planning import prepare
    from finetunekit.data.listing import index_listing, list_photos
    from finetunekit.evaluation.probe_features import open_probe

    written = write(photos, tiny_yaml.parent / "features")
    assert (written.shards, written.made, written.rows, written.unreadable) == (4, 4, 24, 0)
    plan, _ = prepare(tiny_yaml, settings=["pixels={resize: bicubic, fit: crop, contract: backbone}"])
    probe = open_probe(plan, index_listing(plan, list_photos(plan, QUIET), QUIET), QUIET)
    found = rows(written.folder)
    for split in ("train", "valid", "test"):
        own = [row for row in found if row["split"] == split]
        np.testing.assert_array_equal([row["features"] for row in own], probe.split(split)[0])
        assert [row["sha256"] for row in own] == [photo.sha256 for photo in probe.index.split(split)]
        assert [row["label"] for row in own] == [photo.label for photo in probe.index.split(split)]
    assert parquet.read_schema(written.folder / "rows/part-00003.parquet").names[:2] == ["path", "sha256"]


def test_a_job_that_was_cut_off_goes_on_to_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    write(photos, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt) as stopped:
        write(photos, tmp_path / "twice", Heard(interrupt_at="shard 1"))
    assert stopped.value.__notes__ == ["The same command continues with the remaining shards."]
    assert len(list((tmp_path / "twice/rows").iterdir())) == 2
    heard = Heard()
    assert write(photos, tmp_path / "twice", heard).made == 3  # the second was in place, and not on record yet
    assert any(line.startswith("shard 2: 7 rows; 14 of 17 photos, ") for line in heard.lines)
    assert heard.lines[-1] == "shard 3: 3 rows; 17 of 17 photos"
    assert contents(tmp_path / "twice") == contents(tmp_path / "whole")
    assert write(photos, tmp_path / "twice").made == 0  # and loads no network


def test_a_damaged_or_missing_shard_is_made_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    write(photos, out)
    before = contents(out)
    (out / "rows/part-00002.parquet").write_bytes(before["rows/part-00002.parquet"][:-9])
    (out / "rows/part-00000.parquet").unlink()
    with (out / RECORDS).open("a") as records:
        records.write('{"shard": 3, "ro')  # cut off
    heard = Heard()
    assert write(photos, out, heard).made == 2
    assert any("part-00002.parquet: does not match its checksum; shard 2 is made again." in x for x in heard.lines)
    assert any("part-00000.parquet: is missing; shard 0 is made again." in x for x in heard.lines)
    assert contents(out) == before


def test_another_question_in_the_same_folder_is_refused_in_one_line(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    write(photos, out)
    before = contents(out)
    with pytest.raises(ConfigError, match=r"was started differently \(pixels.resize: bicubic there, nearest asked\)"):
        write(photos, out, of=job("pixels.resize=nearest"))
    with pytest.raises(ConfigError, match=r"\(dtype: float32 there, float16 asked\)"):
        write(photos, out, of=job(dtype="float16"))
    (out / "rows/part-00000.parquet").unlink()
    manifest = json.loads((out / MANIFEST).read_text())
    manifest["network"]["network_sha256"] = "0" * 64
    (out / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=r"\(network.network_sha256"):  # other weights, which only loading them tells
        write(photos, out)
    (out / MANIFEST).write_bytes(before[MANIFEST])
    (photos / "train/red/red-0.png").rename(photos / "train/red/red-9.png")
    with pytest.raises(ConfigError, match="photos_sha256"):
        write(photos, out)
    with pytest.raises(ConfigError, match=r"is not empty and holds no shards. Choose a new folder"):
        write(photos, photos)
    with pytest.raises(ConfigError, match=r"answers.csv: is the name of a file.* Name one, such as answers.$"):
        write(photos, tmp_path / "answers.csv")
    assert not (tmp_path / "answers.csv").exists()


def test_photos_that_cannot_be_read_stand_in_a_side_table_with_the_reason(photos: Path, tmp_path: Path) -> None:
    bad = photos / "train/blue/blue-1.png"
    bad.write_bytes(bad.read_bytes()[:60])
    (photos / "valid/red/none.jpg").symlink_to(tmp_path / "nowhere")
    heard = Heard()
    written = write(photos, tmp_path / "features", heard)
    assert (written.rows, written.unreadable) == (23, 2)
    named = {row["path"]: row["reason"] for row in rows(written.folder, "unreadable")}
    assert named.keys() == {str(bad), str(photos / "valid/red/none.jpg")}
    assert named[str(bad)].startswith("the file is truncated")
    assert named[str(photos / "valid/red/none.jpg")].startswith("no such file.")
    assert not named.keys() & {row["path"] for row in rows(written.folder)}
    assert any("2 photos could not be read" in line for line in heard.lines)
    assert write(photos, tmp_path / "features").made == 0


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"no photo at all")
    listed = labelled_photos(str(tmp_path / "photos"), (), QUIET, is_unlabelled=False)
    assert [photo.label for photo in listed] == [None]
    with pytest.raises(DataError, match="none of 1 photo could be read"):
        write_shards(job(), listed, tmp_path / "features", QUIET)


def test_predictions_are_those_of_predict_to_the_bit(finished_run: Path, tmp_path: Path) -> None:
    import finetunekit as ftk

    photos = tmp_path / "photos"
    shutil.copytree(finished_run.parent.parent / "photos", photos)
    (photos / "test/red/broken.png").write_bytes(b"broken")
    asked = {"abstain_below": 0.4, "coverage": 0.7}
    asked_of_shards = PredictionsJob(str(finished_run), **asked)
    written = write_shards(asked_of_shards, plain_photos(str(photos), (), QUIET), tmp_path / "p", QUIET, shard_photos=5)
    own = ftk.load(finished_run).predict([photos], unreadable=lambda _: None, **asked)
    found = rows(written.folder)
    assert len(found) == len(own) == 24
    for row, one in zip(found, own, strict=True):
        assert row["path"] == str(one.path)
        assert (row["predicted"], row["probability"], row["unlike_p"]) == (one.label, one.probability, one.unlike_p)
        assert (row["temperature"], row["is_unlike"]) == (one.temperature, one.is_unlike)
        assert [row[f"p_{name}"] for name in one.probabilities] == list(one.probabilities.values())
        assert [name for name in one.probabilities if row[f"in_set_{name}"]] == list(one.class_set or ())
    assert [row["path"] for row in rows(written.folder, "unreadable")] == [str(photos / "test/red/broken.png")]


def test_the_verbs_print_what_there_is_and_refuse_what_does_not_fit(
    photos: Path, tmp_path: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [word for text in TINY_NETWORK for word in ("--set", text)]
    asked = ["features", str(photos), "--backbone", "tiny", *settings, "--dtype", "float16"]
    done = CliRunner().invoke(main, [*asked, "--out", str(tmp_path / "f")])
    assert done.stdout.splitlines() == ["24 rows in 1 shard", str(tmp_path / "f")], done.output
    assert str(parquet.read_schema(tmp_path / "f/rows/part-00000.parquet").field("features").type).startswith("fixed_s")
    done = CliRunner().invoke(main, ["predict", str(finished_run), "--data", str(photos), "--out", str(tmp_path / "p")])
    assert done.stdout.splitlines() == ["24 rows in 1 shard", str(tmp_path / "p")], done.output
    done = CliRunner().invoke(main, ["predict", str(finished_run), "--data", str(photos)])
    assert (done.exit_code, "--data goes with --out" in done.output) == (2, True)
    done = CliRunner().invoke(main, ["predict", str(finished_run)])
    assert (done.exit_code, "Missing argument 'PATHS...'" in done.output) == (2, True)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyarrow" else real(name))
    done = CliRunner().invoke(main, [*asked, "--out", str(tmp_path / "g")])
    assert (done.exit_code, done.stderr) == (2, "error: features: needs pyarrow: pip install 'finetunekit[scale]'\n")


@pytest.mark.parametrize(
    "line",
    [
        '{"shard": 0}',
        "[]",
        '{"shard": 0, "rows": 1, "unreadable": 0, "made_on": "x", "sha256": 5}',
        '{"shard": -1, "rows": 1, "unreadable": 0, "made_on": "x", "sha256": {}}',
        '{"shard": 0, "rows": 1, "unreadable": 0, "made_on": "x", "sha256": {"rows/part-00000.parquet": 1}}',
    ],
)
def test_a_record_that_is_damaged_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / RECORDS).write_text(line + "\n")
    with pytest.raises(Exception, match=r"shards.jsonl:1: is damaged .* Delete the line: its shard is made again"):
        ShardFolder(tmp_path).records()


def test_probe_ranks_features_as_it_ranks_the_preset_they_come_from(tiny_yaml: Path, photos: Path) -> None:
    from finetunekit.config.planning import prepare
    from finetunekit.data.listing import index_listing, list_photos
    from finetunekit.experiments.feature_ranking import rank_features
    from finetunekit.experiments.probe_ranking import rank_probes

    out = tiny_yaml.parent
    write(photos, out / "float32")
    write(photos, out / "float16", of=job(dtype="float16"))
    plan, _ = prepare(tiny_yaml, settings=["pixels={resize: bicubic, fit: crop, contract: backbone}"])
    known = rank_probes([plan], index_listing(plan, list_photos(plan, QUIET), QUIET), QUIET, folds=3, left_out={})
    found = rank_features([str(out / "float32")], QUIET, folds=3)
    assert found.ranked[0].score == known.ranked[0].score
    assert (found.ranked[0].backbone, found.ranked[0].size_px, found.classes) == ("tiny", 8, known.classes)
    assert len(rank_features([str(out / "float32"), str(out / "float16")], QUIET, folds=3).ranked) == 2
    done = CliRunner().invoke(main, ["probe", "--features", str(out / "float16"), "--folds", "3"])
    assert "6 rows without a label or of the test split are not looked at" in done.stderr
    assert "tiny" in done.stdout, done.output
    done = CliRunner().invoke(main, ["probe", str(tiny_yaml), "--features", str(out / "float16")])
    assert (done.exit_code, "--features goes with --folds, --seed and --json alone" in done.output) == (2, True)


def test_features_on_disk_are_probed_to_the_same_optimum(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetunekit.experiments.feature_ranking import rank_features
    from finetunekit.models import feature_shards

    write(photos, tmp_path / "f", of=job(dtype="float16"))
    shards = feature_shards.open_feature_shards(str(tmp_path / "f"), QUIET)
    assert (shards.values.shape, shards.values.dtype) == ((24, 4), np.dtype(np.float16))
    known = rank_features([str(tmp_path / "f")], QUIET, folds=3).ranked[0].score
    monkeypatch.setattr(feature_shards, "IN_MEMORY_VALUES", 10)
    found = rank_features([str(tmp_path / "f")], QUIET, folds=3).ranked[0].score
    assert found.correct == pytest.approx(known.correct, abs=3)  # the penalty is chosen by one inner fold


def test_folders_that_hold_no_whole_features_are_refused(photos: Path, tmp_path: Path, finished_run: Path) -> None:
    from finetunekit.models.feature_shards import open_feature_shards

    out = tmp_path / "f"
    with pytest.raises(KeyboardInterrupt):
        write(photos, out, Heard(interrupt_at="shard 1"))
    with pytest.raises(DataError, match=r"is not finished. The command that started it continues"):
        open_feature_shards(str(out), QUIET)
    write(photos, out)
    (out / "rows/part-00001.parquet").write_bytes(b"other")
    with pytest.raises(DataError, match=r"part-00001.parquet: is damaged \(it does not match its checksum\)"):
        open_feature_shards(str(out), QUIET)
    with pytest.raises(ConfigError, match=r"holds no features. Make some: finetunekit features"):
        open_feature_shards(str(photos), QUIET)
