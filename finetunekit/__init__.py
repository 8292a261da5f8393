"""finetunekit: fine-tune a pretrained image classifier on a few hundred photos, and hear how sure the result is.

What a plugin author or a notebook imports. `run` and `load` are resolved on first use, so that importing this stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetunekit.errors import (
    ConfigError,
    DataError,
    FinetuneKitError,
    PluginError,
    RunError,
    WeightsError,
    did_you_mean,
)
from finetunekit.hookspecs import hookimpl
from finetunekit.types import (
    Augmentation,
    Backbone,
    BackboneSpec,
    Claim,
    Features,
    Fill,
    FreezeDecision,
    LayerInfo,
    Options,
    PhotoListing,
    PhotoRecord,
    PixelContract,
    PretrainedTop,
    SourceContext,
    WeightSource,
)

if TYPE_CHECKING:
    from finetunekit.ablation import AblationResult, run_ablation
    from finetunekit.data.decode import decode_photo
    from finetunekit.data.opening import photo_suffixes
    from finetunekit.data.splitting import split_by_class
    from finetunekit.data.tables import TABLE_SUFFIXES, PhotoTable, open_table
    from finetunekit.engine import RunResult, run
    from finetunekit.folds import resume_folds, run_folds
    from finetunekit.freezing import leaf_layers
    from finetunekit.inference import LoadedRun, load
    from finetunekit.keys import draw_uniform
    from finetunekit.naming import count_names_anew
    from finetunekit.progress import terminal_width
    from finetunekit.resampling import resample
    from finetunekit.runs import FinishedRun
    from finetunekit.seeds import resume_seeds, run_seeds
    from finetunekit.several import SeveralRuns
    from finetunekit.verdict import outcome_sentence, verify_run
    from finetunekit.weights.fit import named_variables

__version__ = "0.1.0"

_LAZY = {
    "run": "finetunekit.engine",
    "run_ablation": "finetunekit.ablation",
    "AblationResult": "finetunekit.ablation",
    "RunResult": "finetunekit.engine",
    "run_folds": "finetunekit.folds",
    "resume_folds": "finetunekit.folds",
    "run_seeds": "finetunekit.seeds",
    "resume_seeds": "finetunekit.seeds",
    "SeveralRuns": "finetunekit.several",
    "load": "finetunekit.inference",
    "LoadedRun": "finetunekit.inference",
    "FinishedRun": "finetunekit.runs",
    "decode_photo": "finetunekit.data.decode",
    "draw_uniform": "finetunekit.keys",
    "count_names_anew": "finetunekit.naming",
    "leaf_layers": "finetunekit.freezing",
    "named_variables": "finetunekit.weights.fit",
    "resample": "finetunekit.resampling",
    "outcome_sentence": "finetunekit.verdict",
    "photo_suffixes": "finetunekit.data.opening",
    "split_by_class": "finetunekit.data.splitting",
    "open_table": "finetunekit.data.tables",
    "PhotoTable": "finetunekit.data.tables",
    "TABLE_SUFFIXES": "finetunekit.data.tables",
    "terminal_width": "finetunekit.progress",
    "verify_run": "finetunekit.verdict",
}

__all__ = [
    "TABLE_SUFFIXES",
    "AblationResult",
    "Augmentation",
    "Backbone",
    "BackboneSpec",
    "Claim",
    "ConfigError",
    "DataError",
    "Features",
    "Fill",
    "FinetuneKitError",
    "FinishedRun",
    "FreezeDecision",
    "LayerInfo",
    "LoadedRun",
    "Options",
    "PhotoListing",
    "PhotoRecord",
    "PhotoTable",
    "PixelContract",
    "PluginError",
    "PretrainedTop",
    "RunError",
    "RunResult",
    "SeveralRuns",
    "SourceContext",
    "WeightSource",
    "WeightsError",
    "count_names_anew",
    "decode_photo",
    "did_you_mean",
    "draw_uniform",
    "hookimpl",
    "leaf_layers",
    "load",
    "named_variables",
    "open_table",
    "outcome_sentence",
    "photo_suffixes",
    "resample",
    "resume_folds",
    "resume_seeds",
    "run",
    "run_ablation",
    "run_folds",
    "run_seeds",
    "split_by_class",
    "terminal_width",
    "verify_run",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'finetunekit' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
