"""What a user can cause is one line and an exit code; what nobody foresaw is one line, a report and exit code 70; never a traceback."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path

import click.testing
import fuzz_commands
import pytest
from helpers_plugins import invoke

from finetunekit import errors
from finetunekit.cli import main
from finetunekit.cli.last_resort import EXIT_UNFORESEEN
from finetunekit.config.yaml_source import parse_path, parse_yaml, plain
from finetunekit.errors import ConfigError
from finetunekit.system.progress import Progress

EVERY = list(fuzz_commands.leaves(main))


def run(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, arguments, prog_name="finetunekit")


# ---- every verb ------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="pipes and permissions are POSIX")
def test_whatever_stands_in_an_argument_is_an_answer_or_lines_that_are_bounded(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each parameter of every verb with two hostile values, another two each time; `fuzz_commands.py` tries all of them."""
    monkeypatch.chdir(tmp_path)
    Path("preset.yaml").write_text("extends: felidae4-fast\ndata: {root: gone}\n", encoding="utf-8")
    values = cycle((*fuzz_commands.paths(tmp_path), *fuzz_commands.NUMBERS, *fuzz_commands.SETTINGS))
    failed, tried = {}, 0
    with fuzz_commands.without_root_powers():
        for words, command in EVERY:
            for param in command.params:
                for line in fuzz_commands.cases(words, command, tuple(islice(values, 2)), fuzz_commands.USUAL, param):
                    result = run(*line)
                    tried += 1
                    if wrong := fuzz_commands.fault(result, 0):
                        failed[str(line)[:200]] = wrong
    (tmp_path / "locked").chmod(0o700)
    assert failed == {}
    assert tried > 200


# ---- the last resort -------------------------------------------------------------------------------------------------------------


class Odd(BaseException):
    """As a plugin might have it: no `Exception`, and its text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("error", [ZeroDivisionError("a\nb\x1b[31m"), Odd()])
def test_what_nobody_foresaw_is_one_line_and_a_report_without_secrets(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setenv("FINETUNEKIT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("SOME_TOKEN", "hunter22")
    monkeypatch.setattr("finetunekit.config.planning.prepare", stumble)
    (tmp_path / "p.yaml").write_text("name: of-the-preset\nx: hunter22\napi_key: 'k3y'\n", encoding="utf-8")
    result = run("plan", str(tmp_path / "p.yaml"), "--set", "track=[{password: s3cret}]")
    (report,) = (tmp_path / "state" / "errors").iterdir()
    text = report.read_text(encoding="utf-8")
    assert (result.exit_code, result.stdout) == (EXIT_UNFORESEEN, "")
    (line,) = result.stderr.splitlines()
    assert line.isprintable()
    assert line.startswith("error: ")
    assert str(report) in line
    assert type(error).__name__ in line
    assert {"Traceback (most recent call last)", "of-the-preset", "keras", "in stumble"} <= {
        word for word in ("Traceback (most recent call last)", "of-the-preset", "keras", "in stumble") if word in text
    }
    assert not any(secret in text for secret in ("hunter22", "k3y", "s3cret"))
    monkeypatch.setenv("FINETUNEKIT_DEBUG", "1")
    assert "Traceback (most recent call last)" in run("plan", "felidae4").stderr


def test_a_report_goes_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FINETUNEKIT_STATE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    monkeypatch.setattr("finetunekit.config.planning.prepare", lambda *_, **__: 1 / 0)
    assert str(tmp_path / "temporary" / "error-") in run("plan", "felidae4").stderr
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "file"))
    assert "No report could be written." in run("plan", "felidae4").stderr


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "a\x1bb"), MemoryError()])
def test_what_the_system_refuses_is_no_bug(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("finetunekit.config.planning.prepare", refuse)
    result = run("plan", "felidae4")
    assert result.exit_code == 1
    assert result.stderr.startswith(("error: a\\x1bb: Permission denied.\n", "error: there is not enough memory"))
    assert result.stderr.count("\n") == 1


def test_errors_are_bounded_in_length_and_number(tmp_path: Path) -> None:
    start, end = "x" * 990_000, "What to do."
    assert len(errors.bounded(start + end)) == 2_000
    assert errors.bounded(start + end).endswith(end)
    assert len(str(errors.RunError(start))) == len(errors.DataError([start, "b"]).problems[0]) == 2_000
    keys = "".join(f"k{i}: 1\n" for i in range(300))
    (tmp_path / "many.yaml").write_text(f"name: x\n{keys}", encoding="utf-8")
    lines = run("plan", str(tmp_path / "many.yaml")).stderr.splitlines()
    assert len(lines) == 101
    assert lines[-1].startswith("and 2")
    assert len(run("plan", "x" * 100_000).stderr) < 2_100


# ---- streams and the working folder ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("streams", "code", "says"),
    [
        (">/dev/full", 1, "error: stdout cannot be written (No space left on device).\n"),
        (">&-", 0, ""),
        ("2>/dev/full", 0, None),
    ],
)
def test_streams_that_are_full_or_closed_are_no_traceback(
    streams: str, code: int, says: str | None, tmp_path: Path
) -> None:
    line = f'exec "{sys.executable}" -m finetunekit presets show felidae4 {streams}'
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == code
    assert says is None or done.stderr == says


def test_progress_that_nobody_hears_costs_no_job() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    progress = Progress(Full())
    progress.say("one")
    progress.show("two")
    progress.close()


def test_a_working_folder_that_is_gone_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    shutil.rmtree(gone)
    for line in (("plan", "felidae4"), ("runs", "list"), ("data", "draw", "x")):
        result = run(*line)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: the working folder no longer exists.")
        assert result.stderr.count("\n") == 1
    assert invoke("--version").exit_code == 0


# ---- bounds of what is configured ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 0x" + "f" * 5000, "40 digits at most"),
        ("a: -" + "9" * 41, "40 digits at most"),
        ("a: .inf", "has to be finite"),
        ("a: 1e999", "has to be finite"),
        ("a: [.nan]", "has to be finite"),
        ("#" * 140_000, "too many for a configuration"),
        ("a: &a {" + ", ".join(f"x{i}: 1" for i in range(9000)) + "}\n" + "b: {<<: *a}\n" * 50, "too often"),
        ("[" * 1000, "not valid YAML"),
    ],
)
def test_yaml_costs_bounded_time_and_has_values_that_json_has(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        plain(parse_yaml(text, "x.yaml"), "x.yaml")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", [".".join("a" * 2000), "a[" + "9" * 5000 + "]", "a[²]", "a[", ""])
def test_paths_of_settings_are_bounded(text: str) -> None:
    with pytest.raises(ValueError):
        parse_path(text)


def test_homes_are_looked_up_in_one_place() -> None:
    """`Path.expanduser` raises where there is no such user; `expand_home` leaves the path as it is, as shells do."""
    package = Path(errors.__file__).parent
    assert [path for path in package.rglob("*.py") if ".expanduser()" in path.read_text(encoding="utf-8")] == []
