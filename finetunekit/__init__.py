"""finetunekit: fine-tune a pretrained image classifier on a few hundred photos, and hear how sure the result is.

What a plugin author or a notebook imports. `run` and `load` are resolved on first use, so that importing this stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetunekit._version import __version__ as __version__
from finetunekit.errors import (
    ConfigError,
    DataError,
    FinetuneKitError,
    PluginError,
    RunError,
    WeightsError,
    did_you_mean,
)
from finetunekit.plugins.hookspecs import hookimpl
from finetunekit.types import (
    Augmentation,
    Backbone,
    BackboneSpec,
    Features,
    Fill,
    FreezeDecision,
    LayerInfo,
    LayerRate,
    Options,
    PhotoListing,
    PhotoRecord,
    PixelContract,
    PretrainedTop,
    SourceContext,
    WeightSource,
)

if TYPE_CHECKING:
    from finetunekit.config.options_file import read_options
    from finetunekit.config.yaml_source import dump_yaml
    from finetunekit.data.decode import decode_photo
    from finetunekit.data.opening import photo_suffixes
    from finetunekit.data.resampling import resample
    from finetunekit.data.splitting import split_by_class
    from finetunekit.data.tables import TABLE_SUFFIXES, PhotoTable, open_table
    from finetunekit.engine.api import run
    from finetunekit.engine.result import RunResult
    from finetunekit.evaluation.predictor import LoadedRun, load
    from finetunekit.experiments.ablation import run_ablation
    from finetunekit.experiments.cross_validation import resume_folds, run_folds
    from finetunekit.experiments.run_group import GroupResult
    from finetunekit.experiments.seeds import resume_seeds, run_seeds
    from finetunekit.experiments.verify import outcome_sentence, verify_run
    from finetunekit.models.freezing import leaf_layers
    from finetunekit.models.layer_names import count_names_anew
    from finetunekit.models.weights.fit import named_variables
    from finetunekit.runs.folder import FinishedRun
    from finetunekit.system.files import append_line, locked, to_csv, write_whole
    from finetunekit.system.formatting import show_duration
    from finetunekit.system.keyed_random import draw_uniform
    from finetunekit.system.network import Client, Closed, Refused, Unreachable, is_offline, is_web_url
    from finetunekit.system.progress import Progress
    from finetunekit.system.terminal import terminal_width


_LAZY = {
    "run": "finetunekit.engine.api",
    "run_ablation": "finetunekit.experiments.ablation",
    "RunResult": "finetunekit.engine.result",
    "run_folds": "finetunekit.experiments.cross_validation",
    "resume_folds": "finetunekit.experiments.cross_validation",
    "run_seeds": "finetunekit.experiments.seeds",
    "resume_seeds": "finetunekit.experiments.seeds",
    "GroupResult": "finetunekit.experiments.run_group",
    "load": "finetunekit.evaluation.predictor",
    "LoadedRun": "finetunekit.evaluation.predictor",
    "FinishedRun": "finetunekit.runs.folder",
    "decode_photo": "finetunekit.data.decode",
    "draw_uniform": "finetunekit.system.keyed_random",
    "count_names_anew": "finetunekit.models.layer_names",
    "leaf_layers": "finetunekit.models.freezing",
    "named_variables": "finetunekit.models.weights.fit",
    "resample": "finetunekit.data.resampling",
    "outcome_sentence": "finetunekit.experiments.verify",
    "photo_suffixes": "finetunekit.data.opening",
    "split_by_class": "finetunekit.data.splitting",
    "open_table": "finetunekit.data.tables",
    "PhotoTable": "finetunekit.data.tables",
    "TABLE_SUFFIXES": "finetunekit.data.tables",
    "terminal_width": "finetunekit.system.terminal",
    "verify_run": "finetunekit.experiments.verify",
    "read_options": "finetunekit.config.options_file",
    "dump_yaml": "finetunekit.config.yaml_source",
    "append_line": "finetunekit.system.files",
    "locked": "finetunekit.system.files",
    "to_csv": "finetunekit.system.files",
    "write_whole": "finetunekit.system.files",
    "Client": "finetunekit.system.network",
    "Closed": "finetunekit.system.network",
    "Refused": "finetunekit.system.network",
    "Unreachable": "finetunekit.system.network",
    "is_offline": "finetunekit.system.network",
    "is_web_url": "finetunekit.system.network",
    "Progress": "finetunekit.system.progress",
    "show_duration": "finetunekit.system.formatting",
}

__all__ = [
    "TABLE_SUFFIXES",
    "Augmentation",
    "Backbone",
    "BackboneSpec",
    "Client",
    "Closed",
    "ConfigError",
    "DataError",
    "Features",
    "Fill",
    "FinetuneKitError",
    "FinishedRun",
    "FreezeDecision",
    "GroupResult",
    "LayerInfo",
    "LayerRate",
    "LoadedRun",
    "Options",
    "PhotoListing",
    "PhotoRecord",
    "PhotoTable",
    "PixelContract",
    "PluginError",
    "PretrainedTop",
    "Progress",
    "Refused",
    "RunError",
    "RunResult",
    "SourceContext",
    "Unreachable",
    "WeightSource",
    "WeightsError",
    "append_line",
    "count_names_anew",
    "decode_photo",
    "did_you_mean",
    "draw_uniform",
    "dump_yaml",
    "hookimpl",
    "is_offline",
    "is_web_url",
    "leaf_layers",
    "load",
    "locked",
    "named_variables",
    "open_table",
    "outcome_sentence",
    "photo_suffixes",
    "read_options",
    "resample",
    "resume_folds",
    "resume_seeds",
    "run",
    "run_ablation",
    "run_folds",
    "run_seeds",
    "show_duration",
    "split_by_class",
    "terminal_width",
    "to_csv",
    "verify_run",
    "write_whole",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'finetunekit' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
