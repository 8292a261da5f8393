"""Pretrained arrays into the backbone that a plan chose."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from finetunekit.config.plan import Plan
from finetunekit.system.user_dirs import expand_home
from finetunekit.types import Backbone

if TYPE_CHECKING:
    from finetunekit.models.weights import WeightsProvenance


def load_backbone_weights(plan: Plan, backbone: Backbone, say: Callable[[str], None]) -> WeightsProvenance | None:
    """Load the pretrained weights that the plan asks for; nothing where it asks for random ones.

    Returns:
        Where they came from; None for random ones.

    Raises:
        WeightsError: If they cannot be had, or do not fit.
    """
    from finetunekit.models.weights import StoredArrays, fit_arrays, resolve_weights

    weights = plan.config.weights
    if weights.mode == "random":
        return None
    explicit = expand_home(weights.path) if weights.path else None
    found = resolve_weights(plan.backbone.name, plan.spec, explicit=explicit, say=say)
    fit_arrays(backbone.model, StoredArrays(found.path), origin=str(found.provenance.location), top=plan.spec.top)
    return found.provenance
