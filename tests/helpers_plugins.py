"""Plugins as a stranger makes them: real distributions with metadata, plugin files, and the command that meets them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import click.testing

from finetunekit.cli import main
from finetunekit.cli.last_resort import EXIT_UNFORESEEN

SMALL = """\
name: small
data: {source: folders, root: photos}
backbone: {name: vgg16}
head: {name: gap_dense}
stages: [{epochs: 1, freeze: {name: first_n, n: 15}}]
"""


def install(folder: Path, module: str, source: str, *, distribution: str = "acme-heads", version: str = "2.5") -> Path:
    """Put a module and the metadata of its distribution into a folder, as an installer does. Put the folder on the path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(f"[finetunekit]\n{module} = {module}\n", encoding="utf-8")
    (info / "RECORD").write_text(f"{module}.py,,\n{info.name}/METADATA,,\n", encoding="utf-8")
    return folder


def write(path: Path, text: str) -> Path:
    """Write dedented text, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def invoke(*arguments: str) -> click.testing.Result:
    """The command in this process: exit code, stdout and stderr. An exception that nobody foresaw fails the test."""
    result = click.testing.CliRunner().invoke(main, arguments, prog_name="finetunekit")
    assert result.exit_code != EXIT_UNFORESEEN, result.stderr
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def command(
    *arguments: str, cwd: Path, path: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with `path` in front of where Python looks for modules."""
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {}), **(environment or {})}
    run = [sys.executable, "-c", "from finetunekit.cli import main; main(prog_name='finetunekit')", *arguments]
    return subprocess.run(
        run,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=120,
        check=False,
    )
