"""Keyed randomness: numbers that are a pure function of a key, equal in numpy and in TensorFlow.

A key is a non-negative int64 (63 bits). `derive_keys` makes keys from a seed and what a draw is for;
`draw_uniform` turns keys into random numbers. Nothing here keeps state, so any draw can be made again alone,
in any order, on any thread.

Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA,
doi:10.1145/2660193.2660195; constants and shifts of the mixer as in Vigna's public-domain splitmix64.c,
https://prng.di.unimi.it/splitmix64.c.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

# numpy inside the functions: augmentations import this module when they are registered, and listings do without numpy.
if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf
    from numpy.typing import NDArray

# splitmix64: the odd integer nearest to 2^64 / golden ratio, and the two multipliers of its finaliser.
_GAMMA = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_MASK = 2**64 - 1
_UNIT = 2.0**-53  # float64 carries 53 bits: multiples of 2^-53 in [0, 1)


def derive_keys(seed: int | NDArray[np.int64], *parts: int | str | NDArray[np.int64]) -> NDArray[np.int64]:
    """Hash a seed and what the draw is for into keys.

    The order and the number of parts count, so `(1, 2)`, `(2, 1)` and `(1, 2, 0)` are unrelated. With all but
    one part fixed, the 64-bit hash is a bijection of that part; the key drops its last bit, so that at most two
    values of a part share a key.

    Args:
        seed: Any integer (its lowest 64 bits count), or keys to derive further keys from.
        *parts: Integers, int64 arrays, or names that keep uses apart. Arrays broadcast against each other.

    Returns:
        Keys, the broadcast shape, int64 in [0, 2^63).

    Raises:
        TypeError: If a part is neither an integer, an integer array nor a string.
    """
    import numpy as np

    state = _mix(_words(seed) + np.uint64(_GAMMA), _numpy_shift_xor)
    for position, part in enumerate(parts, start=2):
        offset = np.uint64(position * _GAMMA & _MASK)
        state = _mix(state ^ _mix(_words(part) + offset, _numpy_shift_xor), _numpy_shift_xor)
    shape = np.broadcast_shapes(*(np.shape(part) for part in (seed, *parts)))
    keys: NDArray[np.int64] = (state >> np.uint64(1)).astype(np.int64)
    return keys.reshape(shape)


@overload
def draw_uniform(keys: NDArray[np.int64], n: int) -> NDArray[np.float64]: ...
@overload
def draw_uniform(keys: tf.Tensor, n: int) -> tf.Tensor: ...
def draw_uniform(keys: Any, n: int) -> Any:
    """Draw independent uniform numbers for each key.

    Column `i` depends on the key and on `i` only, so drawing more columns later leaves the earlier ones alone.
    Values are multiples of 2^-53; casting them to float32 may round up to 1.0.

    Args:
        keys: `(batch,)` int64, a numpy array or a TensorFlow tensor (eager, in a graph, or in a tf.data map).
        n: How many numbers a key, at least 1.

    Returns:
        `(batch, n)` float64 in [0, 1): an array for an array, a tensor for a tensor, bit-equal.

    Raises:
        TypeError: If `keys` is neither, or is not int64.

    Source: the 53 highest bits times 2^-53, as in "Generating uniform doubles", https://prng.di.unimi.it/.
    """
    import numpy as np

    if isinstance(keys, np.ndarray):
        _check_dtype(keys.dtype == np.int64, keys.dtype)
        words = _draw_words(keys.view(np.uint64)[..., np.newaxis], n, _numpy_shift_xor)
        return (words >> np.uint64(11)).astype(np.float64) * _UNIT
    import tensorflow as tf

    if not tf.is_tensor(keys):
        raise TypeError(f"keys must be a numpy array or a TensorFlow tensor, not {type(keys).__name__}")
    _check_dtype(keys.dtype == tf.int64, keys.dtype)
    words = _draw_words(tf.bitcast(keys, tf.uint64)[..., tf.newaxis], n, _tensor_shift_xor)
    return tf.cast(tf.bitwise.right_shift(words, np.uint64(11)), tf.float64) * _UNIT


def _check_dtype(is_int64: bool, dtype: object) -> None:
    if not is_int64:
        raise TypeError(f"keys must be int64, not {dtype}")


def _words(part: int | str | NDArray[np.int64]) -> NDArray[np.uint64]:
    """The 64-bit words of one part, as an array: numpy warns when scalars wrap around."""
    import numpy as np

    if isinstance(part, str):
        digest = hashlib.blake2b(part.encode(), digest_size=8).digest()
        return np.array([int.from_bytes(digest, "little")], np.uint64)
    if isinstance(part, int | np.integer):
        return np.array([int(part) & _MASK], np.uint64)
    if isinstance(part, np.ndarray) and part.dtype.kind in "iu":
        return np.atleast_1d(part).astype(np.uint64)
    raise TypeError(f"a key is derived from integers, integer arrays and names, not from {part!r}")


def _draw_words(words: Any, n: int, shift_xor: Callable[[Any, int], Any]) -> Any:
    import numpy as np

    # Hashing the key first puts neighbouring keys at unrelated places of splitmix64's one long sequence.
    steps = np.array([i * _GAMMA & _MASK for i in range(1, n + 1)], np.uint64)
    return _mix(_mix(words + np.uint64(_GAMMA), shift_xor) + steps, shift_xor)


def _mix(words: Any, shift_xor: Callable[[Any, int], Any]) -> Any:
    """Splitmix64's finaliser, a bijection of 64-bit words (Stafford's variant 13)."""
    import numpy as np

    words = shift_xor(words, 30) * np.uint64(_MULTIPLIERS[0])
    words = shift_xor(words, 27) * np.uint64(_MULTIPLIERS[1])
    return shift_xor(words, 31)


def _numpy_shift_xor(words: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    import numpy as np

    return words ^ (words >> np.uint64(bits))


def _tensor_shift_xor(words: tf.Tensor, bits: int) -> tf.Tensor:
    import numpy as np
    import tensorflow as tf

    return tf.bitwise.bitwise_xor(words, tf.bitwise.right_shift(words, np.uint64(bits)))
