"""What the networks of one module of `keras.applications` have in common: pixels, licence, and how their layers form blocks."""

from __future__ import annotations

from dataclasses import dataclass

from finetunekit import PixelContract

IMAGENET = "ImageNet ILSVRC-2012 (1000 classes)"
IMAGENET_21K = "ImageNet-21k (21,841 classes), then ImageNet ILSVRC-2012 (1000 classes)"

# Source of the four: keras.applications.imagenet_utils.preprocess_input, modes caffe, tf and torch; efficientnet_v2.py for the last
CAFFE = PixelContract(order="bgr", mean=(103.939, 116.779, 123.68))
MINUS_ONE_TO_ONE = PixelContract(scale=1 / 127.5, mean=(1.0, 1.0, 1.0))
TORCH = PixelContract(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
MINUS_ONE_TO_ONE_128 = PixelContract(scale=1 / 128, mean=(1.0, 1.0, 1.0))


@dataclass(frozen=True, slots=True)
class Family:
    """One module of `keras.applications`.

    Attributes:
        module: Its name there.
        reference: Where the architecture is described.
        licence: SPDX identifier of the weights' licence.
        attribution: Who made the weights.
        pixels: What the network itself expects, its own rescaling left out.
        rescaling: `none` if Keras builds none into it, `switch` if `include_preprocessing=False` leaves it out, `strip` if it has to be
            taken off the graph.
        block: Pattern of layer paths; its group names the block that begins there. Layers that do not match stay in the block before.
        block_end: Pattern of layer paths that are the last of their block, and name it; used where `block` is empty.
        min_size_px: Smallest side that Keras builds.
        crop_pct: `BackboneSpec.crop_pct`; None: as Google's EfficientNets, 32 px more than the input are the short side, up to 320 px.
    """

    module: str
    reference: str
    licence: str
    attribution: str
    pixels: PixelContract
    rescaling: str = "none"
    block: str = ""
    block_end: str = ""
    min_size_px: int = 32
    crop_pct: float | None = 0.875

    def crop_at(self, size_px: int) -> float:
        """`BackboneSpec.crop_pct` of one of its networks."""
        if self.crop_pct is not None:
            return self.crop_pct
        return size_px / (size_px + 32) if size_px <= 320 else 1.0


# Source of min_size_px, module names and rescaling: the module's source in keras/src/applications.
# Source of crop_pct: 224 out of 256 px (or the slim library's central fraction) in the evaluation that came with the weights; for the
# EfficientNets, CROP_PADDING of their preprocessing.py; 1 where none is published.
# Source of licences: the "License" sections of Keras' own documentation of its applications (keras.io, version 2.2), and for later networks
# the repositories that the weights came from.
CONVNEXT = Family(
    "convnext",
    "Liu et al. 2022, arXiv:2201.03545",
    "MIT",
    "ConvNeXt weights by Z. Liu et al., Meta (github.com/facebookresearch/ConvNeXt), MIT, as converted for Keras by S. Paul",
    TORCH,
    rescaling="switch",
    block=r"_(stem|downsampling_block_\d|stage_\d)",
)
DENSENET = Family(
    "densenet",
    "Huang et al. 2017, arXiv:1608.06993",
    "BSD-3-Clause",
    "DenseNet weights by G. Huang et al. (github.com/liuzhuang13/DenseNet), BSD 3-Clause, as converted for Keras",
    TORCH,
    block=r"^(conv\d)_",
)
EFFICIENTNET = Family(
    "efficientnet",
    "Tan & Le 2019, arXiv:1905.11946",
    "Apache-2.0",
    "EfficientNet weights by M. Tan and Q. Le, Google (github.com/tensorflow/tpu), Apache-2.0, as converted for Keras",
    TORCH,
    rescaling="strip",
    block=r"^(stem|block\d|top)",
    crop_pct=None,
)
EFFICIENTNET_V2_B = Family(
    "efficientnet_v2",
    "Tan & Le 2021, arXiv:2104.00298",
    "Apache-2.0",
    "EfficientNetV2 weights by M. Tan and Q. Le, Google (github.com/google/automl), Apache-2.0, as converted for Keras",
    TORCH,
    rescaling="switch",
    block=r"^(stem|block\d|top)",
    crop_pct=None,
)
EFFICIENTNET_V2 = Family(
    "efficientnet_v2",
    EFFICIENTNET_V2_B.reference,
    EFFICIENTNET_V2_B.licence,
    EFFICIENTNET_V2_B.attribution,
    MINUS_ONE_TO_ONE_128,
    rescaling="switch",
    block=EFFICIENTNET_V2_B.block,
    crop_pct=None,
)
INCEPTION_RESNET_V2 = Family(
    "inception_resnet_v2",
    "Szegedy et al. 2016, arXiv:1602.07261",
    "Apache-2.0",
    "Inception-ResNet v2 weights by C. Szegedy et al., Google (github.com/tensorflow/models), Apache-2.0, as converted for Keras",
    MINUS_ONE_TO_ONE,
    block_end=r"^(?:max_pooling2d_1|mixed_5b|block35_10_ac|mixed_6a|block17_20_ac|mixed_7a|block8_10|conv_7b_ac)$",
    min_size_px=75,
)
INCEPTION_V3 = Family(
    "inception_v3",
    "Szegedy et al. 2015, arXiv:1512.00567",
    "Apache-2.0",
    "Inception v3 weights by C. Szegedy et al., Google (github.com/tensorflow/models), Apache-2.0, as converted for Keras",
    MINUS_ONE_TO_ONE,
    block_end=r"^(?:max_pooling2d_1|mixed\d+)$",
    min_size_px=75,
)
MOBILENET = Family(
    "mobilenet",
    "Howard et al. 2017, arXiv:1704.04861",
    "Apache-2.0",
    "MobileNet weights by A. Howard et al., Google (github.com/tensorflow/models), Apache-2.0, as converted for Keras",
    MINUS_ONE_TO_ONE,
    block=r"^conv_(?:pad|dw|pw)_(\d+)",
)
MOBILENET_V2 = Family(
    "mobilenet_v2",
    "Sandler et al. 2018, arXiv:1801.04381",
    "Apache-2.0",
    "MobileNetV2 weights by M. Sandler et al., Google (github.com/tensorflow/models), Apache-2.0, as converted for Keras",
    MINUS_ONE_TO_ONE,
    block=r"^(expanded_conv|block_\d+|Conv_1)",
)
MOBILENET_V3 = Family(
    "mobilenet_v3",
    "Howard et al. 2019, arXiv:1905.02244",
    "Apache-2.0",
    "MobileNetV3 weights by A. Howard et al., Google (github.com/tensorflow/models), Apache-2.0, as converted for Keras",
    MINUS_ONE_TO_ONE,
    rescaling="switch",
    block=r"^(expanded_conv(?:_\d+)?)_[a-z]|^(conv_1)",
)
NASNET = Family(
    "nasnet",
    "Zoph et al. 2018, arXiv:1707.07012",
    "Apache-2.0",
    "NASNet weights by B. Zoph et al., Google (github.com/tensorflow/models), Apache-2.0, as converted for Keras",
    MINUS_ONE_TO_ONE,
    block=r"^(?:adjust|normal|reduction|separable)\w*?_(stem_[12]|reduce_\d+|\d+)$",
)
RESNET = Family(
    "resnet",
    "He et al. 2015, arXiv:1512.03385",
    "MIT",
    "ResNet weights by K. He et al. (github.com/KaimingHe/deep-residual-networks), MIT, as converted for Keras",
    CAFFE,
    block=r"^(conv\d)_",
)
RESNET_V2 = Family(
    "resnet_v2",
    "He et al. 2016, arXiv:1603.05027",
    "BSD-3-Clause",
    "ResNetV2 weights by Facebook (github.com/facebook/fb.resnet.torch), BSD, as converted for Keras",
    MINUS_ONE_TO_ONE,
    block=r"^(conv\d)_",
)
VGG19 = Family(
    "vgg19",
    "Simonyan & Zisserman 2014, arXiv:1409.1556",
    "CC-BY-4.0",
    "VGG19 weights by K. Simonyan and A. Zisserman, Visual Geometry Group, University of Oxford "
    "(https://www.robots.ox.ac.uk/~vgg/research/very_deep/), CC BY 4.0",
    CAFFE,
    block=r"^(block\d)_",
)
XCEPTION = Family(
    "xception",
    "Chollet 2017, arXiv:1610.02357",
    "MIT",
    "Xception weights by F. Chollet, MIT",
    MINUS_ONE_TO_ONE,
    block=r"^(block\d+)_",
    min_size_px=71,
    crop_pct=1.0,
)
