"""For one stage: freeze, find the cut, check it, and choose what the stage trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.plan import Plan
from finetunekit.data.augmentation import AugmentComponent, Augmenter
from finetunekit.data.decoded_photos import DecodedPhotos
from finetunekit.errors import RunError
from finetunekit.models.feature_cache import EXTRACTION_BATCH, Arrays, Extractor, prefix_signature
from finetunekit.models.forward import SUFFIX_BATCH, Answers, answer_photos, input_batches, make_answering
from finetunekit.models.freezing import Freezing, freeze_layers
from finetunekit.models.frozen_prefix import Cut, find_cut
from finetunekit.models.prefix_check import check_cut
from finetunekit.plugins.components import build_steps, component_label
from finetunekit.system.memory import free_models
from finetunekit.training.batches import FeatureFeed, Feed, MappedViews, PixelFeed
from finetunekit.training.device_cache import find_accelerator, keep_photos, keep_views, max_bytes
from finetunekit.training.stage_context import Prepared, StageContext
from finetunekit.training.stage_features import bank_features, bank_size, plain_features


def build_augmenter(plan: Plan) -> Augmenter | None:
    """All augmentations of a plan as one; None where it has none.

    Raises:
        PluginError: If a builder fails or returns something else than steps.
    """
    components = []
    for i, chosen in enumerate(plan.augment):
        components.append(AugmentComponent(i, component_label(chosen), build_steps(chosen)))
    augmenter = Augmenter(components)
    return None if augmenter.is_identity else augmenter


def draws_views(plan: Plan, number: int) -> bool:
    """Whether a stage is given augmented photos, where the run augments: one that is solved on photos and mirror images is not."""
    stage = plan.stages[number].config
    return stage.kind == "fit" or not stage.mirror


def prepare_stage(context: StageContext, number: int) -> Prepared:
    """Set the flags of one stage and choose what it trains on.

    Args:
        context: What every stage shares.
        number: Of the stage, from 0.

    Raises:
        PluginError: If the freezing policy returns something that its hook does not allow.
        RunError: If nothing would train, or the cache's self-check is below `cache.require`.
        ConfigError: If `cache.mode: bank` meets an augmentation that cannot be banked.
    """
    classifier, config = context.classifier, context.plan.config
    if not draws_views(context.plan, number):
        context = replace(context, augmenter=None)
    freezing = freeze_layers(classifier, context.plan.stages[number])
    cut = None if config.cache.mode == "off" else find_cut(classifier.logits)
    if cut is None:
        why = "the whole network is computed at every draw"
        return _without_cut(context, freezing, why)
    extract = Extractor(cut)
    is_trained = context.plan.stages[number].config.kind == "fit"
    grade, difference = check_cut(extract, classifier.logits, _sample(context), is_trained=is_trained)
    free_models()  # the graphs that it was compared with
    if grade == "refused" or (grade == "close" and config.cache.require == "bitwise"):
        line = f"its self-check is '{grade}' (logits differ by {difference:.1e}, relative)"
        if config.cache.require == "bitwise":
            raise RunError(
                f"cache: {line}; cache.require asks for bitwise. Set cache.require: close, or cache.mode: off."
            )
        return _without_cut(context, freezing, line)
    return _with_cut(context, number, freezing, extract, f"{grade} at {', '.join(cut.boundary)}")


def _pixel_feed(context: StageContext) -> PixelFeed:
    labels = context.train.one_hot(context.num_classes)
    pixels, device = context.train.pixels, find_accelerator()
    photos = keep_photos(pixels, device) if device and pixels.nbytes <= max_bytes() else pixels
    return PixelFeed(photos, labels, context.augmenter, context.contract, context.draws)


def _feature_feed(context: StageContext, views: Sequence[Arrays]) -> FeatureFeed:
    device, size_bytes = find_accelerator(), sum(array.nbytes for view in views for array in view)
    placed = keep_views(views, device) if device and size_bytes <= max_bytes() else MappedViews(views)
    return FeatureFeed(placed, context.train.one_hot(context.num_classes), context.draws)


def _without_cut(context: StageContext, freezing: Freezing, why: str) -> Prepared:
    model = context.classifier.logits
    forward = make_answering(model, EXTRACTION_BATCH)

    def answer(photos: DecodedPhotos, _: str) -> Answers:
        return answer_photos(forward, photos.pixels, context.contract)

    return Prepared(model, freezing, _pixel_feed(context), answer, None, f"cache off: {why}")


def _with_cut(context: StageContext, number: int, freezing: Freezing, extract: Extractor[Cut], grade: str) -> Prepared:
    config, cut = context.plan.config, extract.cut
    signature = [*prefix_signature(cut, context.pixel_parts, context.precision)]
    forward = make_answering(cut.suffix, SUFFIX_BATCH)
    known: dict[tuple[str, ...], Arrays] = {}

    def features(photos: DecodedPhotos, what: str) -> Arrays:
        if photos.sha256 not in known:
            known[photos.sha256] = plain_features(context, extract, signature, photos, what)
        return known[photos.sha256]

    is_banked = config.cache.mode == "bank" and context.augmenter is not None
    feed: Feed
    if context.augmenter is None:
        views = [features(context.train, "train")]
        feed = _feature_feed(context, views)
        mode = f"cache exact ({grade}): no augmentation, each photo computed once"
    elif is_banked:
        made = bank_size(context.plan, number, len(context.train.labels))
        feed = _feature_feed(context, bank_features(context, extract, signature, made))
        how = "reused" if made == config.cache.views else "none drawn twice"
        mode = f"cache bank ({grade}): {made} views of each photo, {how}"
    else:
        feed = _pixel_feed(context)
        mode = f"cache exact ({grade}): fresh views every epoch"
    model = cut.suffix if isinstance(feed, FeatureFeed) else context.classifier.logits
    return Prepared(model, freezing, feed, lambda photos, what: forward(*features(photos, what)), extract, mode)


def _sample(context: StageContext) -> NDArray[np.float32]:
    return next(input_batches(context.train.pixels, context.contract))
