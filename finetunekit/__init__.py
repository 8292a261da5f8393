"""finetunekit: fine-tune a pretrained image classifier on a few hundred photos, and learn how certain the result is.

What a plugin author or a notebook imports. Nearly all of it is resolved on first use, so that importing this stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetunekit._version import __version__ as __version__
from finetunekit.errors import (
    ConfigError,
    DataError,
    ExportError,
    FinetuneKitError,
    PluginError,
    RunError,
    WeightsError,
    did_you_mean,
)

if TYPE_CHECKING:
    from finetunekit.config.options_file import read_options
    from finetunekit.config.yaml_source import dump_yaml
    from finetunekit.data.decode import decode_photo
    from finetunekit.data.photo_file import photo_suffixes
    from finetunekit.data.resampling import resample
    from finetunekit.data.scanning import (
        HEIC_SUFFIXES,
        FolderContents,
        Scanner,
        folder_id,
        heic_note,
        is_clutter,
        some_names,
    )
    from finetunekit.data.splitting import split_by_class
    from finetunekit.data.tables import TABLE_SUFFIXES, PhotoTable, from_windows, open_table, same_form, same_letters
    from finetunekit.engine.api import run
    from finetunekit.engine.export import ExportResult, load
    from finetunekit.engine.result import RunResult
    from finetunekit.evaluation.predictor import LoadedRun
    from finetunekit.experiments.ablation import run_ablation
    from finetunekit.experiments.asking import audit, compare, probe
    from finetunekit.experiments.cross_validation import resume_folds, run_folds
    from finetunekit.experiments.ensemble import ensemble
    from finetunekit.experiments.leave_out import resume_left_out, run_left_out
    from finetunekit.experiments.run_group import GroupResult
    from finetunekit.experiments.seeds import resume_seeds, run_seeds
    from finetunekit.experiments.tuning import run_tune
    from finetunekit.exporting.serving_graph import save_graph
    from finetunekit.models.freezing import leaf_layers
    from finetunekit.models.layer_names import count_names_anew
    from finetunekit.models.weights.fit import named_variables
    from finetunekit.plugins.hookspecs import hookimpl
    from finetunekit.runs.folder import FinishedRun
    from finetunekit.runs.verify import published_sentence, verify_run
    from finetunekit.serving.server import serve
    from finetunekit.system.environment import available_cpus
    from finetunekit.system.files import append_line, locked, open_regular, read_regular, to_cell, to_csv, write_whole
    from finetunekit.system.formatting import counted, show_bytes, show_duration
    from finetunekit.system.keyed_random import draw_uniform
    from finetunekit.system.memory import free_memory_bytes
    from finetunekit.system.network import Client, Closed, Refused, Unreachable, is_offline, is_web_url
    from finetunekit.system.progress import Progress
    from finetunekit.system.terminal import terminal_width
    from finetunekit.types import (
        Augmentation,
        Backbone,
        BackboneSpec,
        Executor,
        Exported,
        Exporter,
        Features,
        Fill,
        FreezeDecision,
        Job,
        LayerInfo,
        LayerRate,
        Options,
        Outcome,
        PhotoListing,
        PhotoRecord,
        PixelContract,
        Predict,
        PretrainedTop,
        Servable,
        SourceContext,
        TrackedEnd,
        TrackedRun,
        Tracker,
        WeightSource,
    )


#: Module → what comes from it, on first use.
_LAZY = {
    "finetunekit.config.options_file": ("read_options",),
    "finetunekit.config.yaml_source": ("dump_yaml",),
    "finetunekit.data.decode": ("decode_photo",),
    "finetunekit.data.photo_file": ("photo_suffixes",),
    "finetunekit.data.resampling": ("resample",),
    "finetunekit.data.scanning": (
        "HEIC_SUFFIXES",
        "FolderContents",
        "Scanner",
        "folder_id",
        "heic_note",
        "is_clutter",
        "some_names",
    ),
    "finetunekit.data.splitting": ("split_by_class",),
    "finetunekit.data.tables": (
        "open_table",
        "PhotoTable",
        "TABLE_SUFFIXES",
        "from_windows",
        "same_form",
        "same_letters",
    ),
    "finetunekit.engine.api": ("run",),
    "finetunekit.engine.export": ("ExportResult", "load"),
    "finetunekit.engine.result": ("RunResult",),
    "finetunekit.evaluation.predictor": ("LoadedRun",),
    "finetunekit.experiments.ablation": ("run_ablation",),
    "finetunekit.experiments.tuning": ("run_tune",),
    "finetunekit.experiments.asking": ("audit", "compare", "probe"),
    "finetunekit.experiments.cross_validation": ("run_folds", "resume_folds"),
    "finetunekit.experiments.ensemble": ("ensemble",),
    "finetunekit.experiments.leave_out": ("run_left_out", "resume_left_out"),
    "finetunekit.experiments.run_group": ("GroupResult",),
    "finetunekit.experiments.seeds": ("run_seeds", "resume_seeds"),
    "finetunekit.runs.verify": ("published_sentence", "verify_run"),
    "finetunekit.exporting.serving_graph": ("save_graph",),
    "finetunekit.models.freezing": ("leaf_layers",),
    "finetunekit.models.layer_names": ("count_names_anew",),
    "finetunekit.models.weights.fit": ("named_variables",),
    "finetunekit.plugins.hookspecs": ("hookimpl",),
    "finetunekit.runs.folder": ("FinishedRun",),
    "finetunekit.serving.server": ("serve",),
    "finetunekit.system.environment": ("available_cpus",),
    "finetunekit.system.files": (
        "append_line",
        "locked",
        "open_regular",
        "read_regular",
        "to_cell",
        "to_csv",
        "write_whole",
    ),
    "finetunekit.system.formatting": ("counted", "show_bytes", "show_duration"),
    "finetunekit.system.keyed_random": ("draw_uniform",),
    "finetunekit.system.memory": ("free_memory_bytes",),
    "finetunekit.system.network": ("Client", "Closed", "Refused", "Unreachable", "is_offline", "is_web_url"),
    "finetunekit.system.progress": ("Progress",),
    "finetunekit.system.terminal": ("terminal_width",),
    "finetunekit.types": (
        "Augmentation",
        "Backbone",
        "BackboneSpec",
        "Executor",
        "Exported",
        "Exporter",
        "Features",
        "Fill",
        "FreezeDecision",
        "Job",
        "LayerInfo",
        "LayerRate",
        "Options",
        "Outcome",
        "PhotoListing",
        "PhotoRecord",
        "PixelContract",
        "Predict",
        "PretrainedTop",
        "Servable",
        "SourceContext",
        "TrackedEnd",
        "TrackedRun",
        "Tracker",
        "WeightSource",
    ),
}

__all__ = [
    "HEIC_SUFFIXES",
    "TABLE_SUFFIXES",
    "Augmentation",
    "Backbone",
    "BackboneSpec",
    "Client",
    "Closed",
    "ConfigError",
    "DataError",
    "Executor",
    "ExportError",
    "ExportResult",
    "Exported",
    "Exporter",
    "Features",
    "Fill",
    "FinetuneKitError",
    "FinishedRun",
    "FolderContents",
    "FreezeDecision",
    "GroupResult",
    "Job",
    "LayerInfo",
    "LayerRate",
    "LoadedRun",
    "Options",
    "Outcome",
    "PhotoListing",
    "PhotoRecord",
    "PhotoTable",
    "PixelContract",
    "PluginError",
    "Predict",
    "PretrainedTop",
    "Progress",
    "Refused",
    "RunError",
    "RunResult",
    "Scanner",
    "Servable",
    "SourceContext",
    "TrackedEnd",
    "TrackedRun",
    "Tracker",
    "Unreachable",
    "WeightSource",
    "WeightsError",
    "append_line",
    "audit",
    "available_cpus",
    "compare",
    "count_names_anew",
    "counted",
    "decode_photo",
    "did_you_mean",
    "draw_uniform",
    "dump_yaml",
    "ensemble",
    "folder_id",
    "free_memory_bytes",
    "from_windows",
    "heic_note",
    "hookimpl",
    "is_clutter",
    "is_offline",
    "is_web_url",
    "leaf_layers",
    "load",
    "locked",
    "named_variables",
    "open_regular",
    "open_table",
    "photo_suffixes",
    "probe",
    "published_sentence",
    "read_options",
    "read_regular",
    "resample",
    "resume_folds",
    "resume_left_out",
    "resume_seeds",
    "run",
    "run_ablation",
    "run_folds",
    "run_left_out",
    "run_seeds",
    "run_tune",
    "same_form",
    "same_letters",
    "save_graph",
    "serve",
    "show_bytes",
    "show_duration",
    "some_names",
    "split_by_class",
    "terminal_width",
    "to_cell",
    "to_csv",
    "verify_run",
    "write_whole",
]


def __getattr__(name: str) -> Any:
    for module, names in _LAZY.items():
        if name in names:
            import importlib

            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'finetunekit' has no attribute '{name}'")


#: What completion offers in a notebook. Plugins import more by name: docs/plugins/hooks.md and docs/plugins/writing.md say what.
_FOR_NOTEBOOKS = ("audit", "compare", "ensemble", "load", "probe", "run")


def __dir__() -> list[str]:
    return [*_FOR_NOTEBOOKS, "__all__", "__doc__", "__file__", "__name__", "__path__", "__version__"]
