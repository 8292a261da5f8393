"""Every verb of the command line with what nobody would write for each of its arguments and options: the right answer, or one line.

    python benchmarks/fuzz_commands.py [--only VERB] [--cases N]

A case is one verb with valid arguments, one of which is replaced: by a path that cannot be used (too long, no user of that name, a
loop of links, a pipe, a device, a folder in the place of a file and the reverse, a folder that may not be entered, a name that is no
text), a number out of any bound, or a setting or option that is none. What may come of it: exit code 0, or an error whose lines are
printable and bounded. Anything else is a failure: exit code 70, a traceback, a case of more than 20 s of processor time. Permissions hold
for root too while cases run; no case names a device.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import click
from click.testing import CliRunner, Result
from common import new_parser

from finetunekit.cli import main as finetunekit
from finetunekit.cli.last_resort import EXIT_UNFORESEEN

LONGEST_S = 20.0
LONGEST_LINE = 2_100
NUMBERS = ("-1", "0", "9" * 5000, "1e400", "nan", "-inf", "0x10", "1_0", "١٢")
USUAL = {"preset": "preset.yaml", "per_class": "1", "size_px": "8"}
SETTINGS = (
    "=", "a", "a=", "[0]=1", "a..b=1", "seed=0x" + "f" * 5000, "seed=" + "9" * 5000, ".".join("a" * 2000) + "=1", "a[" + "9" * 5000 + "]=1",
    "backbone.x=.inf", "head.units=.nan", "data.root=~nosuchuser/x", "data.root=" + "x" * 300, "data.exclude=[~nosuchuser/x, fifo, folder]",
    "weights.path=~nosuchuser/x", "weights.path=loop", "plugins=[folder, fifo]", "plugins=[~nosuchuser/x.py]", "name=" + "x" * 100_000,
    "x" * 100_000 + "=1",
    "a=" + "[" * 20_000, "a=" + "{a: " * 2000, "a=&x [*x]", "a=!!python/object:x {}", "seed=2026-01-01", "a=\x85", "\udcff=1",
)  # fmt: skip


@contextmanager
def without_root_powers() -> Iterator[None]:
    """Have root meet the permissions of files and folders as everyone does (Linux: without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH)."""
    if os.geteuid() != 0 or sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, powers = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, powers)
    kept = powers[0]
    powers[0] = kept & ~0b110
    libc.capset(header, powers)
    try:
        yield
    finally:
        powers[0] = kept
        libc.capset(header, powers)


def paths(folder: Path) -> Iterator[str]:
    """Paths that lead nowhere good, laid out in a folder, which is then the working one."""
    yield from (
        "~nosuchuser/x",
        "~nosuchuser/x.yaml",
        "x" * 300,
        "x" * 300 + ".yaml",
        "a/" * 3000 + "x",
        "",
        ".",
        "..",
        "-",
    )
    yield from (
        "\udcff",
        "\udcff.yaml",
        "a\nb",
        "\u202ea.csv",
        "\x1b]0;x\x07",
        "a\0b",
        "http://x/y",
        "*",
        "gone/x",
        "gone.csv",
        "gone.tar",
    )
    os.symlink("loop", folder / "loop")
    os.symlink("loop.yaml", folder / "loop.yaml")
    os.symlink("gone", folder / "dangling.csv")
    yield from ("loop", "loop/x", "loop.yaml", "dangling.csv")
    os.mkfifo(folder / "fifo")
    os.mkfifo(folder / "fifo.yaml")
    yield from ("fifo", "fifo/x", "fifo.yaml")
    for name in ("folder", "folder.yaml", "folder.csv", "folder.tar", "folder.npz"):
        (folder / name).mkdir()
        yield name
    for name in (
        "file",
        "file.yaml",
        "file.csv",
        "file.jsonl",
        "file.parquet",
        "file.tar",
        "file.zip",
        "file.npz",
        "file.py",
        "file.jpg",
    ):
        (folder / name).write_bytes(b"\xff\xfe\0[{" * 50)
        (folder / f"empty-{name}").touch()
        yield from (name, f"empty-{name}", f"{name}/x")
    (folder / "locked" / "inside").mkdir(parents=True)
    (folder / "locked" / "inside.yaml").touch()
    (folder / "locked").chmod(0)
    (folder / "secret.yaml").write_text("name: x\n", encoding="utf-8")
    (folder / "secret.yaml").chmod(0)
    yield from ("locked", "locked/inside", "locked/inside.yaml", "secret.yaml")


def leaves(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, by its words."""
    if not isinstance(command, click.Group):
        yield words, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from leaves(inner, (*words, name))


def cases(
    words: tuple[str, ...],
    command: click.Command,
    hostile: tuple[str, ...],
    usual: dict[str, str],
    chosen: click.Parameter,
) -> Iterator[list[str]]:
    """Command lines of one verb, one of whose parameters is not what it should be."""
    if getattr(chosen, "is_flag", False):
        return
    for value in hostile:
        line: list[str] = []
        for param in command.params:
            text = value if param is chosen else usual.get(param.name or "")
            line += _given(param, text, is_needed=param.required)
        yield [*words, *line]


def _given(param: click.Parameter, value: str | None, *, is_needed: bool) -> list[str]:
    if value is None and not is_needed:
        return []
    text = "gone" if value is None else value
    return [text] if isinstance(param, click.Argument) else [f"{param.opts[0]}={text}"]


def fault(result: Result, took_s: float) -> str | None:
    """What is wrong with how a case ended; None: nothing."""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return f"{type(result.exception).__name__}: {result.exception}"[:300]
    if report := re.search("A report is in (.*); send", result.stderr):
        told = Path(report[1]).read_text(encoding="utf-8").partition("\n\ncommand: ")[0].splitlines()
        return "\n  ".join(told[-7:])
    if result.exit_code == EXIT_UNFORESEEN or "Traceback (most" in result.stderr:
        return result.stderr[-400:]
    lines = result.stderr.split("\n")
    if any(len(line) > LONGEST_LINE or not line.isprintable() for line in lines):
        return f"a line that is not bounded or not printable: {max(lines, key=len)[:200]!r}"
    return f"took {took_s:.0f} s" if took_s > LONGEST_S else None


def main() -> None:
    """Try every case, and say how it went."""
    parser = new_parser(__doc__)
    parser.add_argument("--only", help="verb, such as 'data split'")
    parser.add_argument("--run", type=Path, help="a finished run, copied first; without it, none is there")
    parser.add_argument("--photos", type=Path, help="a folder of photos")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch, without_root_powers():
        failures, counted = run_cases(Path(scratch), options.only, options.run, options.photos)
    print(
        f"{counted.total()} command lines: {counted['usable']} with exit code 0, {counted['refused']} refused, {failures} failed"
    )
    sys.exit(1 if failures else 0)


def run_cases(scratch: Path, only: str | None, run: Path | None, photos: Path | None) -> tuple[int, Counter[str]]:
    """Run all cases in a folder; failures, and how the others ended."""
    os.environ["FINETUNEKIT_CACHE"], os.environ["FINETUNEKIT_STATE"] = str(scratch / "cache"), str(scratch / "state")
    usual = USUAL | {"run": "gone", "runs": "gone", "photos": "photos", "paths": "photos"}
    work = scratch / "work"
    work.mkdir()
    if run is not None:
        shutil.copytree(run, work / "runs" / run.name)
        usual |= {"run": run.name, "runs": run.name}
    if photos is not None:
        shutil.copytree(photos, work / "photos")
    (work / "preset.yaml").write_text("extends: felidae4-fast\ndata: {root: gone}\n", encoding="utf-8")
    counted: Counter[str] = Counter()
    failures = 0
    with chdir(work):
        hostile = (*paths(work), *NUMBERS, *SETTINGS)
        for words, command in leaves(finetunekit):
            if only and " ".join(words) != only:
                continue
            print(" ".join(words), flush=True)
            lines = (line for param in command.params for line in cases(words, command, hostile, usual, param))
            for line in lines:
                started = time.process_time()
                result = CliRunner().invoke(finetunekit, line, prog_name="finetunekit")
                wrong = fault(result, time.process_time() - started)
                counted["failed" if wrong else "refused" if result.exit_code else "usable"] += 1
                if wrong:
                    failures += 1
                    print(f"{[part[:80] for part in line]}: {wrong}\n", file=sys.stderr)
        (work / "locked").chmod(0o700)
    return failures, counted


if __name__ == "__main__":
    main()
