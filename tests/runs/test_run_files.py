"""Files of run folders that no run wrote: one line that names the file, whichever verb meets it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import fuzz_runs
import pytest
from helpers_plugins import invoke

from finetunekit import FinishedRun
from finetunekit.errors import FinetuneKitError, RunFolderError
from finetunekit.runs.run_files import read_json_file, read_table_file
from finetunekit.runs.run_list import describe_run
from finetunekit.system.files import to_csv, to_json

READERS: dict[str, Callable[[FinishedRun], object]] = {
    "run.json": lambda run: run.state,
    "metrics.json": lambda run: run.metrics,
    "plan.json": lambda run: run.config,
    "environment.json": lambda run: run.environment,
}


NOTHING = {("metrics.json", b"{}"), ("environment.json", b"{}")}
"""What a run that did not get far may have."""


@pytest.mark.parametrize(("name", "content"), [(n, c) for n in READERS for c in fuzz_runs.RAW if (n, c) not in NOTHING])
def test_what_is_no_json_object_is_one_line_that_names_the_file(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunFolderError) as caught:
        READERS[name](FinishedRun(tmp_path))
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / name}: ")
    assert line.isprintable()
    assert len(line) < 500
    assert describe_run(tmp_path).status == "unreadable"  # and a listing shows the others


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("plan.json", {"config": {"pixels": {"size_px": 60_000}}}, "config.pixels.size_px: Input should be less than"),
        ("plan.json", {"config": {"data": {"max_photo_pixels": "x"}}}, "config.data.max_photo_pixels: "),
        ("plan.json", {"config": {"stages": [{"epochs": 10**9}]}}, "config.stages.*epochs: Input should be less than"),
        ("run.json", {"format": 2, "classes": "cat"}, "classes: Input should be a valid array"),
        ("run.json", {"format": 2, "pixels": {"mean": [1]}}, "pixels.mean.*: Field required"),
        ("run.json", {"format": 2, "test_content_key": "../../x"}, "test_content_key: String should match pattern"),
        ("metrics.json", {"test": {"accuracy": {"successes": {}}}}, "test.accuracy.successes: "),
        (
            "metrics.json",
            {"classes": ["a"], "test": {"confusion": [[1, 2], [3, 4]]}},
            "scores of 2 classes where there are 1",
        ),
        ("metrics.json", {"seconds": {"whole": "\x1b[2J"}}, "seconds.whole: Input should be a valid number"),
        ("baselines.json", {"baselines": [{"title": "x", "accuracy": True}]}, r"baselines\[0\].accuracy: "),
    ],
)
def test_values_of_another_kind_or_beyond_what_a_preset_may_ask_for_are_named(
    name: str, content: object, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunFolderError, match=says):
        read_json_file(tmp_path / name)


def test_a_key_that_is_not_there_names_the_file_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": [{"b": {}}]}', encoding="utf-8")
    content = read_json_file(path)
    assert content == {"a": [{"b": {}}]}
    with pytest.raises(RunFolderError, match=r"x\.json: has no 'c'"):
        content["a"][0]["b"]["c"]
    path.write_text('{"a":' * 70 + "1" + "}" * 70, encoding="utf-8")
    with pytest.raises(RunFolderError, match="nested deeper than 60 levels"):
        read_json_file(path)


@pytest.mark.parametrize("content", [b"a,b\n1\n", b"a,b\n1,2,3\n", b'a,b\n"' + b"x" * 200_000 + b'",1\n'])
def test_rows_that_do_not_fit_their_header_are_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "photos.csv").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"photos\.csv: .*damaged"):
        read_table_file(tmp_path / "photos.csv")


def test_json_has_lists_of_numbers_on_one_line_and_reads_back(tmp_path: Path) -> None:
    value = {"counts": [[1, 2], [3, 4]], "names": ["a", "b"], "empty": [{}, []], "mixed": [1, True, None], 5: (0.5,)}
    text = to_json(value)
    assert text.splitlines()[1:5] == ['  "counts": [', "    [1, 2],", "    [3, 4]", "  ],"]
    assert '    "a",\n' in text
    assert json.loads(text) == json.loads(json.dumps(value))
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"x": [1.0, float("nan")]})


def test_rows_of_many_columns_read_as_those_of_few(tmp_path: Path) -> None:
    row = {f"column {i}": f"{i}, \n'=\x1f" if i == 70 else str(i) for i in range(100)}
    path = tmp_path / "predictions.csv"
    path.write_text(to_csv([row, row | {"column 70": "=x"}], tuple(row)), encoding="utf-8")
    first, second = read_table_file(path)
    assert first == row
    assert (second["column 70"], second["column 99"], second.get("column 70"), second.get("no")) == (
        "=x",
        "99",
        "=x",
        None,
    )
    assert list(second) == list(row)
    assert "column 99" in second
    assert "no" not in second
    with pytest.raises(RunFolderError, match=r"predictions\.csv: has no 'no'"):
        second["no"]


@pytest.mark.skipif(os.name == "nt", reason="pipes are POSIX")
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(RunFolderError, match="no regular file"):
        _ = FinishedRun(tmp_path).state


def test_no_changed_run_folder_ends_otherwise_than_in_an_answer_or_one_line(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `fuzz_runs.py`, with the verbs that load no network."""
    monkeypatch.chdir(tmp_path)
    light = dict.fromkeys(
        ("runs list", "compare RUN WHOLE", "verify RUN", "data stats RUN --headers", "runs show RUN"), 1
    )
    monkeypatch.setattr(fuzz_runs, "VERBS", light)
    ends = [fuzz_runs.try_case(finished_run, tmp_path, random.Random(seed)) for seed in range(60)]
    assert [wrong for _, wrong in ends if wrong] == []
    assert {ended for ended, _ in ends} == {"usable", "refused"}


def test_a_table_that_names_a_run_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FinetuneKitError):
        _ = FinishedRun(tmp_path / ("x" * 300)).state
    assert invoke("runs", "show", "x" * 300).exit_code == 1
