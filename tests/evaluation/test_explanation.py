"""Why a run answers so: maps for both first classes, neighbours from the training photos, one page and the same as JSON."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers_plugins import invoke

import finetunekit as ftk
from finetunekit.runs.folder import FEATURES, FinishedRun


def _text(page: str) -> str:
    markup = re.sub(r"<style>.*?</style>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def test_a_training_photo_is_reminded_of_itself(copied_run: Path) -> None:
    run = ftk.load(copied_run)
    rows = [row for row in run.run.photos if row["split"] == "train"][:3]
    found = run.explain([run.run.photo_path(row["path"]) for row in rows], coverage=0.8, neighbours=3)
    assert len(found.photos) == 3
    for row, one in zip(rows, found.photos, strict=True):
        assert len(one.neighbours) == 3
        assert one.neighbours[0].cosine == pytest.approx(1, abs=2e-3)
        assert row["sha256"] in {near.sha256 for near in one.neighbours if near.cosine > 0.995}
        assert all(near.label == Path(near.path).parent.name for near in one.neighbours)
        assert [near.cosine for near in one.neighbours] == sorted(
            (near.cosine for near in one.neighbours), reverse=True
        )
        first, second = sorted(one.prediction.probabilities.items(), key=lambda pair: -pair[1])[:2]
        assert (one.best, one.runner_up, one.runner_up_probability) == (first[0], *second)
        assert list(one.maps) == [first[0], second[0]]
        assert 0 <= np.min(list(one.maps.values())) <= np.max(list(one.maps.values())) <= 1
        assert one.prediction.class_set is not None
    assert "Grad-CAM" in found.reading


def test_the_page_and_the_json_say_the_same(copied_run: Path, tmp_path: Path) -> None:
    run = ftk.load(copied_run).run
    photo = str(run.photo_path(run.split_predictions("test")[0]["path"]))
    shown = invoke("explain", str(copied_run), photo, "--coverage", "0.8")
    assert shown.exit_code == 0
    page = copied_run / "explanation.html"
    assert shown.stdout.splitlines()[-1] == str(page)
    value = json.loads(invoke("explain", str(copied_run), photo, "--json").stdout)
    (one,) = value["photos"]
    markup = page.read_text(encoding="utf-8")
    said = _text(markup)
    assert f"answer {one['best']} {one['probability']:.1%}".replace("%", " %") in said
    assert f"runner-up {one['runner_up']['class']}" in said
    assert f"what spoke for {one['runner_up']['class']}" in said
    assert "Sets contain the true class for at least 80 %" in said
    assert markup.count("<img") == 3 + len(one["neighbours"])
    assert "script" not in markup.lower()
    near = one["neighbours"][0]
    assert f"{near['label']} {near['cosine']:.2f} {near['path']}" in said

    (copied_run / FEATURES).unlink()
    other = tmp_path / "why.html"
    assert invoke("explain", str(copied_run), photo, "--html", str(other)).exit_code == 0
    assert "keeps no features of its training photos" in _text(other.read_text(encoding="utf-8"))


def test_what_cannot_be_written_is_said_before_a_network_is_loaded(copied_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    photo = FinishedRun(copied_run).photo_path(FinishedRun(copied_run).photos[0]["path"])
    refused = invoke("explain", str(copied_run), str(photo), "--html", str(tmp_path / "file" / "why.html"))
    assert refused.exit_code == 2
    assert "cannot be written" in refused.stderr
