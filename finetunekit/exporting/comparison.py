"""An exported model beside the run's own network: the same photos, point by point, and how far the answers are apart."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import ExportError
from finetunekit.exporting.serving_graph import POINTS, PROBABILITIES
from finetunekit.models.forward import mean_over_flip, predict_photos
from finetunekit.models.preprocessing import as_input
from finetunekit.statistics import apply_temperature, compare_predictions, wilson_interval
from finetunekit.types import Predict, Servable

BATCH = 32
LISTED = 20
"""Photos, at most, that a certificate names of a kind."""
WHITE = 255


@dataclass(frozen=True)
class Reference:
    """Photos as the run sees them, and what its network says in float32.

    Attributes:
        names: Of the photos.
        files: Where they lie.
        photos: Position → pixels as decoded, `(height, width, 3)` uint8; decoded anew each time, since all would not fit.
        squares: `(photos, size_px, size_px, 3)` uint8.
        probabilities: `(photos, classes)` float64.
    """

    names: tuple[str, ...]
    files: tuple[Path, ...]
    photos: Callable[[int], NDArray[np.uint8]]
    squares: NDArray[np.uint8]
    probabilities: NDArray[np.float64]


def refer(servable: Servable, paths: Mapping[str, Path], max_pixels: int) -> Reference:
    """Decode photos, fit them, and ask the network.

    Args:
        servable: The network, and how photos become its input.
        paths: Name → file.
        max_pixels: As in `finetunekit.data.decode.decode_photo`.

    Raises:
        DataError: If a photo cannot be read.
    """
    return refer_to(paths, servable.fitting(), partial(ask_network, servable), max_pixels)


def refer_to(
    paths: Mapping[str, Path],
    fitting: Mapping[str, Any],
    ask: Callable[[NDArray[np.uint8]], NDArray[np.float64]],
    max_pixels: int,
) -> Reference:
    """Decode photos, fit them, and ask whoever has the answers.

    Args:
        paths: Name → file.
        fitting: How a photo becomes a square; see `Servable.fitting`.
        ask: Squares → probabilities.
        max_pixels: As in `finetunekit.data.decode.decode_photo`.

    Raises:
        DataError: If a photo cannot be read.
    """
    from finetunekit.data.decode import decode_photo, load_photos

    files = tuple(paths.values())
    squares = load_photos(files, **fitting, max_pixels=max_pixels)
    return Reference(
        tuple(paths), files, lambda i: decode_photo(files[i], max_pixels=max_pixels), squares, ask(squares)
    )


def ask_network(servable: Servable, squares: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Probabilities of fitted photos by the Keras network, `(photos, classes)` float64."""
    uncalibrated = mean_over_flip(
        lambda photos: predict_photos(servable.network, photos, servable.pixels),
        squares,
        is_flipped=servable.is_mirrored,
    )
    return apply_temperature(uncalibrated, servable.temperature)


def ask_model(
    predict: Predict, reference: Reference, takes: Literal["pixels", "square"], name: str = PROBABILITIES
) -> NDArray[np.float64]:
    """One output of an exported model for each photo, `(photos, ...)` float64.

    Args:
        predict: Runs the model.
        reference: The photos.
        takes: What the model takes.
        name: Of the output.

    Raises:
        ExportError: If there is not one row of finite numbers a photo.
    """
    answers: list[Any] = []
    for batch in _batches(reference, takes):
        answers.extend(np.asarray(predict(batch)[name], np.float64))
    found = np.array(answers)
    if len(found) != len(reference.names) or not np.isfinite(found).all():
        raise ExportError(f"the exported model's '{name}' are not one row of finite numbers a photo.")
    return found


def _batches(reference: Reference, takes: str) -> Iterator[NDArray[np.uint8]]:
    """Squares by the batch; photos as decoded, neighbours of one size together."""
    if takes == "square":
        for start in range(0, len(reference.squares), BATCH):
            yield reference.squares[start : start + BATCH]
        return
    batch: list[NDArray[np.uint8]] = []
    for position in range(len(reference.names)):
        photo = reference.photos(position)
        if batch and (photo.shape != batch[0].shape or len(batch) == BATCH or photo.size * len(batch) > 2**25):
            yield np.stack(batch)
            batch = []
        batch.append(photo)
    if batch:
        yield np.stack(batch)


def compare_answers(
    names: Sequence[str], own: NDArray[np.float64], exported: NDArray[np.float64], classes: Sequence[str]
) -> dict[str, Any]:
    """How far two sets of probabilities are apart, as plain values.

    Args:
        names: Of the photos.
        own: The run's, `(photos, classes)`.
        exported: The exported model's for the same photos, `(photos, classes)`.
        classes: Class names in order.

    Returns:
        Largest difference of a probability, its 99th percentile, the photos with the same first answer with their interval (Wilson), and
        those that changed.
    """
    difference = np.abs(own - exported)
    same = own.argmax(axis=1) == exported.argmax(axis=1)
    changed = [_change(names[i], own[i], exported[i], classes) for i in np.flatnonzero(~same)[:LISTED]]
    return {
        "photos": len(names),
        "largest_difference": float(difference.max()),
        "largest_on": names[int(difference.max(axis=1).argmax())],
        "percentile_99": float(np.percentile(difference, 99)),
        "same_first_answer": {
            "photos": int(same.sum()),
            "of": len(names),
            "interval": dataclasses.asdict(wilson_interval(int(same.sum()), len(names))),
        },
        "changed": changed,
    }


def _change(
    name: str, own: NDArray[np.float64], exported: NDArray[np.float64], classes: Sequence[str]
) -> dict[str, Any]:
    return {
        "photo": name,
        **{
            side: {"class": classes[int(row.argmax())], "probability": float(row.max())}
            for side, row in (("run", own), ("exported", exported))
        },
    }


def compare_accuracy(
    own: NDArray[np.float64], exported: NDArray[np.float64], labels: NDArray[np.int64], margin: float
) -> dict[str, Any]:
    """Accuracy of both on labelled photos, paired, as plain values.

    Args:
        own: The run's probabilities, `(photos, classes)`.
        exported: The exported model's.
        labels: `(photos,)`.
        margin: Of `is_not_inferior`, as a fraction: the whole 90 % interval of the difference lies above its negative.

    Source: `finetunekit.statistics.accuracy_equivalence`, its lower side.
    """
    found = compare_predictions(_normed(own), _normed(exported), labels, accuracy_margin=margin)
    assert found.accuracy_equivalence is not None  # a margin was given
    return {
        "photos": found.photos,
        "run_right": found.first_correct,
        "exported_right": found.second_correct,
        "gained": len(found.gained),
        "lost": len(found.lost),
        "difference": found.accuracy_difference,
        "interval": dataclasses.asdict(found.accuracy_interval),
        "margin": margin,
        "margin_interval": dataclasses.asdict(found.accuracy_equivalence.interval),
        "is_not_inferior": found.accuracy_equivalence.interval.low > -margin,
    }


def _normed(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows that sum to 1: in 8 bits they do so within a few steps only."""
    raised = np.maximum(probabilities, 1e-12)
    normed: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return normed


def compare_points(
    servable: Servable, predict: Predict, reference: Reference, takes: Literal["pixels", "square"]
) -> dict[str, Any]:
    """Where two models part: the largest difference at each point of the way, and the photo on which it is.

    Args:
        servable: The network.
        predict: Runs a model that was written with its points.
        reference: The photos.
        takes: What the model takes.
    """
    own: dict[str, NDArray[Any]] = {
        "square": reference.squares.astype(np.float32),
        "input": as_input(reference.squares, servable.pixels),
        "logits": predict_photos(servable.network, reference.squares, servable.pixels),
        PROBABILITIES: reference.probabilities,
    }
    found = {}
    for name in POINTS if takes == "pixels" else POINTS[1:]:
        difference = np.abs(ask_model(predict, reference, takes, name) - own[name])
        by_photo = difference.reshape(len(difference), -1).max(axis=1)
        found[name] = {
            "largest_difference": float(by_photo.max()),
            "largest_value": float(np.abs(own[name]).max()),
            "differing": float((difference > 0).mean()),
            "largest_on": reference.names[int(by_photo.argmax())],
        }
    return found


def compare_decoding(reference: Reference, decode: Callable[[bytes], NDArray[np.uint8]]) -> dict[str, Any]:
    """The first step, from the bytes of a file to pixels: another decoder beside the run's own, as plain values.

    Args:
        reference: The photos.
        decode: Bytes → `(height, width, 3)` uint8; whatever it raises, it cannot read them.

    Returns:
        The largest difference in grey levels of photos with as many pixels, the photos that come out otherwise, and those not read.
    """
    apart: dict[str, float] = {}
    unread = []
    for position, (name, file) in enumerate(zip(reference.names, reference.files, strict=True)):
        own = reference.photos(position).astype(np.int16)
        try:
            found = np.asarray(decode(file.read_bytes()))
        except Exception:  # noqa: BLE001 - each decoder has errors of its own; the photo is listed
            unread.append(name)
            continue
        apart[name] = float(np.abs(found - own).max()) if found.shape == own.shape else float(WHITE)
    others = [name for name, difference in apart.items() if difference]
    return {
        "photos": len(reference.names),
        "same": len(apart) - len(others),
        "largest_difference": max(apart.values(), default=0.0),
        "largest_on": max(apart, key=apart.__getitem__, default=""),
        "otherwise": others[:LISTED],
        "unread": unread[:LISTED],
    }


def read_plainly(content: bytes) -> NDArray[np.uint8]:
    """A photo as the examples in docs/export.md read it."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as image:
        turned: Any = ImageOps.exif_transpose(image)
        return np.asarray(turned.convert("RGB"))


def compare_batches(
    own: NDArray[np.float64], predict: Predict, photo: NDArray[np.uint8], sizes: Sequence[int] = (1, 3, 32)
) -> dict[str, float]:
    """Size of the batch → largest difference of a probability, on one photo repeated in it.

    Args:
        own: What it should say, `(classes,)`.
        predict: Runs the model.
        photo: `(height, width, 3)` uint8.
        sizes: Of the batches.
    """
    return {
        str(size): float(np.abs(predict(np.repeat(photo[np.newaxis], size, axis=0))[PROBABILITIES] - own).max())
        for size in sizes
    }
