"""The command `finetunekit data fetch`, which this package provides."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from finetunekit import Client, ConfigError, Progress, __version__, dump_yaml, is_offline, is_web_url
from finetunekit_inaturalist import FetchError
from finetunekit_inaturalist.api import SERVER
from finetunekit_inaturalist.spec import FetchSpec, make_spec, parse_taxa, read_spec

if TYPE_CHECKING:
    from finetunekit_inaturalist.results import Fetched

#: iNaturalist asks for at most 60 requests a minute. Source: api.inaturalist.org/v1/docs, terms of use.
LEAST_PAUSE_S = 1.0


@click.command("fetch")
@click.argument("spec", required=False, metavar="[SPEC.yaml]", type=click.Path(path_type=Path))
@click.option("--taxon", "taxa", multiple=True, metavar="CLASS=NAME", help="A class, instead of SPEC. Repeatable.")
@click.option("--licence", "licences", multiple=True, metavar="CODE", help="Licence to take, as cc-by. Repeatable.")
@click.option("--per-class", type=click.IntRange(min=1), metavar="N", help="Training photos of each class.")
@click.option("--size", type=click.Choice(["small", "medium", "large"]), help="Long side: 240, 500 or 1024 pixels.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Another seed splits the observers otherwise.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder; default: <name>-photos.")
@click.option("--pause", "pause_s", type=click.FloatRange(LEAST_PAUSE_S, 3600), default=LEAST_PAUSE_S,
              show_default=True, metavar="S", help="Least seconds between requests.")  # fmt: skip
@click.option("--server", default=SERVER, metavar="URL", help="Another address of the API, http or https.")
@click.option("--plan", "is_plan", is_flag=True, help="Print the specification as YAML; ask for nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
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
    server: str,
    is_plan: bool,
    as_json: bool,
) -> None:
    """Fetch openly licensed photos from iNaturalist: cat, lion, lynx and tiger, or the classes of SPEC.yaml.

    Photos go to DIR/images/{train,valid,test}/<class>/; all photos of one observer are in one split. ATTRIBUTION.csv names the
    author, the licence and the observation of each. An interrupted command goes on when it is given again.
    """
    chosen = _choose(spec, taxa, licences, per_class, size, seed)
    if is_plan:
        values = json.loads(chosen.model_dump_json())
        click.echo(json.dumps(values, indent=2) if as_json else dump_yaml(values).rstrip("\n"))
        return
    done = _fetch(chosen, out or Path(f"{chosen.name}-photos"), pause_s, server)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(done), indent=2, default=str))
    else:
        _report(done)


def _choose(
    path: Path | None,
    taxa: tuple[str, ...],
    licences: tuple[str, ...],
    per_class: int | None,
    size: str | None,
    seed: int | None,
) -> FetchSpec:
    if path is not None and taxa:
        raise click.UsageError("SPEC.yaml and --taxon both name classes. Give one of them.")
    asked: dict[str, Any] = {"licences": list(licences) or None, "size": size, "seed": seed}
    changes = {key: value for key, value in asked.items() if value is not None}

    def chosen() -> FetchSpec:
        return make_spec(parse_taxa(taxa), changes) if taxa else read_spec(path, changes)

    if per_class is not None:
        changes["counts"] = chosen().counts.in_proportion(per_class)
    return chosen()


def _fetch(spec: FetchSpec, root: Path, pause_s: float, server: str) -> Fetched:
    from finetunekit_inaturalist.fetching import fetch

    if not is_web_url(server) or "@" in urlsplit(server).netloc:
        raise ConfigError(f"--server: not an http or https URL: {server[:100]!r}. Name the API's address, as {SERVER}.")
    if is_offline():
        raise FetchError("data fetch: FINETUNEKIT_OFFLINE is set, so nothing is fetched. Unset it first.")
    progress = Progress()
    with make_client(pause_s=pause_s, progress=progress) as client:
        return fetch(spec, root, client=client, server=server.rstrip("/"), progress=progress)


def make_client(*, pause_s: float, progress: Progress) -> Client:
    """A client that names this tool and its version, asks slowly and patiently, and follows no answer elsewhere."""
    return Client(
        f"finetunekit/{__version__} (data fetch; photos for training a classifier)",
        attempts=6,
        longest_wait_s=900,
        pause_s=pause_s,
        follows_redirects=False,
        say=progress.say,
    )


def _report(done: Fetched) -> None:
    for label, counts in done.counts.items():
        click.echo(f"{label}: {', '.join(f'{count} {split}' for split, count in counts.items())}")
    for line in done.missing:
        click.echo(f"fewer than asked for: {line}")
    if not done.requests:
        click.echo("every photo was already there")
    click.echo(f"authors and licences: {done.root / 'ATTRIBUTION.csv'}. Next:")
    click.echo(f"  finetunekit run felidae4 --set data.root={done.images}")
