"""What stands behind the server: a run's network, or an exported model in its own runtime. Both answer a photo alike, whoever else asks."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.pixel_contract import contract_from, fitting_of
from finetunekit.data.decode import Pixels, decode_bytes, fit_photo
from finetunekit.errors import ConfigError

if TYPE_CHECKING:
    from finetunekit.evaluation.likeness import Traits
    from finetunekit.evaluation.predictor import LoadedRun
    from finetunekit.types import Predict

Float64 = NDArray[np.float64]
#: What a model says of a photo: its row of probabilities, and how unlike the photo is.
Raw: TypeAlias = tuple[Float64, float | None]
#: Batches smaller than the network's usual one that are tried, see `_checked_sizes`.
SMALLER = (1, 2, 4, 8)
_CHECKED_PHOTOS = 8


@dataclass(frozen=True, slots=True)
class About:
    """What a client and the page are told of a model.

    Attributes:
        name: Of the run.
        version: Which of several models of that name: the beginning of the SHA-256 of its file.
        classes: Names, in the order of the probabilities.
        size_px: Side of the network's square.
        runtime: `keras`, or the exporter whose runtime answers.
        words: Sentences: how good it is, on what it was trained, what its probabilities are worth.
        licence: Of its pretrained weights.
        attribution: Of them.
        can_explain: Whether it can say where in a photo it looked.
    """

    name: str
    version: str
    classes: tuple[str, ...]
    size_px: int
    runtime: str
    words: tuple[str, ...]
    licence: str
    attribution: str
    can_explain: bool


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a photo, in shares of its sides; one that is padded reaches beyond it.

    Attributes:
        top: Of its upper edge.
        left: Of its left edge.
        height: Share of the photo's height.
        width: Share of its width.
    """

    top: float
    left: float
    height: float
    width: float


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client wants beside probabilities.

    Attributes:
        abstain_below: Give no label if the most probable class has a lower probability.
        abstain_unlike: Give no label to photos that are unlike any training photo.
        coverage: Give the set of classes that holds the true one for this share of photos; None: none.
    """

    abstain_below: float = 0.0
    abstain_unlike: bool = False
    coverage: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said of one photo; see `finetunekit.evaluation.predictor.Prediction`.

    Attributes:
        label: The most probable class; None where the client wants none.
        probability: Of the most probable class.
        probabilities: Class name → probability, in class order.
        unlike_p: How rarely a photo is as unlike the training photos; None where the model cannot tell.
        is_unlike: Whether that is so rare that it may show none of the classes.
        class_set: The classes kept at the coverage asked for; None where none was asked for.
    """

    label: str | None
    probability: float
    probabilities: Mapping[str, float]
    unlike_p: float | None
    is_unlike: bool
    class_set: tuple[str, ...] | None


class Served(Protocol):
    """A model that answers.

    Attributes:
        about: What is said of it.
        most: Photos that are answered together, at most.
    """

    about: About
    most: int

    def decode(self, content: bytes, name: str) -> Pixels:
        """A photo's file → its pixels, `(height, width, 3)` uint8 RGB; called in several threads. DataError if it is not a photo."""
        ...

    def fit(self, pixels: Pixels) -> Pixels:
        """Pixels of a photo → what `answer` takes; called in several threads."""
        ...

    def answer(self, photos: Sequence[Pixels]) -> Sequence[Raw]:
        """What the model says of each photo, the same bits whatever else is asked; in one thread."""
        ...

    def say(self, raw: Sequence[Raw], asked: Asked) -> list[Answer]:
        """What a client is told, as `predict` would. ConfigError if the model cannot give what is asked for."""
        ...

    def explain(self, photo: Pixels, index: int) -> NDArray[np.float32]:
        """Where in a photo a class was found, `(rows, columns)` in [0, 1]; in the thread of `answer`."""
        ...

    def shown(self, height_px: int, width_px: int) -> Window:
        """Where in a photo of that size such a map lies."""
        ...


class ServedRun:
    """A run's network."""

    def __init__(self, loaded: LoadedRun) -> None:
        """Trace it for the sizes of batches that give the same bits, so that the first photo waits no longer than the others."""
        from finetunekit.evaluation.explanation import map_layer_of
        from finetunekit.models.feature_cache import EXTRACTION_BATCH

        self._loaded, config = loaded, loaded.run.config
        self._fitting = fitting_of(config["pixels"])
        self._max_pixels = config["data"]["max_photo_pixels"]
        self._contract = contract_from(loaded.run.state["pixels"])
        self._looks = 2 if config.get("evaluate", {}).get("flip", False) else 1  # at a photo: its mirror image as well
        self.most = EXTRACTION_BATCH // self._looks
        self._forwards = _checked_sizes(loaded, self._fitting["size_px"], self._looks)
        self._map_layer = map_layer_of(loaded)
        self._sets = functools.lru_cache(maxsize=16)(loaded.sets)
        self.about = _about_run(loaded, self._map_layer is not None)

    def decode(self, content: bytes, name: str) -> Pixels:
        """As for training."""
        return decode_bytes(content, name, max_pixels=self._max_pixels)

    def fit(self, pixels: Pixels) -> Pixels:
        """The network's square."""
        return fit_photo(pixels, **self._fitting)

    def answer(self, photos: Sequence[Pixels]) -> Sequence[Raw]:
        """As `LoadedRun.predict` asks, to the bit; how unlike each photo is, by itself."""
        wanted = self._looks * len(photos)
        rows, traits = self._loaded.ask(
            np.stack(photos), next(self._forwards[n] for n in self._forwards if n >= wanted)
        )
        alone = [None if traits is None else traits.take(np.array([i])) for i in range(len(photos))]
        return [(row, self._loaded.unlike(one, 1)[0]) for row, one in zip(rows, alone, strict=True)]

    def say(self, raw: Sequence[Raw], asked: Asked) -> list[Answer]:
        """As `LoadedRun.predict`."""
        sets = None if asked.coverage is None else self._sets(asked.coverage)
        rows, unlike = np.stack([row for row, _ in raw]), [p for _, p in raw]
        found = self._loaded.predictions([Path()] * len(raw), rows, unlike, sets)
        return [
            Answer(
                _label(p.label, p.probability, p.is_unlike, asked),
                p.probability,
                p.probabilities,
                p.unlike_p,
                p.is_unlike,
                p.class_set,
            )
            for p in found
        ]

    def explain(self, photo: Pixels, index: int) -> NDArray[np.float32]:
        """Grad-CAM of a class."""
        from finetunekit.evaluation.gradcam import MISSING, gradcam_maps

        if self._map_layer is None:
            raise ConfigError(MISSING)
        found: NDArray[np.float32] = gradcam_maps(
            self._loaded.model, self._map_layer, photo[np.newaxis], [index], self._contract
        )[0]
        return found

    def shown(self, height_px: int, width_px: int) -> Window:
        """What the network's square shows of it."""
        return _window(height_px, width_px, self._fitting)


def _window(height_px: int, width_px: int, fitting: Mapping[str, Any]) -> Window:
    """Which part of a photo the network's square shows; a padded one shows more than the photo."""
    from finetunekit.reports.thumbnails import seen_size

    seen = seen_size((height_px, width_px), fitting["fit"], fitting.get("crop_pct"))
    high, wide = seen[0] / height_px, seen[1] / width_px
    return Window((1 - high) / 2, (1 - wide) / 2, high, wide)


def _label(label: str | None, probability: float, is_unlike: bool, asked: Asked) -> str | None:
    is_abstaining = probability < asked.abstain_below or (asked.abstain_unlike and is_unlike)
    return None if is_abstaining else label


def _checked_sizes(loaded: LoadedRun, size_px: int, least: int) -> dict[int, Any]:
    """Forward passes by size of their batch, smallest first: the usual one, and those that gave the same bits on this machine.

    `predict` always pads to the usual size. A smaller batch saves a photo that comes alone most of the time, but kernels may add up
    in another order there; so each is compared with the usual one, bit by bit, before it is used.
    """
    from finetunekit.models.feature_cache import EXTRACTION_BATCH
    from finetunekit.models.forward import make_answering

    shape = (_CHECKED_PHOTOS, size_px, size_px, 3)
    photos = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    usual = make_answering(loaded.model, EXTRACTION_BATCH)
    expected = loaded.ask(photos, usual)
    smaller = {size: make_answering(loaded.model, size) for size in SMALLER if size >= least}
    same = {size: forward for size, forward in smaller.items() if _are_equal(loaded.ask(photos, forward), expected)}
    return {**same, EXTRACTION_BATCH: usual}


def _are_equal(one: tuple[Float64, Traits | None], other: tuple[Float64, Traits | None]) -> bool:
    (first, first_traits), (second, second_traits) = one, other
    if not np.array_equal(first, second) or (first_traits is None) != (second_traits is None):
        return False
    return first_traits is None or (
        second_traits is not None
        and np.array_equal(first_traits.features, second_traits.features)
        and np.array_equal(first_traits.energies, second_traits.energies)
    )


def _about_run(loaded: LoadedRun, can_explain: bool) -> About:
    from finetunekit.evaluation.predictor import calibration_words
    from finetunekit.runs.folder import METRICS, MODEL

    run = loaded.run
    with (run.path / MODEL).open("rb") as stream:
        version = hashlib.file_digest(stream, "sha256").hexdigest()[:12]
    return About(
        name=str(run.state["name"]),
        version=version,
        classes=loaded.classes,
        size_px=run.config["pixels"]["size_px"],
        runtime="keras",
        words=(*_how_good(run.optional(METRICS), run.stand_in), calibration_words(run)),
        licence=str(run.weights.get("licence", "")),
        attribution=str(run.weights.get("attribution", "")),
        can_explain=can_explain,
    )


def _how_good(metrics: Mapping[str, Any] | None, stand_in: str | None) -> tuple[str, ...]:
    """Sentences on a run's score, as its summary has them."""
    from finetunekit.engine.summary import score_sentence

    said = () if stand_in is None else (f"It was trained on {stand_in}.",)
    split = next((name for name in ("test", "valid") if metrics and name in metrics), None)
    if metrics is None or split is None:
        return (*said, "It was never scored.")
    photos = "test photo" if split == "test" else "validation photo"
    return (*said, score_sentence(metrics[split]["accuracy"], photos))


class ServedExport:
    """An exported model in its own runtime; TensorFlow is not loaded."""

    #: What the run divides logits by, which the model does itself.
    temperature: float
    #: Photos of unlike sizes make no batch, and a batch's rounding may differ from that of a photo alone.
    most = 1

    def __init__(self, predict: Predict, certificate: Mapping[str, Any]) -> None:
        """Ask it once, so that the first photo waits no longer than the others.

        Args:
            predict: Runs it.
            certificate: Content of its `certificate.json`.
        """
        self._predict, model, run = predict, certificate["model"], certificate["run"]
        self._fitting = json.loads(run["pixels"]) if model["takes"] == "square" else None
        self.temperature = float(run["temperature"])
        size_px = model["size_px"]
        self.about = About(
            name=run["name"],
            version=run["model_sha256"][:12],
            classes=tuple(model["classes"]),
            size_px=size_px,
            runtime=certificate["exporter"]["name"],
            words=_certified_words(certificate),
            licence=run["licence"],
            attribution=run["attribution"],
            can_explain=False,
        )
        self.answer([np.zeros((size_px, size_px, 3), np.uint8)])

    def decode(self, content: bytes, name: str) -> Pixels:
        """As the run does."""
        return decode_bytes(content, name, max_pixels=MOST_PIXELS)

    def fit(self, pixels: Pixels) -> Pixels:
        """The pixels, or the network's square where the model takes no other."""
        return pixels if self._fitting is None else fit_photo(pixels, **self._fitting)

    def answer(self, photos: Sequence[Pixels]) -> Sequence[Raw]:
        """What the model says of each photo by itself."""
        rows = [self._predict(photo[np.newaxis])["probabilities"][0] for photo in photos]
        return [(row.astype(np.float64), None) for row in rows]

    def say(self, raw: Sequence[Raw], asked: Asked) -> list[Answer]:
        """Its probabilities; what validation photos would be needed for stayed with the run."""
        if asked.coverage is not None:
            raise ConfigError("An exported model gives no sets of classes. Ask the run itself.")
        classes = self.about.classes
        return [
            Answer(
                _label(classes[int(row.argmax())], float(row.max()), False, asked),
                float(row.max()),
                dict(zip(classes, map(float, row), strict=True)),
                None,
                False,
                None,
            )
            for row, _ in raw
        ]

    def explain(self, photo: Pixels, index: int) -> NDArray[np.float32]:
        """Not from an exported model."""
        raise ConfigError("An exported model cannot say where it looked. Ask the run itself.")

    def shown(self, height_px: int, width_px: int) -> Window:
        """All of it."""
        return Window(0.0, 0.0, 1.0, 1.0)


#: Of a photo that an exported model resizes itself, in float32.
MOST_PIXELS = 50_000_000


def _certified_words(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    network, stand_in = certificate["network"], certificate["run"]["stand_in"]
    accuracy, same = certificate["accuracy"], network["same_first_answer"]["photos"]
    said = () if stand_in is None else (f"It was trained on {stand_in}.",)
    return (
        *said,
        f"Exported from a run and compared with it on {network['photos']:,} photos: {same:,} first answers are "
        f"the same. {accuracy['exported_right']:,} of {accuracy['photos']:,} labelled photos are right.",
    )


def find_export(run: str | Path, *, out: str | Path, runtime: str | None) -> ServedExport:
    """An exported model: the folder that it lies in, or a run with the exporter whose runtime is to answer.

    Raises:
        ConfigError: If it was not exported so, or its runtime is not installed.
        RunFolderError: If there is no such run.
    """
    return open_export(place_of_export(run, out=out, runtime=runtime))


def place_of_export(run: str | Path, *, out: str | Path, runtime: str | None) -> Path:
    """Its folder; see `find_export`."""
    from finetunekit.evaluation.predictor import find_network
    from finetunekit.runs.folder import CERTIFICATE, EXPORTS

    if (Path(run) / CERTIFICATE).is_file():
        if runtime is not None:
            raise ConfigError("--runtime: is for a run; this is an exported model, which has its own.")
        return Path(run)
    exported = find_network(run, out=out).path / EXPORTS / str(runtime)
    if not (exported / CERTIFICATE).is_file():
        raise ConfigError(f"{exported}: is not there. Export the run first: finetunekit export {run} --to {runtime}")
    return exported


def open_export(folder: Path) -> ServedExport:
    """An exported model that lies in a folder.

    Raises:
        ConfigError: If it is none, or its runtime is not installed.
    """
    from finetunekit.engine.export import open_exported

    predict, certificate = open_exported(folder)
    return ServedExport(predict, certificate)
