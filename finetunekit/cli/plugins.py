"""`finetunekit plugins`."""

from __future__ import annotations

import click

from finetunekit.cli.common import json_option, load_host, print_json, print_table


@click.group("plugins")
def command() -> None:
    """List plugins and what they give."""


@command.command("list")
@json_option
def list_plugins(as_json: bool) -> None:
    """Every component: its kind, its name in YAML, and the plugin, distribution and version that give it."""
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
    print_table(
        ("kind", "name", "plugin", "from"),
        [(r["kind"], r["name"], r["plugin"], f"{r['distribution']} {r['version'] or ''}".strip()) for r in rows],
    )
