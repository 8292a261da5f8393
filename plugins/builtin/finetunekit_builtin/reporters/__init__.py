"""The standard reporters: pure functions of a finished run folder that return the files of a report."""

from __future__ import annotations

from .architecture import ArchitectureJsonOptions, build_architecture_json
from .confusion_matrix import ConfusionMatrixOptions, build_confusion_matrix
from .display_grid import DisplayGridOptions, build_display_grid
from .learning_curves import LearningCurvesOptions, build_learning_curves
from .page import HtmlOptions, ModelCardOptions, build_html, build_model_card

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
