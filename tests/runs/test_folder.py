"""The run folder: whole files, one writer, names."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from finetunekit.errors import RunFolderError
from finetunekit.runs.folder import CONFIG, MODEL, FinishedRun, find_run, new_run_path, report_page
from finetunekit.system.files import append_line, locked, replacing, to_csv, to_json, write_whole


def test_a_write_that_fails_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_whole(path, "old")

    def half_write() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise ZeroDivisionError("in the middle")

    with pytest.raises(ZeroDivisionError, match="in the middle"):
        half_write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_a_folder_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunFolderError, match=r"runs: .*Choose another.* --out"):
        new_run_path(tmp_path / "runs", "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_clear_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunFolderError, match="cannot be written"):
        new_run_path(tmp_path / "runs", "x")
    tmp_path.chmod(0o700)


def test_two_runs_in_one_second_get_two_folders(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    first, second = (new_run_path(tmp_path, "felidae4", {"config.yaml": ""}, now) for _ in range(2))
    assert (first.name, second.name) == ("felidae4-20260102-030405", "felidae4-20260102-030405-2")


def test_the_lock_is_held_against_another_process_and_survives_its_crash(tmp_path: Path) -> None:
    code = "import sys, os\nfrom pathlib import Path\nfrom finetunekit.system.files import locked\nwith locked(Path(sys.argv[1])):\n"
    with locked(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", code + "    pass", str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert "another process is writing this run" in done.stderr
    crashed = subprocess.run([sys.executable, "-c", code + "    os._exit(9)", str(tmp_path)], check=False)
    assert crashed.returncode == 9
    with locked(tmp_path):
        pass


def test_find_run_by_path_name_and_last(tmp_path: Path) -> None:
    for name in ("b-20260101-000001", "a-20260101-000002"):
        (tmp_path / name).mkdir()
        (tmp_path / name / CONFIG).write_text("")
        (tmp_path / name / MODEL).write_text("")
    (tmp_path / "c-20260101-000003").mkdir()
    (tmp_path / "c-20260101-000003" / CONFIG).write_text("")  # still running, or stopped before its first epoch
    assert find_run("last", tmp_path).name == "a-20260101-000002"
    assert find_run("b-20260101-000001", tmp_path) == tmp_path / "b-20260101-000001"
    with pytest.raises(RunFolderError, match=r"Did you mean 'b-20260101-000001'"):
        find_run("b-20260101-000009", tmp_path)


def test_a_log_row_is_appended_whole(tmp_path: Path) -> None:
    path = tmp_path / "epochs.csv"
    write_whole(path, "a,b\n")
    append_line(path, "1,2\n")
    assert path.read_text() == "a,b\n1,2\n"


def test_json_refuses_what_json_does_not_have() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        to_json({"loss": float("nan")})


def test_csv_keeps_awkward_text(tmp_path: Path) -> None:
    import csv
    import io

    text = to_csv([{"a": 'x,"y"\nz', "b": 0.1}], ("a", "b"))
    assert list(csv.DictReader(io.StringIO(text))) == [{"a": 'x,"y"\nz', "b": "0.1"}]


def test_a_run_folder_of_another_format_is_refused_in_one_line(tmp_path: Path) -> None:
    run = tmp_path / "old-20260101-000000"
    run.mkdir()
    (run / "run.json").write_text('{"status": "finished"}', encoding="utf-8")
    with pytest.raises(
        RunFolderError, match=r"run\.json: was not written by this version .* Run its preset again\."
    ) as caught:
        FinishedRun(run).state  # noqa: B018
    assert "\n" not in str(caught.value)


def test_the_report_is_the_page_of_that_name_whatever_other_pages_there_are(tmp_path: Path) -> None:
    assert report_page(tmp_path) == tmp_path
    (tmp_path / "reports").mkdir()
    for name in ("aaa.html", "zzz.html"):
        (tmp_path / "reports" / name).write_text("", encoding="utf-8")
    assert report_page(tmp_path).name == "aaa.html"
    (tmp_path / "reports" / "report.html").write_text("", encoding="utf-8")
    assert report_page(tmp_path).name == "report.html"
