"""Pure augmentations with the parameters of their papers and of torchvision: keyed, equal in a call, a graph and tf.data."""

from .colour import ColorJitterOptions, build_color_jitter
from .erasing import RandomErasingOptions, build_random_erasing
from .geometry import FlipOptions, RandomResizedCropOptions, build_flip, build_random_resized_crop
from .keras_layers import KerasLayersOptions, build_keras_layers
from .mixing import CutmixOptions, MixupOptions, build_cutmix, build_mixup
from .rand_augment import RandAugmentOptions, build_rand_augment

__all__ = [
    "ColorJitterOptions",
    "CutmixOptions",
    "FlipOptions",
    "KerasLayersOptions",
    "MixupOptions",
    "RandAugmentOptions",
    "RandomErasingOptions",
    "RandomResizedCropOptions",
    "build_color_jitter",
    "build_cutmix",
    "build_flip",
    "build_keras_layers",
    "build_mixup",
    "build_rand_augment",
    "build_random_erasing",
    "build_random_resized_crop",
]
