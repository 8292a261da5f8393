"""Real processes are killed at random moments and at two that hurt most; what they leave goes on to the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kill_cases import HERE, VARIANTS, WORST

#: Kills at random moments, besides the two that hurt most: few of them, and with `make test-all` many.
PARTS = (2, pytest.param(40, marks=pytest.mark.slow))


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("parts", PARTS)
def test_runs_killed_at_random_moments_end_with_the_same_bits(parts: int, tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "kills.py"), "--parts", str(parts), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(tmp_path))
    assert done.returncode == 0, done.stderr  # names the seed and what differs
    named, drawn = (outcomes := json.loads(done.stdout))[: len(WORST)], outcomes[len(WORST) :]
    assert [outcome["differences"] for outcome in outcomes] == [[]] * (len(WORST) + parts)
    assert [(outcome["moment"], outcome["kills"]) for outcome in named] == [(moment, 1) for moment in WORST]
    assert [outcome["status"] for outcome in named] == ["killed", "finished"]
    # a machine that is busy now and idle then may end a run before its last parts
    assert sum(outcome["kills"] for outcome in drawn) >= parts // 2, done.stderr
    assert {outcome["variant"] for outcome in drawn} == set(list(VARIANTS)[:2])


def _environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(tmp_path), "FINETUNEKIT_DISABLE_PLUGINS": "all"}
