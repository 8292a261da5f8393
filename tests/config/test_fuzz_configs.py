"""Configurations drawn along the schema and spoilt, and YAML with letters mixed in: a plan or a clean error, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_cases import CLEAN, PLAN, load_host, verdict
from fuzz_configs import run_cases

from finetunekit.config.yaml_source import parse_yaml
from finetunekit.errors import ConfigError


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


def test_a_nul_character_is_refused_where_it_was_written(tmp_path: Path) -> None:
    """Found by `fuzz_configs.py`: a path of it is no path to the system."""
    path = tmp_path / "x.yaml"
    assert verdict(load_host(), path, b'name: x\nplugins: ["a\\0.py"]\n', []) == CLEAN
    assert verdict(load_host(), path, b"name: x\n", ['plugins=["a\\0.py"]']) == CLEAN


def test_what_the_parser_itself_stumbles_over_is_not_valid_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by `fuzz_configs.py`: deep flow maps with a map as a key, after a comment, made ruamel look up (9, 9)."""
    from ruamel.yaml.parser import RoundTripParser

    def stumble(*arguments: object) -> None:
        raise KeyError((9, 9))

    monkeypatch.setattr(RoundTripParser, "parse_document_start", stumble)
    with pytest.raises(ConfigError, match=r"x: not valid YAML: \(9, 9\)"):
        parse_yaml("a: 1", "x")
