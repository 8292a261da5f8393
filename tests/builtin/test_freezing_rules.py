"""Freezing by block, by pattern and by depth: what is decided, who claimed what, and where that is told."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic
import pytest
from finetunekit_builtin.freezing_rules import (
    LastBlocksOptions,
    LayerDecayOptions,
    PatternOptions,
    PatternRule,
    build_last_blocks,
    build_layer_decay,
    build_pattern,
)

import finetunekit
from finetunekit import ConfigError, LayerInfo, LayerRate, PluginError
from finetunekit.models.freezing import check_decision, rule_lines, rules_of
from finetunekit.system.progress import Progress
from finetunekit.testing import check_freezing_policy, example_options

BLOCKS = (None, "b1", "b1", None, "b2", "b2", "b3", None)


def layers(blocks: tuple[str | None, ...] = BLOCKS) -> tuple[LayerInfo, ...]:
    return tuple(LayerInfo(f"l{i}", i, "Conv2D", block, 10, False) for i, block in enumerate(blocks))


def rates(decision: Any) -> list[float]:
    return list(check_decision(decision, layers(), "policy", train_batch_norm=False).values())


def rules(*pairs: tuple[str, float], otherwise: float = 0.0) -> PatternOptions:
    return PatternOptions(rules=tuple(PatternRule(layers=p, rate=r) for p, r in pairs), otherwise=otherwise)


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (build_last_blocks, LastBlocksOptions(n=2)),
        (build_pattern, rules(("*conv2*", 0.5), ("*conv*", 1.0))),
        (build_pattern, example_options(PatternOptions)),
        (build_layer_decay, LayerDecayOptions(decay=0.5)),
        (build_layer_decay, LayerDecayOptions(decay=0.5, blocks=1)),
    ],
)
def test_policies_keep_their_contract(build: Any, options: Any) -> None:
    check_freezing_policy(build, options)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, [0, 0, 0, 0, 0, 0, 1, 1]), (2, [0, 0, 0, 0, 1, 1, 1, 1]), (3, [0, 1, 1, 1, 1, 1, 1, 1])],
)
def test_last_blocks_train_with_what_follows_them(n: int, expected: list[float]) -> None:
    assert rates(build_last_blocks(LastBlocksOptions(n=n), layers())) == expected


def test_depthwise_kernels_stay_frozen_where_that_is_asked_for() -> None:
    depthwise = tuple(replace(layer, class_name="DepthwiseConv2D") for layer in layers())
    assert not any(rates(build_last_blocks(LastBlocksOptions(n=2, depthwise=False), depthwise)))
    assert rates(build_last_blocks(LastBlocksOptions(n=2, depthwise=False), layers())) == rates(
        build_last_blocks(LastBlocksOptions(n=2), layers())
    )


def test_more_blocks_than_there_are_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"freeze.n: 4 is more than the backbone's 3 blocks \(b1, b2, b3\)"):
        build_last_blocks(LastBlocksOptions(n=4), layers())
    with pytest.raises(ConfigError, match=r"freeze.blocks: 9 is more than the backbone's 3 blocks"):
        build_layer_decay(LayerDecayOptions(blocks=9), layers())


def test_a_backbone_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="goes by blocks, and this backbone names none"):
        build_last_blocks(LastBlocksOptions(), layers((None, None)))


def test_the_first_pattern_that_matches_claims_the_layer() -> None:
    decision = build_pattern(rules(("l[12]", 0.5), ("l?", 1.0)), layers())
    assert rates(decision) == [1, 0.5, 0.5, 1, 1, 1, 1, 1]
    assert rules_of(decision)["l1"] == "pattern 'l[12]'"
    decision = build_pattern(rules(("l7", 1.0), otherwise=0.25), layers())
    assert rates(decision) == [0.25] * 7 + [1]
    assert rules_of(decision)["l0"] == "no pattern"


@pytest.mark.parametrize(
    ("pairs", "match"),
    [
        ((("k*", 1.0),), r"freeze.rules\[0\]: 'k\*' matches none of the backbone's 8 layers"),
        ((("l*", 1.0), ("l7", 0.5)), r"freeze.rules\[1\]: 'l7' claims nothing: earlier rules claimed every layer"),
        ((("l7", 1.0), ("l7", 0.5)), r"freeze.rules\[1\]: 'l7' claims nothing"),
    ],
)
def test_a_pattern_that_claims_nothing_is_an_error(pairs: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        build_pattern(rules(*pairs), layers())


def test_rates_fall_with_depth() -> None:
    decision = build_layer_decay(LayerDecayOptions(decay=0.5), layers())
    assert rates(decision) == [1 / 16, 1 / 8, 1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 2, 1]
    assert rules_of(decision)["l0"] == "depth 4"
    frozen = build_layer_decay(LayerDecayOptions(decay=0.5, blocks=1), layers())
    assert rates(frozen) == [0, 0, 0, 0, 0, 0, 1 / 2, 1]


def test_a_rate_below_zero_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="greater than or equal to 0"):
        PatternRule(layers="*", rate=-1.0)
    with pytest.raises(
        PluginError, match=r"gives 'l0' a rate multiplier that is not a finite number >= 0\. Received: -1"
    ):
        check_decision({"l0": LayerRate(-1, "me")}, layers(), "policy", train_batch_norm=False)


def test_claims_are_told_by_rule() -> None:
    decision = build_pattern(rules(("l[12]", 0.1), ("l[4567]", 1.0)), layers())
    filled = check_decision(decision, layers(), "policy", train_batch_norm=False)
    assert rule_lines(rules_of(decision), filled) == [
        "no pattern (frozen): l0, l3",
        "pattern 'l[12]' (x0.1): l1, l2",
        "pattern 'l[4567]' (trained): 4 layers, l4 to l7",
    ]


@pytest.mark.usefixtures("own_cache")
def test_a_run_says_which_pattern_claimed_which_layer(tiny_yaml: Path, tmp_path: Path) -> None:
    freeze = '[{name: tune, epochs: 1, freeze: {name: pattern, rules: [{layers: "conv2*", rate: 0.5}]}}]'
    said = io.StringIO()
    result = finetunekit.run(
        str(tiny_yaml), settings=[f"stages={freeze}"], out=tmp_path / "runs", progress=Progress(said)
    )
    assert "pattern 'conv2*' (x0.5): conv2" in said.getvalue()
    rows = json.loads((result.path / "plan.json").read_text(encoding="utf-8"))["layers"]
    assert {row["path"]: row["claimed_by"] for row in rows}["conv2"] == "pattern 'conv2*'"
