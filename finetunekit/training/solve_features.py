"""Features written as shards in the place of a run's training photos: of the same network, and of no photo that it is tested on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import RunError
from finetunekit.models.feature_cache import prefix_signature
from finetunekit.models.feature_shards import FeatureShards, open_feature_shards
from finetunekit.models.linear_probe.linear import ProbeFeatures
from finetunekit.system.formatting import counted, escaped
from finetunekit.training.stage_context import StageContext
from finetunekit.types import TRAIN

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class WrittenFeatures:
    """What a stage solves on.

    Attributes:
        features: `(rows, channels)`.
        labels: Index of each row's class, `(rows,)`.
        groups: What cross-validation must not tear apart, a name for each row.
        record: What `run.json` says of them.
    """

    features: ProbeFeatures
    labels: NDArray[np.int64]
    groups: list[str]
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Whole:
    """All of a network up to a tensor; a `finetunekit.models.feature_cache.Prefix`."""

    prefix: keras.Model
    boundary: tuple[str, ...]


def written_features(stage: str, folder: str, context: StageContext, inputs: keras.KerasTensor) -> WrittenFeatures:
    """Labelled training rows of a folder, and those of no split; rows of photos that the run validates or tests on are left out.

    Args:
        stage: Its name, for messages.
        folder: That `finetunekit features` wrote, relative to the working directory; or its address.
        context: The run's.
        inputs: What the layer to be solved reads, `(batch, channels)`.

    Raises:
        ConfigError: If the folder holds no features.
        DataError: If it is not finished, or a shard is damaged.
        RunError: If the features are of another network or other pixels, labels are no classes of the run, or a class has no row.
    """
    shards = open_feature_shards(folder, context.progress)
    for what, there, here in _differences(shards, context, inputs):
        raise RunError(
            f"stage {stage}: {escaped(folder)} holds features of another network ({what}: {there} there, {here} here)."
        )
    own = {name: number for number, name in enumerate(context.classes)}
    known = [row for row, label in enumerate(shards.label) if label is not None and shards.split[row] in (TRAIN, None)]
    if strange := sorted({str(shards.label[row]) for row in known} - own.keys()):
        shown = ", ".join(map(escaped, strange[:3]))
        raise RunError(f"stage {stage}: {escaped(folder)} has labels that are no classes of this run, such as {shown}.")
    rows = np.array([row for row in known if shards.sha256[row] not in context.held_out], np.int64)
    labels = np.array([own[str(shards.label[row])] for row in rows], np.int64)
    absent = [name for name, photos in zip(own, np.bincount(labels, minlength=len(own)), strict=True) if not photos]
    if absent:
        raise RunError(f"stage {stage}: {escaped(folder)} has no training row of class {escaped(absent[0])}.")
    left_out = len(known) - len(rows)
    context.progress.say(
        f"stage {stage}: {counted(len(rows), 'row')} of {folder} in place of the run's training photos"
        + (f"; {counted(left_out, 'row')} of photos that it validates or tests on left out" if left_out else "")
    )
    record = {
        "rows": len(rows),
        "left_out": left_out,
        "photos_sha256": shards.manifest["photos_sha256"],
    }
    return WrittenFeatures(shards.take(rows), labels, shards.groups(rows), record)


def _differences(
    shards: FeatureShards, context: StageContext, inputs: keras.KerasTensor
) -> Iterator[tuple[str, object, object]]:
    import keras

    whole = _Whole(keras.Model(context.classifier.logits.inputs[0], inputs), (inputs._keras_history.operation.name,))
    outputs, digest, pixels, *_ = prefix_signature(whole, context.pixel_parts, context.precision)
    network = shards.manifest["network"]
    for what, key, here in (
        ("numbers a photo", "channels", int(inputs.shape[-1])),
        ("pixels", "pixels", pixels),
        ("precision", "computed_in", context.precision),
        ("layers and weights", "network_sha256", digest),
        ("layers and weights", "outputs", outputs),
    ):
        if network.get(key) != here:
            yield what, network.get(key), here
