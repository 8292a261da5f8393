"""Configurations drawn along the schema and spoilt, and YAML with letters mixed in: a plan or a clean error, nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from fuzz_cases import CLEAN, PLAN, load_host, verdict
from fuzz_configs import run_cases


def test_no_configuration_ends_otherwise_than_in_a_plan_or_a_clean_error() -> None:
    failures, ended = run_cases(300, 1)
    assert failures == {}
    assert ended[PLAN] > 3
    assert ended[CLEAN] > 100


def test_the_oracle_sees_a_failure(tmp_path: Path) -> None:
    host = load_host()
    del host.registries["head"]  # a bug, as it were
    text = "name: x\nbackbone: {name: vgg16}\nhead: {name: gap_dense}\nstages: [{epochs: 1}]\n"
    assert verdict(host, tmp_path / "x.yaml", text.encode(), []).startswith("KeyError")
    assert verdict(load_host(), tmp_path / "x.yaml", text.encode(), []) == PLAN
    assert verdict(load_host(), tmp_path / "x.yaml", b"\xff\xfe: [", []) == CLEAN
