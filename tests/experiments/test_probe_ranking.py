"""Ranking backbones, contracts and sizes for a preset's photos: `finetunekit probe`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import write_photos, write_tiny_weights

from finetunekit.cli import main
from finetunekit.config.planning import prepare
from finetunekit.config.preset import read_document
from finetunekit.experiments.probe_ranking import choose_anew
from finetunekit.models.linear_probe.cross_validation import NestedScores, cross_validate

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def pretrained_yaml(tiny_yaml: Path) -> Path:
    """The tiny preset with weights from a file, and more photos."""
    path = write_tiny_weights(tiny_yaml)
    write_photos(tiny_yaml.parent / "photos", per_class=12)
    text = tiny_yaml.read_text(encoding="utf-8")
    tiny_yaml.write_text(text.replace("{mode: random}", f"{{mode: pretrained, path: {path}}}"), encoding="utf-8")
    return tiny_yaml


def probed(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["probe", *map(str, arguments)])


def test_candidates_are_ranked_by_log_loss_with_intervals_and_without_test_photos(pretrained_yaml: Path) -> None:
    for path in (pretrained_yaml.parent / "photos/test").rglob("*.png"):
        path.write_bytes(path.read_bytes() + b" ")  # other content, still readable; the scores must not notice
    result = probed(pretrained_yaml, "--sizes", "8,12", "--folds", "3", "--json")
    assert result.exit_code == 0, result.stderr
    ranking = json.loads(result.stdout)
    rows = ranking["ranked"]
    assert {(row["backbone"], row["size_px"], row["contract"]) for row in rows} == {
        ("tiny", size, contract) for size in (8, 12) for contract in ("backbone", "zero_to_one")
    }
    losses = [row["score"]["log_loss"] for row in rows]
    assert losses == sorted(losses)
    for score in (*(row["score"] for row in rows), ranking["chosen"]):
        assert score["photos"] == 36 + 18
        assert score["accuracy"] == score["correct"] / 54
        assert score["accuracy_interval"]["low"] < score["accuracy"] <= score["accuracy_interval"]["high"]
    assert losses[0] < np.log(3)  # mean colours tell the classes apart
    assert 0 < ranking["chosen"]["log_loss"] < np.log(3)


def test_fits_are_candidates_of_their_own_and_the_best_is_written(pretrained_yaml: Path, tmp_path: Path) -> None:
    fits = ("--sizes", "8", "--contracts", "backbone", "--fits", "crop:0.5,pad", "--folds", "2")
    out = tmp_path / "best.yaml"
    result = probed(pretrained_yaml, *fits, "--write", out, "--json")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["ranked"]
    assert {(row["fit"], row["crop_pct"]) for row in rows} == {("crop", 0.5), ("pad", None)}
    pixels = prepare(out)[0].config.pixels
    assert (pixels.fit, pixels.crop_pct) == (rows[0]["fit"], rows[0]["crop_pct"])


def test_the_winners_figure_comes_from_choices_that_have_not_seen_the_photos_they_are_scored_on() -> None:
    fold = np.array([0, 0, 1, 1])
    first = NestedScores(np.full((4, 2), [0.9, 0.1]), fold, (0.1, 0.4), (1.0, 1.0))
    second = NestedScores(np.full((4, 2), [0.2, 0.8]), fold, (0.2, 0.3), (1.0, 1.0))
    anew = choose_anew([first, second])  # fold 0 is left to the first, fold 1 to the second, whatever they score there
    np.testing.assert_array_equal(anew, [[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])


def test_the_table_says_that_the_first_is_first_by_luck_and_fits_80_columns(pretrained_yaml: Path) -> None:
    result = probed(pretrained_yaml, "--sizes", "8", "--folds", "3")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert re.match(r"1  tiny +8  ", lines[1])
    assert "The first of 3 is first partly by luck." in result.stdout
    said = " ".join(result.stdout.split())
    assert "no test photo was looked at" in said
    assert "backbones were left out, since the weights are not on this machine" in said


def test_the_best_one_is_written_as_a_preset_that_needs_no_other(pretrained_yaml: Path, tmp_path: Path) -> None:
    out = tmp_path / "best.yaml"
    settings = ("--set", "seed=7", "--sizes", "8", "--contracts", "zero_to_255,backbone", "--folds", "2")
    result = probed(pretrained_yaml, *settings, "--write", out, "--json")
    assert result.exit_code == 0, result.stderr
    best = json.loads(result.stdout)["ranked"][0]
    plan, host = prepare(out)
    assert (plan.config.name, plan.config.seed) == ("best", 7)
    pixels = plan.config.pixels
    assert (pixels.size_px, pixels.contract) == (best["size_px"], best["contract"])
    assert (pixels.fit, pixels.crop_pct) == (best["fit"], best["crop_pct"])
    assert plan.head.name == "linear"
    assert [stage.kind for stage in plan.config.stages] == ["solve"]
    assert (plan.config.augment, plan.config.train.draws_per_epoch) == ((), None)
    assert "one `solve` stage" in out.read_text(encoding="utf-8")
    assert read_document(str(out), host.presets).layers == (out,)
    result = CliRunner().invoke(main, ["run", str(out), "--out", str(tmp_path / "runs"), "--quiet"])
    assert result.exit_code == 0, result.stderr
    again = probed(pretrained_yaml, *settings, "--write", out)
    assert again.exit_code == 2
    assert "exists and is not overwritten" in again.stderr


def test_what_cannot_be_probed_is_left_out_with_its_reason(pretrained_yaml: Path) -> None:
    result = probed(pretrained_yaml, "--sizes", "8", "--backbones", "tiny,vgg16", "--contracts", "backbone", "--json")
    assert result.exit_code == 0, result.stderr
    ranking = json.loads(result.stdout)
    assert {row["backbone"] for row in ranking["ranked"]} == {"tiny"}
    (why,) = ranking["left_out"].values()
    assert "VGG16 needs at least 32 px" in why


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--backbones", "tinny"), "unknown backbone 'tinny'. Did you mean 'tiny'?"),
        (("--contracts", "zero_to_on"), "Did you mean 'zero_to_one'?"),
        (("--sizes", "big"), "neither `native` nor a side in pixels"),
        (("--set", "weights={mode: random}"), "random ones are none"),
        (("--write", "best.txt"), "a preset's file ends in .yaml"),
    ],
)
def test_what_is_asked_wrongly_is_said_before_anything_is_computed(
    pretrained_yaml: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = probed(pretrained_yaml, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "probe 1 of" not in result.stderr


def test_each_outer_fold_knows_its_inner_loss_and_its_own_penalty() -> None:
    generator = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = (generator.normal(size=(60, 10)) + np.eye(3, 10)[y] * 2).astype(np.float32)
    nested = cross_validate(x, y, 3)
    assert len(nested.inner_losses) == len(nested.penalties) == 5
    assert all(0 < loss < np.log(3) for loss in nested.inner_losses)
    left_out = -np.log(nested.probabilities[np.arange(60), y]).mean()
    assert left_out != pytest.approx(np.mean(nested.inner_losses), abs=1e-9)


def test_candidates_are_ranked_alike_wherever_they_are_tried(
    pretrained_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pretrained_yaml.parent)
    asked = (pretrained_yaml, "--sizes", "8", "--fits", "stretch", "--folds", "3", "--json")
    here, there = (json.loads(probed(*asked, *on).stdout) for on in ((), ("--on", "local")))
    for ranking in (here, there):
        for row in ranking["ranked"]:
            del row["feature_s"], row["fit_s"]
    assert there == here
    assert len(here["ranked"]) == 2
    path = pretrained_yaml.parent / "tiny.npz"
    path.write_bytes(b"nothing")  # each job says so
    refused = probed(*asked, "--on", "local")
    assert refused.exit_code == 4
    assert re.search(
        r"no backbone could be probed\..* tiny, 8 px, stretch, pixels backbone: .*tiny\.npz", refused.stderr
    )
