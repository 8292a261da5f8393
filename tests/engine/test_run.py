"""One run from preset to report, on a tiny network and tiny photos."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import finetunekit as ftk
from finetunekit.engine.score import METRICS_KEYS
from finetunekit.errors import ConfigError, DataError, PluginError, RunError
from finetunekit.runs.folder import CONFIG, MODEL_KERAS
from finetunekit.system.progress import Progress
from finetunekit.training.run_log import EPOCH_COLUMNS

pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)


def run_tiny(tiny_yaml: Path, *settings: str, seed: int | None = None, out: str = "runs") -> ftk.RunResult:
    return ftk.run(str(tiny_yaml), settings=settings, seed=seed, out=tiny_yaml.parent / out, progress=QUIET)


def trained_weights(path: Path) -> dict[str, Any]:
    import keras

    model = keras.models.load_model(path / MODEL_KERAS, compile=False)
    return {v.path: v.numpy() for v in model.weights}


def test_a_run_folder_holds_everything(finished_run: Path) -> None:
    names = {str(p.relative_to(finished_run)) for p in finished_run.rglob("*") if p.is_file()}
    assert names >= {
        "config.yaml",
        "plan.json",
        "environment.json",
        "weights.json",
        "photos.csv",
        "epochs.csv",
        "predictions.csv",
        "metrics.json",
        "model.npz",
        "model.keras",
        "model.h5",
        "plugins/tiny_plugin.py",
        "run.json",
        "reports/confusion_matrix.svg",
        "reports/learning_curves.svg",
    }
    assert not [n for n in names if "partial" in n]
    finished = ftk.FinishedRun(finished_run)
    assert finished.state["status"] == "finished"
    assert set(finished.metrics) == set(METRICS_KEYS) - {"ensemble"}  # docs/plugins/run_folder.md says what each holds
    assert tuple(finished.epochs[0]) == tuple(EPOCH_COLUMNS)
    assert finished.classes == ("blue", "green", "red")
    assert finished.environment["versions"]["tensorflow"]
    assert finished.environment["cpus"] >= 1
    rates = {layer["path"]: layer["rate"] for layer in finished.plan["layers"]}
    assert (rates["conv1"], rates["conv2"], rates["hidden"]) == (0.0, 1.0, 1.0)


def test_the_log_counts_draws_and_photos(finished_run: Path) -> None:
    finished = ftk.FinishedRun(finished_run)
    rows = finished.epochs
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        assert (row["draws"], row["val_draws"], row["val_photos"]) == ("30", "9", "6")
        assert float(row["accuracy"]) == int(row["correct"]) / 30
        assert float(row["val_accuracy"]) == pytest.approx(int(row["val_correct"]) / 9)
    assert finished.metrics["last_epoch"]["val_draws"] == 9
    assert finished.metrics["valid"]["accuracy"]["photos"] == 6
    assert finished.metrics["test"]["accuracy"]["photos"] == 6


def test_it_learns_the_colours(tiny_yaml: Path) -> None:
    result = run_tiny(tiny_yaml, "stages[0].epochs=12", "stages[0].freeze={name: none}")
    assert result.metrics["test"]["accuracy"]["successes"] == 6
    losses = [float(row["loss"]) for row in ftk.FinishedRun(result.path).epochs]
    assert losses[-1] < losses[0] / 2


def test_frozen_layers_stay_bit_equal_while_the_rest_moves(tiny_yaml: Path, finished_run: Path) -> None:
    before = trained_weights(run_tiny(tiny_yaml, "stages[0].optimizer.learning_rate=1e-12", "stages[0].epochs=1").path)
    after = trained_weights(finished_run)
    assert np.array_equal(before["conv1/kernel"], after["conv1/kernel"])
    assert np.abs(before["conv2/kernel"] - after["conv2/kernel"]).max() > 1e-3
    assert np.abs(before["logits/kernel"] - after["logits/kernel"]).max() > 1e-3


@pytest.mark.parametrize(
    "augment", ["[]", pytest.param("[{name: keras_generator, zoom_range: 0.2}]", marks=pytest.mark.slow)]
)
def test_the_exact_cache_changes_no_bit(tiny_yaml: Path, augment: str) -> None:
    off = run_tiny(tiny_yaml, "cache.mode=off", f"augment={augment}")
    exact = run_tiny(tiny_yaml, "cache.mode=exact", "cache.require=bitwise", f"augment={augment}")
    again = run_tiny(tiny_yaml, "cache.mode=exact", f"augment={augment}")
    for other in (exact, again):
        for name, array in trained_weights(off.path).items():
            assert np.array_equal(array, trained_weights(other.path)[name]), name
        ours, theirs = (ftk.FinishedRun(r.path).epochs for r in (off, other))
        for column in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert [row[column] for row in ours] == [row[column] for row in theirs]
        assert (off.path / "predictions.csv").read_bytes() == (other.path / "predictions.csv").read_bytes()


def test_a_bank_is_reused_by_another_rate(tiny_yaml: Path, own_cache: Path) -> None:
    run_tiny(tiny_yaml, "cache={mode: bank, views: 3}", "view_seed=5")
    made = {p: p.stat().st_mtime_ns for p in (own_cache / "features").glob("*/0.bin")}
    assert len(made) >= 3 + 3  # three views, and plain train, valid and test photos
    result = run_tiny(
        tiny_yaml, "cache={mode: bank, views: 3}", "view_seed=5", "stages[0].optimizer.learning_rate=0.01"
    )
    assert {p: p.stat().st_mtime_ns for p in (own_cache / "features").glob("*/0.bin")} == made
    assert "bank (bitwise" in ftk.FinishedRun(result.path).state["stages"][0]["mode"]


def test_two_runs_are_bit_equal_and_two_seeds_are_not(tiny_yaml: Path, finished_run: Path) -> None:
    again, other = run_tiny(tiny_yaml), run_tiny(tiny_yaml, seed=1)
    assert (finished_run / "predictions.csv").read_bytes() == (again.path / "predictions.csv").read_bytes()
    assert (finished_run / "predictions.csv").read_bytes() != (other.path / "predictions.csv").read_bytes()
    assert other.metrics["seed"] == 1


def test_loaded_network_predicts_what_the_run_wrote(finished_run: Path) -> None:
    finished = ftk.FinishedRun(finished_run)
    rows = [row for row in finished.predictions if row["split"] == "test"]
    loaded = ftk.load(finished_run)
    predictions = loaded.predict([finished.photo_path(row["path"]) for row in rows])
    for row, prediction in zip(rows, predictions, strict=True):
        assert prediction.label == row["predicted"]
        for name in loaded.classes:
            assert prediction.probabilities[name] == float(row[f"p_{name}"])


def test_h5_loads_with_the_same_weights(finished_run: Path) -> None:
    import keras

    model = keras.models.load_model(finished_run / "model.h5", compile=False)
    kept = trained_weights(finished_run)
    assert {v.path for v in model.weights} == set(kept)
    assert all(np.array_equal(v.numpy(), kept[v.path]) for v in model.weights)


def test_the_resolved_config_runs_again_to_the_same_bits(finished_run: Path, tmp_path: Path) -> None:
    again = ftk.run(str(finished_run / CONFIG), out=tmp_path / "again", progress=QUIET)
    assert (finished_run / "predictions.csv").read_bytes() == (again.path / "predictions.csv").read_bytes()


def test_two_stages_each_with_its_own_freezing(tiny_yaml: Path) -> None:
    stages = (
        "stages=[{name: head, epochs: 1, freeze: {name: all}, optimizer: {learning_rate: 0.1}},"
        "{name: whole, epochs: 2, freeze: {name: none}, optimizer: {name: adamw, learning_rate: 0.01}}]"
    )
    result = run_tiny(tiny_yaml, stages)
    finished = ftk.FinishedRun(result.path)
    assert [(row["stage"], row["epoch"]) for row in finished.epochs] == [("head", "1"), ("whole", "2"), ("whole", "3")]
    first, second = finished.state["stages"]
    assert set(first["trained_variables"]) == {"hidden/kernel", "hidden/bias", "logits/kernel", "logits/bias"}
    assert "conv1/kernel" in second["trained_variables"]


def test_display_defaults_to_the_test_photos(finished_run: Path) -> None:
    rows = ftk.FinishedRun(finished_run).predictions
    test = {row["sha256"]: row["p_red"] for row in rows if row["split"] == "test"}
    assert {row["sha256"]: row["p_red"] for row in rows if row["split"] == "display"} == test


def test_manifest_names_every_photo(finished_run: Path) -> None:
    finished = ftk.FinishedRun(finished_run)
    rows = finished.photos
    assert {row["split"] for row in rows} == {"train", "valid", "test", "display"}
    assert sum(row["split"] == "train" for row in rows) == 12
    assert all(len(row["sha256"]) == 64 for row in rows)
    assert all(finished.photo_path(row["path"]).is_file() for row in rows)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_photos(tiny_yaml: Path) -> None:
    plugin = tiny_yaml.parent / "explode.py"
    plugin.write_text(
        "from finetunekit import hookimpl, Options\n"
        "def build(options, features, num_classes):\n"
        "    import keras\n"
        "    x = keras.layers.Dense(num_classes)(keras.layers.Flatten()(features.tensor))\n"
        "    return keras.layers.Rescaling(1e30)(keras.layers.Rescaling(1e30)(x))\n"
        "@hookimpl\ndef register_heads(register):\n    register('explode', build, Options)\n"
    )
    tiny_yaml.write_text(tiny_yaml.read_text().replace("plugins: [", f"plugins: [{plugin}, "))
    with pytest.raises(RunError, match=r"not a finite number at epoch 1, step 1 \(photos train/"):
        run_tiny(tiny_yaml, "head={name: explode}")
    (path,) = (tiny_yaml.parent / "runs").iterdir()
    state = json.loads((path / "run.json").read_text())
    assert state["status"] == "failed"
    assert "not a finite number" in state["error"]


def test_interrupting_keeps_whole_epochs(tiny_yaml: Path) -> None:
    plugin = tiny_yaml.parent / "stop.py"
    plugin.write_text(
        "from finetunekit import hookimpl\n"
        "class Stop:\n    pass\n"
        "@hookimpl\ndef after_epoch(row, run_path):\n    if row['epoch'] == 2: raise KeyboardInterrupt\n"
    )
    text = tiny_yaml.read_text().replace("plugins: [", f"plugins: [{plugin}, ")
    tiny_yaml.write_text(text)
    with pytest.raises(KeyboardInterrupt):
        run_tiny(tiny_yaml, "stages[0].epochs=5")
    (path,) = (tiny_yaml.parent / "runs").iterdir()
    finished = ftk.FinishedRun(path)
    assert finished.state["status"] == "interrupted"
    assert len(finished.epochs) == 2
    whole = tiny_yaml.with_name("whole.yaml")
    whole.write_text(tiny_yaml.read_text().replace(f"{plugin}, ", ""))
    two = trained_weights(run_tiny(whole, "stages[0].epochs=2", out="two").path)
    kept = trained_weights(path)
    assert all(np.array_equal(kept[name], array) for name, array in two.items())


def test_nothing_is_written_for_a_wrong_config(tiny_yaml: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set stages\[0\].epochs: .*Received: 0"):
        run_tiny(tiny_yaml, "stages[0].epochs=0")
    assert not (tiny_yaml.parent / "runs").exists()


def test_a_mistyped_root_is_an_error_even_with_a_stand_in(tiny_yaml: Path) -> None:
    tiny_yaml.write_text(tiny_yaml.read_text().replace("source: folders,", "source: folders, otherwise: drawn,"))
    with pytest.raises(DataError, match="nowhere"):
        run_tiny(tiny_yaml, "data.root=nowhere")
    assert not (tiny_yaml.parent / "runs").exists()  # a run that never trained leaves nothing behind


def test_the_stand_in_is_announced_everywhere(
    tiny_yaml: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        tiny_yaml.read_text()
        .replace(str(photos), "missing")
        .replace("source: folders,", "source: folders, otherwise: small,")
    )
    plugin = tiny_yaml.parent / "small.py"
    plugin.write_text(
        "import dataclasses\n"
        "from finetunekit import hookimpl, Options\n"
        "from finetunekit_builtin.folders import build_folders, FoldersOptions\n"
        "def build(options, context):\n"
        f"    context = dataclasses.replace(context, root=__import__('pathlib').Path({str(photos)!r}))\n"
        "    return dataclasses.replace(build_folders(FoldersOptions(), context), stand_in='painted squares')\n"
        "@hookimpl\ndef register_data_sources(register):\n    register('small', build, Options)\n"
    )
    tiny_yaml.write_text(text.replace("plugins: [", f"plugins: [{plugin}, "))
    result = ftk.run(
        str(tiny_yaml),
        settings=["reports=[{name: learning_curves}]"],
        out=tiny_yaml.parent / "runs",
        progress=Progress(),
    )
    assert "NOTE painted squares" in capsys.readouterr().err
    assert result.metrics["stand_in"] == "painted squares"
    assert "painted squares" in (result.path / "reports" / "learning_curves.svg").read_text()


def test_a_reporter_that_fails_is_named_and_the_run_survives(
    tiny_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tiny_yaml.parent / "bad_report.py"
    plugin.write_text(
        "from finetunekit import hookimpl, Options\n"
        "@hookimpl\ndef register_reporters(register):\n"
        "    register('raises', lambda options, run: 1 / 0, Options)\n"
        "    register('escapes', lambda options, run: {'../x': b''}, Options)\n"
        "    register('good', lambda options, run: {'good.txt': b'fine'}, Options)\n"
    )
    tiny_yaml.write_text(tiny_yaml.read_text().replace("plugins: [", f"plugins: [{plugin}, "))
    settings = ["reports=[{name: raises}, {name: escapes}, {name: good}]"]
    result = ftk.run(str(tiny_yaml), settings=settings, out=tiny_yaml.parent / "runs", progress=Progress())
    said = capsys.readouterr().err
    assert "reporter 'raises' of plugin 'bad_report'" in said
    assert "reporter 'escapes'" in said
    assert [p.name for p in (result.path / "reports").iterdir()] == ["good.txt"]


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("return features.tensor", r"logits must be \(batch, 3\) float32"),
        (
            "import keras; return keras.layers.Dense(3, activation='softmax')(keras.layers.Flatten()(features.tensor))",
            "probabilities",
        ),
        ("return 1", "must return a Keras tensor"),
        (
            "import keras; return keras.layers.Dense(3, name='conv1')(keras.layers.Flatten()(features.tensor))",
            "cannot be joined",
        ),
        ("raise KeyError('x')", "KeyError"),
    ],
)
def test_a_head_that_breaks_its_contract_is_blamed(tiny_yaml: Path, body: str, match: str) -> None:
    plugin = tiny_yaml.parent / "bad_head.py"
    plugin.write_text(
        "from finetunekit import hookimpl, Options\n"
        f"def build(options, features, num_classes):\n    {body}\n"
        "@hookimpl\ndef register_heads(register):\n    register('bad', build, Options)\n"
    )
    tiny_yaml.write_text(tiny_yaml.read_text().replace("plugins: [", f"plugins: [{plugin}, "))
    with pytest.raises(PluginError, match=f"head 'bad' of plugin 'bad_head'.*{match}"):
        run_tiny(tiny_yaml, "head={name: bad}")


def test_report_is_rebuilt_from_the_folder_alone(copied_run: Path) -> None:
    from finetunekit.engine.api import rebuild_reports

    figure = copied_run / "reports" / "confusion_matrix.svg"
    first = figure.read_bytes()
    figure.unlink()
    written = rebuild_reports(copied_run)
    assert figure in written
    assert figure.read_bytes() == first


def test_bfloat16_trains_and_is_said_and_recorded(tiny_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("precision=bfloat16", "cache={mode: bank, views: 2}", "stages[0].epochs=8", "stages[0].freeze.n=2")
    result = ftk.run(str(tiny_yaml), settings=settings, out=tiny_yaml.parent / "runs")
    printed = "".join(capsys.readouterr())
    assert ": 2 views of each photo, reused; bfloat16\n" in printed
    assert ftk.FinishedRun(result.path).state["precision"] == "bfloat16"
    assert result.metrics["train"]["log_loss"]["value"] < np.log(3)
    with (result.path / "predictions.csv").open() as stream:
        total = [sum(float(row[f"p_{c}"]) for c in ("blue", "green", "red")) for row in csv.DictReader(stream)]
    assert total == pytest.approx([1] * len(total))


def test_a_run_that_never_trained_leaves_nothing_behind_not_even_an_empty_folder(
    tiny_yaml: Path, tmp_path: Path
) -> None:
    for there, folder in ((False, tmp_path / "new"), (True, tmp_path / "there")):
        if there:
            folder.mkdir()
        with pytest.raises(ftk.ConfigError):
            ftk.run(tiny_yaml, settings={"data.root": str(tmp_path / "nowhere")}, out=folder, progress=QUIET)
        assert folder.exists() == there
