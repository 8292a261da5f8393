"""Pretrained arrays: where they come from, in which order, how they are checked, cached and loaded into a model."""

from __future__ import annotations

from finetunekit.models.weights.availability import Availability, weights_availability
from finetunekit.models.weights.cache import (
    ResolvedWeights,
    StoredArrays,
    WeightsProvenance,
    WeightsStatus,
    arrays_digest,
    join_provenances,
    weights_cache_dir,
    weights_status,
)
from finetunekit.models.weights.fit import fit_arrays, load_top
from finetunekit.models.weights.resolve import resolve_packed, resolve_weights

__all__ = [
    "Availability",
    "ResolvedWeights",
    "StoredArrays",
    "WeightsProvenance",
    "WeightsStatus",
    "arrays_digest",
    "fit_arrays",
    "join_provenances",
    "load_top",
    "resolve_packed",
    "resolve_weights",
    "weights_availability",
    "weights_cache_dir",
    "weights_status",
]
