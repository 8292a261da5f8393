"""The wheel that users install and the editable install of a checkout: both hold the presets and run them from anywhere.

The wheel is installed into an environment of its own, which borrows every dependency from this one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import finetunekit

ROOT = Path(__file__).parents[1]
PRESETS = sorted(path.relative_to(ROOT / "presets").as_posix() for path in (ROOT / "presets").rglob("*.yaml"))
#: Templates of pages, by their place in the wheel.
TEMPLATES = sorted(
    path.relative_to(root).as_posix()
    for root in (ROOT, ROOT / "plugins" / "builtin")
    for pattern in ("finetunekit/reports/templates/*.html", "finetunekit_builtin/reporters/page/*.[hm]*")
    for path in root.glob(pattern)
)
#: At start-up, ahead of everything else: the borrowed folder goes to the end of the path, and its .pth files are not read, so that the
#: editable install there stays out of sight.
BORROW = "import sys; sys.path.append({borrowed!r})\n"


class Built(NamedTuple):
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A wheel made from the sdist, as a package index would get them."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return Built(*folder.glob("*.whl"), *folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment in which the wheel is installed."""
    home = tmp_path_factory.mktemp("wheel")
    venv.create(home, with_pip=False, symlinks=os.name != "nt")
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = _site_of(python)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(built.wheel)], check=True, capture_output=True, timeout=300)
    (site / "borrow.pth").write_text(BORROW.format(borrowed=sysconfig.get_path("purelib")), encoding="utf-8")
    return python.with_name("finetunekit")


@pytest.fixture(params=["wheel", "editable"])
def command(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The `finetunekit` command of either install."""
    if request.param == "wheel":
        yield request.getfixturevalue("installed")
    else:
        yield Path(sysconfig.get_path("scripts")) / "finetunekit"


def _site_of(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip())


def run(command: Path, *arguments: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [command, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# ---- what is in them -------------------------------------------------------------------------------------------------------------


def test_the_wheel_holds_every_preset_the_types_marker_and_the_entry_points(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = [
            archive.read(name).decode() for name in names if name.endswith(".dist-info/entry_points.txt")
        ]
    assert PRESETS
    assert {f"finetunekit_builtin/presets/{preset}" for preset in PRESETS} <= names
    assert {"finetunekit/py.typed", "finetunekit/cli/run.py", "finetunekit_builtin/vgg16.py"} <= names
    assert {*TEMPLATES, "finetunekit/reports/templates/style.css"} <= names
    assert "[finetunekit]\nbuiltin = finetunekit_builtin" in entry_points
    assert "efficientnet_lite = finetunekit_efficientnet_lite" in entry_points
    assert "keras_applications = finetunekit_keras_applications" in entry_points
    assert "finetunekit = finetunekit.cli:main" in entry_points


def test_the_wheel_holds_code_presets_and_licence_only(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = archive.namelist()
    info = f"finetunekit-{finetunekit.__version__}.dist-info"
    own = {"finetunekit", "finetunekit_builtin", "finetunekit_efficientnet_lite", "finetunekit_keras_applications"}
    assert {name.split("/")[0] for name in names} == {*own, info}
    assert any(name.startswith(f"{info}/licenses/LICENSE") for name in names)
    templates = "finetunekit/testing/templates/"
    strange = [
        name
        for name in names
        if not re.search(r"\.(py|typed|yaml|json|tsv|css|html|js|md|mplstyle)$|dist-info/", name)
        and not name.startswith(templates)
    ]
    assert strange == []


def test_the_sdist_holds_what_a_packager_needs(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "LICENSE", "README.md", "Makefile", "tests/test_install.py", "docs/generate.py"} <= names
    assert {f"presets/{preset}" for preset in PRESETS} <= names
    assert {
        name.replace("finetunekit_builtin", "plugins/builtin/finetunekit_builtin", 1) for name in TEMPLATES
    } <= names
    assert not [name for name in names if name.startswith((".venv", "runs/", "images/", ".git/"))]


# ---- what they do ----------------------------------------------------------------------------------------------------------------


def test_the_command_runs_the_code_that_was_installed(command: Path, tmp_path: Path) -> None:
    code = "import finetunekit, finetunekit_builtin; print(finetunekit.__file__); print(finetunekit_builtin.__file__)"
    python = command.with_name("python")
    is_editable = python.parent == Path(sysconfig.get_path("scripts"))
    for line in run(python, "-c", code, cwd=tmp_path).splitlines():
        assert (
            Path(line).is_relative_to(ROOT / "finetunekit" if "builtin" not in line else ROOT / "plugins")
            == is_editable
        )
        assert Path(line).is_relative_to(python.parents[1]) != is_editable


def test_the_command_says_its_version(command: Path, tmp_path: Path) -> None:
    assert run(command, "--version", cwd=tmp_path).strip() == f"finetunekit, version {finetunekit.__version__}"


def test_presets_are_listed_from_any_folder(command: Path, tmp_path: Path) -> None:
    rows = json.loads(run(command, "presets", "list", "--json", cwd=tmp_path))
    assert {row["name"] for row in rows} == {Path(preset).stem for preset in PRESETS}
    is_editable = command.parent == Path(sysconfig.get_path("scripts"))
    assert all(Path(row["path"]).is_relative_to(ROOT / "presets") == is_editable for row in rows)


def test_a_preset_reaches_a_plan_from_any_folder(command: Path, tmp_path: Path) -> None:
    plan = json.loads(run(command, "plan", "felidae4", "--json", cwd=tmp_path))
    assert plan["config"]["stages"][0]["epochs"] >= 1
    assert {(c["distribution"], c["version"]) for c in plan["components"]} == {("finetunekit", finetunekit.__version__)}


def test_a_preset_is_shown_as_it_was_written(command: Path, tmp_path: Path) -> None:
    assert run(command, "presets", "show", "felidae4", cwd=tmp_path) == (ROOT / "presets/felidae4.yaml").read_text(
        "utf-8"
    )
