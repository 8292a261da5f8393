"""`finetunekit weights`."""

from __future__ import annotations

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
    """List, fetch and find pretrained weights."""


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
@click.argument("backbone")
def fetch(backbone: str) -> None:
    """Fetch and verify BACKBONE's weights, so that a later run needs no network."""
    from finetunekit.models.weights import resolve_weights

    found = resolve_weights(backbone, _backbone(backbone), explicit=None, say=make_progress().say)
    print_lines([found.path])


@command.command("where")
@click.argument("backbone")
def where(backbone: str) -> None:
    """Print the path of BACKBONE's verified weights; exit code 1 if they are not on this machine."""
    from finetunekit.models.weights import weights_status

    status = weights_status(backbone, _backbone(backbone))
    if not status.is_cached:
        raise WeightsError(f"{backbone}: no verified weights here. Fetch them: finetunekit weights fetch {backbone}")
    print_lines([status.path])
