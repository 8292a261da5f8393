"""Pretrained arrays into the backbone that a plan chose."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from finetunekit.config.joined_backbone import layer_prefix, spec_of
from finetunekit.config.plan import Plan
from finetunekit.system.user_dirs import expand_home
from finetunekit.types import Backbone

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetunekit.models.weights import ResolvedWeights, WeightsProvenance


def load_backbone_weights(plan: Plan, backbone: Backbone, say: Callable[[str], None]) -> WeightsProvenance | None:
    """Load the pretrained weights that the plan asks for; nothing where it asks for random ones.

    Returns:
        Where they came from; None for random ones.

    Raises:
        WeightsError: If they cannot be had, or do not fit.
    """
    from finetunekit.models.weights import StoredArrays, fit_arrays

    weights = plan.config.weights
    if weights.mode == "random":
        return None
    if plan.parts:
        return _load_parts(plan, backbone, say)
    found = find_weights(plan, say)
    fit_arrays(backbone.model, StoredArrays(found.path), origin=str(found.provenance.location), top=plan.spec.top)
    return found.provenance


def find_weights(plan: Plan, say: Callable[[str], None]) -> ResolvedWeights:
    """The pretrained arrays of a plan with one backbone: its own file, its own package, or what the backbone's plugin names.

    Raises:
        WeightsError: If they cannot be had, or were packed for another backbone.
    """
    from finetunekit.models.weights import resolve_packed, resolve_weights

    weights, name = plan.config.weights, plan.backbone.name
    if weights.package is not None and weights.checksum is not None:
        options = plan.backbone.options.model_dump(mode="json")
        return resolve_packed(name, plan.spec, weights.package, weights.checksum, options=options, say=say)
    explicit = expand_home(weights.path) if weights.path else None
    return resolve_weights(name, plan.spec, explicit=explicit, say=say)


def _load_parts(plan: Plan, backbone: Backbone, say: Callable[[str], None]) -> WeightsProvenance:
    """The arrays of each part, under the names of its layers in the joined backbone."""
    from finetunekit.models.weights import StoredArrays, fit_arrays, join_provenances, resolve_weights

    arrays: dict[str, NDArray[np.float32]] = {}
    provenances = []
    for part in plan.parts:
        spec, prefix = spec_of(part), layer_prefix(part)
        found = resolve_weights(part.name, spec, explicit=None, say=say)
        of_top = {spec.top.kernel, spec.top.bias} if spec.top else set()
        stored = StoredArrays(found.path)
        arrays |= {prefix + name: stored[name] for name in stored if name not in of_top}
        provenances.append(found.provenance)
    fit_arrays(backbone.model, arrays, origin=plan.backbone.name)
    return join_provenances(provenances)
