"""What a stage trains on, epoch by epoch: pixels drawn and augmented now, or features of the frozen prefix made before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.feature_cache import release
from finetunekit.models.preprocessing import standardise
from finetunekit.training.sampling import EpochDraws, bank_views, draw_epoch
from finetunekit.types import PixelContract

if TYPE_CHECKING:
    from finetunekit.data.augmentation import Augmenter
    from finetunekit.training.device_cache import DevicePhotos

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch:
    """One training step's input.

    Attributes:
        x: Pixels `(batch, size, size, 3)` float32, or features, one array or a list of them, `(batch, ...)`.
        y: One-hot or mixed labels, `(batch, classes)` float32.
        photos: Index of each photo in the split, `(batch,)` int64.
    """

    x: Any
    y: Any
    photos: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Draws:
    """How a split is drawn: the arguments of `draw_epoch` that stay the same over a run."""

    photos: int
    draws: int | None
    batch_size: int
    seed: int
    view_seed: int

    def of(self, photos: int) -> Draws:
        """The same for fewer photos, each drawn as often."""
        draws = None if self.draws is None else max(1, round(self.draws * photos / self.photos))
        return replace(self, photos=photos, draws=draws)

    def epoch(self, epoch: int) -> EpochDraws:
        """Draws of one epoch, counted from 0 across stages."""
        return draw_epoch(
            photos=self.photos,
            draws=self.draws,
            batch_size=self.batch_size,
            seed=self.seed,
            view_seed=self.view_seed,
            epoch=epoch,
        )


class Feed(Protocol):
    """Gives a stage its batches."""

    @property
    def draws(self) -> Draws:
        """How the split is drawn."""
        ...

    def of(self, rows: NDArray[np.int64]) -> Feed:
        """A feed of some of the photos alone."""
        ...

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Batches of one epoch, counted from 0 across stages; a pure function of the epoch."""
        ...


def _placed(drawn: NDArray[np.int64], rows: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Photos by their place in the split, where they were drawn by their place among some of them."""
    return drawn if rows is None else rows[drawn]


@dataclass(frozen=True, slots=True)
class PixelFeed:
    """Pixels, augmented freshly for each draw.

    Attributes:
        photos: `(photos, size, size, 3)` uint8 RGB, in RAM or on an accelerator.
        labels: One-hot, `(photos, classes)` float32.
        augmenter: None where nothing is augmented.
        contract: What the network is fed by.
        draws: Order, keys and batches.
        rows: Of the photos that are drawn; None: all.
    """

    photos: NDArray[np.uint8] | DevicePhotos
    labels: NDArray[np.float32]
    augmenter: Augmenter | None
    contract: PixelContract
    draws: Draws
    rows: NDArray[np.int64] | None = None

    def of(self, rows: NDArray[np.int64]) -> PixelFeed:
        """See `Feed`."""
        return replace(self, draws=self.draws.of(len(rows)), rows=rows)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """See `Feed`."""
        drawn = self.draws.epoch(epoch)
        for part in drawn.batches():
            index = _placed(drawn.photo[part], self.rows)
            x, y = augmented(self.photos[index], self.labels[index], drawn.key[part], self.augmenter, self.contract)
            yield Batch(x, y, index)


class Views(Protocol):
    """Features of K views of each photo."""

    def __len__(self) -> int:
        """K."""
        ...

    def rows(self, view: NDArray[np.int64], photo: NDArray[np.int64]) -> list[Any]:
        """Features of one view of each photo.

        Args:
            view: `(batch,)` in [0, K).
            photo: `(batch,)`.

        Returns:
            `(batch, ...)` for each boundary tensor.
        """
        ...


@dataclass(frozen=True, slots=True)
class MappedViews:
    """Features in RAM, or on disk and mapped.

    Attributes:
        views: For each view, one array a boundary tensor, `(photos, ...)`.
    """

    views: Sequence[tuple[NDArray[Any], ...]]

    def __len__(self) -> int:
        """Number of views."""
        return len(self.views)

    def rows(self, view: NDArray[np.int64], photo: NDArray[np.int64]) -> list[Any]:
        """See `Views`."""
        tensors = range(len(self.views[0]))
        x = [np.stack([self.views[v][t][i] for v, i in zip(view, photo, strict=True)]) for t in tensors]
        for v in set(view.tolist()):
            release(self.views[v])  # a bank larger than memory stays on disk but for the rows of one batch
        return x


@dataclass(frozen=True, slots=True)
class FeatureFeed:
    """Features of views made before; with one un-augmented view it is the exact cache.

    Attributes:
        views: Where they are.
        labels: One-hot, `(photos, classes)` float32.
        draws: Order and batches.
        rows: Of the photos that are drawn; None: all.
    """

    views: Views
    labels: NDArray[np.float32]
    draws: Draws
    rows: NDArray[np.int64] | None = None

    def of(self, rows: NDArray[np.int64]) -> FeatureFeed:
        """See `Feed`."""
        return replace(self, draws=self.draws.of(len(rows)), rows=rows)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """See `Feed`."""
        drawn = self.draws.epoch(epoch)
        d = self.draws
        view = bank_views(photos=d.photos, draws=d.draws, views=len(self.views), seed=d.seed, epoch=epoch)
        for part in drawn.batches():
            index = _placed(drawn.photo[part], self.rows)
            x = self.views.rows(view[part], index)
            yield Batch(x[0] if len(x) == 1 else x, self.labels[index], index)


def augmented(
    photos: Any,
    labels: NDArray[np.float32],
    keys: NDArray[np.int64],
    augmenter: Augmenter | None,
    contract: PixelContract,
) -> tuple[Any, Any]:
    """Augment and standardise one batch of pixels.

    Args:
        photos: `(batch, size, size, 3)` uint8 RGB, array or tensor.
        labels: `(batch, classes)` float32.
        keys: `(batch,)` int64.
        augmenter: None changes nothing.
        contract: Order, scale, mean and std.

    Returns:
        Input of the network, `(batch, size, size, 3)` float32, and labels.
    """
    if augmenter is None:
        return standardise(_as_float(photos), contract), labels
    images, mixed = augmenter(photos, labels, keys)
    return standardise(images, contract), mixed


def _as_float(photos: Any) -> Any:
    if isinstance(photos, np.ndarray):
        return photos.astype(np.float32)
    import tensorflow as tf

    return tf.cast(photos, tf.float32)


def prefetched(items: Iterator[T], ahead: int = 2) -> Generator[T]:
    """Make items in a thread, a few ahead of their use, in the same order; what the thread raises is raised here."""
    done = object()
    ready: queue.Queue[Any] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def offer(item: Any) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not offer((item, None)):
                    return
            offer((done, None))
        except BaseException as exc:  # noqa: BLE001 - handed to the consumer, which raises it
            offer((done, exc))

    thread = threading.Thread(target=work, name="finetunekit-feed", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is done:
                return
            yield item
    finally:
        stop.set()
        thread.join()
