"""Plugins: discovery by entry point and by file, isolation of broken ones, and the registries they fill."""

from __future__ import annotations

import copy
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pluggy

from finetunekit.errors import PluginError, UnknownComponentError, did_you_mean
from finetunekit.plugins import hookspecs
from finetunekit.plugins.files import PluginFile, import_file, place_in, read_plugin
from finetunekit.plugins.guard import call_with_timeout, guarded
from finetunekit.plugins.hook_marks import check_marks, forgotten_marks
from finetunekit.system.formatting import one_line
from finetunekit.types import BackboneSpec, Builder, Options, Origin, Registered

GROUP = "finetunekit"
OWN_DISTRIBUTION = "finetunekit"
DISABLE_VARIABLE = "FINETUNEKIT_DISABLE_PLUGINS"
STRICT_VARIABLE = "FINETUNEKIT_STRICT_PLUGINS"
TRACE_VARIABLE = "FINETUNEKIT_TRACE"

#: Registry name → hook that fills it.
COLLECT_HOOKS = {
    "backbone": "register_backbones",
    "head": "register_heads",
    "freezing policy": "register_freezing_policies",
    "augmentation": "register_augmentations",
    "data source": "register_data_sources",
    "reporter": "register_reporters",
    "tracker": "register_trackers",
    "exporter": "register_exporters",
    "executor": "register_executors",
}
LOAD_TIMEOUT_S = 60.0
"""How long a plugin may take to be imported and to register what it has."""
MOST_REGISTRATIONS = 1_000
NOTIFY_HOOKS = ("before_run", "after_epoch", "after_stage", "after_run")


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that could not be used, and the one line that says why."""

    origin: Origin
    reason: str

    def __str__(self) -> str:
        return f"plugin '{self.origin.plugin}' ({self.origin}) is not used: {self.reason}"


@dataclass
class PluginHost:
    """Every loaded plugin of one run, and what each registered.

    Attributes:
        warn: Receives one line for each plugin that is broken.
        is_strict: Raise instead of warn.
        registries: Kind of component → name in YAML → what is registered.
        presets: Name → YAML file, and who registered it.
        origins: Plugin → where it came from.
        broken: Installed plugins that could not be used.
        files: Plugin files, as they were loaded.
    """

    warn: Callable[[str], None]
    is_strict: bool = False
    registries: dict[str, dict[str, Registered]] = field(default_factory=lambda: {kind: {} for kind in COLLECT_HOOKS})
    presets: dict[str, tuple[Path, Origin]] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    broken: list[BrokenPlugin] = field(default_factory=list)
    files: list[PluginFile] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._trace = bool(os.environ.get(TRACE_VARIABLE))

    # ---- loading -----------------------------------------------------------------------------------------------------------------

    def load_installed(self, disabled: frozenset[str] = frozenset()) -> None:
        """Load every installed plugin. `all` in `disabled` leaves only this distribution's own."""
        found = [(_origin_of(entry), entry) for entry in metadata.entry_points(group=GROUP)]
        for origin, entry in sorted(found, key=lambda pair: (not _is_own(pair[0]), pair[0].plugin, pair[1].value)):
            is_own = _is_own(origin)
            if origin.plugin in disabled or ("all" in disabled and not is_own):
                continue
            self._load(origin, entry.load, is_required=is_own)

    def load_file(self, path: Path, place: Path | None = None) -> None:
        """Load one Python file as a plugin; it was named by the run, so that its failure is an error.

        Args:
            path: As the configuration names it.
            place: Where it is now, or a copy of it; default: `path`.

        Raises:
            PluginError: If it cannot be loaded.
        """
        origin, place = Origin(path.stem, str(path), None), place or path
        self._load(origin, lambda: import_file(place), is_required=True, file=place)
        self.files.append(PluginFile(path, read_plugin(place), place))

    def _load(self, origin: Origin, load: Callable[[], Any], *, is_required: bool, file: Path | None = None) -> None:
        """In a thread of its own, which is left behind if it does not end; what it raises there is never the user's Ctrl-C."""
        additions = _Additions(self, origin)
        try:
            outcome = call_with_timeout(
                LOAD_TIMEOUT_S, "it", partial(_outcome, partial(self._collect, load, additions))
            )
        except PluginError as exc:
            additions.is_closed = True
            outcome = exc
        if isinstance(outcome, BaseException):
            where = place_in(file, outcome) if file else ""
            self._reject(BrokenPlugin(origin, where + _said(outcome)), outcome, is_required=is_required)
        else:
            self._adopt(origin, outcome, additions)

    def _adopt(self, origin: Origin, plugin: Any, additions: _Additions) -> None:
        self._manager.register(plugin, name=origin.plugin)
        self.origins[origin.plugin] = origin
        for kind, entries in additions.components.items():
            self.registries[kind].update(entries)
        self.presets.update(additions.presets)
        for line in forgotten_marks(plugin):
            self.warn(f"warning: plugin '{origin.plugin}' ({origin}): {line}")

    def _reject(self, broken: BrokenPlugin, exc: BaseException, *, is_required: bool) -> None:
        if is_required or self.is_strict:
            raise PluginError(str(broken)) from exc
        self.broken.append(broken)
        self.warn(f"warning: {broken}")

    # ---- collecting --------------------------------------------------------------------------------------------------------------

    def _collect(self, load: Callable[[], Any], additions: _Additions) -> Any:
        """Load a plugin and ask all its collect hooks; returns the plugin."""
        origin = additions.origin
        if origin.plugin in self.origins:
            raise PluginError(f"the name is taken by {self.origins[origin.plugin]}. Rename one of them.")
        with guarded(f"plugin '{origin.plugin}' ({origin})", keeps_variables=False):
            plugin = load()
            check_marks(plugin)
            alone = pluggy.PluginManager(hookspecs.PROJECT)  # no other plugin's hooks are called
            alone.add_hookspecs(hookspecs)
            alone.register(plugin, name=origin.plugin)
            for kind, hook_name in COLLECT_HOOKS.items():
                self._call(alone, hook_name, origin, register=additions.register(kind))
            self._call(alone, "register_presets", origin, register=additions.register_preset)
        return plugin

    def _call(self, manager: pluggy.PluginManager, hook_name: str, origin: Origin, **arguments: Any) -> None:
        """Call one hook of one plugin only."""
        if not any(i.plugin_name == origin.plugin for i in getattr(manager.hook, hook_name).get_hookimpls()):
            return
        others = [p for name, p in manager.list_name_plugin() if name != origin.plugin and p is not None]
        caller = manager.subset_hook_caller(hook_name, remove_plugins=others)
        started = time.perf_counter()
        caller(**arguments)
        if self._trace:
            took_ms = (time.perf_counter() - started) * 1e3
            print(f"trace: {hook_name} · {origin.plugin} ({origin}) · {took_ms:.1f} ms", file=sys.stderr)

    def listener(self, plugin: str) -> object | None:
        """A loaded plugin that implements notify hooks; None where it implements none."""
        found = self._manager.get_plugin(plugin)
        heard = [i for name in NOTIFY_HOOKS for i in getattr(self._manager.hook, name).get_hookimpls()]
        return found if any(i.plugin_name == plugin for i in heard) else None

    def notify(self, hook_name: str, **arguments: Any) -> None:
        """Tell every plugin; one that raises is a warning that names it, and does not keep the others from hearing."""
        for implementation in getattr(self._manager.hook, hook_name).get_hookimpls():
            origin = self.origins[implementation.plugin_name]
            label = f"plugin '{origin.plugin}' ({origin})"
            try:
                with guarded(label):
                    self._call(self._manager, hook_name, origin, **{name: _own(v) for name, v in arguments.items()})
            except KeyboardInterrupt:  # the user's
                raise
            except BaseException as exc:  # noqa: BLE001 - a listener must not stop the run; it is named
                self.warn(f"warning: {label} failed in {hook_name}: {_said(exc)}")

    # ---- asking ------------------------------------------------------------------------------------------------------------------

    def find(self, kind: str, name: str, where: str) -> Registered:
        """The component that YAML calls `name`.

        Raises:
            UnknownComponentError: If no loaded plugin registers it; the nearest name and broken plugins are mentioned.
        """
        registry = self.registries[kind]
        if name in registry:
            return registry[name]
        hint = did_you_mean(name, registry)
        hint += "" if hint.startswith(" Did") else " If a plugin brings it, install that plugin."
        if self.broken:
            hint += " Not loaded: " + "; ".join(f"{b.origin.plugin} ({b.origin}): {b.reason}" for b in self.broken)
        raise UnknownComponentError(f"{where}: unknown {kind} '{name}'.{hint}")


def _own(value: Any) -> Any:
    """A copy that a listener may change without harm; errors, paths and plans cannot be changed, or are no longer used."""
    return copy.deepcopy(value) if isinstance(value, (dict, list, tuple)) else value


@dataclass
class _Additions:
    """What one plugin registers, held back until all its hooks have answered."""

    host: PluginHost
    origin: Origin
    components: dict[str, dict[str, Registered]] = field(default_factory=dict)
    presets: dict[str, tuple[Path, Origin]] = field(default_factory=dict)
    is_closed: bool = False

    def register(self, kind: str) -> Callable[..., None]:
        def register_component(
            name: str, build: Builder, options: type[Options] = Options, *, spec: BackboneSpec | None = None
        ) -> None:
            self._count_one()
            _check_registration(kind, name, build, options, spec)
            mine = self.components.setdefault(kind, {})
            self._refuse_twice(kind, name, {**self.host.registries[kind], **mine})
            mine[name] = Registered(name, build, options, self.origin, spec)

        return register_component

    def _count_one(self) -> None:
        if self.is_closed:
            threading.Event().wait()  # of a thread that was left behind: it costs nothing from here on
        if sum(map(len, self.components.values())) + len(self.presets) >= MOST_REGISTRATIONS:
            raise PluginError(f"it registers more than {MOST_REGISTRATIONS:,} names.")

    def register_preset(self, name: str, path: Path) -> None:
        self._count_one()
        known = {**self.host.presets, **self.presets}
        if name in known:
            raise PluginError(f"preset '{name}' is registered twice: by {known[name][1]} and by {self.origin}.")
        self.presets[name] = (Path(path), self.origin)

    def _refuse_twice(self, kind: str, name: str, known: Mapping[str, Registered]) -> None:
        if name in known:
            first = known[name].origin
            raise PluginError(
                f"{kind} '{name}' is registered twice: by plugin '{first.plugin}' ({first}) and by "
                f"'{self.origin.plugin}' ({self.origin}). Disable one, or register another name."
            )


def _check_registration(
    kind: str, name: str, build: Builder, options: type[Options], spec: BackboneSpec | None
) -> None:
    if not isinstance(name, str) or not name or not all(c.isalnum() or c in "_-./:" for c in name):
        raise PluginError(f"a {kind}'s name is letters, digits and _ - . / : only. Received: {name!r}")
    if not callable(build):
        raise PluginError(f"{kind} '{name}': the builder is not callable. Received: {build!r}")
    if not (isinstance(options, type) and issubclass(options, Options)):
        raise PluginError(f"{kind} '{name}': options must be a subclass of finetunekit.Options. Received: {options!r}")
    try:
        options.model_rebuild()
    except Exception as exc:  # pydantic, or a type of the plugin's own
        raise PluginError(
            f"{kind} '{name}': the fields of {options.__name__} cannot be understood: {one_line(exc)}"
        ) from exc
    if not isinstance(spec, BackboneSpec) if kind == "backbone" else spec is not None:
        raise PluginError(
            f"{kind} '{name}': spec must be a BackboneSpec for backbones, and absent otherwise. Received: {spec!r}"
        )


def load_plugins(
    warn: Callable[[str], None],
    files: Iterable[Path] = (),
    *,
    disabled: frozenset[str] | None = None,
    is_strict: bool | None = None,
) -> PluginHost:
    """Load installed plugins, then the files a run names.

    Args:
        warn: Receives one line for each installed plugin that is broken.
        files: Plugin files.
        disabled: Entry-point names not to load, `all` for every one but the built-ins; default: `$FINETUNEKIT_DISABLE_PLUGINS`,
            separated by commas.
        is_strict: Make a broken installed plugin an error; default: whether `$FINETUNEKIT_STRICT_PLUGINS` is set.

    Raises:
        PluginError: If a built-in or a named file cannot be loaded, or, when strict, any.
    """
    if disabled is None:
        disabled = frozenset(filter(None, (part.strip() for part in os.environ.get(DISABLE_VARIABLE, "").split(","))))
    if is_strict is None:
        is_strict = bool(os.environ.get(STRICT_VARIABLE))
    host = PluginHost(warn=warn, is_strict=is_strict)
    host.load_installed(disabled)
    for path in files:
        host.load_file(path)
    return host


def _outcome(call: Callable[[], Any]) -> Any:
    """What a call returns, or what it raises, as a value."""
    try:
        return call()
    except BaseException as exc:  # noqa: BLE001 - whatever a stranger's module raises is one line, by name
        return exc


def _origin_of(entry: metadata.EntryPoint) -> Origin:
    if entry.dist is None:
        return Origin(entry.name, "unknown", None)
    said = entry.dist.metadata  # read from its file each time
    return Origin(entry.name, said["Name"], said["Version"])


def _is_own(origin: Origin) -> bool:
    """Built-ins are loaded first, so that of two components with one name the stranger's is the one refused."""
    return origin.distribution == OWN_DISTRIBUTION


def _said(exc: BaseException) -> str:
    text, name = one_line(exc), type(exc).__name__
    return text if isinstance(exc, PluginError) or text == name else f"{name}: {text}"
