"""The bench of peers: what it reads, scores and compares, on numbers made by hand. No peer runs here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_peers import AUGMENTED, Bench, show_task
from bench_recipes import Cell, kept_file
from plain_probe import describe_answers, read_table


def test_a_table_is_read_by_class_and_split(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("file_name,label,split\nb.jpg,bee,train\na.jpg,ant,train\nc.jpg,bee,test\n", encoding="utf-8")
    names, splits = read_table(table)
    assert names == ["ant", "bee"]
    assert (splits["train"].paths, splits["train"].labels.tolist()) == ([Path("b.jpg"), Path("a.jpg")], [1, 0])
    assert (splits["test"].labels.tolist(), splits["valid"].paths) == ([1], [])


def test_answers_are_scored() -> None:
    scores = describe_answers(np.array([[0.5, 0.5], [0.1, 0.9], [0.8, 0.2]]), np.array([0, 1, 1]))
    assert (scores["right"], scores["photos"]) == (2, 3)
    assert scores["log_loss"] == pytest.approx(-(math.log(0.5) + math.log(0.9) + math.log(0.2)) / 3)


def report(log_loss: float, **others: Any) -> dict[str, Any]:
    scores = {"right": 9, "photos": 10, "accuracy": 0.9, "log_loss": log_loss}
    return {**scores, "saved_s": 10.0, "cpu_s": 20.0, "peak_bytes": 10**9, **others}


def test_a_bench_compares_the_resplits_that_both_have(tmp_path: Path) -> None:
    bench = Bench({"bees": tmp_path}, tmp_path, None)
    for resplit, recipe, log_loss in ((0, "fast", 0.1), (1, "fast", 0.1), (0, "fastai", 0.3), (0, "timm-probe", 0.2)):
        path = bench.kept(Cell("bees", "per20", resplit, recipe))
        path.parent.mkdir(exist_ok=True)
        augmented = {"augmented": report(0.4)} if recipe == "fastai" else {"features_apart": 2e-6}
        path.write_text(json.dumps(report(log_loss, **augmented)), encoding="utf-8")
    names = ("timm-probe", "fastai", AUGMENTED, "keras-guide", "fast")
    of = {name: bench.reports("bees", "per20", name, (0, 1)) for name in names}
    lines = list(show_task(of))
    assert [line.split()[0] for line in lines[:4]] == ["timm-probe", "fastai", AUGMENTED, "fast"]
    assert "n 2   right 18/20" in lines[3]
    assert [line.split(":")[0].strip() for line in lines[4:7]] == [
        "fast minus timm-probe, n 1",
        "fast minus fastai, n 1",
        f"fast minus {AUGMENTED}, n 1",
    ]
    assert "-0.1000, 0.50 x, higher in 0" in lines[4]
    assert lines[7].endswith("2.0e-06 of the largest")


def test_a_changed_preset_is_run_anew(tmp_path: Path) -> None:
    cell = Cell("bees", "per20", 0, "fast")
    assert Bench({}, tmp_path, None).kept(cell) == kept_file(cell, tmp_path)
    assert kept_file(cell, tmp_path) != kept_file(Cell("bees", "per20", 0, "best"), tmp_path)


def test_every_array_of_timms_network_has_its_own() -> None:
    timm = pytest.importorskip("timm")
    plain_timm = pytest.importorskip("plain_timm")
    from finetunekit_efficientnet_lite.network import LITE0, build_efficientnet_lite

    ours = {w.path: tuple(w.shape) for w in build_efficientnet_lite(LITE0, 32).model.weights}
    for name, value in timm.create_model(plain_timm.NETWORK).state_dict().items():
        if not name.endswith("num_batches_tracked") and not name.startswith("classifier"):
            array = np.zeros(ours.pop(plain_timm.stored_name(name)), np.float32)
            assert plain_timm.convert_array(plain_timm.stored_name(name), array).shape == value.shape
    assert not ours
