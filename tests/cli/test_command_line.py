"""The command line as a user meets it: verbs, streams, exit codes, JSON, pipes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from conftest import write_counted_photos
from helpers_plugins import SMALL, command, invoke, write

from finetunekit import __version__, errors
from finetunekit.cli import main
from finetunekit.cli.weights import backbones_of

SAMPLES = Path(__file__).parents[2] / "docs/plugins/samples"
VERBS = main.list_commands(click.Context(main))
SUBVERBS = ("presets list", "presets show", "plugins list", "weights list", "weights fetch", "weights where")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of each test, with caches of its own."""
    for variable in ("FINETUNEKIT_DISABLE_PLUGINS", "FINETUNEKIT_STRICT_PLUGINS", "FINETUNEKIT_TRACE"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("FINETUNEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FINETUNEKIT_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- help ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_verb_with_one_line(flag: str) -> None:
    result = invoke(flag)
    described = [line.split(maxsplit=1) for line in result.stdout.splitlines() if line.startswith("  ")]
    assert result.exit_code == 0
    assert "finetunekit run felidae4" in result.stdout
    assert {"run", "plan", "predict", "evaluate", "presets", "plugins", "weights", "doctor"} <= set(VERBS)
    assert set(VERBS) <= {words[0] for words in described if len(words) == 2}


def test_no_help_of_a_verb_is_cut_off() -> None:
    groups = [verb for verb in VERBS if isinstance(main.get_command(click.Context(main), verb), click.Group)]
    assert len(groups) > 5
    for group in groups:
        listing = invoke(group, "--help").stdout.split("Commands:")[1]
        assert "..." not in listing, group
        ends = [line.rstrip()[-1] for line in re.split(r"\n(?=  \w)", listing.strip("\n"))]
        assert set(ends) == {"."}, group


def test_every_help_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    def pages(verb: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name in verb.list_commands(click.Context(verb)) if isinstance(verb, click.Group) else ():
            inner = verb.get_command(click.Context(verb), name)
            assert inner is not None
            yield from pages(inner, (*path, name))

    for page in pages(main, ()):
        lines = invoke(*page, "--help").stdout.splitlines()
        assert max(map(len, lines)) <= 80, page


@pytest.mark.parametrize("columns", [80, 120])
def test_help_stands_under_headings_a_line_a_verb(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    sections = {part.splitlines()[0]: part.splitlines()[1:] for part in invoke("--help").stdout.split("\n\n")[4:]}
    shown = [line.split(maxsplit=1)[0] for lines in sections.values() for line in lines]
    assert next(iter(sections)) == "Start here:"
    assert [line.split()[0] for line in sections["Start here:"]] == [
        "run",
        "presets",
        "plan",
        "predict",
        "export",
        "serve",
        "doctor",
    ]
    assert shown == VERBS == list(dict.fromkeys(shown))  # each once, and no line wrapped
    starts = {
        len(line) - len(line[2:].lstrip("abcdefghijklmnopqrstuvwxyz").lstrip())
        for ls in sections.values()
        for line in ls
    }
    assert len(starts) == 1  # one column for all headings


@pytest.mark.parametrize("verb", [*VERBS, *SUBVERBS])
def test_each_verb_explains_itself(verb: str) -> None:
    result = invoke(*verb.split(), "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: finetunekit {verb} ")
    assert len(result.stdout.splitlines()[2].strip()) > 10


def test_the_version_is_that_of_the_package() -> None:
    assert invoke("--version").stdout == f"finetunekit, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("rnu",), "no such command 'rnu'. Did you mean 'run'?"),
        (("plan",), "Missing argument 'PRESET|PHOTOS'"),
        (("plan", "felidae4", "--sett", "a=1"), "No such option"),
        (("--nope",), "No such option"),
        (("plan", "felidae4", "--seed", "-1"), "--seed"),
        (("predict", "last"), "Missing argument"),
        (("predict", "last", "a.png", "--abstain-below", "2"), "--abstain-below"),
    ],
)
def test_a_mistyped_command_line_is_refused_with_usage(arguments: tuple[str, ...], says: str) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: finetunekit")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert says in line
    assert "Error" not in result.stderr


def test_a_file_of_nearly_that_name_is_suggested(folder: Path) -> None:
    (folder / "p_uni.yaml").touch()
    result = invoke("run", "p_uni.yml")
    assert result.stderr == "error: p_uni.yml: no such file. Did you mean 'p_uni.yaml'?\n"


# ---- streams and exit codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("plan", "felidae5"), 2, "error: unknown preset 'felidae5'. Did you mean 'felidae4'?"),
        (("run", "gone.yaml"), 2, "error: gone.yaml: no such file."),
        (("run", "felidae4", "--set", "nope=1"), 2, "error: --set nope: unknown key."),
        (("plan", "broken_plugin.yaml"), 3, "error: plugin 'broken' "),
        (("predict", "gone", "a.png"), 1, "error: "),
        (("evaluate", "gone", "--data", "."), 1, "error: "),
        (("report", "last"), 1, "error: "),
        (
            ("weights", "where", "vgg16"),
            1,
            "error: vgg16: no verified weights here. Fetch them: finetunekit weights fetch vgg16",
        ),
        (("weights", "fetch", "vgg61"), 2, "error: weights: unknown backbone 'vgg61'. Did you mean 'vgg16'?"),
        (("weights", "fetch", "gone.yaml"), 2, "error: gone.yaml: no such file."),
        (("weights", "where", "vgg61"), 2, "error: weights: unknown backbone 'vgg61'. Did you mean 'vgg16'?"),
        (("presets", "show", "felidae"), 2, "error: unknown preset 'felidae'. Did you mean 'felidae4'?"),
    ],
)
def test_an_error_is_one_line_on_stderr_with_the_exit_code_of_its_kind(
    arguments: tuple[str, ...], code: int, says: str, folder: Path
) -> None:
    write(folder / "broken.py", "raise ValueError('no')\n")
    write(folder / "broken_plugin.yaml", SMALL + "plugins: [broken.py]\n")
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(says)
    assert result.stderr.count("\n") == 1


def test_exit_codes_are_those_of_the_documentation() -> None:
    codes = {
        kind: getattr(errors, kind).exit_code for kind in ("FinetuneKitError", "ConfigError", "PluginError", "RunError")
    }
    assert codes == {"FinetuneKitError": 1, "ConfigError": 2, "PluginError": 3, "RunError": 4}
    assert issubclass(errors.DataError, errors.ConfigError)
    assert issubclass(errors.UnknownComponentError, errors.ConfigError)


def test_a_plugins_mistake_is_blamed_on_it(folder: Path) -> None:
    write(
        folder / "odd.py", "from finetunekit import hookimpl\n\n@hookimpl\ndef register_heads(register):\n    1 / 0\n"
    )
    write(folder / "odd.yaml", SMALL + "plugins: [odd.py]\n")
    result = invoke("plan", "odd.yaml")
    assert result.exit_code == 3
    assert "ZeroDivisionError" in result.stderr
    assert "Traceback" not in result.stderr


# ---- what is printed -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", ["plan felidae4 --json", "presets list --json", "plugins list --json", "weights list --json"]
)
def test_json_is_all_that_is_on_stdout(arguments: str) -> None:
    result = invoke(*arguments.split())
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)


def test_the_plan_says_what_the_json_says() -> None:
    text = invoke("plan", "felidae4", "--seed", "7", "--set", "head.units=9").stdout
    plan = json.loads(invoke("plan", "felidae4", "--seed", "7", "--set", "head.units=9", "--json").stdout)
    lines = [line.split() for line in text.splitlines()]
    assert plan["config"]["seed"] == 7
    assert ["seed:", "7"] in lines
    assert ["units:", "9"] in lines
    for component in plan["components"]:
        assert any(component["name"] in words and component["distribution"] in words for words in lines)


def test_weights_are_listed_with_licence_and_sources() -> None:
    rows = {row["backbone"]: row for row in json.loads(invoke("weights", "list", "--json").stdout)}
    row = rows["vgg16"]
    assert (row["cached"], row["path"], row["licence"]) == (False, None, "CC-BY-4.0")
    assert "Oxford" in row["attribution"]
    assert any(source.startswith("package_index: ") for source in row["sources"])


@pytest.mark.parametrize(
    ("name", "backbones"),
    [
        ("vgg16", ["vgg16"]),
        ("felidae4", ["vgg16"]),
        ("small-data", ["efficientnet_lite0", "efficientnet_lite2"]),
        ("vgg61", ["vgg61"]),
    ],
)
def test_weights_to_fetch_are_named_by_a_backbone_or_a_preset(name: str, backbones: list[str]) -> None:
    assert backbones_of(name)[0] == backbones


def test_weights_of_a_backbone_that_a_presets_own_plugin_brings_are_looked_for() -> None:
    names, host = backbones_of(str(SAMPLES / "my_application.yaml"))
    assert [host.find("backbone", name, "weights").spec is not None for name in names] == [True]


def test_planning_leaves_nothing_behind(folder: Path) -> None:
    for arguments in (["plan", "felidae4"], ["presets", "list"], ["plugins", "list"], ["weights", "list"]):
        assert invoke(*arguments).exit_code == 0
    assert list(folder.iterdir()) == []


def test_no_colour_and_no_carriage_return_off_a_terminal(folder: Path) -> None:
    done = command("plan", "felidae4", "--set", "nope=1", cwd=folder)
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr


def test_a_name_cannot_send_commands_to_the_terminal(folder: Path) -> None:
    name = "a\x1b[2Jb[bold]c"
    for arguments in (
        ("runs", "list", "--out", name),
        ("plan", f"{name}.yaml"),
        ("run", "felidae4", "--set", f"{name}=1"),
    ):
        result = invoke(*arguments)
        assert r"a\x1b[2Jb[bold]c" in result.stdout + result.stderr
        assert "\x1b" not in result.stdout + result.stderr
    write_counted_photos(folder / "photos", {"train": 2, "valid": 1, "test": 1}, ("a\x1b[2Jb", "[red]c"))
    result = invoke("data", "stats", "photos")
    assert "\x1b" not in result.stdout
    assert r"a\x1b[2Jb" in result.stdout
    assert "[red]c" in result.stdout


def test_names_in_any_script_are_printed_where_the_terminal_cannot(folder: Path) -> None:
    write(folder / "lion.yaml", SMALL + 'description: "лев · 狮子"\n')
    environment = {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}  # as a redirected console of a western Windows
    done = command("plan", "lion.yaml", cwd=folder, environment=environment)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert (
        "plan of small" in done.stdout
    )  # the letters that cannot be printed are escaped or replaced, as progress does


@pytest.mark.skipif(os.name == "nt", reason="closed pipes are POSIX")
def test_a_reader_that_goes_away_is_no_traceback(folder: Path) -> None:
    code = "from finetunekit.cli import main; main(prog_name='finetunekit')"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code, "plan", "felidae4"],
        cwd=folder,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
