"""Solve stages, stages that have to earn their weights, and the measured cost of another pixel contract."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import write_tiny_weights

from finetunekit.cli import main
from finetunekit.config.moved_inputs import MovedInputs
from finetunekit.config.plan_text import plan_lines
from finetunekit.config.planning import prepare
from finetunekit.config.training_sections import SolveStage
from finetunekit.data.decoded_photos import DecodedPhotos
from finetunekit.engine.api import resume, run, summarise_run
from finetunekit.errors import ConfigError, RunError
from finetunekit.evaluation.probe_features import open_probe
from finetunekit.models.linear_probe.linear import fit_linear
from finetunekit.runs.folder import MODEL_KERAS, FinishedRun
from finetunekit.runs.run_record import RunRecord
from finetunekit.system.progress import Progress
from finetunekit.training.callbacks import RevertUnlessBetter
from finetunekit.training.stage_record import StageRecord, kept_rows, revert_notes, revert_sentence
from finetunekit.training.validation import Validator
from finetunekit.training.verdict import Verdict, judge

pytestmark = pytest.mark.usefixtures("own_cache")
LINEAR = ("head={name: linear}", "augment=[]", "train.draws_per_epoch=null", "train.validation_draws=null")
SOLVE = "{kind: solve, penalty: 0.01}"


def ran(tiny_yaml: Path, *settings: str) -> tuple[FinishedRun, str]:
    shown = io.StringIO()
    result = run(tiny_yaml, settings=settings, out=tiny_yaml.parent / "runs", progress=Progress(shown))
    return FinishedRun(result.path), shown.getvalue()


def saved_dense(finished: FinishedRun) -> list[Any]:
    import keras

    return keras.saving.load_model(finished.path / MODEL_KERAS).get_layer("logits").get_weights()


def test_a_solve_stage_writes_the_probe_into_the_saved_model(tiny_yaml: Path) -> None:
    from finetunekit.data.index import build_index
    from finetunekit.data.listing import list_photos

    finished, shown = ran(tiny_yaml, *LINEAR, f"stages=[{SOLVE}]")
    quiet = Progress(is_quiet=True)
    plan, _ = prepare(tiny_yaml, settings=[*LINEAR, f"stages=[{SOLVE}]"])
    probe = open_probe(plan, build_index(list_photos(plan, quiet), max_pixels=10_000), quiet)
    fit = fit_linear(*probe.split("train"), 3, penalty=0.01, solver="logistic")
    kernel, bias = saved_dense(finished)
    np.testing.assert_array_equal(kernel, fit.kernel)
    np.testing.assert_array_equal(bias, fit.bias)
    expected = fit.probabilities(probe.split("test")[0])
    rows = [row for row in finished.predictions if row["split"] == "test"]
    got = np.array([[float(row[f"p_{name}"]) for name in finished.metrics["classes"]] for row in rows])
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert "stage 1 of 1, probe: logistic regression, solved and not trained by steps" in shown
    assert "solved (logistic)  penalty 1.0e-02, as given" in shown


def test_a_solve_stage_keeps_one_row_and_says_what_it_chose(tiny_yaml: Path) -> None:
    finished, shown = ran(tiny_yaml, *LINEAR, "stages=[{kind: solve, solver: ridge, folds: 3}]")
    (row,) = finished.epochs
    assert (row["stage"], row["epoch"], row["draws"], row["val_photos"]) == ("probe", "0", "12", "6")
    assert float(row["val_loss"]) == pytest.approx(finished.metrics["valid"]["log_loss"]["value"], abs=1e-6)
    solved = finished.state["stages"][0]["solve"]
    assert (solved["solver"], solved["photos"], solved["views"], solved["channels"]) == ("ridge", 12, 1, 4)
    assert solved["choice"]["mixture"] == solved["penalties"]
    assert f"3 folds of 12 photos: log loss {solved['choice']['log_loss']:.4f}" in shown
    assert set(finished.state["stages"][0]["decision"].values()) == {0.0}


def test_a_mirrored_stage_is_solved_on_both_looks_at_a_photo(tiny_yaml: Path) -> None:
    finished, shown = ran(tiny_yaml, *LINEAR, "stages=[{kind: solve, folds: 3, repeats: 2, mirror: true}]")
    solved = finished.state["stages"][0]["solve"]
    assert (solved["photos"], solved["views"], solved["choice"]["repeats"]) == (12, 2, 2)
    assert "solved (logistic x 2 views)" in shown
    assert "2 x 3 folds of 12 photos" in shown
    (row,) = finished.epochs
    assert row["draws"] == "12"


@pytest.mark.parametrize("cache", ["cache={mode: exact}", "cache={mode: off}", "cache={mode: bank, views: 3}"])
def test_any_head_whose_last_layer_is_dense_is_solved_whatever_the_cache(tiny_yaml: Path, cache: str) -> None:
    first = "{epochs: 1, freeze: {name: all}}"
    finished, _ = ran(tiny_yaml, cache, f"stages=[{first}, {SOLVE}]")  # gap_dense, augmented
    kernel, _ = saved_dense(finished)
    assert kernel.shape == (8, 3)
    solved = finished.state["stages"][1]["solve"]
    assert solved["views"] == (3 if "bank" in cache else 1)
    assert solved["channels"] == 8
    assert finished.metrics["train"]["accuracy"]["value"] > 0.6


def test_fine_tuning_goes_on_from_the_solution(tiny_yaml: Path) -> None:
    fit = "{epochs: 1, optimizer: {learning_rate: 1e-9}}"
    finished, _ = ran(tiny_yaml, *LINEAR, f"stages=[{SOLVE}, {fit}]")
    assert [(row["stage"], row["epoch"]) for row in finished.epochs] == [("probe", "0"), ("fine-tune", "1")]
    losses = [float(row["val_loss"]) for row in finished.epochs]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert finished.state["stages"][1]["trained_variables"].keys() >= {"conv1/kernel", "logits/kernel"}


def test_a_stage_that_made_it_worse_is_put_back_and_said_so(tiny_yaml: Path) -> None:
    ruin = "{epochs: 2, optimizer: {learning_rate: 0.5}, revert_unless_better: true}"
    finished, shown = ran(tiny_yaml, *LINEAR, f"stages=[{SOLVE}, {ruin}]")
    alone, _ = ran(tiny_yaml, *LINEAR, f"stages=[{SOLVE}]")
    for array, expected in zip(saved_dense(finished), saved_dense(alone), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert finished.metrics["valid"] == alone.metrics["valid"]
    record = finished.state["stages"][1]["revert"]
    assert record["reverted"]
    assert record["before"] == pytest.approx(finished.metrics["valid"]["log_loss"]["value"], abs=1e-6)
    sentence = (
        f"fine-tune did not show that it beats probe on the log loss of {record['photos']} validation photos "
        f"({record['after']:.4f} against {record['before']:.4f}, difference between {record['low']:+.4f} and {record['high']:+.4f}): "
        "probe is kept."
    )
    assert sentence in shown
    assert finished.metrics["notes"] == [sentence]
    assert sentence in " ".join(summarise_run(finished.path))
    assert finished.metrics["last_epoch"]["stage"] == "probe"
    assert len(finished.epochs) == 3  # the log keeps what was tried


def test_a_stage_that_made_it_better_stays(tiny_yaml: Path) -> None:
    settings = (*LINEAR, "stages=[{kind: solve, penalty: 0.1, revert_unless_better: true}]")
    finished, shown = ran(tiny_yaml, *settings)
    record = finished.state["stages"][0]["revert"]
    assert not record["reverted"]
    assert record["after"] < record["before"]
    assert finished.metrics["notes"] == []
    assert f"probe beat the untrained head on the log loss of {record['photos']} validation photos" in shown


TRIED = "{epochs: 25, freeze: {name: all}, optimizer: {name: adamw, learning_rate: 0.2}, cross_fit: 4}"


@pytest.mark.parametrize("cache", ["{mode: off}", pytest.param("{mode: exact}", marks=pytest.mark.slow)])
def test_a_stage_that_pays_on_photos_left_out_is_run_on_all(tiny_yaml: Path, cache: str) -> None:
    settings = (*LINEAR, f"cache={cache}", f"stages=[{{kind: solve, penalty: 1000}}, {TRIED}]")
    finished, shown = ran(tiny_yaml, *settings)
    record = finished.state["stages"][1]["revert"]
    assert not record["reverted"], record
    assert record["photos"] == finished.metrics["train"]["photos"]
    assert record["high"] < 0
    assert "tried on fold 4 of 4" in shown
    assert len(finished.epochs) == 26
    alone, _ = ran(tiny_yaml, *settings[:-1], settings[-1].replace(", cross_fit: 4", ""))
    assert finished.metrics["valid"] == alone.metrics["valid"], "trying leaves nothing behind"


def test_a_stage_that_does_not_pay_on_photos_left_out_is_not_run(tiny_yaml: Path) -> None:
    solve = "{kind: solve, penalty: 0.01, mirror: true}"
    ruin = "{epochs: 2, optimizer: {learning_rate: 0.5}, interpolate: 0.5, cross_fit: 3}"
    augmented = [*LINEAR, "augment=[{name: flip}]", "cache={mode: bank, views: 2}"]
    finished, shown = ran(tiny_yaml, *augmented, f"stages=[{solve}, {ruin}]")
    record = finished.state["stages"][1]["revert"]
    assert record["reverted"]
    assert record["photos"] < finished.metrics["train"]["photos"], "the first fold was enough"
    assert finished.metrics["notes"] == [revert_sentence("fine-tune", "probe", record)]
    assert [row["stage"] for row in finished.epochs] == ["probe"]
    alone, _ = ran(tiny_yaml, *augmented, f"stages=[{solve}]")
    assert finished.metrics["valid"] == alone.metrics["valid"]
    assert "tried on fold 1 of 3" in shown
    said = (
        r"so far: [\d.]+ % \(\d+ to \d+ %\) of \d+ validation photos right; fine-tune goes on for at most about \d+ s"
    )
    assert re.search(said, shown)
    flipped, _ = ran(tiny_yaml, *augmented, "evaluate.flip=true", f"stages=[{solve}, {ruin}]")
    before = flipped.state["stages"][1]["revert"]["before"]
    assert before != pytest.approx(record["before"]), "answers of photos and their mirror images, as they are scored"


@pytest.mark.parametrize(
    ("stages", "problem"),
    [
        ("{epochs: 1, cross_fit: 2}", "every stage before it must be of kind solve"),
        ("{epochs: 1}, {epochs: 1, cross_fit: 2}", "every stage before it must be of kind solve"),
        (SOLVE + ", {epochs: 1, cross_fit: 2, revert_unless_better: true}", "leave one out"),
    ],
)
def test_trying_a_stage_first_needs_a_solved_one_before_it(tiny_yaml: Path, stages: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        prepare(tiny_yaml, settings=[*LINEAR, f"stages=[{stages}]"])


def test_a_verdict_of_one_photo_has_no_interval() -> None:
    verdict = judge(np.array([0.5]), np.array([0.1]))
    assert not verdict.is_better
    hardly = judge(np.full(50, 0.0009), np.full(50, 0.0001))
    assert hardly.high < 0
    assert not hardly.has_gained
    assert not hardly.is_better
    assert "too few photos" in verdict.words()


STOP = """
from finetunekit import hookimpl
@hookimpl
def after_epoch(row, run_path):
    if row["epoch"] == {epoch} and not (run_path / "stopped").exists():
        (run_path / "stopped").touch()
        raise KeyboardInterrupt
"""


@pytest.mark.parametrize("epoch", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_killed_after_the_probe_or_while_it_is_beaten_ends_as_if_it_had_not_been(
    tiny_yaml: Path, epoch: int
) -> None:
    ruin = "{epochs: 2, optimizer: {learning_rate: 0.5}, revert_unless_better: true}"
    settings = (*LINEAR, f"stages=[{SOLVE}, {ruin}]", "save.h5=false")
    whole, _ = ran(tiny_yaml, *settings)
    plugin = tiny_yaml.parent / "stop.py"
    plugin.write_text(STOP.format(epoch=epoch), encoding="utf-8")
    text = tiny_yaml.read_text(encoding="utf-8").replace("plugins: [", f"plugins: [{plugin}, ")
    tiny_yaml.write_text(text, encoding="utf-8")
    quiet = Progress(is_quiet=True)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_yaml, settings=settings, out=tiny_yaml.parent / "killed", progress=quiet)
    (path,) = (tiny_yaml.parent / "killed").iterdir()
    resumed = FinishedRun(resume(path, progress=quiet).path)
    assert [row["epoch"] for row in resumed.epochs] == ["0", "1", "2"]
    for array, expected in zip(saved_dense(resumed), saved_dense(whole), strict=True):
        np.testing.assert_array_equal(array, expected)
    for key in ("solve", "revert"):
        stage = 0 if key == "solve" else 1
        assert resumed.state["stages"][stage][key] == whole.state["stages"][stage][key]


class _Variable:
    def __init__(self, value: float) -> None:
        self.value = np.array([value])

    def numpy(self) -> Any:
        return self.value

    def assign(self, value: Any) -> None:
        self.value = value.copy()


class _Network:
    """Answers for photos of two classes so that their log losses are as given."""

    def __init__(self, *losses: float) -> None:
        self.losses = losses

    def predict(self, photos: DecodedPhotos, what: str) -> Any:
        return np.array([[0.0, np.log(np.expm1(loss))] for loss in self.losses], np.float32)


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        ((0.4, 0.41, 0.39, 0.4), 7.0),
        ((0.5, 0.5, 0.5, 0.5), 1.0),
        ((0.01, 0.6, 0.6, 0.6), 1.0),  # lower in the mean, by one photo alone
        ((float("nan"), 0.1, 0.1, 0.1), 1.0),
    ],
)
def test_only_a_loss_shown_to_be_lower_earns_the_new_weights_and_a_resumed_stage_agrees(
    after: tuple[float, ...], kept: float
) -> None:
    variable, network = _Variable(1.0), _Network(0.5, 0.5, 0.5, 0.5)
    photos = DecodedPhotos(np.zeros((4, 1, 1, 3), np.uint8), np.zeros(4, np.int64), ("a", "b", "c", "d"))
    validator = Validator(network, photos, None, 0)
    record = StageRecord(RunRecord(Path(), {"stages": [{}]}, pending={}), 0, "b", "a", Progress(is_quiet=True))
    first = RevertUnlessBetter([variable], validator, record)
    variable.assign(np.array([7.0]))
    network.losses = after
    resumed = RevertUnlessBetter([variable], validator, record)
    resumed.restore(first.state())
    resumed.finish()
    assert variable.value.tolist() == [kept]
    assert record.run.state["stages"][0]["revert"]["reverted"] == (kept == 1.0)


def test_the_row_that_counts_is_that_of_the_weights_that_are_saved() -> None:
    rows = [{"epoch": i} for i in range(1, 6)]
    reverted = {**Verdict(3, 0.1, 0.2, 0.05, 0.15).record(), "on": "validation photos"}
    stages = [
        {"name": "a", "first_epoch": 0},
        {"name": "b", "first_epoch": 1, "revert": reverted},
        {"name": "c", "first_epoch": 3, "revert": reverted},
    ]
    assert [row["epoch"] for row in kept_rows(rows, stages)] == [1]
    stages[2]["revert"] = {**reverted, "reverted": False}
    assert len(kept_rows(rows, stages)) == 5
    assert revert_notes(stages) == [revert_sentence("b", "a", reverted)]


def test_a_solve_stage_read_back_from_its_run_is_the_same() -> None:
    stage = SolveStage(kind="solve")
    assert (stage.name, stage.epochs) == ("probe", 0)
    assert SolveStage.model_validate_json(json.dumps(stage.model_dump(mode="json"))) == stage


def test_a_plan_shows_what_a_stage_reads_and_nothing_else(tiny_yaml: Path) -> None:
    plan, _ = prepare(tiny_yaml, settings=[*LINEAR, f"stages=[{SOLVE}, {{epochs: 1}}]"])
    lines = list(plan_lines(plan))
    solve, fit = lines.index("stage 1: probe"), lines.index("stage 2: fine-tune")
    shown = [line.split(":")[0].strip() for line in lines[solve + 1 : fit]]
    assert shown == ["kind", "solver", "penalty", "folds", "repeats", "mirror", "features", "revert_unless_better"]
    assert not any(line.strip().startswith(("solver", "penalty", "folds")) for line in lines[fit:])


def test_a_head_without_a_last_dense_layer_is_refused(tiny_yaml: Path) -> None:
    plugin = tiny_yaml.parent / "odd.py"
    plugin.write_text(
        "from finetunekit import hookimpl\n\n\n"
        "def build(options, features, num_classes):\n    import keras\n\n"
        "    x = keras.layers.Conv2D(num_classes, 1, name='last')(features.tensor)\n"
        "    return keras.layers.GlobalAveragePooling2D(dtype='float32')(x)\n\n\n"
        "@hookimpl\ndef register_heads(register):\n    register('odd', build)\n",
        encoding="utf-8",
    )
    tiny = Path(__file__).parents[1] / "tiny_plugin.py"
    settings = (f"plugins=[{tiny}, {plugin}]", "head=null", "head={name: odd}", f"stages=[{SOLVE}]")
    with pytest.raises(ConfigError, match=r"stages\[0\].kind: solve writes a Dense layer .* GlobalAveragePooling2D"):
        ran(tiny_yaml, *settings)


def test_a_head_with_other_weights_that_no_stage_trains_is_refused(tiny_yaml: Path) -> None:
    settings = ["head={name: gap_dense, units: 4}", f"stages=[{SOLVE}]"]
    with pytest.raises(
        ConfigError, match=r"the 2 other arrays of weights of head 'gap_dense'.* would stay as they were"
    ):
        ran(tiny_yaml, *settings)
    asked = [part for setting in settings for part in ("--set", setting)]
    planned = CliRunner().invoke(main, ["plan", str(tiny_yaml), *asked, "--layers"])
    assert planned.exit_code == 2
    assert "Add a stage of kind: fit, which trains the whole head." in planned.stderr


def test_another_contract_than_the_backbones_is_said_and_measured(tiny_yaml: Path) -> None:
    finished, shown = ran(
        tiny_yaml, *LINEAR, f"weights={{mode: pretrained, path: {write_tiny_weights(tiny_yaml)}}}", f"stages=[{SOLVE}]"
    )
    warning = "pixels.contract: zero_to_one feeds RGB / 255; Tiny was pretrained on RGB / 127.5 - 1, which contract: backbone feeds."
    assert f"warning: {warning}" in shown
    measured = finished.metrics["pixel_check"]
    assert (measured["train_photos"], measured["valid_photos"]) == (12, 6)
    for key, contract in (("as_configured", "RGB / 255"), ("as_pretrained", "RGB / 127.5 - 1")):
        score = measured[key]
        assert score["contract"] == contract
        assert score["accuracy"] == score["correct"] / 6
        assert f"{contract}: {score['correct']} of 6 validation photos right" in shown
    assert measured["as_configured"]["log_loss"] != measured["as_pretrained"]["log_loss"]
    plan, _ = prepare(tiny_yaml)
    assert f"  warning: {warning}" in list(plan_lines(plan))


def test_nothing_is_measured_where_nothing_can_be_or_is_asked_for(tiny_yaml: Path) -> None:
    random, shown = ran(tiny_yaml, *LINEAR, f"stages=[{SOLVE}]")
    assert random.metrics["pixel_check"] is None
    assert "Tiny was pretrained on" in shown
    weights = f"weights={{mode: pretrained, path: {write_tiny_weights(tiny_yaml)}}}"
    off, _ = ran(tiny_yaml, *LINEAR, weights, f"stages=[{SOLVE}]", "pixels.check_photos=0")
    assert off.metrics["pixel_check"] is None
    own, shown = ran(tiny_yaml, *LINEAR, weights, f"stages=[{SOLVE}]", "pixels.contract=backbone")
    assert own.metrics["pixel_check"] is None
    assert "was pretrained on" not in shown


def test_a_budget_takes_the_same_share_of_every_class(tiny_yaml: Path) -> None:
    finished, _ = ran(
        tiny_yaml,
        *LINEAR,
        f"weights={{mode: pretrained, path: {write_tiny_weights(tiny_yaml)}}}",
        f"stages=[{SOLVE}]",
        "pixels.check_photos=9",
    )
    measured = finished.metrics["pixel_check"]
    assert (measured["train_photos"], measured["valid_photos"]) == (6, 3)


def written(tiny_yaml: Path, table: Path | None = None, *settings: str) -> Path:
    """Features of the preset's photos, as it feeds them; of a table's where there is one."""
    pytest.importorskip("pyarrow")
    from finetunekit.evaluation.shards.drive import write_shards
    from finetunekit.evaluation.shards.jobs import features_job
    from finetunekit.evaluation.shards.photos import labelled_photos

    quiet, out = Progress(is_quiet=True), tiny_yaml.parent / f"features-{len(settings)}-{table is None}"
    plan, _ = prepare(tiny_yaml)
    fed = [f"plugins=[{plan.plugin_files[0].path}]", "weights.mode=random", "pixels={size_px: 8, resize: nearest}"]
    fed += ["pixels.fit=stretch", "pixels.contract=zero_to_one"]
    job = features_job("tiny", settings=[*fed, *settings], dtype="float32")
    options = ("split=false",) if table else ()
    photos = labelled_photos(str(table or tiny_yaml.parent / "photos"), options, quiet, is_unlabelled=False)
    write_shards(job, photos, out, quiet, shard_photos=10)
    return out


def test_written_features_are_solved_as_the_photos_are_but_for_those_that_the_run_is_tested_on(
    tiny_yaml: Path, photos: Path
) -> None:
    """They lie on a storage of fsspec's that lives in this process."""
    from finetunekit.data.listing import index_listing, list_photos

    storage = pytest.importorskip("fsspec").filesystem("memory")
    table = tiny_yaml.parent / "all.csv"
    named = [f"{path.relative_to(photos.parent)},{path.parent.name}" for path in sorted(photos.rglob("*.png"))]
    table.write_text("\n".join(["path,label", *named]) + "\n")  # which knows of no splits
    storage.put(str(written(tiny_yaml, table)), "/solved", recursive=True)
    stage = "{kind: solve, penalty: 0.01, features: 'memory://solved'}"
    finished, shown = ran(tiny_yaml, *LINEAR, f"stages=[{stage}]")
    storage.rm("/solved", recursive=True)
    assert "reading 3 shards of memory://solved over the network, " in shown
    assert "12 rows of photos that it validates or tests on left out" in shown
    record = finished.state["stages"][0]["solve"]
    assert record["features"]["folder"] == "memory://solved"
    assert (record["features"]["rows"], record["features"]["left_out"], record["photos"]) == (12, 12, 12)
    quiet = Progress(is_quiet=True)
    plan, _ = prepare(tiny_yaml, settings=LINEAR)
    probe = open_probe(plan, index_listing(plan, list_photos(plan, quiet), quiet), quiet)
    fit = fit_linear(*probe.split("train"), 3, penalty=0.01, solver="logistic")
    for found, expected in zip(saved_dense(finished), (fit.kernel, fit.bias), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_written_features_that_lie_elsewhere_are_read_there(tiny_yaml: Path) -> None:
    asked, here = tiny_yaml.parent / "lite0", tiny_yaml.parent / "elsewhere"
    stages = "stages=[{kind: solve, features: lite0}, {kind: solve, features: 's3://bucket/lite0'}]"
    plan, _ = prepare(tiny_yaml, settings=[*LINEAR, stages])
    moved = MovedInputs(tiny_yaml.parent, {asked: here}).here(plan)
    assert [stage.config.features for stage in moved.stages] == [str(here), "s3://bucket/lite0"]  # type: ignore[union-attr]
    assert moved.config.stages == plan.config.stages


def test_features_of_another_network_or_other_classes_are_refused(tiny_yaml: Path, photos: Path) -> None:
    stage = f"{{kind: solve, penalty: 0.01, features: {written(tiny_yaml, None, 'pixels.resize=bilinear')}}}"
    with pytest.raises(RunError, match=r"features of another network \(pixels: .*bilinear.* there, .*nearest.* here\)"):
        ran(tiny_yaml, *LINEAR, f"stages=[{stage}]")
    with pytest.raises(ConfigError, match="mirror is of photos, and with `features` none are looked at"):
        prepare(tiny_yaml, settings=["stages=[{kind: solve, mirror: true, features: x}]"])
    with pytest.raises(ConfigError, match="an address with a password is refused"):
        prepare(tiny_yaml, settings=["stages=[{kind: solve, features: 's3://me:secret@bucket/x'}]"])
    with pytest.raises(ConfigError, match="holds no features"):
        ran(tiny_yaml, *LINEAR, f"stages=[{{kind: solve, features: {photos}}}]")
