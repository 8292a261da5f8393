"""The standard reporters: pure functions of a finished run folder that return the files of a report.

Each is loaded when it is first called: a plan and an error are answered without what draws figures and writes pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from .options import (
    ArchitectureJsonOptions,
    ConfusionMatrixOptions,
    DisplayGridOptions,
    HtmlOptions,
    LearningCurvesOptions,
    ModelCardOptions,
)

if TYPE_CHECKING:
    from finetunekit import FinishedRun

Build: TypeAlias = "Callable[[Any, FinishedRun], Mapping[str, bytes]]"


def _loaded_when_called(module: str, name: str) -> Build:
    def build(options: Any, run: FinishedRun) -> Mapping[str, bytes]:
        files: Mapping[str, bytes] = getattr(import_module(f"{__name__}.{module}"), name)(options, run)
        return files

    build.__name__ = name
    return build


build_architecture_json = _loaded_when_called("architecture", "build_architecture_json")
build_confusion_matrix = _loaded_when_called("confusion_matrix", "build_confusion_matrix")
build_display_grid = _loaded_when_called("display_grid", "build_display_grid")
build_learning_curves = _loaded_when_called("learning_curves", "build_learning_curves")
build_html = _loaded_when_called("page", "build_html")
build_model_card = _loaded_when_called("page.card", "build_model_card")

__all__ = [
    "ArchitectureJsonOptions",
    "ConfusionMatrixOptions",
    "DisplayGridOptions",
    "HtmlOptions",
    "LearningCurvesOptions",
    "ModelCardOptions",
    "build_architecture_json",
    "build_confusion_matrix",
    "build_display_grid",
    "build_html",
    "build_learning_curves",
    "build_model_card",
]
