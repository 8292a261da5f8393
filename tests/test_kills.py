"""Real processes are killed at the moments that hurt most; what they leave goes on to the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from kill_cases import HERE, MOMENTS


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_run_killed_at_any_moment_ends_with_the_same_bits(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "kills.py"), "--moments", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(tmp_path))
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert [outcome["moment"] for outcome in outcomes] == list(MOMENTS)
    assert len(outcomes) >= 10
    for outcome in outcomes:
        assert outcome["kills"] == 1
        assert outcome["differences"] == []
        expected = (
            "finished" if outcome["moment"] in ("while a report is written", "after the last report") else "killed"
        )
        assert outcome["status"] == expected, outcome["moment"]
    assert any(outcome["is_cache_cleared"] for outcome in outcomes)


def _environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(tmp_path), "FINETUNEKIT_DISABLE_PLUGINS": "all"}
