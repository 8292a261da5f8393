from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from finetunekit.engine.summary import claim_sentence
from finetunekit.errors import RunFolderError
from finetunekit.runs.test_split_ledger import Openings, config_key, ledger_path, read_openings, record_opening
from finetunekit.statistics import wilson_interval
from finetunekit.statistics.multiple import best_of_interval
from finetunekit.system.user_dirs import STATE_VARIABLE

KEY = "ab" * 32
CONFIG = {
    "name": "felidae4",
    "seed": 0,
    "data": {"root": "images"},
    "head": {"name": "gap_dense"},
    "stages": [{"epochs": 50}],
}
HEAD = {"path": "head", "kind": "head", "options": {"units": 1024}}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    return tmp_path / "state"


def _record(run: str, config: str = "c1", key: str = KEY) -> Openings:
    return record_opening(key, config, name="felidae4", run_path=Path(run))


def test_unopened_split_has_no_openings() -> None:
    assert read_openings(KEY) == Openings(0, 0, None, None)


def test_openings_count_runs_and_configurations() -> None:
    for i in range(7):
        found = _record(f"runs/{i}", f"c{i % 4}")
    assert (found.openings, found.configs, found.damaged) == (7, 4, 0)
    assert read_openings(KEY) == found
    assert read_openings("cd" * 32).openings == 0


def test_first_and_last_are_in_utc() -> None:
    for day in (2, 1):
        moment = datetime(2025, 1, day, tzinfo=UTC)
        found = record_opening(KEY, "c", name="n", run_path=Path(f"runs/{day}"), when=moment)
    assert (found.first, found.last) == ("2025-01-01T00:00:00+00:00", "2025-01-02T00:00:00+00:00")


def test_run_that_records_again_is_one_opening() -> None:
    _record("runs/a")
    assert _record("runs/a").openings == 1
    assert _record("runs/b").openings == 2


def test_deleting_runs_keeps_the_count(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    record_opening(KEY, "c", name="n", run_path=run)
    run.rmdir()
    assert read_openings(KEY).openings == 1


def test_line_cut_off_by_a_crash_counts_and_spoils_no_other() -> None:
    _record("runs/a")
    path = ledger_path(KEY)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    assert (read_openings(KEY).openings, read_openings(KEY).damaged) == (2, 1)
    found = _record("runs/b", "c2")
    assert (found.openings, found.configs, found.damaged) == (3, 2, 1)
    assert path.read_bytes().startswith(whole)


def test_foreign_lines_count_as_damaged() -> None:
    ledger_path(KEY).parent.mkdir(parents=True)
    ledger_path(KEY).write_bytes(b'\xff\xfe\n[1]\n{"when": 3}\n')
    assert read_openings(KEY) == Openings(3, 1, None, None, 3)


def test_processes_at_once_lose_no_line(state: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from finetunekit.runs.test_split_ledger import record_opening\n"
        f"for i in range(20): record_opening('{KEY}', 'c', name='n', run_path=Path(f'runs/{{sys.argv[1]}}-{{i}}'))"
    )
    environment = {**os.environ, STATE_VARIABLE: str(state)}
    jobs = [subprocess.Popen([sys.executable, "-c", code, str(n)], env=environment) for n in range(3)]
    assert [job.wait() for job in jobs] == [0, 0, 0]
    assert read_openings(KEY) == Openings(60, 1, *_ends(), 0)
    assert all(json.loads(line) for line in ledger_path(KEY).read_text().splitlines())


def _ends() -> tuple[str, str]:
    moments = [json.loads(line)["when"] for line in ledger_path(KEY).read_text().splitlines()]
    return min(moments), max(moments)


def test_unwritable_state_folder_is_one_clear_line(state: Path) -> None:
    state.write_text("a file where the folder should be")
    with pytest.raises(RunFolderError, match=rf"cannot be written .*{STATE_VARIABLE}") as caught:
        _record("runs/a")
    assert "\n" not in str(caught.value)


def test_unreadable_ledger_is_one_clear_line() -> None:
    ledger_path(KEY).mkdir(parents=True)
    with pytest.raises(RunFolderError, match="cannot be read"):
        read_openings(KEY)


def test_content_key_cannot_leave_the_folder() -> None:
    with pytest.raises(ValueError, match="64 hexadecimal"):
        ledger_path("../" * 20 + "abcd")


def test_config_key_ignores_what_is_no_choice() -> None:
    same = {
        **CONFIG,
        "name": "other",
        "seed": 7,
        "view_seed": 3,
        "reports": [{"name": "x"}],
        "expected": None,
    }
    assert config_key(same) == config_key(CONFIG)
    assert config_key(dict(reversed(CONFIG.items()))) == config_key(CONFIG)
    assert config_key({**CONFIG, "stages": [{"epochs": 51}]}) != config_key(CONFIG)


def test_config_key_fills_defaults_in() -> None:
    written = {**CONFIG, "head": {"name": "gap_dense", "units": 1024}}
    assert config_key(written) != config_key(CONFIG)
    assert config_key(written, components=[HEAD]) == config_key(CONFIG, components=[HEAD])


def test_config_key_takes_photos_instead_of_their_place() -> None:
    moved = {**CONFIG, "data": {"root": "elsewhere"}}
    assert config_key(moved) != config_key(CONFIG)
    assert config_key(moved, photo_keys=["t"]) == config_key(CONFIG, photo_keys=["t"])
    assert config_key(CONFIG, photo_keys=["t"]) != config_key(CONFIG, photo_keys=["u"])


def test_best_of_interval_covers_the_best_of_many() -> None:
    import numpy as np

    drawn = np.random.default_rng(0).binomial(160, 0.92, size=(4000, 7)).max(axis=1)
    plain = np.mean([wilson_interval(int(best), 160).contains(0.92) for best in drawn])
    widened = np.mean([best_of_interval(int(best), 160, 7).contains(0.92) for best in drawn])
    assert plain < 0.90  # the best run's own interval is not a 95 % interval
    assert widened > 0.945
    assert best_of_interval(147, 160, 1) == wilson_interval(147, 160)
    with pytest.raises(ValueError, match="1 or more"):
        best_of_interval(147, 160, 0)


def test_claim_sentence_says_what_openings_do() -> None:
    assert "opened once: the interval is valid" in claim_sentence(Openings(1, 1, "a", "a"), 147, 160)
    text = claim_sentence(Openings(7, 4, "a", "b"), 147, 160)
    interval = best_of_interval(147, 160, 7)
    assert "opened 7 times by 4 configurations." in " ".join(text.split())
    assert f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %" in " ".join(text.split())
    assert "5 times by 1 configuration." in claim_sentence(Openings(5, 1, "a", "b"), 147, 160)
    lines = claim_sentence(Openings(12345, 1234, "a", "b"), 147, 160).split("\n")
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
