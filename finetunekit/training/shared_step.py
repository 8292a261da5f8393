"""One training step that several devices compute together, to the result of one device but for the order of sums.

Each device computes the loss of its own rows, divided by the size of the whole batch; gradients are added up before they are clipped and
applied. What would depend on the device is made to depend on the row's place in the batch: dropout draws the mask of the whole batch and
keeps its rows, BatchNorm that trains takes mean and variance over the whole batch. Keras' own `fit` cannot do this under a strategy of
several workers (keras#20585), and its loss there is a mean of means.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import RunError
from finetunekit.models.freezing import is_batch_norm
from finetunekit.training.batches import Batch
from finetunekit.training.devices import Devices, each_one, lost_processes, shares_of

if TYPE_CHECKING:
    import keras


class SharedStep:
    """The step of one compiled model, to be called within `shared_layers`.

    Attributes:
        rows: While a device's part is traced, in a thread of its own: `start` of its rows in the batch, and `total` rows of the batch.
    """

    def __init__(self, model: keras.Model, loss: keras.losses.Loss, devices: Devices) -> None:
        """Nothing is traced yet.

        Args:
            model: Compiled under the scope of the devices.
            loss: What is minimised.
            devices: At least two.
        """
        self.rows = threading.local()
        self._model, self._loss, self._devices = model, loss, devices
        self._steps: dict[int, Callable[..., Any]] = {}  # by the size of the batch
        # gradients are added up here, before they are clipped; Keras would do it afterwards
        model.optimizer._all_reduce_sum_gradients = lambda pairs: pairs

    def __call__(self, batch: Batch, weights: NDArray[np.float32] | None) -> tuple[float, float, float]:
        """Train on a batch.

        Args:
            batch: Of any size.
            weights: Of each photo in the loss, `(batch,)`; None: all alike.

        Returns:
            Loss as it is minimised and cross-entropy, both in the mean, and the fraction of photos that were right.
        """
        size, deal = len(batch.photos), self._devices.deal
        shares = shares_of(size, self._devices.count)
        inputs = batch.x if isinstance(batch.x, list) else [batch.x]
        weights = np.ones(size, np.float32) if weights is None else weights
        starts = deal(np.array([share.start for share in shares], np.int32), each_one(len(shares)))
        dealt = [deal(x, shares) for x in inputs], deal(batch.y, shares), deal(weights, shares), starts
        if size not in self._steps:
            self._steps[size] = self._build(size, dealt)
        with lost_processes(self._devices):
            found = self._steps[size](*dealt)
        loss, log_loss, accuracy = self._devices.strategy.experimental_local_results(found)[0].numpy().tolist()
        return loss, log_loss, accuracy

    def _build(self, size: int, dealt: tuple[Any, ...]) -> Callable[..., Any]:
        import tensorflow as tf

        on_one, strategy = partial(self._on_one_device, size), self._devices.strategy
        step = tf.function(lambda *given: strategy.run(on_one, given), autograph=False)
        traced: Callable[..., Any] = step.get_concrete_function(*dealt)
        return traced

    def _on_one_device(self, size: int, x: list[Any], y: Any, weights: Any, start: Any) -> Any:
        import keras
        import tensorflow as tf

        model, devices = self._model, self._devices.count
        self.rows.start, self.rows.total = start[0], size
        parts = size if size >= devices else size * devices  # one that is too short to be dealt is computed by all
        with tf.GradientTape() as tape:
            logits = model(x[0] if len(x) == 1 else x, training=True)
            loss = tf.reduce_sum(self._loss.call(y, logits) * weights) / parts
            if model.losses:  # of weights, hence the same on every device
                loss += tf.add_n(model.losses) / devices
        found = zip(
            tape.gradient(loss, [v.value for v in model.trainable_weights]), model.trainable_weights, strict=True
        )
        gradients, variables = zip(*((g, v) for g, v in found if g is not None), strict=True)
        context = tf.distribute.get_replica_context()
        model.optimizer.apply(context.all_reduce("SUM", list(gradients)), variables)
        log_loss = tf.reduce_sum(keras.losses.categorical_crossentropy(y, logits, from_logits=True)) / parts
        right = tf.reduce_sum(keras.metrics.categorical_accuracy(y, logits)) / parts
        return context.all_reduce("SUM", tf.stack([loss, log_loss, right]))


@contextmanager
def shared_layers(model: keras.Model, rows: threading.local) -> Iterator[None]:
    """Let the layers of a model compute, on every device, what they would compute on one; to be entered before a step is traced.

    Args:
        model: What is trained, flags set.
        rows: Of the step.

    Raises:
        RunError: If a layer does what would depend on the device.
    """
    layers = list(model._flatten_layers(include_self=False))
    for layer in layers:
        _check_layer(layer)
    dropped = [layer for layer in layers if _draws(layer)]
    normalised = [layer for layer in layers if _takes_statistics(layer)]
    for layer in dropped:
        layer.call = _sharing_dropout(layer, rows)
    for layer in normalised:
        layer._moments = _sharing_moments(layer)
    try:
        yield
    finally:
        for layer in dropped:
            del layer.call
        for layer in normalised:
            del layer._moments


def _sharing_dropout(layer: Any, rows: threading.local) -> Callable[..., Any]:
    """`call` of a dropout layer that draws the mask of the whole batch and uses its rows of it."""
    import keras
    import tensorflow as tf

    def call(inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        ones = tf.ones((rows.total, *inputs.shape[1:]), inputs.dtype)
        shape = layer._get_noise_shape(ones) if hasattr(layer, "_get_noise_shape") else layer.noise_shape
        mask = keras.random.dropout(ones, layer.rate, noise_shape=shape, seed=layer.seed_generator)
        return inputs * mask[rows.start : rows.start + tf.shape(inputs)[0]]

    return call


def _sharing_moments(layer: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Mean and variance of a BatchNorm layer over the whole batch.

    The mean first, then squares of the distances from it, as on one device: Keras' own way to synchronise subtracts the square of the mean
    from the mean of the squares, which loses digits.
    """
    import tensorflow as tf

    def moments(inputs: Any, mask: None) -> tuple[Any, Any]:  # photos have no mask
        axes, context = layer._reduction_axes, tf.distribute.get_replica_context()
        values = tf.size(inputs) / inputs.shape[layer.axis]
        count = context.all_reduce("SUM", tf.cast(values, inputs.dtype))
        mean = context.all_reduce("SUM", tf.reduce_sum(inputs, axes, keepdims=True)) / count
        variance = context.all_reduce("SUM", tf.reduce_sum(tf.square(inputs - mean), axes)) / count
        return tf.reshape(mean, (-1,)), variance

    return moments


def _draws(layer: Any) -> bool:
    return bool(layer._seed_generators)


def _takes_statistics(layer: Any) -> bool:
    return is_batch_norm(layer) and layer.trainable


def _check_layer(layer: Any) -> None:
    import keras

    dropout = (
        keras.layers.Dropout,
        keras.layers.SpatialDropout1D,
        keras.layers.SpatialDropout2D,
        keras.layers.SpatialDropout3D,
    )
    why = None
    if _draws(layer) and type(layer) not in dropout:
        why = "draws random numbers in a way of its own"
    elif _takes_statistics(layer) and type(layer) is not keras.layers.BatchNormalization:
        why = "takes statistics of a batch in a way of its own"
    elif layer.activity_regularizer is not None or layer._losses:
        why = "adds to the loss what depends on the photos"
    if why:
        raise RunError(
            f"layer '{layer.name}' ({type(layer).__name__}) {why}, which would depend on how many devices share a batch. "
            "Train this network on one device (train.devices: 1)."
        )
