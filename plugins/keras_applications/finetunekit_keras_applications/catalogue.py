"""The image classifiers of `keras.applications`: sizes, published scores, and files with their checksums."""

from __future__ import annotations

from dataclasses import dataclass

from finetunekit_keras_applications import families as f
from finetunekit_keras_applications.families import Family
from finetunekit_keras_applications.networks import Network

STORAGE = "https://storage.googleapis.com/"
TENSORFLOW = f"{STORAGE}tensorflow/keras-applications/"
TABLE = "keras.io/api/applications"
KERNELS = "weights_tf_dim_ordering_tf_kernels"


@dataclass(frozen=True, slots=True)
class Entry:
    """One network, what it scored, and where Keras publishes its file without top.

    Attributes:
        network: How to build it.
        top_1: Percent of ImageNet's validation photos, first answer.
        top_5: Among the first five answers; None where the source has none.
        location: URL, as in the module's source.
        checksum: As in the module's source; None where Keras pins none, and so the file is not fetched.
        pretrained_on: Data set.
        source: Of the scores.
    """

    network: Network
    top_1: float
    top_5: float | None
    location: str
    checksum: str | None
    pretrained_on: str = f.IMAGENET
    source: str = TABLE


def _entry(
    function: str,
    family: Family,
    size_px: int,
    scores: tuple[float, float | None],
    file: str,
    checksum: str | None,
    *,
    pretrained_on: str = f.IMAGENET,
    source: str = TABLE,
) -> Entry:
    base = STORAGE if family is f.EFFICIENTNET else TENSORFLOW
    return Entry(
        Network(function, family, size_px),
        *scores,
        location=base + file,
        checksum=checksum,
        pretrained_on=pretrained_on,
        source=source,
    )


V3_TABLE = "the table in keras/src/applications/mobilenet_v3.py"

#: Source of sizes, files and checksums: keras/src/applications/*.py; of scores: keras.io/api/applications where no other is named.
ENTRIES = (
    _entry(
        "ConvNeXtTiny",
        f.CONVNEXT,
        224,
        (81.3, None),
        "convnext/convnext_tiny_notop.h5",
        "sha256:d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    ),
    _entry(
        "ConvNeXtSmall",
        f.CONVNEXT,
        224,
        (82.3, None),
        "convnext/convnext_small_notop.h5",
        "sha256:6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
    ),
    _entry(
        "ConvNeXtBase",
        f.CONVNEXT,
        224,
        (85.3, None),
        "convnext/convnext_base_notop.h5",
        "sha256:40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
        pretrained_on=f.IMAGENET_21K,
    ),
    _entry(
        "ConvNeXtLarge",
        f.CONVNEXT,
        224,
        (86.3, None),
        "convnext/convnext_large_notop.h5",
        "sha256:96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
        pretrained_on=f.IMAGENET_21K,
    ),
    _entry(
        "ConvNeXtXLarge",
        f.CONVNEXT,
        224,
        (86.7, None),
        "convnext/convnext_xlarge_notop.h5",
        "sha256:de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
        pretrained_on=f.IMAGENET_21K,
    ),
    _entry(
        "DenseNet121",
        f.DENSENET,
        224,
        (75.0, 92.3),
        f"densenet/densenet121_{KERNELS}_notop.h5",
        "md5:30ee3e1110167f948a6b9946edeeb738",
    ),
    _entry(
        "DenseNet169",
        f.DENSENET,
        224,
        (76.2, 93.2),
        f"densenet/densenet169_{KERNELS}_notop.h5",
        "md5:b8c4d4c20dd625c148057b9ff1c1176b",
    ),
    _entry(
        "DenseNet201",
        f.DENSENET,
        224,
        (77.3, 93.6),
        f"densenet/densenet201_{KERNELS}_notop.h5",
        "md5:c13680b51ded0fb44dff2d8f86ac8bb1",
    ),
    _entry(
        "EfficientNetB0",
        f.EFFICIENTNET,
        224,
        (77.1, 93.3),
        "keras-applications/efficientnetb0_notop.h5",
        "md5:50bc09e76180e00e4465e1a485ddc09d",
    ),
    _entry(
        "EfficientNetB1",
        f.EFFICIENTNET,
        240,
        (79.1, 94.4),
        "keras-applications/efficientnetb1_notop.h5",
        "md5:74c4e6b3e1f6a1eea24c589628592432",
    ),
    _entry(
        "EfficientNetB2",
        f.EFFICIENTNET,
        260,
        (80.1, 94.9),
        "keras-applications/efficientnetb2_notop.h5",
        "md5:111f8e2ac8aa800a7a99e3239f7bfb39",
    ),
    _entry(
        "EfficientNetB3",
        f.EFFICIENTNET,
        300,
        (81.6, 95.7),
        "keras-applications/efficientnetb3_notop.h5",
        "md5:af6d107764bb5b1abb91932881670226",
    ),
    _entry(
        "EfficientNetB4",
        f.EFFICIENTNET,
        380,
        (82.9, 96.4),
        "keras-applications/efficientnetb4_notop.h5",
        "md5:ebc24e6d6c33eaebbd558eafbeedf1ba",
    ),
    _entry(
        "EfficientNetB5",
        f.EFFICIENTNET,
        456,
        (83.6, 96.7),
        "keras-applications/efficientnetb5_notop.h5",
        "md5:38879255a25d3c92d5e44e04ae6cec6f",
    ),
    _entry(
        "EfficientNetB6",
        f.EFFICIENTNET,
        528,
        (84.0, 96.8),
        "keras-applications/efficientnetb6_notop.h5",
        "md5:9ecce42647a20130c1f39a5d4cb75743",
    ),
    _entry(
        "EfficientNetB7",
        f.EFFICIENTNET,
        600,
        (84.3, 97.0),
        "keras-applications/efficientnetb7_notop.h5",
        "md5:cbcfe4450ddf6f3ad90b1b398090fe4a",
    ),
    _entry(
        "EfficientNetV2B0",
        f.EFFICIENTNET_V2_B,
        224,
        (78.7, 94.3),
        "efficientnet_v2/efficientnetv2-b0_notop.h5",
        "md5:893217f2bb855e2983157299931e43ff",
    ),
    _entry(
        "EfficientNetV2B1",
        f.EFFICIENTNET_V2_B,
        240,
        (79.8, 95.0),
        "efficientnet_v2/efficientnetv2-b1_notop.h5",
        "md5:0e80663031ca32d657f9caa404b6ec37",
    ),
    _entry(
        "EfficientNetV2B2",
        f.EFFICIENTNET_V2_B,
        260,
        (80.5, 95.1),
        "efficientnet_v2/efficientnetv2-b2_notop.h5",
        "md5:1dfe2e7a5d45b6632553a8961ea609eb",
    ),
    _entry(
        "EfficientNetV2B3",
        f.EFFICIENTNET_V2_B,
        300,
        (82.0, 95.8),
        "efficientnet_v2/efficientnetv2-b3_notop.h5",
        "md5:f6abf7b5849ac99a89b50dd3fd532856",
    ),
    _entry(
        "EfficientNetV2S",
        f.EFFICIENTNET_V2,
        384,
        (83.9, 96.7),
        "efficientnet_v2/efficientnetv2-s_notop.h5",
        "md5:af0682fb74e8c54910f2d4393339c070",
    ),
    _entry(
        "EfficientNetV2M",
        f.EFFICIENTNET_V2,
        480,
        (85.3, 97.4),
        "efficientnet_v2/efficientnetv2-m_notop.h5",
        "md5:1b8dc055df72dde80d614482840fe342",
    ),
    _entry(
        "EfficientNetV2L",
        f.EFFICIENTNET_V2,
        480,
        (85.7, 97.5),
        "efficientnet_v2/efficientnetv2-l_notop.h5",
        "md5:b0b66b5c863aef5b46e8608fe1711615",
    ),
    _entry(
        "InceptionResNetV2",
        f.INCEPTION_RESNET_V2,
        299,
        (80.3, 95.3),
        f"inception_resnet_v2/inception_resnet_v2_{KERNELS}_notop.h5",
        "md5:d19885ff4a710c122648d3b5c3b684e4",
    ),
    _entry(
        "InceptionV3",
        f.INCEPTION_V3,
        299,
        (77.9, 93.7),
        f"inception_v3/inception_v3_{KERNELS}_notop.h5",
        "md5:bcbd6486424b2319ff4ef7d526e38f63",
    ),
    _entry("MobileNet", f.MOBILENET, 224, (70.4, 89.5), "mobilenet/mobilenet_1_0_224_tf_no_top.h5", None),
    _entry(
        "MobileNetV2", f.MOBILENET_V2, 224, (71.3, 90.1), f"mobilenet_v2/mobilenet_v2_{KERNELS}_1.0_224_no_top.h5", None
    ),
    _entry(
        "MobileNetV3Large",
        f.MOBILENET_V3,
        224,
        (75.6, None),
        "mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        "md5:07fb09a5933dd0c8eaafa16978110389",
        source=V3_TABLE,
    ),
    _entry(
        "MobileNetV3Small",
        f.MOBILENET_V3,
        224,
        (68.1, None),
        "mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
        "md5:d3e8ec802a04aa4fc771ee12a9a9b836",
        source=V3_TABLE,
    ),
    _entry(
        "NASNetLarge",
        f.NASNET,
        331,
        (82.5, 96.0),
        "nasnet/NASNet-large-no-top.h5",
        "md5:d81d89dc07e6e56530c4e77faddd61b5",
    ),
    _entry(
        "NASNetMobile",
        f.NASNET,
        224,
        (74.4, 91.9),
        "nasnet/NASNet-mobile-no-top.h5",
        "md5:1ed92395b5b598bdda52abe5c0dbfd63",
    ),
    _entry(
        "ResNet50",
        f.RESNET,
        224,
        (74.9, 92.1),
        f"resnet/resnet50_{KERNELS}_notop.h5",
        "md5:4d473c1dd8becc155b73f8504c6f6626",
    ),
    _entry(
        "ResNet101",
        f.RESNET,
        224,
        (76.4, 92.8),
        f"resnet/resnet101_{KERNELS}_notop.h5",
        "md5:88cf7a10940856eca736dc7b7e228a21",
    ),
    _entry(
        "ResNet152",
        f.RESNET,
        224,
        (76.6, 93.1),
        f"resnet/resnet152_{KERNELS}_notop.h5",
        "md5:ee4c566cf9a93f14d82f913c2dc6dd0c",
    ),
    _entry(
        "ResNet50V2",
        f.RESNET_V2,
        224,
        (76.0, 93.0),
        f"resnet/resnet50v2_{KERNELS}_notop.h5",
        "md5:fac2f116257151a9d068a22e544a4917",
    ),
    _entry(
        "ResNet101V2",
        f.RESNET_V2,
        224,
        (77.2, 93.8),
        f"resnet/resnet101v2_{KERNELS}_notop.h5",
        "md5:c0ed64b8031c3730f411d2eb4eea35b5",
    ),
    _entry(
        "ResNet152V2",
        f.RESNET_V2,
        224,
        (78.0, 94.2),
        f"resnet/resnet152v2_{KERNELS}_notop.h5",
        "md5:ed17cf2e0169df9d443503ef94b23b33",
    ),
    _entry(
        "VGG19", f.VGG19, 224, (71.3, 90.0), f"vgg19/vgg19_{KERNELS}_notop.h5", "md5:253f8cb515780f3b799900260a226db6"
    ),
    _entry(
        "Xception",
        f.XCEPTION,
        299,
        (79.0, 94.5),
        f"xception/xception_{KERNELS}_notop.h5",
        "md5:b0042744bf5b25fce3cb969f33bebb97",
    ),
)
