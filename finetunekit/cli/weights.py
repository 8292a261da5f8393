"""`finetunekit weights`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from finetunekit.errors import WeightsError


@click.group("weights", cls=WholeLines)
def command() -> None:
    """List, fetch, locate and pack pretrained weights."""


def _backbone(name: str) -> Any:
    entry = load_host().find("backbone", name, "weights")
    return entry.spec


@command.command("list")
@json_option
def list_weights(as_json: bool) -> None:
    """List every backbone's weights: whether they are on this machine, their licence and their sources."""
    from finetunekit.models.weights import weights_status

    rows = []
    for name, entry in sorted(load_host().registries["backbone"].items()):
        status = weights_status(name, entry.spec)
        rows.append(
            {
                "backbone": name,
                "cached": status.is_cached,
                "path": str(status.path) if status.is_cached else None,
                "licence": entry.spec.licence,
                "attribution": entry.spec.attribution,
                "sources": [f"{source.kind}: {source.location}" for source in entry.spec.weight_sources],
            }
        )
    if as_json:
        print_json(rows)
    else:
        shown = [(r["backbone"], "yes" if r["cached"] else "no", r["licence"], len(r["sources"])) for r in rows]
        print_table(shown, ("backbone", "here", "licence", "sources"), right=(3,))


@command.command("fetch")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def fetch(names: tuple[str, ...]) -> None:
    """Fetch and verify weights, so that a later run needs no network.

    NAME is a backbone, or a preset (name or path) whose backbones are meant. The paths go to stdout, a line each.
    """
    from finetunekit.models.weights import resolve_weights

    specs: dict[str, Any] = {}
    for name in names:
        backbones, host = backbones_of(name)
        specs |= {backbone: host.find("backbone", backbone, "weights").spec for backbone in backbones}
    for backbone, spec in specs.items():
        print_lines([resolve_weights(backbone, spec, explicit=None, say=make_progress().say).path])


def backbones_of(name: str) -> tuple[list[str], Any]:
    """The backbone of that name, or those of the preset that a name or a path means; and the plugins, the preset's own too."""
    from finetunekit.config.planning import prepare
    from finetunekit.config.preset import is_path

    host = load_host()
    if name in host.registries["backbone"] or not (is_path(name) or name in host.presets):
        return [name], host
    plan, host = prepare(name, progress=make_progress())
    return list(plan.config.backbones) or [plan.backbone.name], host


@command.command("where")
@click.argument("backbone")
def where(backbone: str) -> None:
    """Print the path of BACKBONE's verified weights; exit code 1 if they are not on this machine."""
    from finetunekit.models.weights import weights_status

    status = weights_status(backbone, _backbone(backbone))
    if not status.is_cached:
        raise WeightsError(f"{backbone}: no verified weights here. Fetch them: finetunekit weights fetch {backbone}")
    print_lines([status.path])


@command.command("pack")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--preset", help="Says whose arrays these are, if NAME is no installed backbone: backbone, options, size."
)
@click.option(
    "--set", "settings", multiple=True, metavar="A.B[0].C=VALUE", help="Change a value of the preset. Repeatable."
)
@click.option("--licence", help="Of the arrays, such as Apache-2.0.  [default: as it is known of FILE]")
@click.option("--attribution", help="Line that must travel with them.")
@click.option("--pretrained-on", help="Data set that they were trained on.")
@click.option("--version", default="1.0", show_default=True, help="Of the package.")
@click.option(
    "--into", "folder", default=".", type=click.Path(path_type=Path), help="Folder for the wheel.  [default: this one]"
)
@json_option
def pack(
    name: str,
    file: Path,
    preset: str | None,
    settings: tuple[str, ...],
    licence: str | None,
    attribution: str | None,
    pretrained_on: str | None,
    version: str,
    folder: Path,
    as_json: bool,
) -> None:
    """Write the arrays in FILE as a wheel that a private package index can serve: data only, no code.

    FILE is anything that weights.path takes. The lines on stdout go into the preset of whoever uses the package; the last
    line is the wheel's path.
    """
    from finetunekit.models.pack_file import Facts, pack_file

    packed = pack_file(
        name,
        file,
        preset=preset,
        settings=settings,
        facts=Facts(licence, attribution, pretrained_on),
        version=version,
        folder=folder,
        progress=make_progress(),
    )
    if as_json:
        print_json({"path": packed.path, "package": packed.package, "checksum": packed.checksum})
        return
    print_lines([*packed.yaml_lines(), packed.path])
