"""Environments that hold a few installed packages and nothing else, made of links: nothing is installed, nothing is fetched."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
_ALONE = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def lay_out(folder: Path, names: Sequence[str]) -> None:
    """Put installed distributions, and what they require, into a folder that Python can import from."""
    wanted, seen = list(names), set()
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name in seen:
            continue
        seen.add(name)
        found = distribution(name)
        required = [Requirement(text) for text in found.requires or ()]
        wanted += [one.name for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
        _link(folder, found)


def lay_out_project(folder: Path) -> None:
    """Put what finetunekit's wheel holds there, without what it requires: as `pip install --no-deps` does."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        (folder / Path(package).name).symlink_to(ROOT / package)
    _link(folder, distribution("finetunekit"))  # its entry points


def _link(folder: Path, found: Distribution) -> None:
    for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
        link = folder / top
        if not link.exists():
            link.symlink_to(found.locate_file(top))


def run_alone(folder: Path, script: Path, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """A script that ended with a status where only that folder and Python's own library could be imported."""
    # -I and -S: no site-packages, no variables of the environment, not the folder that the test is in
    command = [sys.executable, "-I", "-S", "-c", _ALONE, str(folder), str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == status, done.stderr
    return done
