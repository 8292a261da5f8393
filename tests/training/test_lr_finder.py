"""The rate finder: what it suggests of known curves, and that it leaves the model as it was."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from finetunekit.cli import main
from finetunekit.config.planning import prepare
from finetunekit.data.index import build_index
from finetunekit.data.listing import list_photos
from finetunekit.errors import ConfigError, RunError
from finetunekit.models import conv_gradient as kernels
from finetunekit.reports.figures import rate_plot, svg_file
from finetunekit.system.progress import Progress
from finetunekit.training import lr_finder as rate_finder
from finetunekit.training.lr_finder import find_rates, suggest_rates

pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)
#: Every step sees every photo, so that the loss is without noise.
WHOLE_BATCH = ("augment=[]", "train.batch_size=12", "train.draws_per_epoch=null")
RATES = [10 ** (-6 + i / 10) for i in range(51)]
SVG = "{http://www.w3.org/2000/svg}"


def falling(at: float) -> list[float]:
    """A loss that falls most steeply at `at`, from 2 to 1."""
    return [1.5 - 0.5 * math.tanh(2 * (math.log10(rate) - math.log10(at))) for rate in RATES]


def test_the_steepest_fall_is_suggested() -> None:
    found = suggest_rates("s", RATES, falling(1e-4), steps=51)
    assert found.suggested == pytest.approx(1e-4, rel=0.3)
    assert found.has_run_away is False


def test_the_suggestion_stays_below_a_tenth_of_the_lowest() -> None:
    losses = [*falling(1e-3)[:35], *(2 + i for i in range(16))]
    found = suggest_rates("s", RATES, losses, steps=60)
    assert found.at_most == pytest.approx(RATES[34] / 10)
    assert found.suggested <= found.at_most
    assert found.has_run_away is True


def test_a_loss_that_runs_away_at_once_is_an_error() -> None:
    with pytest.raises(RunError, match="runs away at once"):
        suggest_rates("s", RATES[:2], [1.0, 2.0], steps=51)


def test_a_loss_that_falls_nowhere_is_an_error() -> None:
    with pytest.raises(RunError, match=r"falls at no rate from 1\.0e-06 to 1\.0e-01 by more than its noise"):
        suggest_rates("s", RATES, [1.0 + i / 100 for i in range(51)], steps=51)


def test_weights_are_as_they_were(tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, _ = prepare(str(tiny_yaml), settings=WHOLE_BATCH)
    index = build_index(list_photos(plan, QUIET), max_pixels=10**6, progress=QUIET.counter("reading"))
    seen: list[Any] = []
    opened = rate_finder._open
    monkeypatch.setattr(rate_finder, "_open", lambda *given: seen.append(opened(*given)) or seen[0])
    first = find_rates(plan, index, QUIET, steps=80)
    model = seen[0].classifier.logits
    fresh = opened(plan, index, QUIET).classifier.logits
    for ours, theirs in zip(model.weights, fresh.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert 1e-6 <= first.suggested <= first.at_most
    assert len(first.rates) == len(first.losses) <= 80


def test_its_steps_take_the_gradient_that_a_training_takes(tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, _ = prepare(str(tiny_yaml), settings=WHOLE_BATCH)
    index = build_index(list_photos(plan, QUIET), max_pixels=10**6, progress=QUIET.counter("reading"))
    gradient, traced = kernels._kernel_gradient, []
    monkeypatch.setattr(kernels, "_kernel_gradient", lambda *given: traced.append(given[-1]) or gradient(*given))
    find_rates(plan, index, QUIET, steps=80)
    assert {tuple(shape) for shape in traced} == {(3, 3, 4, 4)}  # the one convolution that the preset trains


def test_the_command_prints_and_draws(tiny_yaml: Path, tmp_path: Path) -> None:
    figure = tmp_path / "rates.svg"
    settings = [part for setting in WHOLE_BATCH for part in ("--set", setting)]
    given = ["rates", str(tiny_yaml), "--steps", "80", *settings, "--figure", str(figure)]
    result = CliRunner().invoke(main, [*given, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["stage"] == "tune"
    assert found["suggested"] <= found["at_most"]
    assert ET.fromstring(figure.read_text(encoding="utf-8")).tag.endswith("svg")
    assert not (tiny_yaml.parent / "runs").exists()
    lines = CliRunner().invoke(main, given).stdout.splitlines()
    assert lines[1].startswith("suggested")
    assert all(len(line) <= 80 for line in lines[:-1])


def test_stages_without_a_rate_are_refused(tiny_yaml: Path) -> None:
    plan, _ = prepare(str(tiny_yaml), settings=["stages=[{kind: solve}]"])
    index = build_index(list_photos(plan, QUIET), max_pixels=10**6, progress=QUIET.counter("reading"))
    with pytest.raises(ConfigError, match="is solved, not trained by steps: it has no learning rate"):
        find_rates(plan, index, QUIET)
    result = CliRunner().invoke(main, ["rates", str(tiny_yaml), "--stage", "2"])
    assert result.exit_code == 2
    assert "the preset has 1 stage" in result.output


def test_the_figure_holds_both_suggestions_and_says_them_to_those_who_cannot_see_it() -> None:
    found = suggest_rates("s", RATES, falling(1e-4), steps=51)
    plot = rate_plot("s", found.rates, found.losses, suggested=found.suggested, at_most=found.at_most)
    root = ET.fromstring(svg_file(plot))
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    said = "".join(next(root.iter(f"{SVG}desc")).itertext())
    for words in (f"suggested {found.suggested:.1e}", f"at most {found.at_most:.1e}"):
        assert words in texts
        assert words in said
    places = [float(text.get("x", "nan")) for text in root.iter(f"{SVG}text") if (text.text or "").startswith("1e-")]
    steps = [b - a for a, b in pairwise(places)]
    assert len(steps) == 5
    assert max(steps) - min(steps) < 0.3  # rates a factor apart stand evenly
