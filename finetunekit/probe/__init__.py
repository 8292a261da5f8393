"""Linear probes: how well frozen features tell this data's classes apart, in seconds and without training a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetunekit.probe.cross_validation import (
        PENALTIES,
        NestedScores,
        PenaltyChoice,
        Recipe,
        choose_penalty,
        cross_validate,
        cross_validated_probabilities,
        fit_chosen,
    )
    from finetunekit.probe.features import ProbeFeatures, open_probe
    from finetunekit.probe.folds import stratified_folds
    from finetunekit.probe.linear import LinearFit, Solver, fit_linear
    from finetunekit.probe.neighbours import nearest_labels

_HOMES = {
    "cross_validation": (
        "PENALTIES",
        "NestedScores",
        "PenaltyChoice",
        "Recipe",
        "choose_penalty",
        "cross_validate",
        "cross_validated_probabilities",
        "fit_chosen",
    ),
    "features": ("ProbeFeatures", "open_probe"),
    "folds": ("stratified_folds",),
    "linear": ("LinearFit", "Solver", "fit_linear"),
    "neighbours": ("nearest_labels",),
}

__all__ = [
    "PENALTIES",
    "LinearFit",
    "NestedScores",
    "PenaltyChoice",
    "ProbeFeatures",
    "Recipe",
    "Solver",
    "choose_penalty",
    "cross_validate",
    "cross_validated_probabilities",
    "fit_chosen",
    "fit_linear",
    "nearest_labels",
    "open_probe",
    "stratified_folds",
]


def __getattr__(name: str) -> Any:
    import importlib

    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"finetunekit.probe.{home}"), name)
    raise AttributeError(f"module 'finetunekit.probe' has no attribute '{name}'")
