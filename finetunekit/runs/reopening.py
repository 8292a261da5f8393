"""A run folder's configuration taken up again, through its plugins: installed ones, and its plugin files wherever they are now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetunekit.config.pixel_contract import contract_from
from finetunekit.config.plan import Plan, PlannedMember, PlannedNetwork
from finetunekit.config.planning import make_plan, plan_network
from finetunekit.config.preset import Document, read_document
from finetunekit.errors import ConfigError
from finetunekit.plugins.files import locate_file
from finetunekit.plugins.host import PluginHost, load_plugins
from finetunekit.runs.folder import CONFIG, MEMBERS, PLAN, PROBABILITIES, FinishedRun
from finetunekit.runs.trust import refuse_strange_code
from finetunekit.system.progress import Progress

_OF_NETWORK = ("backbone", "head")


def reopen_plan(
    config: Path,
    *,
    settings: Sequence[str] = (),
    seed: int | None = None,
    progress: Progress | None = None,
    trust: bool = False,
) -> tuple[Plan, PluginHost]:
    """The plan of a run, or of a folder of runs, as `config.planning.prepare` makes it of a preset.

    A plugin file counts as it is now; where it is gone, the run's copy does.

    Args:
        config: The configuration in the folder.
        settings: `a.b[0].c=VALUE` texts.
        seed: Replaces that of the configuration.
        progress: Receives warnings about broken plugins.
        trust: Run plugin files that came with the run, although this user did not start it here.

    Raises:
        ConfigError: With every problem, one a line; a plugin that is gone is named, and so are files that may not be run.
        PluginError: If a plugin file cannot be loaded.
    """
    host = load_plugins((progress or Progress()).say)
    settings = settings if seed is None else [*settings, f"seed={seed}"]
    document = read_document(str(config), host.presets, settings)
    _load_files(host, config, document.plugin_files, trust=trust)
    with _naming_what_is_gone(config.parent, document, host, tuple(host.registries)):
        return make_plan(document, host), host


def reopen_network(run: FinishedRun, progress: Progress | None = None, *, trust: bool = False) -> PlannedNetwork:
    """What the network of a run is built from; plugins that have no part in it need not be here.

    A plugin file counts as it was when the run used it. An ensemble's folder holds the configurations and plugin files of its members.

    Args:
        run: Its folder.
        progress: Receives warnings about broken plugins.
        trust: Run plugin files that came with the run, although this user did not start it here.

    Raises:
        ConfigError: With every problem, one a line; a plugin that is gone is named, and so are files that may not be run.
        PluginError: If a plugin file cannot be loaded.
    """
    first = _reopen_one(run.path, progress, trust=trust)
    together = run.state.get("ensemble", {})
    if together.get("by") != PROBABILITIES:
        return first
    members = tuple(
        PlannedMember(
            network=_reopen_one(run.path / MEMBERS / str(number), progress, trust=trust),
            contract=None if kept["contract"] is None else contract_from(kept["contract"]),
            crop_px=kept["crop_px"],
            seed=kept["seed"],
            folder=kept["folder"],
        )
        for number, kept in enumerate(together["members"], 1)
    )
    return replace(first, members=members)


def _reopen_one(folder: Path, progress: Progress | None, *, trust: bool) -> PlannedNetwork:
    host = load_plugins((progress or Progress()).say)
    document = read_document(str(folder / CONFIG), host.presets)
    origins = {part["distribution"] for part in _components(folder) if part["kind"] in _OF_NETWORK}
    files = [path for path in document.plugin_files if str(path) in origins]
    _load_files(host, folder / CONFIG, files, is_as_trained=True, trust=trust)
    with _naming_what_is_gone(folder, document, host, _OF_NETWORK):
        return plan_network(document, host)


def add_plugin_files(host: PluginHost, run: FinishedRun, *, trust: bool = False) -> None:
    """Load a run's plugin files, as they are now, beside installed plugins: for components that its configuration need not name.

    Args:
        host: Gets them.
        run: Its folder.
        trust: Run plugin files that came with the run, although this user did not start it here.

    Raises:
        ConfigError: If they may not be run.
        PluginError: If one cannot be loaded.
    """
    document = read_document(str(run.path / CONFIG), host.presets)
    _load_files(host, run.path / CONFIG, document.plugin_files, trust=trust)


def _load_files(
    host: PluginHost, config: Path, files: Iterable[Path], *, trust: bool, is_as_trained: bool = False
) -> None:
    found = [(path, locate_file(path, config.parent, is_as_trained=is_as_trained)) for path in files]
    if not trust:
        refuse_strange_code(config.parent, found)
    for path, place in found:
        host.load_file(path, place)


def _components(folder: Path) -> list[dict[str, Any]]:
    """Components of a run with where they came from; a folder of several runs does not say."""
    return list(FinishedRun(folder).plan["components"]) if (folder / PLAN).is_file() else []


@contextmanager
def _naming_what_is_gone(folder: Path, document: Document, host: PluginHost, kinds: Collection[str]) -> Iterator[None]:
    """Where a plan cannot be made because plugins of the run are gone, say which, and how they come back."""
    try:
        yield
    except ConfigError as exc:
        gone = list(_gone(folder, document, host, kinds))
        if gone:
            raise ConfigError(gone) from exc
        raise


def _gone(folder: Path, document: Document, host: PluginHost, kinds: Collection[str]) -> Iterator[str]:
    """One line for each component of a run that nobody registers any more."""
    broken = {entry.origin.plugin: entry.reason for entry in host.broken}
    files = {str(path) for path in document.plugin_files}
    for part in _components(folder):
        kind, name, plugin, origin = part["kind"], part["name"], part["plugin"], part["distribution"]
        if kind not in kinds or name in host.registries[kind]:
            continue
        version = f" {part['version']}" if part["version"] else ""
        start = f"{folder}: {kind} '{name}' came from plugin '{plugin}' ({origin}{version})"
        if origin in files:
            yield f"{start}, which does not register it any more. Put the file back as it was."
        elif plugin in broken:
            yield f"{start}, which cannot be used here: {broken[plugin]}"
        else:
            yield f"{start}, which is not installed here. Install it: pip install {origin}{version.replace(' ', '==')}"
