"""Several finished runs as one: what is averaged, what judges it, and that it is a run like any other."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY, write_photos, write_tiny_weights

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.engine.api import replay
from finetunekit.errors import ConfigError, RunFolderError
from finetunekit.experiments.ensemble.judge import judge_weights
from finetunekit.experiments.ensemble.members import recorded
from finetunekit.experiments.ensemble.shared_input import share_input
from finetunekit.runs.folder import FinishedRun
from finetunekit.system.array_files import read_arrays
from finetunekit.system.progress import Progress
from finetunekit.types import PixelContract

QUIET = Progress(is_quiet=True)
SOLVED = (
    "pixels.contract=backbone",
    "stages=[{name: probe, kind: solve, penalty: 0.001}]",
    "head={name: linear}",
    "augment=[]",
)


@dataclass(frozen=True)
class Made:
    """Runs of one set of photos, and what was made of them."""

    folder: Path
    solved: tuple[Path, Path]
    larger: Path
    folds: tuple[Path, Path]
    of_weights: Path
    of_probabilities: Path
    of_folds: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("ensembles")
    preset = folder / "tiny.yaml"
    preset.write_text(TINY.replace("ROOT", str(write_photos(folder / "photos", per_class=8))), encoding="utf-8")
    weights = f"weights={{mode: pretrained, path: {write_tiny_weights(preset)}}}"

    def train(*settings: str, seed: int = 0) -> Path:
        return ftk.run(
            preset, settings=[weights, "reports=[]", *settings], seed=seed, out=folder / "runs", progress=QUIET
        ).path

    def join(*runs: Path) -> Path:
        return ftk.ensemble(*runs, out=folder / "runs", progress=QUIET).path

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
        patch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
        whole = ("reports=[{name: html}]", "insights={baselines: true, gradcam_photos: 1}")
        solved = train("name=solved", *SOLVED, *whole), train("name=solved", *SOLVED, seed=1)
        larger = train("name=larger", "weights={mode: random}", "pixels.size_px=10", "stages[0].epochs=1")
        folds = (train("train.folds=3", "train.fold=1", *SOLVED), train("train.folds=3", "train.fold=3", *SOLVED))
        return Made(folder, solved, larger, folds, join(*solved), join(solved[0], larger), join(*folds))


def metrics(path: Path) -> dict:
    return json.loads((path / "metrics.json").read_text())


def test_runs_of_one_plan_in_one_basin_become_one_network_of_mean_weights(made: Made) -> None:
    run = FinishedRun(made.of_weights)
    assert run.state["ensemble"]["by"] == "weights"
    first, second, both = (read_arrays(path / "model.npz")[1] for path in (*made.solved, run.path))
    names = [name for name in both if name.startswith("weights/")]
    assert names
    assert all(np.allclose(both[name], (first[name] + second[name]) / 2, atol=1e-7) for name in names)
    assert any("averaged into one network" in note for note in run.metrics["notes"])
    assert {"baselines.json", "next_steps.json"} <= {file.name for file in run.path.iterdir()}


def test_other_runs_become_one_network_of_mean_probabilities_each_with_its_own_pixels(made: Made) -> None:
    run = FinishedRun(made.of_probabilities)
    assert run.state["ensemble"]["by"] == "probabilities"
    assert run.config["pixels"]["size_px"] == 10
    shared = share_input([FinishedRun(made.solved[0]), FinishedRun(made.larger)])
    assert (shared.size_px, shared.crops_px, shared.contract) == (10, (10, 10), PixelContract())
    test = sorted((made.folder / "photos" / "test").rglob("*.png"))
    together, larger = ftk.load(made.of_probabilities), ftk.load(made.larger)
    smaller = ftk.load(made.solved[0])
    import keras

    squares = keras.ops.image.resize(together.squares(test).astype(np.float32), (8, 8), interpolation="bilinear")
    own = keras.ops.softmax(smaller.model(np.asarray(squares) / 127.5 - 1))
    assert np.allclose(together.uncalibrated(test), (larger.uncalibrated(test) + np.asarray(own)) / 2, atol=1e-5)


def test_the_gain_over_the_best_member_is_said_with_an_interval(made: Made) -> None:
    found = metrics(made.of_probabilities)["ensemble"]
    losses = [member["valid_log_loss"] for member in found["members"]]
    gain = found["gain"]
    assert gain["before"] == pytest.approx(min(losses))
    assert gain["best"] == int(np.argmin(losses)) + 1
    assert gain["interval"]["low"] <= gain["after"] - gain["before"] <= gain["interval"]["high"]
    assert metrics(made.of_probabilities)["notes"][-1].startswith("On 12 validation photos its log loss is")


def test_the_test_split_is_opened_once_for_it_as_another_configuration(made: Made) -> None:
    keys = [FinishedRun(path).state["config_key"] for path in (made.solved[0], made.of_weights, made.of_probabilities)]
    assert len(set(keys)) == 3
    (ledger,) = (
        path for path in (made.folder / "state" / "openings").glob("*.jsonl") if "-ensemble" in path.read_text()
    )
    rows = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [row["run"] for row in rows].count(str(made.of_weights)) == 1


def test_folds_are_judged_by_members_that_were_not_trained_on_the_photo(made: Made) -> None:
    run = FinishedRun(made.of_folds)
    assert run.state["ensemble"]["is_out_of_fold"]
    assert "test" not in run.metrics
    assert not (run.path / "train_features.npz").exists()
    members = [FinishedRun(path) for path in made.folds]
    asked = [recorded(member, "valid", "test") for member in members]
    trained = [{row["sha256"] for row in member.photos if row["split"] == "train"} for member in members]
    kept = recorded(run, "valid")
    assert len(kept) == 48
    for sha256, found in kept.items():
        honest = [a[sha256] for a, seen in zip(asked, trained, strict=True) if sha256 not in seen]
        assert 1 <= len(honest) <= 2
        assert np.allclose(found, np.mean(honest, axis=0), atol=1e-12)
    assert any("were not trained on it" in words for words in ftk.load(run.path).sets(0.8).words())


def test_it_predicts_explains_compares_reports_and_tells_strange_photos(made: Made) -> None:
    loaded = ftk.load(made.of_probabilities)
    photo = next((made.folder / "photos" / "test" / "red").glob("*.png"))
    (said,) = loaded.explain([photo]).photos
    assert said.prediction.unlike_p is not None
    assert said.neighbours
    assert len(next(iter(said.maps.values()))) == 4
    out = str(made.folder / "runs")
    compared = CliRunner().invoke(main, ["compare", str(made.solved[0]), str(made.of_probabilities), "--out", out])
    assert compared.exit_code == 0, compared.output
    assert "ensemble.by" in compared.output
    page = (made.of_weights / "reports" / "report.html").read_text()
    assert "finetunekit ensemble" in page
    assert "averaged into one network" in page


def test_it_leaves_as_one_keras_model(made: Made) -> None:
    import keras

    model = keras.models.load_model(made.of_probabilities / "model.keras", compile=False, safe_mode=True)
    test = sorted((made.folder / "photos" / "test").rglob("*.png"))
    loaded = ftk.load(made.of_probabilities)
    assert np.allclose(model(loaded.squares(test).astype(np.float32)), loaded.uncalibrated(test), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["keras", "onnx", "litert"])
def test_exporters_write_it_to_the_usual_tolerance(made: Made, tmp_path: Path, exporter: str) -> None:
    exported = ftk.load(made.of_probabilities).export(exporter, into=tmp_path / exporter, progress=QUIET)
    assert exported.certificate["network"]["largest_difference"] < 1e-5
    assert exported.certificate["recorded"]["largest_difference"] < 1e-5


def test_what_was_never_trained_is_neither_resumed_nor_replayed(made: Made, tmp_path: Path) -> None:
    with pytest.raises(
        RunFolderError, match=r"is an ensemble, which trains nothing. Make it again: finetunekit ensemble"
    ):
        replay(made.of_weights, progress=QUIET)
    left = Path(shutil.copytree(made.of_weights, tmp_path / made.of_weights.name))
    state = json.loads((left / "run.json").read_text())
    (left / "run.json").write_text(json.dumps({**state, "status": "running"}))
    assert "is an ensemble" in CliRunner().invoke(main, ["resume", str(left)]).output


def test_what_cannot_answer_together_is_one_line(made: Made, tmp_path: Path) -> None:
    def changed(name: str, **state: object) -> Path:
        path = Path(shutil.copytree(made.solved[0], tmp_path / name))
        values = json.loads((path / "run.json").read_text())
        (path / "run.json").write_text(json.dumps({**values, **state}))
        return path

    def edited(name: str, file: str, old: str, new: str) -> Path:
        path = changed(name)
        text = (path / file).read_text()
        assert old in text
        (path / file).write_text(text.replace(old, new))
        return path

    first = made.solved[0]
    without = changed("without")
    (without / "model.npz").unlink()
    cases = [
        ((first,), "two runs or more. Received: 1"),
        ((first, first), "was given twice"),
        ((first, changed("half", status="interrupted")), "is 'interrupted'"),
        ((first, changed("others", classes=["blue", "green", "rod"])), "a class 're?o?d'"),
        ((first, without), "keeps no model.npz. .*save.seeds=all"),
        ((first, made.of_weights), "is an ensemble itself"),
        ((first, made.folds[0]), "cannot judge another"),
        ((first, edited("cut", "plan.json", '"fit": "stretch"', '"fit": "pad"')), "no square of a photo holds both"),
        ((*made.folds, made.folds[0].parent / "none"), "no run there"),
    ]
    for runs, message in cases:
        with pytest.raises((ConfigError, RunFolderError), match=message) as caught:
            ftk.ensemble(*runs, out=tmp_path / "out", progress=QUIET)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_photos_that_changed_since_leave_no_folder_behind(made: Made, tmp_path: Path) -> None:
    gone = next((made.folder / "photos" / "valid" / "red").glob("*.png"))
    content = gone.read_bytes()
    try:
        gone.write_bytes((made.folder / "photos" / "train" / "blue" / "blue-0.png").read_bytes())
        with pytest.raises(RunFolderError, match="its photos or their classes have changed since"):
            ftk.ensemble(*made.solved, out=tmp_path / "out", progress=QUIET)
    finally:
        gone.write_bytes(content)
    assert not list(tmp_path.glob("out/*"))


def test_a_strangers_plugin_files_need_trust(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finetunekit.runs import trust

    monkeypatch.setattr(trust, "marks_path", lambda: tmp_path / "nobody.jsonl")
    with pytest.raises(ConfigError, match=r"was not started here by you.*--trust"):
        ftk.ensemble(*made.solved, out=tmp_path / "out", progress=QUIET)


def test_weights_are_averaged_only_without_a_barrier_and_where_not_told_to_be_worse() -> None:
    labels = np.arange(40) % 2
    sure = np.where(np.arange(2)[None] == labels[:, None], 0.9, 0.1)
    less = np.where(np.arange(2)[None] == labels[:, None], 0.8, 0.2)
    even = np.full((40, 2), 0.5)
    assert judge_weights(sure, [sure, less], labels).is_kept
    assert not judge_weights(even, [sure, less], labels).is_kept
    told = judge_weights(less - np.array([1e-3, -1e-3]) * (2 * (labels[:, None] == 0) - 1), [sure, sure], labels)
    assert not told.is_kept
    assert "worse on 40 validation photos" in told.words()
