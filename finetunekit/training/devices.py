"""The devices that train one network together, in one process or in several, and how a batch is dealt to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import ConfigError, RunError
from finetunekit.models.weight_arrays import assign
from finetunekit.system.environment import start_tensorflow, without_chatter
from finetunekit.system.formatting import counted

FIT, END = -1, -2
"""See `Devices.agree`."""


@dataclass(frozen=True, slots=True)
class Together:
    """Where the processes are that train one network together.

    Attributes:
        addresses: `HOST:PORT` of each, on which it listens to the others.
        number: Of this process, from 0.
    """

    addresses: tuple[str, ...]
    number: int


@dataclass(frozen=True, slots=True)
class Devices:
    """Several devices, each with a copy of the network's variables that changes as the others do.

    Attributes:
        strategy: TensorFlow's, under whose scope the network is built.
        names: Of the devices, such as `GPU:0`, in the order in which they get their rows of a batch.
        process: Number of this process among those that train together, from 0; the first one keeps the run.
        processes: How many there are.
    """

    strategy: Any
    names: tuple[str, ...]
    process: int = 0
    processes: int = 1

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

    def tell(self, number: int) -> int:
        """A number of the first process, in every process."""
        if self.processes == 1:
            return number
        (told,) = self._added_up([np.array(number if self.process == 0 else 0, np.int64)])
        return int(told)

    def agree(self, what: int, rows: NDArray[np.int64] | None = None) -> tuple[int, NDArray[np.int64] | None]:
        """What the first process is about to do, in every process.

        Args:
            what: Number of a stage that begins; `FIT` where the stage is trained; `END` where training is over.
            rows: Training photos that it is trained on; None: all.

        Returns:
            Both, as the first process gave them.
        """
        if self.processes == 1:
            return what, rows
        what, size = self.tell(what), self.tell(-1 if rows is None else len(rows))
        if size < 0:
            return what, None
        (told,) = self._added_up([np.zeros(size, np.int64) if rows is None else rows])
        return what, told

    def spread(self, variables: Sequence[Any]) -> None:
        """Give variables, in every process, the values that they have in the first."""
        if self.processes == 1:
            return
        own = [np.array(variable.numpy()) for variable in variables]
        found = self._added_up([array if self.process == 0 else np.zeros_like(array) for array in own])
        if self.process:
            assign(variables, [array.astype(mine.dtype) for array, mine in zip(found, own, strict=True)])

    def check_same(self, what: str, text: str) -> None:
        """Refuse to go on where a process has something else than the others.

        Raises:
            RunError: In every process.
        """
        if self.processes == 1:
            return
        mine = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], np.int32).astype(np.int64)
        (total,) = self._added_up([mine])
        if (total != mine * self.processes).any():
            raise RunError(f"the processes that are to train one network together differ in {what}.")

    def _added_up(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Sums over the processes, of what the first device of each brings."""
        import tensorflow as tf

        wide = [array.astype(np.int64) if array.dtype.kind in "iub" else array for array in arrays]

        def brought(context: Any) -> list[Any]:
            is_first = context.replica_id_in_sync_group == self._first_device
            return [tf.convert_to_tensor(array if is_first else np.zeros_like(array)) for array in wide]

        def add(given: list[Any]) -> Any:
            context = tf.distribute.get_replica_context()
            return [context.all_reduce("SUM", tf.identity(array)) for array in given]

        given = self.strategy.experimental_distribute_values_from_function(brought)
        with lost_processes(self):
            traced = tf.function(lambda: self.strategy.run(add, (given,)), autograph=False)
            found = traced.get_concrete_function()()
        return [self.strategy.experimental_local_results(one)[0].numpy() for one in found]

    @property
    def _first_device(self) -> int:
        return self.process * (self.count // self.processes)


@contextmanager
def lost_processes(devices: Devices) -> Iterator[None]:
    """Say in one line that another process is gone.

    Raises:
        RunError: If it is.
    """
    import tensorflow as tf

    errors = tf.errors
    gone = (errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError)
    try:
        yield
    except gone as exc:
        if devices.processes == 1:
            raise
        raise RunError(
            "a process that trained this network together with others was lost. The run has its last epoch; resume it."
        ) from exc


def open_devices(asked: int | Literal["all"], batch_size: int, together: Together | None = None) -> Devices | None:
    """The devices that a configuration asks for: GPUs, or processors where TensorFlow has no GPU.

    Args:
        asked: `train.devices`.
        batch_size: `train.batch_size`.
        together: Where several processes train the network; TensorFlow must not have computed anything in this one then.

    Returns:
        None where it is one, on which the network is built and trained as ever.

    Raises:
        ConfigError: If there are fewer, or a batch has too few photos for each of them to get one.
    """
    if together is not None:
        return _join(together, asked, batch_size)
    if asked == 1:
        return None
    start_tensorflow()
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


def _join(together: Together, asked: int | Literal["all"], batch_size: int) -> Devices:
    """Wait until all processes are there."""
    with without_chatter():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        count = (len(gpus) or 1) if asked == "all" else asked
        if count > (len(gpus) or 1):
            raise ConfigError(
                f"train.devices: {count} are asked for in each process, and TensorFlow sees {counted(len(gpus), 'GPU')} in this one. "
                f"Set train.devices: {len(gpus) or 1}, or all."
            )
        tf.config.set_visible_devices(gpus[:count], "GPU")
        cluster = tf.train.ClusterSpec({"worker": list(together.addresses)})
        strategy = tf.distribute.MultiWorkerMirroredStrategy(
            tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, task_type="worker", task_id=together.number)
        )
    processes, devices = len(together.addresses), strategy.num_replicas_in_sync
    if devices > batch_size:
        raise ConfigError(too_small(batch_size, counted(devices, "device")))
    kind = "GPU" if gpus else "CPU"
    names = tuple(f"process {i + 1} {kind}:{k}" for i in range(processes) for k in range(devices // processes))
    return Devices(strategy, names, together.number, processes)


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
    line = f"{devices.count} devices train together ({', '.join(devices.names)}), {_range(rows)} photos of a batch each"
    if devices.processes == 1:
        return line
    return f"{line}; TensorFlow listens on every network interface for that, and asks nobody who they are"


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} or {most}"


def each_one(devices: int) -> tuple[slice, ...]:
    """A row for each device, of an array that has one."""
    return tuple(slice(i, i + 1) for i in range(devices))
