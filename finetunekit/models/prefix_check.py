"""Whether training from cached features is training: logits by way of the cut beside logits of the whole network."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.branches import branch_by_branch
from finetunekit.models.feature_cache import Extractor
from finetunekit.models.folded_norm import folded_norms
from finetunekit.models.frozen_prefix import Cut

if TYPE_CHECKING:
    import keras

Grade = Literal["bitwise", "close", "refused"]
#: Largest relative difference of logits that still counts as close.
CLOSE = 1e-5


def check_cut(
    extract: Extractor[Cut], model: keras.Model, x: NDArray[np.float32], *, is_trained: bool = True
) -> tuple[Grade, float]:
    """Compare logits by way of the cut with logits of the whole network; at two batch sizes and in training mode where it is trained.

    Args:
        extract: Of a cut of `model`.
        model: The whole network.
        x: A batch of its input.
        is_trained: Whether what follows is trained, in batches of other sizes; what is solved only reads features.

    Returns:
        `bitwise` (equal), `close` (at most 1e-5 of the largest logit apart) or `refused`, and the relative difference.
    """
    import tensorflow as tf

    def flat(forward: Any, x: Any, training: bool) -> list[NDArray[np.float32]]:
        # in a graph, as in training: fusing changes the rounding of bfloat16, folding that of float32
        given = tf.nest.map_structure(tf.convert_to_tensor, x)
        answer = partial(forward, training=True) if training else branch_by_branch(forward)
        with folded_norms(forward, is_trained=training):
            graph = tf.function(answer, autograph=False).get_concrete_function(given)
        outputs = graph(*tf.nest.flatten(given))
        return [np.asarray(tf.cast(t, tf.float32)) for t in tf.nest.flatten(outputs)]

    cut, (features,) = extract.cut, extract(iter([x]))
    after = flat(cut.suffix, list(features) if len(features) > 1 else features[0], False)
    checks = [*zip(flat(model, x, False), after, strict=True)]
    if is_trained:
        kept, few = [np.asarray(f, np.float32) for f in features], max(1, len(x) // 3)
        checks += zip([f[:few] for f in kept], flat(cut.prefix, x[:few], False), strict=True)
        checks += zip(kept, flat(cut.prefix, x, True), strict=True)
    difference = max(_relative_difference(a, b) for a, b in checks)
    return ("bitwise" if difference == 0 else "close" if difference <= CLOSE else "refused"), difference


def _relative_difference(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Largest difference relative to the largest value; 0 for equal bits, NaN and infinity included."""
    if np.array_equal(first, second, equal_nan=True):
        return 0.0
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("inf")
    return float(np.abs(first - second).max() / max(float(np.abs(first).max()), 1e-30))
