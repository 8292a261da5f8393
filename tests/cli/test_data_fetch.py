"""`data fetch` without a fetcher, with one, with several, and with one that is broken."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

import click
import pytest
from helpers_plugins import invoke

from finetunekit.cli.data_fetch import GROUP


@click.command("fetch")
@click.option("--bird", required=True, help="Which bird.")
def fetch_birds(bird: str) -> None:
    """Fetch birds."""
    click.echo(f"no {bird} today")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(**fetchers: str) -> None:
        entries = [metadata.EntryPoint(name, value, GROUP) for name, value in fetchers.items()]
        monkeypatch.setattr(metadata, "entry_points", lambda group: entries)

    return install


def test_without_a_fetcher_one_line_says_what_to_install(install: Callable[..., None]) -> None:
    install()
    result = invoke("data", "fetch", "--taxon", "cat=Felis catus")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: data fetch: no fetcher of photos is installed. Install one, from a copy of finetunekit's repository:"
        " pip install ./plugins/inaturalist\n"
    )


def test_the_installed_fetcher_has_the_options_and_the_help(install: Callable[..., None]) -> None:
    install(birds=f"{__name__}:fetch_birds")
    assert invoke("data", "fetch", "--bird", "owl").stdout == "no owl today\n"
    shown = invoke("data", "fetch", "-h").stdout
    assert shown.startswith("Usage: finetunekit data fetch [OPTIONS]")
    assert "Fetch birds." in shown
    wrong = invoke("data", "fetch", "--brid", "owl")
    assert (wrong.exit_code, "error: No such option" in wrong.stderr) == (2, True)


def test_of_several_one_is_named(install: Callable[..., None]) -> None:
    install(birds=f"{__name__}:fetch_birds", fish="no_such_module:fetch")
    assert "name a fetcher that is installed with --source. Allowed: birds, fish." in invoke("data", "fetch").stderr
    assert invoke("data", "fetch", "--source", "birds", "--bird", "owl").stdout == "no owl today\n"
    assert "Did you mean 'fish'?" in invoke("data", "fetch", "--source", "fisch").stderr
    broken = invoke("data", "fetch", "--source", "fish")
    assert broken.exit_code == 3
    assert broken.stderr == (
        "error: fetcher 'fish' (no_such_module:fetch) cannot be loaded: No module named 'no_such_module'\n"
    )
