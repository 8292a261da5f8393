"""VGG16's arrays for the opponents; apart from them, so that the PyTorch script need not load Keras."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def pretrained_arrays() -> Mapping[str, NDArray[np.float32]]:
    """VGG16's arrays as `finetunekit weights fetch vgg16` keeps them, fetched where they are missing."""
    from finetunekit_builtin.vgg16 import VGG16_SPEC

    from finetunekit.models.weights import StoredArrays, resolve_weights

    found = resolve_weights("vgg16", VGG16_SPEC, explicit=None, say=lambda line: print(line, file=sys.stderr))
    return StoredArrays(found.path)
