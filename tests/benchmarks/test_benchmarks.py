"""The benches are fair and correct: what the opponent draws, what is extrapolated, what the evidence decides. Nothing is timed here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import conv_rates
import evidence
import evidence_table
import keras
import numpy as np
import pytest
from common import DRAWS, PRESET, Epoch, Job, parse_seeds, run_child
from job_table import MODES
from plain_draws import expected_draws, possible_draws

import finetunekit as ftk
from finetunekit.config.planning import prepare
from finetunekit.system.progress import Progress
from finetunekit.training.sampling import count_visits

pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)
SIZE_PX, BATCH_SIZE = 32, 5


def flows_of(photos: Path) -> dict[str, Any]:
    from plain_keras import open_flows

    return open_flows(photos, seed=0, size_px=SIZE_PX, batch_size=BATCH_SIZE)


# ---- the opponent ----------------------------------------------------------------------------------------------------


def test_passes_run_on_across_epochs_as_in_the_experiment() -> None:
    train = expected_draws(600, 32, 50, 50)
    assert train[:2] == [1584, 1576]
    assert set(train) <= {1576, 1584, 1592}
    assert possible_draws(200, 32, 12) == {336, 360}
    assert sum(train) / 50 == pytest.approx(DRAWS, rel=0.005)


# Keras' legacy generator reaches scipy by an old name
@pytest.mark.filterwarnings("ignore:Please import `affine_transform`:DeprecationWarning")
@pytest.mark.slow
def test_the_plain_script_does_the_whole_work(photos: Path, tmp_path: Path) -> None:
    from plain_keras import build_model, prediction_rows, run_script

    keras.utils.set_random_seed(0)  # among the starts of so narrow a head are some whose every hidden unit stays dark
    flows = flows_of(photos)
    model = build_model(3, None, SIZE_PX)
    before = {w.path: w.numpy() for w in model.weights}
    result = run_script(model, flows, tmp_path, epochs=2, steps=5, validation_steps=3, verbose=0)
    # 12 training photos in batches of 5, 5, 2; 6 validation photos in 5, 1
    assert [e.draws for e in result.epochs] == [22, 19]
    assert {e.validation_draws for e in result.epochs} <= {11, 7}
    assert result.test_photos == 6
    moved = {w.path for w in model.weights if not np.array_equal(w.numpy(), before[w.path])}
    names = [layer.name for layer in model.layers if layer.weights and layer.name.startswith(("block5", "dense"))]
    assert {path.split("/")[0] for path in moved} == {*names}
    assert len(names) == 5
    assert {p.name for p in tmp_path.iterdir()} >= {"model.json", "summary.txt", "epochs.csv", "model.weights.h5"}

    rows = prediction_rows(model, flows_of(photos)["test"])
    assert [row["path"] for row in rows] == sorted(p.relative_to(photos).as_posix() for p in photos.glob("test/*/*"))
    correct = sum(row["true"] == row["predicted"] for row in rows)
    assert correct / 6 == pytest.approx(result.test_accuracy)
    assert all(sum(float(row[f"p_{c}"]) for c in ("blue", "green", "red")) == pytest.approx(1) for row in rows)


def test_a_script_that_draws_less_is_refused(photos: Path) -> None:
    from plain_watch import check_draws

    flows = flows_of(photos)
    whole, once = Epoch(1.0, 1.0, 17, 11), Epoch(1.0, 1.0, 12, 6)
    check_draws([whole], flows["train"], flows["valid"], 4, 3)
    with pytest.raises(AssertionError, match=r"training draws \[12\], expected \[17\]: this is another experiment"):
        check_draws([once], flows["train"], flows["valid"], 4, 3)
    with pytest.raises(AssertionError, match=r"validation draws \[6\], possible \[7, 11\]"):
        check_draws([Epoch(1.0, 1.0, 17, 6)], flows["train"], flows["valid"], 4, 3)


def test_the_opponent_sees_the_pixels_of_the_experiment(photos: Path) -> None:
    from PIL import Image

    test = flows_of(photos)["test"]
    first = np.asarray(Image.open(photos / test.filenames[0].join(("test/", ""))).resize((SIZE_PX, SIZE_PX), 0))
    np.testing.assert_allclose(next(test)[0][0], first / 255, atol=1e-6)


# ---- the job ---------------------------------------------------------------------------------------------------------


def test_what_is_paid_once_is_not_multiplied() -> None:
    job = Job(100.0, (Epoch(30.0, 5.0, 100, 36), Epoch(10.0, 2.0, 100, 36)), 20.0, 8.0, 1)
    assert job.image_s == pytest.approx(0.1)
    assert job.once_s == pytest.approx(100 - 2 * (10 + 2))
    assert job.rest_s == pytest.approx(job.once_s - 28)
    assert job.extrapolate(50, 100) == pytest.approx(76 + 50 * 12)
    assert job.extrapolate(2, 100) == pytest.approx(100)
    assert dataclasses.replace(job, unmade_s=7.0).extrapolate(2, 100) == pytest.approx(107)


def test_a_child_is_weighed_and_its_failure_is_told() -> None:
    child = run_child(
        ["-c", "import json; kept = bytes(50 << 20); print('chat'); print(json.dumps({'kept': len(kept)}))"]
    )
    assert child.report == {"kept": 50 << 20}
    assert child.peak_bytes > 50 << 20
    with pytest.raises(RuntimeError, match=r"ended with 3:\nno photos"):
        run_child(["-c", "import sys; sys.stderr.write('no photos'); sys.exit(3)"])


@pytest.mark.slow
def test_parts_of_our_job_and_a_warm_start(tiny_yaml: Path) -> None:
    from our_job import Watch, report_job

    reports = []
    for _ in range(2):
        watch = Watch()
        settings = ["cache.mode=bank", "cache.views=3"]
        reports.append(
            report_job(ftk.run(str(tiny_yaml), settings=settings, out=tiny_yaml.parent, progress=watch), watch)
        )
    cold, warm = reports
    assert len(cold["view_s"]) == 3
    assert cold["extracted"] == 3 * 12 + 12 + 6 + 6  # views, then train, valid and test photos as they are
    assert cold["extraction_s"] > 0
    assert (warm["extracted"], warm["extraction_s"]) == (0, 0)
    assert [(e["draws"], e["validation_draws"]) for e in cold["epochs"]] == [(30, 9)] * 2
    assert cold["test_log_loss"] == warm["test_log_loss"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_reaches_a_plan(mode: str) -> None:
    config = prepare(str(PRESET), settings=MODES[mode].settings)[0].config
    views = config.cache.views if config.cache.mode == "bank" else None
    assert views == MODES[mode].views


def test_the_arithmetic_is_that_of_vgg16() -> None:
    assert conv_rates.photo_flop("prefix") / 2e9 == pytest.approx(2.71, abs=0.005)
    assert conv_rates.photo_flop("forward") / 2e9 == pytest.approx(2.96, abs=0.01)
    assert conv_rates.photo_flop("train_suffix") / 1e9 == pytest.approx(1.36, abs=0.005)
    rates = {c.name: {"float32": 100.0} for c in (*conv_rates.PREFIX, *conv_rates.SUFFIX)}
    assert conv_rates.limit_s("train_suffix", rates, "float32") == pytest.approx(0.0136, abs=5e-5)


def test_real_and_synthetic_epochs_have_the_same_steps() -> None:
    from bench_input import alternate

    from finetunekit.training.batches import Draws, FeatureFeed, MappedViews

    views = [(np.random.default_rng(v).random((7, 4), np.float32),) for v in range(2)]
    feed = alternate(FeatureFeed(MappedViews(views), np.eye(7, dtype=np.float32), Draws(7, 11, 4, 0, 0)))
    real, synthetic = list(feed.batches(0)), list(feed.batches(1))
    assert [len(b.photos) for b in real] == [len(b.photos) for b in synthetic] == [4, 3, 4]
    assert synthetic[0] is synthetic[2]
    np.testing.assert_array_equal(synthetic[1].x, real[1].x)
    assert not np.array_equal(real[0].x, real[2].x)


# ---- the evidence ----------------------------------------------------------------------------------------------------


def test_seeds_are_read() -> None:
    assert parse_seeds("3") == (0, 1, 2)
    assert parse_seeds("0,4") == (0, 4)
    assert parse_seeds("10-12") == (10, 11, 12)


def trials_of(arms: list[str], photos: Path, preset: Path, *, is_shared: bool = False) -> list[evidence.Trial]:
    return evidence.plan_trials(arms, (0, 1), epochs=2, data=photos, preset=preset, is_shared=is_shared)


def test_arms_share_views_and_fresh_ones_never_come_twice(photos: Path) -> None:
    trials = trials_of(list(evidence.ARMS), photos, PRESET, is_shared=True)
    assert {t.view_seed for t in trials} == {0}
    exact = next(t for t in trials if t.arm == "exact-fp32")
    config = prepare(exact.preset, settings=exact.settings, seed=exact.seed)[0].config
    assert (config.cache.mode, config.cache.views) == ("bank", evidence.FRESH_VIEWS)
    assert max(count_visits(photos=600, draws=1584, seed=s, epoch=50).max() for s in range(10)) <= evidence.FRESH_VIEWS


def test_arms_differ_in_what_their_names_say(photos: Path) -> None:
    for trial in trials_of(list(evidence.ARMS), photos, PRESET):
        config = prepare(trial.preset, settings=trial.settings, seed=trial.seed)[0].config
        assert (config.seed, config.view_seed, config.stages[0].epochs) == (trial.seed, trial.view_seed, 2)
        assert (
            f"{config.cache.mode}{config.cache.views if config.cache.mode == 'bank' else ''}" == trial.arm.split("-")[0]
        )


@pytest.mark.slow
def test_the_evidence_is_resumable_and_decides(tiny_yaml: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "evidence"
    trials = trials_of([evidence_table.REFERENCE, "bank2-fp32"], photos, tiny_yaml)
    for trial in trials:
        run = ftk.run(trial.preset, settings=trial.settings, seed=trial.seed, out=out, progress=QUIET).path
        with (out / evidence.LEDGER).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"trial": dataclasses.asdict(trial), "run": run.name, "seconds": 1.0}) + "\n")
    evidence.run_missing(trials, out)  # nothing is missing, so nothing runs
    scored = tuple(evidence.score_trials(trials, out))
    assert [len(one.content["valid + test"]) for one in scored] == [12] * 4
    text = evidence_table.render_tables(scored, [evidence_table.REFERENCE, "bank2-fp32"], is_shared=False)
    assert text.count("| bank2-fp32 | 2 |") == 2
    assert "not shown (2 pairs)" in text  # 12 photos cannot hold 1.5 points

    ledger = (out / evidence.LEDGER).read_text(encoding="utf-8").splitlines()
    (out / evidence.LEDGER).write_text("\n".join([*ledger[:3], ledger[3][:40]]), encoding="utf-8")
    assert list(evidence.read_ledger(out)) == trials[:3]


def scored_of(seed: int, wrong: list[int], *, arm: str = "bank8-bf16", **config: Any) -> evidence_table.Scored:
    is_right = np.ones(400, bool)
    is_right[wrong] = False
    losses = np.where(is_right, 0.1, 2.0)
    content = tuple(str(i) for i in range(400))
    scopes = evidence_table.SCOPES
    return evidence_table.Scored(
        arm,
        seed,
        60.0,
        dict.fromkeys(scopes, content),
        dict.fromkeys(scopes, is_right),
        dict.fromkeys(scopes, losses),
        config,
    )


def test_equal_arms_pass_and_a_worse_one_does_not() -> None:
    first = [scored_of(seed, [seed, 50, 60]) for seed in range(4)]
    same = evidence_table.suggest_rates(first, first, "test")
    assert same.is_equivalent
    assert same.accuracy_photos.interval.high > 0  # no photo changed sides, and yet the interval is no point
    worse = evidence_table.suggest_rates(first, [scored_of(seed, [seed, *range(50, 65)]) for seed in range(4)], "test")
    assert not worse.is_equivalent
    assert worse.accuracy_photos.difference == pytest.approx(-13 / 400)
    assert evidence_table.suggest_rates(first[:1], first[:1], "test").accuracy_seeds is None
    assert not evidence_table.suggest_rates(first[:1], first[:1], "test").is_equivalent


def test_runs_of_another_experiment_are_refused() -> None:
    runs = [scored_of(0, [], train={"batch_size": 32}), scored_of(1, [], train={"batch_size": 16})]
    with pytest.raises(ValueError, match=r"bank8-bf16, seed 1 differs from bank8-bf16, seed 0 in train"):
        evidence_table.check_comparable(runs)


def test_plain_pytorch_draws_what_the_experiment_draws() -> None:
    torch = pytest.importorskip("torch")
    plain_torch = pytest.importorskip("plain_torch")
    torch.manual_seed(0)
    split = plain_torch.Split(torch.rand(40, 3, 32, 32), torch.arange(40) % 3)
    network = plain_torch.Network(3)
    frozen, trained = network.prefix[0].weight.clone(), network.suffix[0].weight.clone()
    epoch = plain_torch.Job(network, split, split, "float32").epoch(3, 2)
    assert (epoch.draws, epoch.validation_draws) == (32 + 8 + 32, 32 + 8)
    assert torch.equal(network.prefix[0].weight, frozen)
    assert not torch.equal(network.suffix[0].weight, trained)
