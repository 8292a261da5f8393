"""Plugins to begin with: what is written keeps its contract, passes its own test, trains, installs, and overwrites nothing."""

from __future__ import annotations

import csv
import importlib
import json
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_plugins import command, invoke

from finetunekit import ConfigError
from finetunekit.cli.common import make_progress
from finetunekit.engine.api import run
from finetunekit.engine.track import track
from finetunekit.plugins.host import load_plugins
from finetunekit.testing import tiny_photos
from finetunekit.testing.scaffold import KINDS, check_name, title_of, write_plugin

pytestmark = pytest.mark.usefixtures("networks_built_again_here")

DOCS = Path(__file__).parents[2] / "docs" / "plugins"
PAGE = (DOCS / "testing.md").read_text(encoding="utf-8")


def name_of(kind: str) -> str:
    return f"my_{kind.replace('-', '_')}"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of every kind."""
    folder = tmp_path_factory.mktemp("packages")
    for kind in KINDS:
        assert invoke("plugins", "new", kind, name_of(kind), "--directory", str(folder)).exit_code == 0
    return folder


@pytest.fixture
def importable(packages: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Their modules can be imported, and are forgotten again."""
    for kind in KINDS:
        monkeypatch.syspath_prepend(str(packages / name_of(kind)))
    yield packages
    for kind in KINDS:
        sys.modules.pop(name_of(kind), None)
    importlib.invalidate_caches()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_every_kind_is_its_package_s_module_and_registers(kind: str, packages: Path, tmp_path: Path) -> None:
    """The same text, so that what keeps its contract there keeps it here."""
    name = name_of(kind)
    (path,) = write_plugin(kind, name, tmp_path, is_file=True, version="0.1.0")
    assert path == tmp_path / f"{name}.py"
    assert path.read_text(encoding="utf-8") == (packages / name / f"{name}.py").read_text(encoding="utf-8")
    host = load_plugins(pytest.fail, files=[path])
    if kind == "listener":
        assert host.listener(name)
        return
    assert host.registries[title_of(kind)][name].options.model_fields


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_of_every_kind_passes_its_own_test(kind: str, importable: Path, tmp_path: Path) -> None:
    module = runpy.run_path(str(importable / name_of(kind) / "tests" / f"test_{name_of(kind)}.py"))
    (own,) = (value for name, value in module.items() if name.startswith("test_"))
    own(**({"tmp_path": tmp_path} if kind == "data-source" else {}))


def test_packages_pass_ruff(packages: Path) -> None:
    check = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "E,F,I,UP,B,ANN,D1", "--ignore", "D103"]
    done = subprocess.run([*check, str(packages)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    layout = [sys.executable, "-m", "ruff", "format", "--no-cache", "--check", str(packages)]
    done = subprocess.run(layout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_all_of_them_together_train_a_network(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in KINDS:
        write_plugin(kind, name_of(kind), tmp_path, is_file=True, version="0.1.0")
    photos = tiny_photos(tmp_path / "photos", size_px=16)
    preset = tmp_path / "mine.yaml"
    preset.write_text(
        f"""
name: mine
plugins: [{", ".join(f"./{name_of(kind)}.py" for kind in KINDS)}]
data: {{source: my_data_source, root: {photos}}}
pixels: {{size_px: 16}}
backbone: {{name: my_backbone, channels: 4}}
weights: {{mode: random}}
head: {{name: my_head}}
augment: [{{name: my_augmentation}}]
stages: [{{epochs: 1, freeze: {{name: my_freezing_policy, train: 1}}}}]
reports: [{{name: my_reporter}}]
track: [{{name: my_tracker, folder: {tmp_path / "tracked"}}}]
""",
        encoding="utf-8",
    )
    assert "my_freezing_policy  from" in invoke("plan", str(preset)).stdout
    monkeypatch.chdir(tmp_path)
    result = run(str(preset), out=tmp_path / "runs", progress=make_progress(is_quiet=True))
    assert re.fullmatch(
        rf"{result.path.name}: \d of 6 photos right\n", (tmp_path / "my_listener.log").read_text("utf-8")
    )
    track(result.path)
    lines = (tmp_path / "tracked" / f"{result.path.name}.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line).get("step") for line in lines] == [None, 1, None]
    page = (result.path / "reports" / "my_reporter.html").read_text(encoding="utf-8")
    with (photos / "photos.csv").open(encoding="utf-8") as stream:
        tested = [row["label"] for row in csv.DictReader(stream) if row["split"] == "test"]
    assert re.findall(r'<th scope="row">(\w+)</th>\s*<td class="number">\d of (\d)</td>', page) == [
        (n, str(tested.count(n))) for n in sorted(set(tested))
    ]
    stages = json.loads((result.path / "run.json").read_text(encoding="utf-8"))["stages"]
    assert stages[0]["decision"] == {"pixels": 0.0, "conv1": 0.0, "conv2": 1.0}


def test_a_package_installs_and_is_found_by_its_entry_point(packages: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    where = ["--no-build-isolation", "--target", str(site), str(packages / "my_head")]
    subprocess.run([*pip, *where], check=True, capture_output=True, timeout=120)
    done = command("plugins", "list", "--json", cwd=tmp_path, path=site)
    (found,) = (row for row in json.loads(done.stdout)["components"] if row["name"] == "my_head")
    assert (found["kind"], found["plugin"], found["distribution"], found["version"]) == (
        "head",
        "my_head",
        "my-head",
        "0.1.0",
    )
    assert found["options"] == ["dropout"]


def test_new_says_what_it_wrote_and_what_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = invoke("plugins", "new", "backbone", "my_net").stdout.splitlines()
    written = [line.removeprefix("wrote ") for line in lines if line.startswith("wrote ")]
    there = [path for path in Path("my_net").rglob("*") if path.is_file()]
    assert sorted(map(Path, written)) == sorted(there)
    assert lines[len(written) :] == [
        "Next:",
        "  finetunekit plugins check my_net",
        "  python -m pytest my_net",
        "  python -m pip install -e my_net",
        "In a preset, once it is installed:",
        "  backbone: {name: my_net}",
        "  weights: {mode: random}",
    ]


@pytest.mark.parametrize("flags", [(), ("--file",)], ids=["package", "file"])
def test_nothing_is_overwritten(flags: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("plugins", "new", "head", "my_head", *flags).exit_code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    result = invoke("plugins", "new", "reporter", "my_head", *flags)
    assert result.exit_code == 2
    assert re.search(r"my_head(\.py)?: already exists, and is not overwritten", result.stderr)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("My-Head", r"'My-Head': a plugin's name is lower-case letters.* Did you mean 'my_head'\?"),
        ("2heads", r"beginning with a letter"),
        ("../head", r"a plugin's name is lower-case letters"),
        ("", r"a plugin's name is lower-case letters"),
        ("class", r"is a word of Python's own"),
        ("json", r"is a word of Python's own"),
        ("keras", r"there is a module of that name already"),
        ("finetunekit", r"there is a module of that name already"),
    ],
)
def test_names_that_cannot_be_used(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_name(name)


def test_a_name_that_another_component_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("plugins", "new", "head", "gap_dense")
    assert (result.exit_code, [*tmp_path.iterdir()]) == (2, [])
    assert re.search(r"'gap_dense': head 'gap_dense' is given by finetunekit \d", result.stderr)


def test_a_file_in_the_way_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"my_head: cannot be written \(.+\)\. Choose another --directory"):
        write_plugin("head", "my_head", tmp_path / "taken", is_file=False, version="0.1.0")


# ---- the page --------------------------------------------------------------------------------------------------------------------


def test_outputs_on_the_page_are_what_the_commands_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From top to bottom in one folder; what a comment `edit: old → new` of the page says is done to my_head.py."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"<!-- edit: (.+?) → (.+?) -->|```console\n(.+?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) > 3
    for old, new, block in blocks:
        if old:
            source = Path("my_head.py").read_text(encoding="utf-8")
            assert source.count(old) == 1
            Path("my_head.py").write_text(source.replace(old, new), encoding="utf-8")
            continue
        first, *shown = block.splitlines()
        result = invoke(*shlex.split(first.removeprefix("$ finetunekit ")))
        printed = (result.stderr + result.stdout).splitlines()
        assert printed == shown


def test_the_page_names_every_check_and_its_rules() -> None:
    from finetunekit import testing

    checks = [name for name in testing.__all__ if name.startswith(("check_", "tiny_"))]
    assert all(f"`{name}" in PAGE for name in checks)


def test_the_test_on_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plugin("head", "my_head", tmp_path, is_file=True, version="0.1.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    (block,) = re.findall(r"```python\n(.+?)```", PAGE, flags=re.DOTALL)
    namespace: dict[str, object] = {}
    try:
        exec(compile(block, "testing.md", "exec"), namespace)  # noqa: S102 - the documentation's own lines
        test = namespace["test_my_head_keeps_its_contract"]
        assert callable(test)
        test()
    finally:
        sys.modules.pop("my_head", None)
