"""A backbone's features of un-augmented photos: pooled, cached, one array a split, without a head and without training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.pixel_contract import contract_of, pixel_parts
from finetunekit.config.plan import Plan
from finetunekit.data.decoded_photos import DecodedPhotos, PixelStore
from finetunekit.models.classifier import build_backbone, precision_scope
from finetunekit.models.feature_cache import Extractor, FeatureCache, open_cache, plain_key, prefix_signature
from finetunekit.models.feature_files import Arrays
from finetunekit.models.forward import input_batches
from finetunekit.models.load_weights import load_backbone_weights
from finetunekit.system.environment import prepare_tensorflow, resolve_precision
from finetunekit.system.progress import Progress
from finetunekit.types import Backbone, PixelContract

if TYPE_CHECKING:
    import keras

    from finetunekit.data.index import PhotoIndex


@dataclass(frozen=True, slots=True)
class PooledBackbone:
    """A backbone up to one vector a photo; a `finetunekit.models.feature_cache.Prefix`.

    Attributes:
        prefix: `(batch, size, size, 3)` → `(batch, channels)`.
        boundary: Name of its last operation.
    """

    prefix: keras.Model
    boundary: tuple[str, ...]


@dataclass(frozen=True)
class ProbeFeatures:
    """Pooled features of a run's photos, split by split, computed when they are asked for and kept on disk.

    No split is touched before it is asked for: whoever may not see test photos does not ask for `test`.

    Attributes:
        plan: Names the backbone, its options, size and resampling of the photos.
        index: Every photo.
        pooled: The backbone with its weights loaded.
        contract: What it is fed by.
        precision: `float32` or `bfloat16`.
        cache: Where features are kept.
        progress: Says what is under way.
        photos: Pixels of the photos; what is decoded is kept there.
    """

    plan: Plan
    index: PhotoIndex
    pooled: PooledBackbone
    contract: PixelContract
    precision: str
    cache: FeatureCache
    progress: Progress
    photos: PixelStore
    _known: dict[tuple[str, ...], NDArray[np.float32]] = field(default_factory=dict)
    _signature: list[Any] = field(default_factory=list)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.index.classes)

    @property
    def channels(self) -> int:
        """Numbers a photo."""
        return int(self.pooled.prefix.output_shape[-1])

    def with_contract(self, contract: PixelContract) -> ProbeFeatures:
        """The same photos, decoded once, fed in another way."""
        return replace(self, contract=contract, _known={}, _signature=[])

    def split(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features `(photos, channels)` float32 and labels `(photos,)` int64 of one split, in the order of `index.split(name)`."""
        known = tuple(photo.sha256 for photo in self.index.split(name))
        if known not in self._known:
            self._known[known] = self._kept(known, name) if known else np.zeros((0, self.channels), np.float32)
        return self._known[known], self.index.labels(name)

    def groups(self, name: str) -> list[str]:
        """What must not be torn apart by cross-validation, a name for each photo of a split: its group, else its content."""
        return [photo.group or photo.sha256 for photo in self.index.split(name)]

    def features_of(self, photos: DecodedPhotos, what: str) -> NDArray[np.float32]:
        """Features of any decoded photos, `(photos, channels)` float32, kept on disk as well; `what` is for the progress line."""
        return self._kept(photos.sha256, what, photos)

    def features_beyond(self, part: tuple[str, ...], photos: DecodedPhotos, what: str) -> NDArray[np.float32]:
        """As `features_of` of `photos`; where the features of a part of them, by content, are on disk, only the others are computed."""
        known = self.cache.get(self._key(part))
        if known is None or self.cache.get(self._key(photos.sha256)) is not None:
            return self.features_of(photos, what)
        features = dict(zip(part, np.asarray(known[0], np.float32), strict=True))
        if others := [i for i, sha256 in enumerate(photos.sha256) if sha256 not in features]:
            rest = photos.take(others)
            features |= zip(rest.sha256, self.features_of(rest, what), strict=True)
        return np.stack([features[sha256] for sha256 in photos.sha256])

    def _key(self, sha256: tuple[str, ...]) -> str:
        if not self._signature:
            parts = pixel_parts(self.plan.config.pixels, self.contract)
            self._signature.extend(prefix_signature(self.pooled, parts, self.precision))
        return plain_key(self._signature, sha256)

    def _kept(self, sha256: tuple[str, ...], what: str, photos: DecodedPhotos | None = None) -> NDArray[np.float32]:
        key = self._key(sha256)
        found = self.cache.get(key)
        if found is None:
            pixels = (photos or self.photos.split(what)).pixels
            note = f"{self.plan.backbone.name} pooled, {what} photos"
            found = self.cache.put(key, self._computed(pixels, what), len(pixels), note)
        return np.asarray(found[0], np.float32)

    def _computed(self, pixels: NDArray[np.uint8], what: str) -> Iterator[Arrays]:
        count, done = self.progress.counter(f"features of {what} photos"), 0
        for features in Extractor(self.pooled)(input_batches(pixels, self.contract)):
            done += len(features[0])
            count(done, len(pixels))
            yield features


def open_probe(
    plan: Plan,
    index: PhotoIndex,
    progress: Progress,
    *,
    contract: PixelContract | None = None,
    photos: PixelStore | None = None,
) -> ProbeFeatures:
    """Build a plan's backbone with its pretrained weights, ready to give features of the plan's photos.

    Args:
        plan: Names backbone, weights, pixels and precision; its head, augmentation and stages do not matter here.
        index: Its photos.
        progress: Says what is under way.
        contract: What the backbone is fed by; None: what the plan says.
        photos: Pixels of the photos, fed in the same way; those decoded here are added.

    Raises:
        PluginError: If the backbone fails or returns something that its hook does not allow.
        WeightsError: If the pretrained weights cannot be found or fetched.
    """
    backbone, precision = load_backbone(plan, progress)
    return probe_backbone(plan, index, backbone, precision, progress, contract=contract, photos=photos)


def load_backbone(plan: Plan, progress: Progress) -> tuple[Backbone, str]:
    """A plan's backbone with its pretrained weights, and the precision it was built in.

    Raises:
        PluginError: If the backbone fails or returns something that its hook does not allow.
        WeightsError: If the pretrained weights cannot be found or fetched.
    """
    prepare_tensorflow(seed=plan.config.seed, is_deterministic=plan.config.deterministic)
    precision = resolve_precision(plan.config.precision)
    backbone = build_backbone(plan.network, precision)
    load_backbone_weights(plan, backbone, progress.say)
    return backbone, precision


def probe_backbone(
    plan: Plan,
    index: PhotoIndex,
    backbone: Backbone,
    precision: str,
    progress: Progress,
    *,
    contract: PixelContract | None = None,
    photos: PixelStore | None = None,
) -> ProbeFeatures:
    """As `open_probe`, of a backbone that is built and loaded, and of photos that are decoded already."""
    return ProbeFeatures(
        plan=plan,
        index=index,
        pooled=pool_backbone(backbone, precision),
        contract=contract or contract_of(plan.config.pixels, plan.spec),
        precision=precision,
        cache=open_cache(progress.say),
        progress=progress,
        photos=photos or PixelStore(plan.config, progress).bind(index),
    )


def pool_backbone(backbone: Backbone, precision: str) -> PooledBackbone:
    """A backbone up to one vector a photo: a map's global average, the mean of tokens, a vector as it is.

    Args:
        backbone: With its weights loaded.
        precision: `float32` or `bfloat16`, as the backbone was built with.

    Source: Lin et al. 2014, section 3.2 (global average pooling), arXiv:1312.4400; Kornblith et al. 2019, arXiv:1805.08974, section 2
        (logistic regression on such features).
    """
    import keras

    model, kind = backbone.model, backbone.kind
    pooled = model.output
    with precision_scope(precision):  # pooled as a head pools, so that both find the same features in the cache
        if kind == "map":
            pooled = keras.layers.GlobalAveragePooling2D(name="gap")(pooled)  # (batch, channels)
        elif kind == "tokens":
            pooled = keras.layers.GlobalAveragePooling1D(name="gap")(pooled)  # (batch, channels)
    prefix = keras.Model(model.inputs[0], pooled, name="prefix")
    return PooledBackbone(prefix, (pooled._keras_history.operation.name,))
