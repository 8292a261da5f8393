"""`finetunekit data fetch`: the command of an installed distribution, found by its entry point."""

from __future__ import annotations

from importlib import metadata

import click

from finetunekit.errors import ConfigError, PluginError, did_you_mean

GROUP = "finetunekit.fetchers"
#: What to do where there is none.
INSTALL = "Install one, from a copy of finetunekit's repository: pip install ./plugins/inaturalist"


@click.command("fetch", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.option("--source", metavar="NAME", help="Which of several installed fetchers.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def fetch(context: click.Context, source: str | None, arguments: tuple[str, ...]) -> None:
    """Fetch photos from a public collection; each fetcher is a separate package."""
    found = {entry.name: entry for entry in metadata.entry_points(group=GROUP)}
    if not found:
        raise ConfigError(f"data fetch: no fetcher of photos is installed. {INSTALL}")
    name = next(iter(found)) if source is None and len(found) == 1 else source or ""
    if name not in found:
        raise ConfigError(f"data fetch: name a fetcher that is installed with --source.{did_you_mean(name, found)}")
    try:
        command: click.Command = found[name].load()
    except Exception as exc:  # whatever a stranger's module raises is one line, by name
        raise PluginError(f"fetcher '{name}' ({found[name].value}) cannot be loaded: {exc}") from exc
    with command.make_context(context.info_name, list(arguments), parent=context.parent) as inner:
        command.invoke(inner)
