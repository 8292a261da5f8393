"""A finished run written for another runtime, with the certificate that it gives the same answers there; or nothing at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydantic

from finetunekit.config.options_file import read_options
from finetunekit.config.plan import Chosen, Plan
from finetunekit.config.sections import ExportSection
from finetunekit.config.validation_errors import describe_problems
from finetunekit.config.yaml_source import Places
from finetunekit.errors import ConfigError, ExportError, FinetuneKitError, PluginError, RunFolderError
from finetunekit.evaluation.predictor import LoadedRun
from finetunekit.evaluation.predictor import load as load_network
from finetunekit.plugins.components import call_builder, component_label, shown_value
from finetunekit.plugins.guard import guarded
from finetunekit.plugins.host import PluginHost, load_plugins
from finetunekit.reports.notebook import default_progress
from finetunekit.runs.folder import CERTIFICATE, EXPORTS, FinishedRun
from finetunekit.runs.reopening import add_plugin_files
from finetunekit.runs.run_files import read_json_file
from finetunekit.system.files import to_json
from finetunekit.system.formatting import one_line
from finetunekit.system.progress import Progress
from finetunekit.types import Exported, Exporter, Predict


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A model that was exported.

    Attributes:
        path: Its folder.
        certificate: Content of `certificate.json`.
        summary: Sentences for the user.
    """

    path: Path
    certificate: Mapping[str, Any]
    summary: tuple[str, ...]


@dataclass(frozen=True)
class ExportableRun(LoadedRun):
    """A run's network, ready to predict and to leave.

    Attributes:
        trust: Whether an exporter may come from its plugin files although it was not started here by this user.
    """

    trust: bool = False

    def export(
        self,
        to: str,
        options: Mapping[str, Any] | None = None,
        *,
        into: str | Path | None = None,
        limits: Mapping[str, float] | None = None,
        progress: Progress | None = None,
    ) -> ExportResult:
        """Write the run for another runtime, with its certificate.

        Args:
            to: Name of an exporter: `litert`, `onnx`, `savedmodel`, `keras` or a plugin's.
            options: Its options, such as `{"quantize": "int8"}`.
            into: Folder to write; default: one in the run's folder, `exports/<name>`.
            limits: Keys of `export` in a preset, such as `{"max_difference": 1e-3}`, that replace those of the run.
            progress: Where progress is printed; default: stderr, or a live line in a notebook.

        Raises:
            ConfigError: Before any work, if there is no such exporter, an option is wrong, a package is missing or `into` is taken.
            ExportError: If the run cannot be converted, or the limits are not kept; nothing is left behind.
        """
        wanted = plan_export(self.run, to, options or {}, into=into, limits=limits or {}, trust=self.trust)
        return wanted.execute(self, progress or default_progress())


def load(
    run: str | Path, *, out: str | Path = "runs", progress: Progress | None = None, trust: bool = False
) -> ExportableRun:
    """Load a run's network, to predict photos or to export it. It is built again through the run's plugins.

    Args:
        run: The run folder, its name under `out`, or `last`.
        out: Folder of runs.
        progress: Receives warnings about broken plugins.
        trust: Run plugin files that came with the run, although this user did not start it here.

    Raises:
        RunFolderError: If there is no such run, if it has no model, or if its plugins now build another network.
        ConfigError: If a plugin that the network came from is missing, or may not be run; the message names it.
        PluginError: If a plugin file cannot be loaded, or a builder fails.
    """
    loaded = load_network(run, out=out, progress=progress, trust=trust)
    return ExportableRun(loaded.run, loaded.classes, loaded.build, loaded.answering, trust)


def plan_export(
    run: FinishedRun,
    to: str,
    options: Mapping[str, Any],
    *,
    into: str | Path | None = None,
    limits: Mapping[str, float] | None = None,
    trust: bool = False,
) -> PlannedExport:
    """Find everything that could be wrong before a network is loaded; arguments as `ExportableRun.export` and `load`.

    Raises:
        ConfigError: With what is wrong.
    """
    host = load_plugins(default_progress().say)
    if to not in host.registries["exporter"]:  # it may be in a plugin file of the run
        add_plugin_files(host, run, trust=trust)
    chosen = _choose(host, to, options)
    own = run.config.get("export", {})
    return PlannedExport(chosen, build_exporter(chosen), _target(run, chosen, into), _limits({**own, **(limits or {})}))


def export_planned(plan: Plan, path: Path, progress: Progress) -> list[str]:
    """Every export that a run ends with, its limits those of its configuration.

    Args:
        plan: Of the run.
        path: Its folder, with its model and predictions.
        progress: Where progress is printed.

    Returns:
        One line for each that failed.
    """
    problems: list[str] = []
    if not plan.exports:
        return problems
    loaded = load(path, progress=progress, trust=True)
    for chosen in plan.exports:
        try:
            target = _target(loaded.run, chosen, None)
            PlannedExport(chosen, build_exporter(chosen), target, plan.config.export).execute(loaded, progress)
        except FinetuneKitError as exc:
            problems += str(exc).splitlines()
    return problems


def _choose(host: PluginHost, to: str, options: Mapping[str, Any]) -> Chosen:
    registered = host.find("exporter", to, "--to")
    return Chosen("exporter", registered, read_options(registered.options, None, options), ("export", "to"))


def build_exporter(chosen: Chosen) -> Exporter:
    """An exporter, ready to write.

    Raises:
        ConfigError: If a package that it needs is missing.
        PluginError: If its builder fails or returns something else.
    """
    exporter = _built(chosen)
    if exporter.check is not None:
        with _blamed(chosen):
            exporter.check()
    return exporter


def _built(chosen: Chosen) -> Exporter:
    """An exporter, ready to open what it wrote elsewhere."""
    exporter = call_builder(chosen)
    if not isinstance(exporter, Exporter):
        raise PluginError(
            f"{component_label(chosen)} must return finetunekit.Exporter. Received: {shown_value(exporter)}"
        )
    return exporter


def open_exported(folder: Path) -> tuple[Predict, Mapping[str, Any]]:
    """Open an exported model in its own runtime; neither TensorFlow nor Keras is loaded, unless the exporter needs them.

    Args:
        folder: Of the model.

    Returns:
        What runs it, and the content of its `certificate.json`.

    Raises:
        ConfigError: If it is not an exported model, or its exporter or runtime is not installed.
        ExportError: If it cannot be opened.
    """
    certificate = _read_certificate(folder)
    named = certificate["exporter"]
    chosen = _choose(load_plugins(default_progress().say), named["name"], named["options"])
    with _blamed(chosen):
        return _built(chosen).open(folder), certificate


def _target(run: FinishedRun, chosen: Chosen, into: str | Path | None) -> Path:
    """Where it goes: a folder that is not there, is empty, or holds an earlier export, which is replaced."""
    precision = getattr(chosen.options, "quantize", "none")
    name = chosen.name if precision == "none" else f"{chosen.name}-{precision}"
    target = run.path / EXPORTS / name if into is None else Path(into)
    is_free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if not is_free and not (target / CERTIFICATE).is_file():
        raise ConfigError(
            f"{target}: already exists and is not an export; it is not overwritten. Choose another folder with --into."
        )
    return target


def _limits(values: Mapping[str, Any]) -> ExportSection:
    try:
        return ExportSection.model_validate_json(json.dumps({**values, "to": ()}))
    except pydantic.ValidationError as exc:
        raise ConfigError(describe_problems(exc, ExportSection, Places(), "limits", ("export",))) from exc


@dataclass(frozen=True)
class PlannedExport:
    """An export that could begin.

    Attributes:
        chosen: The exporter.
        exporter: What its builder returned.
        target: Folder that it will be.
        limits: What its certificate has to keep.
    """

    chosen: Chosen
    exporter: Exporter
    target: Path
    limits: ExportSection

    def execute(self, loaded: LoadedRun, progress: Progress) -> ExportResult:
        """Write, measure, and put in place if the limits are kept; where they are not, do so again in each way the exporter has left.

        Raises:
            ExportError: If it cannot be converted or no way keeps the limits; nothing is left behind.
        """
        from finetunekit.exporting.certificate import PAGE
        from finetunekit.reports.certificate_text import certificate_lines, certificate_page

        refused: list[str] = []
        ways = (self.exporter.write, *self.exporter.again)
        for number, write in enumerate(ways, 1):
            with _beside(self.target) as folder:
                try:
                    certificate = self._certified(loaded, folder, replace(self.exporter, write=write), progress)
                except ExportError as exc:
                    refused.append(str(exc))
                    if number < len(ways):
                        progress.say(f"{exc} Trying another way.")
                    continue
                certificate["refused"] = refused
                (folder / CERTIFICATE).write_text(to_json(certificate), encoding="utf-8")
                (folder / PAGE).write_text(certificate_page(certificate), encoding="utf-8")
                _put(folder, self.target)
            return ExportResult(self.target, certificate, tuple(certificate_lines(certificate)))
        raise ExportError("\n".join(dict.fromkeys(refused)))

    def _certified(self, loaded: LoadedRun, folder: Path, exporter: Exporter, progress: Progress) -> dict[str, Any]:
        from finetunekit.exporting.certificate import Writing, broken_limits, certify
        from finetunekit.exporting.servable import servable_of

        servable = servable_of(loaded)
        progress.say(f"writing {self.chosen.name}")
        with _blamed(self.chosen):
            exported = exporter.write(servable, folder)
            if not isinstance(exported, Exported):
                raise PluginError(
                    f"{component_label(self.chosen)}: write must return finetunekit.Exported. Received: {shown_value(exported)}"
                )
            writing = Writing(self.chosen, exporter, folder, exported, self.limits)
            certificate = certify(loaded, servable, writing, progress.say)
        broken = broken_limits(certificate, writing.limit)
        if broken:
            raise ExportError("\n".join(f"{self.chosen.name}: {line}" for line in broken))
        return certificate


@contextmanager
def _blamed(chosen: Chosen) -> Iterator[None]:
    """Whatever an exporter's code raises is one line that names it."""
    try:
        with guarded(component_label(chosen)):
            yield
    except FinetuneKitError:
        raise
    except Exception as exc:
        raise ExportError(f"{component_label(chosen)} failed: {type(exc).__name__}: {one_line(exc)}") from exc


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """An empty folder beside a place, gone when the block ends unless it was put there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=".partial", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not any(target.parent.iterdir()):
            target.parent.rmdir()


def _put(folder: Path, target: Path) -> None:
    """Rename a folder to its place; what is there is an earlier export, or empty."""
    from finetunekit.system.files import open_to_others, sync_folder

    open_to_others(folder, 0o777)
    earlier = folder.with_name(f"{folder.name}.earlier")
    if target.exists():
        target.rename(earlier)
    folder.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def verify_export(
    folder: str | Path,
    *,
    run: str | Path | None = None,
    photos: Sequence[str | Path] = (),
    out: str | Path = "runs",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure an exported model, wherever it was copied to, once more, and hold it to its certificate.

    Args:
        folder: Of the model.
        run: The run that it was written from, where it is at hand: everything that the certificate holds is measured again.
        photos: Photos of the run, or folders that hold them, wherever they are now: the model is asked for those too.
        out: Folder of runs.
        progress: Receives lines and warnings.

    Returns:
        What `finetunekit.exporting.verification.verify_model` found; `files` and `load_s`; with `run` also `certificate`, measured here.

    Raises:
        ConfigError: If it is not an exported model, its exporter is not installed, or `run` is not the run that it was written from.
        ExportError: If a file is not what it was, labels are in another order, or an answer is further off than is allowed.
    """
    from finetunekit.data.photo_paths import find_photos
    from finetunekit.exporting.speed import list_files, open_timed
    from finetunekit.exporting.verification import too_far, verify_model

    path, progress = Path(folder), progress or Progress()
    certificate = _read_certificate(path)
    chosen = _choose(load_plugins(progress.say), certificate["exporter"]["name"], certificate["exporter"]["options"])
    model, exporter = certificate["model"], _built(chosen)
    if list_files(path, list(model["files"])) != model["files"]:
        raise ExportError(f"{path}: its files are not those that the certificate was written for.")
    with _blamed(chosen):
        if list(exporter.classes(path)) != model["classes"]:
            raise ExportError(f"{path}: the labels in the model are not in the certificate's order.")
        predict, cost = open_timed(exporter, path, model["size_px"])
        found = verify_model(path, certificate, predict, find_photos(photos) if photos else ())
        broken = too_far(found)
        if run is not None:
            found["certificate"], more = _measure_again(
                path, certificate, chosen, exporter, load(run, out=out), progress
            )
            broken += more
    if broken:
        raise ExportError("\n".join(f"{path}: {line}" for line in broken))
    return {**found, "files": len(model["files"]), "load_s": cost["load_s"]}


def _read_certificate(path: Path) -> dict[str, Any]:
    try:
        return read_json_file(path / CERTIFICATE)
    except RunFolderError as exc:
        raise ConfigError(f"{path}: is not an exported model; it has no {CERTIFICATE} that can be read.") from exc


def _measure_again(
    path: Path,
    certificate: Mapping[str, Any],
    chosen: Chosen,
    exporter: Exporter,
    loaded: LoadedRun,
    progress: Progress,
) -> tuple[dict[str, Any], list[str]]:
    """The whole certificate once more, and what is not within its limits."""
    from finetunekit.exporting.certificate import Writing, broken_limits, measure
    from finetunekit.exporting.servable import servable_of

    servable, model = servable_of(loaded), certificate["model"]
    if servable.metadata["model_sha256"] != certificate["run"]["model_sha256"]:
        raise ConfigError(f"{path}: was not written from {loaded.run.path}, whose model is another.")
    ways = (exporter.write, *exporter.again)
    exporter = replace(exporter, write=ways[len(certificate["refused"])])
    limits = _limits({key: certificate["limits"][key] for key in ExportSection.model_fields if key != "to"})
    exported = Exported(
        tuple(model["files"]),
        model["takes"],
        model["precision"],
        model["operations"],
        tuple(certificate["versions"]),
        tuple(model["notes"]),
    )
    writing = Writing(chosen, exporter, path, exported, limits)
    again = measure(loaded, servable, writing, progress.say).certificate
    return again, broken_limits(again, writing.limit)
