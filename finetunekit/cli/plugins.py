"""`finetunekit plugins`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetunekit.cli.common import (
    WholeLines,
    json_option,
    load_host,
    make_progress,
    print_json,
    print_lines,
    print_table,
)
from finetunekit.system.terminal import table, wrap
from finetunekit.testing.scaffold import KINDS, next_steps, title_of, write_plugin

if TYPE_CHECKING:
    from finetunekit.testing import CheckResult


@click.group("plugins", cls=WholeLines)
def command() -> None:
    """List, create and check plugins."""


@command.command("list")
@json_option
def list_plugins(as_json: bool) -> None:
    """List every component: its kind, its name in YAML, and the plugin, package and version that provide it."""
    host = load_host()
    rows = [
        {
            "kind": kind,
            "name": entry.name,
            "plugin": entry.origin.plugin,
            "distribution": entry.origin.distribution,
            "version": entry.origin.version,
            "options": sorted(entry.options.model_fields),
        }
        for kind, registry in host.registries.items()
        for entry in registry.values()
    ]
    rows += [
        {
            "kind": "preset",
            "name": name,
            "plugin": o.plugin,
            "distribution": o.distribution,
            "version": o.version,
            "options": [],
        }
        for name, (_, o) in sorted(host.presets.items())
    ]
    if as_json:
        print_json({"components": rows, "broken": [str(broken) for broken in host.broken]})
        return
    shown = [(r["kind"], r["name"], r["plugin"], f"{r['distribution']} {r['version'] or ''}") for r in rows]
    print_table(shown, ("kind", "name", "plugin", "from"))


@command.command("new")
@click.argument("kind", type=click.Choice(KINDS), metavar="KIND")
@click.argument("name")
@click.option("--file", "is_file", is_flag=True, help="Write one file for a preset's `plugins:` instead of a package.")
@click.option("--directory", default=".", show_default=True, help="Folder to write it into.")
def new(kind: str, name: str, is_file: bool, directory: str) -> None:
    """Write a plugin to start from: an installable package with a test of its contract.

    KIND is backbone, head, freezing-policy, augmentation, reporter, tracker, data-source, executor, exporter or
    listener. NAME is its name in YAML.
    """
    from finetunekit._version import __version__
    from finetunekit.errors import ConfigError

    known = load_host().registries.get(title_of(kind), {})
    if name in known:
        raise ConfigError(f"'{name}': {title_of(kind)} '{name}' is given by {known[name].origin}. Choose another name.")
    folder = Path(directory)
    written = write_plugin(kind, name, folder, is_file=is_file, version=__version__)
    print_lines([*(f"wrote {path}" for path in written), *next_steps(kind, name, folder, is_file=is_file)])


@command.command("check")
@click.argument("target", metavar="PATH|NAME")
@json_option
@click.pass_context
def check(ctx: click.Context, target: str, as_json: bool) -> None:
    """Check a plugin's components against the contracts of their seams, on tiny data.

    PATH is a plugin file or the folder of a package; NAME is an installed plugin or one component. Exit code 3 if
    something is wrong.
    """
    from finetunekit.testing.targets import check_target

    progress = make_progress()
    verdicts = check_target(target, progress.say)
    if as_json:
        print_json({"target": target, "components": [dataclasses.asdict(verdict) for verdict in verdicts]})
    else:
        _print_verdicts(verdicts)
    if any(verdict.status == "problem" for verdict in verdicts):
        ctx.exit(3)


def _print_verdicts(verdicts: tuple[CheckResult, ...]) -> None:
    shown = table([(f"{verdict.kind} {verdict.name}", verdict.status) for verdict in verdicts])
    for line, verdict in zip(shown, verdicts, strict=True):
        print_lines([line, *(part for words in verdict.words for part in wrap(words, indent=2))])
    counts = {status: sum(v.status == status for v in verdicts) for status in ("ok", "problem", "unchecked")}
    listed = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    print_lines([f"{len(verdicts)} checked: {listed}"])
