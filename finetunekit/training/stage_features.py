"""Features of a stage's photos up to the cut: of the photos as they are, and of a bank of augmented views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.plan import Plan
from finetunekit.data.decoded_photos import DecodedPhotos
from finetunekit.errors import ConfigError
from finetunekit.models.feature_cache import EXTRACTION_BATCH, Arrays, Extractor, features_key, plain_key
from finetunekit.models.forward import input_batches
from finetunekit.models.frozen_prefix import Cut
from finetunekit.training.batches import augmented, prefetched
from finetunekit.training.sampling import bank_keys, views_drawn
from finetunekit.training.stage_context import StageContext


def plain_features(
    context: StageContext, extract: Extractor[Cut], signature: Sequence[Any], photos: DecodedPhotos, what: str
) -> Arrays:
    """Features of un-augmented photos, from the cache where they are there; one array a boundary tensor, `(photos, ...)`."""
    key = plain_key(signature, photos.sha256)
    batches = input_batches(photos.pixels, context.contract)
    return _cached(context, extract, key, batches, len(photos.pixels), f"{what} photos")


def bank_size(plan: Plan, number: int, photos: int) -> int:
    """How many views of each training photo a stage's bank holds.

    Args:
        plan: The run's.
        number: Of the stage, from 0.
        photos: In the training split.

    Returns:
        `cache.views` where they are solved on, all at once; where they are drawn, no more than will have been by the end of the stage.
    """
    config = plan.config
    if plan.stages[number].config.kind == "solve":
        return config.cache.views
    epochs, draws = plan.epochs_before(number + 1), config.train.draws_per_epoch
    return views_drawn(photos=photos, draws=draws, views=config.cache.views, seed=config.seed, epochs=epochs)


def bank_features(context: StageContext, extract: Extractor[Cut], signature: Sequence[Any], views: int) -> list[Arrays]:
    """Features of the first `views` views of each training photo, a list entry a view, from the cache where they are there.

    Raises:
        ConfigError: If the augmentation cannot be banked.
    """
    _check_bankable(context)
    photos = context.train
    ids = np.array([int(sha[:15], 16) for sha in photos.sha256], dtype=np.int64)
    keys = bank_keys(context.draws.view_seed, len(ids), views, photo_ids=ids)
    augment = [[c.name, c.options.model_dump(mode="json"), str(c.registered.origin)] for c in context.plan.augment]
    made = []
    for view in range(views):
        key = features_key([*signature, "view", augment, list(photos.sha256), keys[:, view].tolist()])
        batches = _view_batches(context, keys[:, view])
        made.append(_cached(context, extract, key, batches, len(ids), f"view {view + 1} of {views}"))
    return made


def _view_batches(context: StageContext, keys: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    labels = context.train.one_hot(context.num_classes)
    for start in range(0, len(keys), EXTRACTION_BATCH):
        part = slice(start, start + EXTRACTION_BATCH)
        x, _ = augmented(context.train.pixels[part], labels[part], keys[part], context.augmenter, context.contract)
        yield np.asarray(x)


def _check_bankable(context: StageContext) -> None:
    augmenter = context.augmenter
    assert augmenter is not None  # only augmented photos are banked
    if augmenter.scope == "batch":
        raise ConfigError(
            "cache.mode: bank: mixing features is not mixing pixels; an augmentation here mixes photos. Use exact."
        )
    if not augmenter.is_deterministic:
        raise ConfigError(
            "cache.mode: bank: an augmentation here is not deterministic, so that its views cannot be kept. Use exact."
        )


def _cached(
    context: StageContext,
    extract: Extractor[Cut],
    key: str,
    batches: Iterator[NDArray[np.float32]],
    photos: int,
    what: str,
) -> Arrays:
    found = context.cache.get(key)
    if found is not None:
        return found
    count = context.progress.counter(f"features of {what}")

    def counted() -> Iterator[Arrays]:
        done = 0
        with closing(prefetched(batches)) as ready:
            for features in extract(ready):
                done += len(features[0])
                count(done, photos)
                yield features

    boundary = ", ".join(extract.cut.boundary)
    return context.cache.put(key, counted(), photos, f"{context.plan.backbone.name} to {boundary}, {what}")
