"""From what an author names, a file, a folder, a plugin or a component, to a verdict on each component of it."""

from __future__ import annotations

import os
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetunekit.config.planning import make_plan
from finetunekit.config.preset import read_document
from finetunekit.errors import FinetuneKitError, PluginError, UnknownComponentError, did_you_mean
from finetunekit.plugins.host import GROUP, PluginHost, load_plugins
from finetunekit.system.formatting import one_line
from finetunekit.testing import fresh_process
from finetunekit.testing.checks_listener import verify_listener
from finetunekit.testing.components import check_component
from finetunekit.testing.contract import UnfitExampleError
from finetunekit.testing.data import AWKWARD_CLASSES, tiny_run
from finetunekit.types import Registered

PROJECT = "pyproject.toml"
_FRESH = "trained in one process and loaded in another, as predict does it"
_HEAVY = ("keras", "tensorflow", "torch", "matplotlib")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found out about one thing that a plugin gives.

    Attributes:
        kind: `backbone`, `head` and so on, `preset`, `listener` for notify hooks, or `plugin` for the module itself.
        name: In YAML.
        status: `unchecked` where the kit's own examples do not fit it.
        words: What is wrong, a line for each broken rule; empty where nothing is.
    """

    kind: str
    name: str
    status: Literal["ok", "problem", "unchecked"]
    words: tuple[str, ...] = ()


def check_target(target: str, say: Callable[[str], None]) -> tuple[CheckResult, ...]:
    """Check everything that a plugin registers.

    Args:
        target: A plugin file, the folder of a package, or the name of an installed plugin or of a component.
        say: Receives one line for each component before it is checked, and warnings about broken plugins.

    Returns:
        One verdict a component, in the order of the flow, then one a preset.

    Raises:
        PluginError: If the plugin cannot be loaded, or registers nothing that can be checked.
        UnknownComponentError: If there is no file, plugin or component of that name.
    """
    if _is_path(target):
        with _files_of(Path(target)) as files:
            return _check_files(files, say)
    host = load_plugins(say)
    for broken in host.broken:
        if broken.origin.plugin == target:
            raise PluginError(str(broken))
    return _check_all(host, _named(host, target), say, has_others=True)


def _is_path(target: str) -> bool:
    return target.endswith(".py") or os.sep in target or "/" in target or (Path(target) / PROJECT).is_file()


@contextmanager
def _files_of(path: Path) -> Iterator[list[Path]]:
    """Modules to load; those of a package may import each other meanwhile."""
    if not path.is_dir():
        yield [path]
        return
    home, files = _modules_of(path)
    sys.path.insert(0, str(home))
    try:
        yield files
    finally:
        sys.path.remove(str(home))


def _modules_of(folder: Path) -> tuple[Path, list[Path]]:
    """The folder that a package's modules are imported from, and the files its entry points name."""
    project = folder / PROJECT
    try:
        values = tomllib.loads(project.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise PluginError(
            f"{project}: cannot be read ({one_line(exc)}). Name a plugin file or a package's folder."
        ) from exc
    entries = values.get("project", {}).get("entry-points", {}).get(GROUP, {})
    if not entries:
        raise PluginError(f"{project}: has no [project.entry-points.{GROUP}], so that the plugin would not be found.")
    found = [_module_file(folder, name, module.partition(":")[0]) for name, module in entries.items()]
    return found[0][0], [file for _, file in found]


def _module_file(folder: Path, name: str, module: str) -> tuple[Path, Path]:
    parts = module.split(".")
    for home in (folder / "src", folder):
        for file in (home.joinpath(*parts, "__init__.py"), home.joinpath(*parts).with_suffix(".py")):
            if file.is_file():
                return home.resolve(), file
    raise PluginError(f"{folder / PROJECT}: entry point '{name}' names the module '{module}', which is not there.")


def _check_files(files: list[Path], say: Callable[[str], None]) -> tuple[CheckResult, ...]:
    """Beside the built-ins only: the same plugin may be installed as well."""
    host = load_plugins(say, disabled=frozenset({"all"}))
    known = {(kind, name) for kind, registry in host.registries.items() for name in registry}
    presets, loaded = set(host.presets), set(sys.modules)
    for file in files:
        host.load_file(file)
    heavy = [name for name in _HEAVY if name in sys.modules and name not in loaded]
    added = [(k, n) for k, registry in host.registries.items() for n in registry if (k, n) not in known]
    added += [("preset", name) for name in sorted(host.presets) if name not in presets]
    added += [("listener", file.stem) for file in files if host.listener(file.stem)]
    verdicts = _check_all(host, added, say, has_others=False) if added else ()
    if heavy:
        words = f"loading it imports {heavy[0]}; import it inside builders, so that plans and listings stay fast."
        return (CheckResult("plugin", files[0].stem, "problem", (words,)), *verdicts)
    if not verdicts:
        raise PluginError(
            f"{files[0]}: registers nothing that can be checked. Mark its functions with @finetunekit.hookimpl."
        )
    return verdicts


def _named(host: PluginHost, name: str) -> list[tuple[str, str]]:
    everything = [(kind, entry.name, entry.origin) for kind, r in host.registries.items() for entry in r.values()]
    everything += [("preset", preset, origin) for preset, (_, origin) in sorted(host.presets.items())]
    everything += [("listener", plugin, origin) for plugin, origin in host.origins.items() if host.listener(plugin)]
    found = [(kind, component) for kind, component, origin in everything if name in (component, origin.plugin)]
    if not found and name in host.origins:
        raise PluginError(f"plugin '{name}' ({host.origins[name]}) registers nothing that can be checked.")
    if not found:
        names = {component for _, component, _ in everything} | set(host.origins)
        raise UnknownComponentError(f"no plugin file, plugin or component '{name}'.{did_you_mean(name, names)}")
    return found


def _check_all(
    host: PluginHost, names: list[tuple[str, str]], say: Callable[[str], None], *, has_others: bool
) -> tuple[CheckResult, ...]:
    verdicts = {}
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(folder)
        for kind, name in names:
            say(f"checking {kind} '{name}'")
            verdicts[kind, name] = _verdict(host, kind, name, shared)
        networks = [key for key in names if key[0] in fresh_process.NETWORKS and verdicts[key].status == "ok"]
        if networks:
            say("building the saved network again in another process")
            found = fresh_process.check_in_fresh_process(host, networks, shared, has_others=has_others)
            verdicts |= {key: CheckResult(*key, "problem", (f"{_FRESH}: {words}",)) for key, words in found.items()}
    return tuple(verdicts.values())


def _verdict(host: PluginHost, kind: str, name: str, shared: Path) -> CheckResult:
    try:
        _check_one(host, kind, name, shared)
    except UnfitExampleError as exc:
        return CheckResult(kind, name, "unchecked", (one_line(exc, 1000),))
    except FinetuneKitError as exc:
        return CheckResult(kind, name, "problem", tuple(one_line(line, 1000) for line in str(exc).splitlines()))
    return CheckResult(kind, name, "ok")


def _check_one(host: PluginHost, kind: str, name: str, shared: Path) -> None:
    if kind == "preset":
        make_plan(read_document(str(host.presets[name][0]), host.presets), host)
        return
    run = _shared_run(shared) if kind in ("reporter", "tracker", "exporter", "listener") else None
    if kind == "listener":
        verify_listener(host.listener(name), name, host.origins[name], run)
        return
    registered: Registered = host.registries[kind][name]
    check_component(kind, registered, run=run)


def _shared_run(folder: Path) -> Path:
    """One tiny run serves every reporter, tracker, exporter and listener."""
    made = sorted((folder / "runs").glob("*"))
    return made[0] if made else tiny_run(folder, classes=AWKWARD_CLASSES)
