"""What a run says to do now: ranked steps with commands, and the learning curve behind "more photos"."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetunekit.config.plan import Plan
from finetunekit.config.planning import prepare
from finetunekit.data.index import IndexedPhoto, PhotoIndex
from finetunekit.engine.summary import step_lines
from finetunekit.evaluation.next_steps import next_steps
from finetunekit.models.linear_probe.learning_curve import LearningCurve, measure_learning_curve
from finetunekit.plugins.host import load_plugins
from finetunekit.statistics import Interval

CLASSES = ("ant", "bee")
RUN = Path("runs/insects-1")


def plan(preset: str = "fast") -> Plan:
    return prepare(preset, settings=["data.root=insects"])[0]


def index(stand_in: str | None = None) -> PhotoIndex:
    photos = [
        IndexedPhoto(Path(f"insects/{label}/{i}.jpg"), f"{label}/{i}.jpg", label, split, None, f"{label}{i}", 9, 9)
        for split in ("train", "test")
        for label in CLASSES
        for i in range(20)
    ]
    return PhotoIndex(CLASSES, tuple(photos), Path("insects"), stand_in, ())


def answers(*sure_of_bee: float) -> list[dict[str, str]]:
    """Test photos of ants, and how sure the network is that each is a bee."""
    return [
        {"path": f"ant/{i}.jpg", "sha256": f"ant{i}", "split": "test", "true": "ant",
         "predicted": "bee" if p > 0.5 else "ant", "p_ant": str(1 - p), "p_bee": str(p)}
        for i, p in enumerate(sure_of_bee)
    ]  # fmt: skip


def accuracy(rows: list[dict[str, str]]) -> dict[str, Any]:
    right = sum(row["true"] == row["predicted"] for row in rows)
    return {"successes": right, "photos": len(rows), "interval": {"low": 0.8, "high": 0.97}}


def curve(slope: float = 0.5, low: float = 0.3, wrong: tuple[int, int] = (2, 8), suspects: int = 0) -> LearningCurve:
    labels = np.repeat([0, 1], 20)
    sure = np.where(np.arange(40) < suspects, 0.02, 0.9)
    probabilities = np.stack([np.where(labels == 0, sure, 1 - sure), np.where(labels == 0, 1 - sure, sure)], axis=1)
    interval = Interval(low, 2 * slope - low, 0.95, method="test")
    return LearningCurve((8, 16, 32), (0.3, 0.2, 0.15), slope, interval, wrong, (20, 20), probabilities, np.arange(40))


def steps(
    rows: list[dict[str, str]],
    found: LearningCurve | None,
    stand_in: str | None = None,
    baselines: tuple[dict[str, Any], ...] = (),
    preset: str = "fast",
) -> list[Mapping[str, Any]]:
    specs = {name: entry.spec for name, entry in load_plugins(print).registries["backbone"].items() if entry.spec}
    made = next_steps(plan(preset), index(stand_in), rows, accuracy(rows), baselines, found, specs, RUN)
    made_steps: list[Mapping[str, Any]] = made["steps"]
    return made_steps


def test_where_nothing_is_wrong_there_is_nothing_to_do_but_ship_it() -> None:
    (only,) = steps(answers(0.1, 0.2), curve(wrong=(0, 0)))
    assert only["what"].startswith("Nothing: no test photo was wrong")
    assert only["command"] == "finetunekit export runs/insects-1 --to litert"


def test_steps_are_ranked_and_each_has_its_command() -> None:
    found = steps(answers(0.1, 0.55, 0.95, 0.45), curve(suspects=2))
    assert [step["kind"] for step in found] == ["labels", "photos", "backbone", "boundary", "ship"]
    labels, photos, backbone, boundary, ship = found
    assert [photo["path"] for photo in labels["photos"]] == ["ant/0.jpg", "ant/1.jpg", "ant/2.jpg"]
    assert "3 photos whose label may be wrong: ant/0.jpg (labelled ant, looks like bee)" in labels["what"]
    assert labels["command"] == "finetunekit data audit insects --network --html audit.html"
    assert "about 60 more of 'bee'" in photos["what"]  # four times the photos halve what falls as their square root
    assert "8 of 20 'bee'" in photos["what"]
    assert backbone["command"].startswith("finetunekit probe insects --backbones efficientnet_lite0,efficientnet_lite1")
    assert "ant/3.jpg (ant, rightly, but 55 % sure)" in boundary["what"]
    assert "80 to 97 % right is good enough" in ship["what"]


def test_joined_backbones_are_measured_by_the_better_of_them() -> None:
    (backbone, _) = steps(answers(0.1, 0.8), None, preset="small-data")
    assert "against EfficientNet-Lite2 (" in backbone["what"]
    own, *others = backbone["command"].split("--backbones ")[1].split(" ")[0].split(",")
    assert own == "efficientnet_lite0+efficientnet_lite2"
    assert others
    assert not {*others} & {*own.split("+")}


def test_more_photos_are_no_advice_where_the_curve_does_not_show_it() -> None:
    kinds = [step["kind"] for step in steps(answers(0.1, 0.8), curve(low=-0.1))]
    assert kinds == ["backbone", "ship"]
    assert "More photos like these were not shown to help." in steps(answers(0.1, 0.8), curve(low=-0.1))[0]["what"]
    assert "photos" not in [step["kind"] for step in steps(answers(0.8), curve(wrong=(1, 2)))]  # luck
    assert "photos" not in [
        step["kind"] for step in steps(answers(0.8), curve(slope=0.1, low=0.05))
    ]  # 1000 times as many
    assert [step["kind"] for step in steps(answers(0.8), None)] == ["backbone", "ship"]


def baseline(name: str, difference: float, *, is_told_apart: bool = True) -> dict[str, Any]:
    against = {"difference": difference, "is_told_apart": is_told_apart}
    return {
        "name": name,
        "title": f"{name}, frozen features",
        "accuracy": {"value": 0.6 - difference},
        "against": against,
    }


def test_a_simpler_method_that_did_better_comes_first_and_the_run_is_not_shipped() -> None:
    beaten = (baseline("majority", 0.4), baseline("probe", -0.2), baseline("probe_own", -0.3), {"name": "head"})
    found = steps(answers(0.1, 0.8), None, baselines=beaten)
    assert [step["kind"] for step in found] == ["baseline", "backbone"]
    assert "by 30.0 points" in found[0]["what"]
    assert found[0]["command"] == "finetunekit run runs/insects-1/config.yaml --set pixels.contract=backbone"
    (first, *_) = steps(answers(0.1, 0.8), None, baselines=beaten[:2])
    assert first["command"] == "finetunekit run insects --recipe fast"
    unclear = steps(answers(0.1, 0.8), None, baselines=(baseline("probe", -0.1, is_told_apart=False),))
    assert [step["kind"] for step in unclear] == ["backbone", "ship"]


def test_copies_in_training_and_test_are_left_out_before_anything_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    RUN.mkdir(parents=True)
    found = {"kind": "leak", "severity": "warning", "title": "2 photos are there as 4 files, in more than one split"}
    for severity, kinds in (("warning", ["leaks"]), ("note", ["ship"])):
        (RUN / "audit.json").write_text(json.dumps({"findings": [{**found, "severity": severity}]}), encoding="utf-8")
        made = steps(answers(0.1, 0.2), curve(wrong=(0, 0)))
        assert [step["kind"] for step in made] == kinds
    (RUN / "audit.json").write_text(json.dumps({"findings": [found]}), encoding="utf-8")
    (leak,) = steps(answers(0.1, 0.2), curve(wrong=(0, 0)))
    assert leak["command"] == "finetunekit data audit insects --fix exclude.csv"
    assert "--set 'data.exclude=[exclude.csv]'" in leak["what"]


def test_a_stand_in_asks_for_photos_of_ones_own() -> None:
    (only,) = steps(answers(0.9), curve(), stand_in="drawn")
    assert only["command"] == "finetunekit run PHOTOS/"


def test_photos_that_need_options_are_named_by_the_runs_configuration() -> None:
    made = dataclasses.replace(
        plan(), config=prepare("fast", settings=["data.root=a.csv", "data.source=table"])[0].config
    )
    rows = answers(0.95)
    (step, *_) = next_steps(made, index(), rows, accuracy(rows), (), None, {}, RUN)["steps"]
    assert "runs/insects-1/config.yaml" in step["command"] or "a.csv" in step["command"]


def test_in_a_terminal_commands_stand_alone_and_whole() -> None:
    lines = step_lines(steps(answers(0.1, 0.55, 0.95), curve(suspects=2)))
    assert lines[0] == "What to do now:"
    assert "     finetunekit data audit insects --network --html audit.html" in lines
    assert all(len(line) <= 80 for line in lines if not line.strip().startswith("finetunekit "))


# ---- the curve -------------------------------------------------------------------------------------------------------------------


def test_a_task_that_can_be_learnt_from_more_photos_shows_it_and_one_that_cannot_does_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 50)
    signal = rng.normal(0, 1, (3, 40))
    learnable = signal[labels] * 0.5 + rng.normal(0, 1, (150, 40))
    found = measure_learning_curve(learnable, labels, 3, penalty=0.01)
    assert found.is_rising
    assert found.errors[0] > found.errors[1] > found.errors[2]
    times, least, most = found.times_to_halve()
    assert 1 < least < times < most
    assert found.photos == pytest.approx((30, 60, 120), abs=1)
    assert sum(found.of) == 150
    noise = measure_learning_curve(rng.normal(0, 1, (150, 40)), labels, 3, penalty=0.01)
    assert not noise.is_rising
    assert noise.times_to_halve()[2] == float("inf")


def test_copies_stay_on_one_side_and_the_curve_is_the_same_twice() -> None:
    rng = np.random.default_rng(1)
    features, labels = np.repeat(rng.normal(0, 1, (30, 8)), 2, axis=0), np.repeat(np.tile([0, 1], 15), 2)
    groups = [str(i // 2) for i in range(60)]
    apart = measure_learning_curve(features, labels, 2, penalty=0.1, groups=groups)
    assert apart.errors == measure_learning_curve(features, labels, 2, penalty=0.1, groups=groups).errors
    assert apart.errors[-1] > measure_learning_curve(features, labels, 2, penalty=0.1).errors[-1]
