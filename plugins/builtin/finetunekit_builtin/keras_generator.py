"""Augmentation with the parameters, the distribution and the pixels of Keras' ImageDataGenerator.

Source: keras/src/legacy/preprocessing/image.py of Keras 3.15 (`ImageDataGenerator.get_random_transform` and
`apply_transform`, `apply_affine_transform`), oddities included, since the same experiment is wanted:

- `height_shift_range` moves photos sideways, `width_shift_range` up or down: Keras swaps the axes of its whole matrix.
- For the same reason, photos that are not square turn about (width / 2, height / 2) taken as (row, column).
- `shear_range` is in degrees, and the two axes of `zoom_range` are drawn independently.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from finetunekit import Augmentation, Fill, Options

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf
    from numpy.typing import NDArray


def _check_ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the lower bound {pair[0]} is above the upper bound {pair[1]}")
    return pair


def _expect(what: str) -> WrapValidator:
    """One message where pydantic would give one for each member of a union."""

    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            # A wrapped validator sees JSON's array as a list, which strict mode would refuse for a tuple.
            return validate(tuple(value) if isinstance(value, list) else value)
        except ValidationError as error:
            raise ValueError(f"expected {what}") from error

    return WrapValidator(check)


_Limit = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
_Pair = Annotated[tuple[_Limit, _Limit], AfterValidator(_check_ascending)]
_Zoom = Annotated[
    Annotated[float, Field(ge=0, lt=1)] | _Pair,
    _expect("a number in [0, 1), or a pair [low, high] with 0 < low <= high <= 10"),
]
_Shift = Annotated[
    Annotated[int, Field(ge=0, le=2048)] | Annotated[float, Field(ge=0, le=2048)],
    _expect("a number in [0, 2048]"),
]
_SHIFT_MEANING = (
    "a fraction of it if below 1, otherwise pixels; an integer n draws whole pixels in (-n, n), as Keras does. "
)


class KerasGeneratorOptions(Options):
    """Names, units and meaning of ImageDataGenerator's parameters. Rescaling is the run's `pixels`."""

    rotation_range: float = Field(0.0, ge=0, le=360, description="Rotation, uniform in ± this many degrees.")
    width_shift_range: _Shift = Field(
        0.0, description="Shift by the width: " + _SHIFT_MEANING + "Moves up or down, as in Keras 3."
    )
    height_shift_range: _Shift = Field(
        0.0, description="Shift by the height: " + _SHIFT_MEANING + "Moves sideways, as in Keras 3."
    )
    brightness_range: _Pair | None = Field(
        None, description="Range of the brightness factor, drawn uniformly; rounds pixels to whole levels. null: off."
    )
    shear_range: float = Field(0.0, ge=0, lt=90, description="Shear, uniform in ± this many degrees.")
    zoom_range: _Zoom = Field(
        0.0,
        description="Zoom, drawn for each axis separately, uniform in [1 - z, 1 + z] or [low, high]; below 1 magnifies.",
    )
    channel_shift_range: float = Field(
        0.0, ge=0, le=255, description="Added to all channels, uniform in ± this many grey levels, then clipped."
    )
    fill_mode: Literal["nearest", "constant", "reflect", "wrap"] = Field(
        "nearest", description="How pixels outside the photo are filled."
    )
    cval: float = Field(0.0, ge=0, le=255, description="Grey level outside the photo, for `constant`.")
    horizontal_flip: bool = Field(False, description="Mirror left and right with probability 1/2.")
    vertical_flip: bool = Field(False, description="Mirror top and bottom with probability 1/2.")


# One column of random numbers a parameter, whatever is switched on: an option leaves the draws of the others alone.
_THETA, _TX, _TY, _SHEAR, _ZX, _ZY, _FLIP_HORIZONTAL, _FLIP_VERTICAL, _CHANNEL_SHIFT, _BRIGHTNESS = range(10)
_COLUMNS = 10


def build_keras_generator(options: KerasGeneratorOptions) -> tuple[Augmentation, ...]:
    """Build at most two steps: an affine one with the flips folded in, then one that changes colours.

    Keras flips after the channel shift; the order of these two makes no difference.

    Args:
        options: As for ImageDataGenerator.

    Returns:
        The steps that the options switch on, in order.
    """
    steps: list[Augmentation] = []
    if _is_affine(options):
        value = options.cval if options.fill_mode == "constant" else 0.0
        fill = Fill(mode=options.fill_mode, value=value)
        steps.append(Augmentation(affine=partial(_matrices, options), fill=fill))
    if options.channel_shift_range or options.brightness_range:
        steps.append(Augmentation(apply=partial(_change_colours, options)))
    return tuple(steps)


def draw_parameters(
    options: KerasGeneratorOptions, keys: NDArray[np.int64], height_px: int, width_px: int
) -> dict[str, NDArray[np.float64]]:
    """Draw what `ImageDataGenerator.get_random_transform` draws, for many photos.

    Args:
        options: As for ImageDataGenerator.
        keys: `(batch,)` int64.
        height_px: Height of the photos.
        width_px: Width of the photos.

    Returns:
        Name in Keras → `(batch,)` float64: `theta` and `shear` in degrees, `tx` and `ty` in pixels, `zx` and `zy`,
        the flips `flip_horizontal` and `flip_vertical` as 0 or 1, `channel_shift_intensity` in grey levels, and
        `brightness`, a factor.
    """
    import numpy as np

    from finetunekit import draw_uniform

    unit = draw_uniform(keys, _COLUMNS)
    low, high = _zoom_bounds(options)
    return {
        "theta": options.rotation_range * _signed(unit[:, _THETA]),
        "tx": _shift_px(options.height_shift_range, height_px, unit[:, _TX]),
        "ty": _shift_px(options.width_shift_range, width_px, unit[:, _TY]),
        "shear": options.shear_range * _signed(unit[:, _SHEAR]),
        "zx": low + (high - low) * unit[:, _ZX],
        "zy": low + (high - low) * unit[:, _ZY],
        "flip_horizontal": options.horizontal_flip * (unit[:, _FLIP_HORIZONTAL] < 0.5).astype(np.float64),
        "flip_vertical": options.vertical_flip * (unit[:, _FLIP_VERTICAL] < 0.5).astype(np.float64),
        "channel_shift_intensity": _channel_shift(options, unit),
        "brightness": _brightness(options, unit),
    }


def build_matrices(parameters: dict[str, NDArray[np.float64]], height_px: int, width_px: int) -> NDArray[np.float64]:
    """Turn parameters into the matrices of `apply_affine_transform` followed by the flips.

    Args:
        parameters: As `draw_parameters` returns them.
        height_px: Height of the photos.
        width_px: Width of the photos.

    Returns:
        `(batch, 3, 3)` float64, output (row, column, 1) → input (row, column, 1), pixel centres at integers.
    """
    import numpy as np

    theta, shear = np.deg2rad(parameters["theta"]), np.deg2rad(parameters["shear"])
    offset_x, offset_y = height_px / 2 - 0.5, width_px / 2 - 0.5
    matrices = (
        _stack([[1, 0, offset_x], [0, 1, offset_y]], theta)
        @ _stack([[np.cos(theta), -np.sin(theta), 0], [np.sin(theta), np.cos(theta), 0]], theta)
        @ _stack([[1, 0, parameters["tx"]], [0, 1, parameters["ty"]]], theta)
        @ _stack([[1, -np.sin(shear), 0], [0, np.cos(shear), 0]], theta)
        @ _stack([[parameters["zx"], 0, 0], [0, parameters["zy"], 0]], theta)
        @ _stack([[1, 0, -offset_x], [0, 1, -offset_y]], theta)
    )
    swapped = matrices[:, [1, 0, 2]][:, :, [1, 0, 2]]
    across, down = parameters["flip_horizontal"], parameters["flip_vertical"]
    # A flip changes what the affine transform has made: output → flipped → input.
    return swapped @ _stack(
        [[1 - 2 * down, 0, down * (height_px - 1)], [0, 1 - 2 * across, across * (width_px - 1)]], theta
    )


def _matrices(
    options: KerasGeneratorOptions, keys: NDArray[np.int64], height_px: int, width_px: int
) -> NDArray[np.float64]:
    return build_matrices(draw_parameters(options, keys, height_px, width_px), height_px, width_px)


def _stack(rows: list[list[Any]], like: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrices `(batch, 3, 3)` from two rows of numbers or `(batch,)` arrays."""
    import numpy as np

    matrices = np.zeros((len(like), 3, 3))
    matrices[:, 2, 2] = 1.0
    for row, entries in enumerate(rows):
        for column, entry in enumerate(entries):
            matrices[:, row, column] = entry
    return matrices


def _is_affine(options: KerasGeneratorOptions) -> bool:
    moves = options.rotation_range or options.width_shift_range or options.height_shift_range or options.shear_range
    return bool(moves or options.horizontal_flip or options.vertical_flip or _zoom_bounds(options) != (1.0, 1.0))


def _zoom_bounds(options: KerasGeneratorOptions) -> tuple[float, float]:
    zoom = options.zoom_range
    return zoom if isinstance(zoom, tuple) else (1 - zoom, 1 + zoom)


def _signed(unit: NDArray[np.float64]) -> NDArray[np.float64]:
    return 2 * unit - 1


def _channel_shift(options: KerasGeneratorOptions, unit: Any) -> Any:
    return options.channel_shift_range * (2 * unit[..., _CHANNEL_SHIFT] - 1)


def _brightness(options: KerasGeneratorOptions, unit: Any) -> Any:
    low, high = options.brightness_range or (1.0, 1.0)
    return low + (high - low) * unit[..., _BRIGHTNESS]


def _shift_px(limit: float, size_px: int, unit: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    if isinstance(limit, int):  # 0 … limit - 1 with a random sign, so that 0 is twice as likely as any other shift
        cell = np.floor(unit * 2 * limit)
        return np.where(cell < limit, cell, limit - cell)
    return limit * (size_px if limit < 1 else 1) * _signed(unit)


def _change_colours(
    options: KerasGeneratorOptions, images: tf.Tensor, labels: tf.Tensor, keys: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    import tensorflow as tf

    from finetunekit import draw_uniform

    unit = draw_uniform(keys, _COLUMNS)[:, tf.newaxis, tf.newaxis, tf.newaxis, :]
    if options.channel_shift_range:
        lowest = tf.reduce_min(images, axis=[1, 2, 3], keepdims=True)
        highest = tf.reduce_max(images, axis=[1, 2, 3], keepdims=True)
        images = tf.clip_by_value(images + tf.cast(_channel_shift(options, unit), tf.float32), lowest, highest)
    if options.brightness_range:
        factor = tf.cast(_brightness(options, unit), tf.float32)
        # As in Pillow the photo becomes uint8 and so does its product with the factor; both are cut off, not rounded.
        images = tf.floor(tf.clip_by_value(tf.floor(images) * factor, 0.0, 255.0))
    return images, labels
