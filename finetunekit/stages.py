"""For one stage: freeze, find the cut, check it, and choose what the stage trains on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.augmentation import AugmentComponent, Augmenter
from finetunekit.errors import ConfigError, PluginError, RunError
from finetunekit.evaluate import SUFFIX_BATCH, input_batches, make_forward
from finetunekit.features import (
    EXTRACTION_BATCH,
    Arrays,
    FeatureCache,
    extract,
    features_key,
    plain_key,
    prefix_signature,
)
from finetunekit.feeds import Draws, FeatureFeed, Feed, MappedViews, PixelFeed, augmented
from finetunekit.freezing import apply_decision, check_decision, claims_of, describe_layers
from finetunekit.model import Classifier, blame, call_builder
from finetunekit.on_device import find_accelerator, keep_photos, keep_views, max_bytes
from finetunekit.pixels import pixel_parts
from finetunekit.plan import Plan
from finetunekit.prefix import Cut, find_cut
from finetunekit.progress import Progress
from finetunekit.self_check import check_cut
from finetunekit.stream import bank_keys
from finetunekit.types import LayerInfo, PixelContract

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class Photos:
    """Decoded photos of one split.

    Attributes:
        pixels: `(photos, size, size, 3)` uint8 RGB.
        labels: `(photos,)` int64.
        sha256: Of each file.
        groups: Of each photo, what cross-validation must not tear apart: its group, else its content. Empty: each photo by itself.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    sha256: tuple[str, ...]
    groups: tuple[str, ...] = ()

    def one_hot(self, num_classes: int) -> NDArray[np.float32]:
        """Labels, `(photos, classes)` float32."""
        rows: NDArray[np.float32] = np.eye(num_classes, dtype=np.float32)[self.labels]
        return rows

    def with_pixels(self, pixels: NDArray[np.uint8]) -> Photos:
        """These photos with other pixels, such as their mirror images; cached features know the two apart."""
        if pixels is self.pixels:
            return self
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        return replace(self, pixels=pixels, sha256=tuple(f"{sha} as {digest}" for sha in self.sha256))


@dataclass(frozen=True, slots=True)
class Prepared:
    """What one stage trains and how its network is evaluated.

    Attributes:
        model: What is trained: the whole network, or the part after the cut.
        rates: Variable path → rate multiplier.
        feed: Training batches.
        predict: Photos and what messages call them → logits of the network as it is now, `(photos, classes)` float32.
        decision: Layer path → rate multiplier, for the record.
        cut: Where the frozen prefix ends; None if the whole network is computed each time.
        mode: One line: how features are reused, for the first lines of the run.
        claims: Layer path → the rule of the freezing policy that claimed it, where the policy says so.
    """

    model: keras.Model
    rates: dict[str, float]
    feed: Feed
    predict: Callable[[Photos, str], NDArray[np.float32]]
    decision: dict[str, float]
    cut: Cut | None
    mode: str
    claims: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageContext:
    """What every stage of a run shares.

    Attributes:
        plan: The run's plan.
        classifier: The network.
        contract: What it is fed by.
        precision: `float32` or `bfloat16`.
        augmenter: None where nothing is augmented.
        train: Training photos.
        valid: Validation photos.
        num_classes: Number of classes.
        cache: Features of earlier runs.
        progress: Says what is under way.
    """

    plan: Plan
    classifier: Classifier
    contract: PixelContract
    precision: str
    augmenter: Augmenter | None
    train: Photos
    valid: Photos
    num_classes: int
    cache: FeatureCache
    progress: Progress

    @property
    def pixel_parts(self) -> list[Any]:
        """What un-augmented input follows from besides the photo's bytes."""
        return pixel_parts(self.plan.config.pixels, self.contract)


def build_augmenter(plan: Plan) -> Augmenter | None:
    """All augmentations of a plan as one; None where it has none.

    Raises:
        PluginError: If a builder fails or returns something else than steps.
    """
    components = []
    for i, chosen in enumerate(plan.augment):
        steps = call_builder(chosen)
        if not isinstance(steps, (tuple, list)):
            raise PluginError(
                f"{blame(chosen)} must return a tuple of finetunekit.Augmentation. Received: {steps!r:.200}"
            )
        components.append(AugmentComponent(i, blame(chosen), tuple(steps)))
    augmenter = Augmenter(components)
    return None if augmenter.is_identity else augmenter


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
    classifier = context.classifier
    chosen, stage = context.plan.freeze[number], context.plan.config.stages[number]
    layers = describe_layers(classifier.backbone)
    returned = decide_freezing(context.plan, number, layers)
    decision = check_decision(returned, layers, blame(chosen), train_batch_norm=stage.train_batch_norm)
    rates = apply_decision(classifier.logits, classifier.backbone.model, decision)
    return replace(_choose_feed(context, rates, decision), claims=claims_of(returned))


def decide_freezing(plan: Plan, number: int, layers: tuple[LayerInfo, ...]) -> Any:
    """What a stage's freezing policy decides, not yet checked; a solve stage freezes the whole backbone."""
    if plan.config.stages[number].kind == "solve":
        return {layer.path: 0.0 for layer in layers}
    return call_builder(plan.freeze[number], layers)


def _choose_feed(context: StageContext, rates: dict[str, float], decision: dict[str, float]) -> Prepared:
    classifier, config = context.classifier, context.plan.config
    cut = None if config.cache.mode == "off" else find_cut(classifier.logits)
    if cut is None:
        why = "the whole network is computed at every draw"
        return _without_cut(context, rates, decision, why)
    grade, difference = check_cut(cut, classifier.logits, _sample(context))
    if grade == "refused" or (grade == "close" and config.cache.require == "bitwise"):
        line = f"its self-check is '{grade}' (logits differ by {difference:.1e}, relative)"
        if config.cache.require == "bitwise":
            raise RunError(
                f"cache: {line}; cache.require asks for bitwise. Set cache.require: close, or cache.mode: off."
            )
        return _without_cut(context, rates, decision, line)
    return _with_cut(context, rates, decision, cut, f"{grade} at {', '.join(cut.boundary)}")


def _draws(context: StageContext) -> Draws:
    config = context.plan.config
    return Draws(
        photos=len(context.train.pixels),
        draws=config.train.draws_per_epoch,
        batch_size=config.train.batch_size,
        seed=config.seed,
        view_seed=config.seed if config.view_seed is None else config.view_seed,
    )


def _pixel_feed(context: StageContext) -> PixelFeed:
    labels = context.train.one_hot(context.num_classes)
    pixels, device = context.train.pixels, find_accelerator()
    photos = keep_photos(pixels, device) if device and pixels.nbytes <= max_bytes() else pixels
    return PixelFeed(photos, labels, context.augmenter, context.contract, _draws(context))


def _feature_feed(context: StageContext, views: Sequence[Arrays]) -> FeatureFeed:
    device, size_bytes = find_accelerator(), sum(array.nbytes for view in views for array in view)
    placed = keep_views(views, device) if device and size_bytes <= max_bytes() else MappedViews(views)
    return FeatureFeed(placed, context.train.one_hot(context.num_classes), _draws(context))


def _without_cut(context: StageContext, rates: dict[str, float], decision: dict[str, float], why: str) -> Prepared:
    model = context.classifier.logits
    forward = make_forward(model, EXTRACTION_BATCH)

    def predict(photos: Photos, _: str) -> NDArray[np.float32]:
        return np.concatenate([forward(batch) for batch in input_batches(photos.pixels, context.contract)])

    return Prepared(model, rates, _pixel_feed(context), predict, decision, None, f"cache off: {why}")


def _with_cut(
    context: StageContext, rates: dict[str, float], decision: dict[str, float], cut: Cut, grade: str
) -> Prepared:
    config = context.plan.config
    signature = [*prefix_signature(cut, context.pixel_parts, context.precision)]
    forward = make_forward(cut.suffix, SUFFIX_BATCH)
    known: dict[tuple[str, ...], Arrays] = {}

    def features(photos: Photos, what: str) -> Arrays:
        if photos.sha256 not in known:
            known[photos.sha256] = plain_features(context, cut, signature, photos, what)
        return known[photos.sha256]

    is_banked = config.cache.mode == "bank" and context.augmenter is not None
    feed: Feed
    if context.augmenter is None:
        views = [features(context.train, "train")]
        feed = _feature_feed(context, views)
        mode = f"cache exact ({grade}): no augmentation, each photo computed once"
    elif is_banked:
        feed = _feature_feed(context, _bank(context, cut, signature))
        mode = f"cache bank ({grade}): {config.cache.views} views of each photo, reused"
    else:
        feed = _pixel_feed(context)
        mode = f"cache exact ({grade}): fresh views every epoch"
    model = cut.suffix if isinstance(feed, FeatureFeed) else context.classifier.logits
    return Prepared(model, rates, feed, lambda photos, what: forward(*features(photos, what)), decision, cut, mode)


def plain_features(context: StageContext, cut: Cut, signature: Sequence[Any], photos: Photos, what: str) -> Arrays:
    """Features of un-augmented photos, from the cache where they are there; one array a boundary tensor, `(photos, ...)`."""
    key = plain_key(signature, photos.sha256)
    batches = input_batches(photos.pixels, context.contract)
    return _cached(context, cut, key, batches, len(photos.pixels), f"{what} photos")


def _bank(context: StageContext, cut: Cut, signature: Sequence[Any]) -> list[Arrays]:
    _check_bankable(context)
    config, photos = context.plan.config, context.train
    ids = np.array([int(sha[:15], 16) for sha in photos.sha256], dtype=np.int64)
    keys = bank_keys(_draws(context).view_seed, len(ids), config.cache.views, photo_ids=ids)
    augment = [[c.name, c.options.model_dump(mode="json"), str(c.registered.origin)] for c in context.plan.augment]
    views = []
    for view in range(config.cache.views):
        key = features_key([*signature, "view", augment, list(photos.sha256), keys[:, view].tolist()])
        batches = _view_batches(context, keys[:, view])
        views.append(_cached(context, cut, key, batches, len(ids), f"view {view + 1} of {config.cache.views}"))
    return views


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
    context: StageContext, cut: Cut, key: str, batches: Iterator[NDArray[np.float32]], photos: int, what: str
) -> Arrays:
    found = context.cache.get(key)
    if found is not None:
        return found
    count = context.progress.counter(f"features of {what}")

    def counted() -> Iterator[Arrays]:
        done = 0
        for features in extract(cut, batches):
            done += len(features[0])
            count(done, photos)
            yield features

    return context.cache.put(
        key, counted(), photos, f"{context.plan.backbone.name} to {', '.join(cut.boundary)}, {what}"
    )


def _sample(context: StageContext) -> NDArray[np.float32]:
    return next(input_batches(context.train.pixels, context.contract))
