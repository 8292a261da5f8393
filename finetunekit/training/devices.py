"""The devices that train one network together, and how a batch is dealt to them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from finetunekit.errors import ConfigError
from finetunekit.system.formatting import counted


@dataclass(frozen=True, slots=True)
class Devices:
    """Several devices, each with a copy of the network's variables that changes as the others do.

    Attributes:
        strategy: TensorFlow's, under whose scope the network is built.
        names: Of the devices, such as `GPU:0`, in the order in which they get their rows of a batch.
    """

    strategy: Any
    names: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.names)

    def scope(self) -> AbstractContextManager[Any]:
        """Variables that are made meanwhile are made on every device."""
        scope: AbstractContextManager[Any] = self.strategy.scope()
        return scope

    def deal(self, array: Any, shares: Sequence[slice]) -> Any:
        """Rows of an array on the device that gets them: a value by device, as the strategy's functions take it.

        Args:
            array: `(batch, ...)`, of NumPy or TensorFlow.
            shares: From `shares_of`.
        """
        import tensorflow as tf

        return self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.convert_to_tensor(array[shares[context.replica_id_in_sync_group]])
        )


def open_devices(asked: int | Literal["all"], batch_size: int) -> Devices | None:
    """The devices that a configuration asks for: GPUs, or processors where TensorFlow has no GPU.

    Args:
        asked: `train.devices`.
        batch_size: `train.batch_size`.

    Returns:
        None where it is one, on which the network is built and trained as ever.

    Raises:
        ConfigError: If there are fewer, or a batch has too few photos for each of them to get one.
    """
    if asked == 1:
        return None
    import tensorflow as tf

    there = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = tuple(device.name.removeprefix("/device:") for device in there)
    count = len(names) if asked == "all" else asked
    if count > len(names):
        raise ConfigError(
            f"train.devices: {count} are asked for, and TensorFlow sees {len(names)} ({', '.join(names)}). "
            f"Set train.devices: {len(names)}, or all."
        )
    if count > batch_size:
        raise ConfigError(too_small(batch_size, counted(count, "device")))
    if count == 1:
        return None
    # on the first device in the order of the devices: TensorFlow's collective sums confuse two runs of one process
    sums = tf.distribute.ReductionToOneDevice()
    return Devices(tf.distribute.MirroredStrategy(list(names[:count]), cross_device_ops=sums), names[:count])


def too_small(batch_size: int, devices: str) -> str:
    """What is said where a batch cannot be dealt."""
    return (
        f"train.batch_size: {counted(batch_size, 'photo')} a step cannot be dealt to {devices}. "
        "Set train.batch_size higher, or train.devices lower."
    )


def shares_of(size: int, devices: int) -> tuple[slice, ...]:
    """Which rows of a batch each device computes.

    Args:
        size: Rows in the batch, at least 1.
        devices: At least 1.

    Returns:
        Neighbouring parts that differ by one row at most; for a last batch with fewer rows than devices all of it for each, since no
        device can do without a row: what they compute then counts `1 / devices`.
    """
    if size < devices:
        return (slice(0, size),) * devices
    ends = [size * i // devices for i in range(devices + 1)]
    return tuple(slice(start, end) for start, end in pairwise(ends))


def device_line(devices: Devices, batch_size: int) -> str:
    """What a run says of its devices before it trains."""
    rows = [share.stop - share.start for share in shares_of(batch_size, devices.count)]
    return f"{devices.count} devices train together ({', '.join(devices.names)}), {_range(rows)} photos of a batch each"


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} or {most}"


def each_one(devices: int) -> tuple[slice, ...]:
    """A row for each device, of an array that has one."""
    return tuple(slice(i, i + 1) for i in range(devices))
