"""`finetunekit data fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetunekit.cli.common import json_option, make_progress, print_json, print_table

if TYPE_CHECKING:
    from finetunekit.data.inaturalist.outcome import Fetched
    from finetunekit.data.inaturalist.spec import FetchSpec


@click.command("fetch")
@click.argument("spec", required=False, metavar="[SPEC.yaml]", type=click.Path(path_type=Path))
@click.option("--taxon", "taxa", multiple=True, metavar="CLASS=NAME", help="A class, instead of SPEC. Repeatable.")
@click.option("--licence", "licences", multiple=True, metavar="CODE", help="Licence to take, as cc-by. Repeatable.")
@click.option("--per-class", type=click.IntRange(min=1), metavar="N", help="Training photos of each class.")
@click.option("--size", type=click.Choice(["small", "medium", "large"]), help="Long side: 240, 500 or 1024 pixels.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Another seed splits the observers otherwise.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder; default: <name>-photos.")
@click.option("--pause", "pause_s", type=click.FloatRange(1, 3600), default=1.0, show_default=True, metavar="S",
              help="Least seconds between requests.")  # fmt: skip
@click.option("--server", metavar="URL", help="Another address of the API, http or https.")
@click.option("--plan", "is_plan", is_flag=True, help="Print the specification as YAML; ask for nothing.")
@json_option
def fetch(
    *,
    spec: Path | None,
    taxa: tuple[str, ...],
    licences: tuple[str, ...],
    per_class: int | None,
    size: str | None,
    seed: int | None,
    out: Path | None,
    pause_s: float,
    server: str | None,
    is_plan: bool,
    as_json: bool,
) -> None:
    """Fetch openly licensed photos from iNaturalist: cat, lion, lynx and tiger, or the classes of SPEC.yaml.

    Photos go to DIR/images/{train,valid,test}/<class>/; all photos of one observer are in one split. ATTRIBUTION.csv names the
    author, the licence and the observation of each. An interrupted command goes on when it is given again.
    """
    chosen = _choose(spec, taxa, licences, per_class, size, seed)
    if is_plan:
        _print_spec(chosen, as_json=as_json)
        return
    done = _fetch(chosen, out or Path(f"{chosen.name}-photos"), pause_s, server)
    if as_json:
        import dataclasses

        print_json(dataclasses.asdict(done))
        return
    _report(done)


def _choose(
    path: Path | None,
    taxa: tuple[str, ...],
    licences: tuple[str, ...],
    per_class: int | None,
    size: str | None,
    seed: int | None,
) -> FetchSpec:
    from finetunekit.data.inaturalist.spec import in_proportion, make_spec, parse_taxa, read_spec

    if path is not None and taxa:
        raise click.UsageError("SPEC.yaml and --taxon both name classes. Give one of them.")
    changes: dict[str, Any] = {"licences": list(licences) or None, "size": size, "seed": seed}
    changes = {key: value for key, value in changes.items() if value is not None}
    plain = make_spec(parse_taxa(taxa), changes) if taxa else read_spec(path, changes)
    if per_class is None:
        return plain
    changes["counts"] = in_proportion(plain.counts, per_class)
    return make_spec(parse_taxa(taxa), changes) if taxa else read_spec(path, changes)


def _print_spec(spec: FetchSpec, *, as_json: bool) -> None:
    import json

    from finetunekit.config.yaml_source import dump_yaml

    values = json.loads(spec.model_dump_json())
    if as_json:
        print_json(values)
    else:
        click.echo(dump_yaml(values), nl=False)


def _fetch(spec: FetchSpec, root: Path, pause_s: float, server: str | None) -> Fetched:
    from finetunekit.data.inaturalist.api import SERVER
    from finetunekit.data.inaturalist.fetching import check_online, fetch
    from finetunekit.data.inaturalist.transport import load_transport

    check_online()
    progress = make_progress()
    transport = load_transport(pause_s=pause_s, say=progress.say)
    try:
        return fetch(spec, root, transport=transport, server=server or SERVER, progress=progress)
    finally:
        transport.close()


def _report(done: Fetched) -> None:
    splits = list(next(iter(done.counts.values())))
    print_table(("class", *splits), [(label, *(n[s] for s in splits)) for label, n in done.counts.items()])
    for line in done.missing:
        click.echo(f"fewer than asked for: {line}")
    if not done.requests:
        click.echo("every photo was there already")
    click.echo(f"authors and licences: {done.root / 'ATTRIBUTION.csv'}. Next:")
    click.echo(f"  finetunekit run felidae4 --set data.root={done.images}")
