"""A stage that is solved: the head's last Dense layer is solved on frozen features and written into the network."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.decoded_photos import DecodedPhotos
from finetunekit.errors import ConfigError, RunError
from finetunekit.models.feature_cache import EXTRACTION_BATCH, prefix_signature
from finetunekit.models.feature_files import Arrays
from finetunekit.models.forward import SUFFIX_BATCH, input_batches, make_forward
from finetunekit.models.linear_probe.cross_validation import PenaltyChoice, Recipe, check_leaving_out, fit_chosen
from finetunekit.models.linear_probe.linear import LinearFit, ProbeFeatures
from finetunekit.plugins.components import component_label
from finetunekit.statistics import logit_log_losses
from finetunekit.system.beside import begin
from finetunekit.system.formatting import counted, show_penalties
from finetunekit.system.memory import scratch_array
from finetunekit.training.batches import FeatureFeed
from finetunekit.training.callbacks import callback_arrays, restore_callbacks
from finetunekit.training.solve_features import written_features
from finetunekit.training.stage_context import Prepared, StageContext
from finetunekit.training.stage_features import plain_features
from finetunekit.training.stage_job import Row, SolveJob, StageState
from finetunekit.types import VALID

if TYPE_CHECKING:
    import keras

    from finetunekit.config.plan import Plan
    from finetunekit.models.classifier import Classifier


@dataclass(frozen=True, slots=True)
class LastDense:
    """The layer that a solve stage writes.

    Attributes:
        layer: Dense, linear, with a bias; its outputs are the logits.
        inputs: What it reads, `(batch, channels)`.
    """

    layer: keras.layers.Dense
    inputs: keras.KerasTensor


def find_last_dense(classifier: Classifier, plan: Plan, number: int) -> LastDense:
    """The layer that gives the logits, for a stage that has frozen the backbone.

    Raises:
        ConfigError: If it is no Dense layer of the usual kind, so that nothing can be written into it, or if the head has other weights
            that no stage trains.
    """
    import keras

    history = classifier.logits.outputs[0]._keras_history
    layer, label = history.operation, component_label(plan.head)
    is_plain = isinstance(layer, keras.layers.Dense) and layer.use_bias
    is_plain = is_plain and layer.activation is keras.activations.linear and len(layer.kernel.shape) == 2
    if not is_plain:
        raise ConfigError(
            f"stages[{number}].kind: solve writes a Dense layer with a bias; {label} ends in "
            f"{type(layer).__name__} '{layer.name}'. Use a head that ends in one, such as linear, or kind: fit."
        )
    written = {id(weight) for weight in layer.weights}
    left = [weight for weight in classifier.logits.trainable_variables if id(weight) not in written]
    if left and all(stage.config.kind == "solve" for stage in plan.stages):
        raise ConfigError(
            f"stages[{number}].kind: solve writes the last Dense layer only; the {len(left)} other arrays of weights of {label}, such as "
            f"{left[0].path}, would stay as they were drawn. Add a stage of kind: fit, which trains the whole head."
        )
    return LastDense(layer, layer._inbound_nodes[history.node_index].input_tensors[0])


def run_solve(job: SolveJob, context: StageContext, prepared: Prepared, number: int) -> dict[str, Any]:
    """Solve one stage and keep its row.

    A stage that an earlier process solved is solved again, to the same bits, and keeps no second row.

    Args:
        job: The stage.
        context: Photos, network and cache.
        prepared: The stage with its whole backbone frozen.
        number: Of the stage, from 0.

    Returns:
        What `run.json` says of it: solver, penalties with their weights, cross-validated log losses, photos, views and channels.

    Raises:
        ConfigError: If the head does not end in a Dense layer.
        RunError: If the features tell no two photos apart, or the photos are too few to leave any out.
    """
    started = time.perf_counter()
    dense = find_last_dense(context.classifier, context.plan, number)
    stage = job.stage
    recipe = Recipe(stage.solver, stage.penalty, stage.folds, context.plan.config.seed, stage.repeats)
    counter = job.progress.counter(f"{job.stage.name}: weighing penalties, fits")
    asked = (
        _of_photos(job, context, prepared, dense, recipe)
        if stage.features is None
        else _written(job, context, dense, number)
    )
    features, photos = asked.features, len(asked.labels)
    fitting = begin(
        partial(
            fit_chosen,
            features,
            np.tile(asked.labels, asked.views),
            context.num_classes,
            replace(recipe, views=asked.views),
            groups=asked.groups * asked.views,
            count=counter,
        ),
        name="fit",
    )
    if prepared.cut is not None:  # fitting keeps one processor busy: the others compute what is needed next
        prepared.predict(context.valid, VALID)
    try:
        fit, choice = fitting.result()
    except ValueError as exc:
        raise RunError(f"stage {job.stage.name}: {exc}.") from exc
    dense.layer.kernel.assign(fit.kernel)
    dense.layer.bias.assign(fit.bias)
    row = _row(job, features if asked.views == 1 else features[:photos], asked.labels, fit, started)
    if job.resume is None:
        job.sink.keep(row, StageState(1, is_over=True, optimizer=(), callbacks=callback_arrays(job.callbacks)))
    else:
        restore_callbacks(job.callbacks, job.resume.callbacks)
    job.progress.say(_line(row, fit, choice, photos, asked.views))
    for callback in job.callbacks:
        callback.finish()
    return {
        "solver": fit.solver,
        "penalties": tuple(fit.mixture),
        "choice": asdict(choice) if choice else None,
        "photos": photos,
        "views": asked.views,
        "channels": features.shape[1],
        **asked.record,
    }


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is solved: features of the photos as they are, `(photos, channels)`, then of each view of them in turn."""

    features: ProbeFeatures
    labels: NDArray[np.int64]
    groups: list[str]
    views: int
    record: Mapping[str, Any]


def _of_photos(job: SolveJob, context: StageContext, prepared: Prepared, dense: LastDense, recipe: Recipe) -> _Asked:
    groups, labels = list(context.train.groups or context.train.sha256), context.train.labels
    _check_photos(job.stage.name, labels, recipe, groups)
    looks = [context.train, context.train.mirrored()] if job.stage.mirror else [context.train]
    views = _count_views(prepared) * len(looks)
    blocks = chain.from_iterable(_inputs(context, prepared, dense, look) for look in looks)
    return _Asked(_stacked(blocks, views * len(labels)), labels, groups, views, {})


def _written(job: SolveJob, context: StageContext, dense: LastDense, number: int) -> _Asked:
    asked = context.plan.config.stages[number]
    assert asked.kind == "solve"
    assert job.stage.features is not None  # asked for features that were written
    found = written_features(job.stage.name, job.stage.features, context, dense.inputs)
    record = {"folder": asked.features, **found.record}  # where the user said that they are
    return _Asked(found.features, found.labels, found.groups, 1, {"features": record})


def _check_photos(stage: str, labels: NDArray[np.int64], recipe: Recipe, groups: Sequence[str]) -> None:
    try:
        check_leaving_out(labels, recipe, groups=groups)
    except ValueError as exc:
        raise RunError(f"stage {stage}: {exc}.") from exc


def _count_views(prepared: Prepared) -> int:
    if prepared.cut is None or not isinstance(prepared.feed, FeatureFeed):
        return 1
    return len(prepared.feed.views)


def _stacked(blocks: Iterator[NDArray[np.float32]], rows: int) -> NDArray[np.float32]:
    """Blocks one below the other, `(rows, channels)`, never a second time in memory."""
    stacked, done = np.empty((0, 0), np.float32), 0
    for block in blocks:
        if not done:
            stacked = scratch_array((rows, block.shape[1]), np.float32)
        stacked[done : done + len(block)] = block
        done += len(block)
    return stacked


def _inputs(
    context: StageContext, prepared: Prepared, dense: LastDense, look: DecodedPhotos
) -> Iterator[NDArray[np.float32]]:
    """What enters the Dense layer, `(block, channels)`: of the photos as they are, or of each banked view, one after the other."""
    import keras

    cut = prepared.cut
    if cut is None:
        forward = make_forward(keras.Model(context.classifier.logits.inputs[0], dense.inputs), EXTRACTION_BATCH)
        yield from map(forward, input_batches(look.pixels, context.contract))
        return
    crossing = cut.prefix.outputs
    is_there = len(crossing) == 1 and crossing[0] is dense.inputs
    rest = None if is_there else make_forward(keras.Model(_one_or_all(crossing), dense.inputs), SUFFIX_BATCH)
    for arrays in _cut_features(context, prepared, look):
        yield rest(*arrays) if rest else arrays[0]


def _cut_features(context: StageContext, prepared: Prepared, look: DecodedPhotos) -> Iterator[Arrays]:
    """A batch of photos at a time, since those of a whole split at an early cut may be larger than memory."""
    photos = np.arange(len(context.train.labels))
    batches = [photos[start : start + SUFFIX_BATCH] for start in range(0, len(photos), SUFFIX_BATCH)]
    if isinstance(prepared.feed, FeatureFeed) and look is context.train:
        views = prepared.feed.views
        for view in range(len(views)):
            for batch in batches:
                yield tuple(np.asarray(array) for array in views.rows(np.full_like(batch, view), batch))
        return
    assert prepared.extract is not None  # asked for features of a cut only
    signature = prefix_signature(prepared.extract.cut, context.pixel_parts, context.precision)
    kept = plain_features(
        context, prepared.extract, signature, look, "train" if look is context.train else "mirrored train"
    )
    for batch in batches:
        yield tuple(array[batch[0] : batch[-1] + 1] for array in kept)


def _one_or_all(tensors: list[Any]) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


def _row(job: SolveJob, features: ProbeFeatures, labels: NDArray[np.int64], fit: LinearFit, started: float) -> Row:
    logits = fit.logits(features).astype(np.float32)
    correct = int((logits.argmax(axis=1) == labels).sum())
    validated = job.validator.row(job.first_epoch)
    log_loss = float(logit_log_losses(logits, labels).mean())
    seconds = time.perf_counter() - started
    return {
        "stage": job.stage.name,
        "epoch": job.first_epoch,
        "loss": log_loss,
        "log_loss": log_loss,
        "accuracy": correct / len(labels),
        "draws": len(labels),
        "correct": correct,
        **validated,
        "learning_rate": 0.0,
        "seconds": round(seconds, 3),
        "images_per_s": round(len(labels) / seconds, 1),
    }


def _line(row: Row, fit: LinearFit, choice: PenaltyChoice | None, photos: int, views: int) -> str:
    often = f"{choice.repeats} x " if choice and choice.repeats > 1 else ""
    how = (
        f"{often}{counted(choice.folds, 'fold')} of {photos} photos: log loss {choice.log_loss:.4f}"
        if choice
        else "as given"
    )
    many = f" x {views} views" if views > 1 else ""
    return (
        f"solved ({fit.solver}{many})  {show_penalties(fit.mixture)}, {how}  "
        f"val {row['val_loss']:.4f} acc {row['val_accuracy']:6.1%}"
    )
