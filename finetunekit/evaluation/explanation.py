"""Why a run answers as it does about a photo: what spoke for it and for the runner-up, and which training photos it resembles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.pixel_contract import contract_from
from finetunekit.data.photo_paths import find_photos
from finetunekit.evaluation.gradcam import DECIMALS, MISSING, MapLayer, find_map_layer, gradcam_maps, how_to_read
from finetunekit.evaluation.likeness import NEAREST, Traits
from finetunekit.evaluation.predictor import LoadedRun, Prediction, as_dict
from finetunekit.runs.folder import GRADCAM
from finetunekit.types import TRAIN

_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training photo.

    Attributes:
        path: As the run's tables name it.
        sha256: Of its file.
        label: Its class.
        cosine: Of its features and the photo's: 1 is alike.
    """

    path: str
    sha256: str
    label: str
    cosine: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a photo is answered as it is.

    Attributes:
        prediction: The answer.
        runner_up: The second most probable class.
        runner_up_probability: Its probability.
        neighbours: The training photos most alike, most alike first; empty where the run keeps no features.
        maps: Class → Grad-CAM map of what spoke for it, `(rows, columns)` in [0, 1], of the answer and the runner-up; empty where the
            network has no feature map.
    """

    prediction: Prediction
    runner_up: str
    runner_up_probability: float
    neighbours: tuple[Neighbour, ...]
    maps: dict[str, list[list[float]]]

    @property
    def best(self) -> str:
        """The most probable class, whether it is given as the label or not."""
        return next(iter(_ranked(self.prediction)))


@dataclass(frozen=True, slots=True)
class Explanations:
    """Why a run answers as it does about some photos.

    Attributes:
        photos: One each, in the order given.
        reading: How to read the maps, or why there are none.
    """

    photos: tuple[Explanation, ...]
    reading: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"reading": self.reading, "photos": [_as_dict(one) for one in self.photos]}


def explain(
    loaded: LoadedRun,
    paths: Iterable[str | Path],
    *,
    coverage: float | None = None,
    neighbours: int = NEAREST,
    count: Callable[[int, int], None] | None = None,
) -> Explanations:
    """Explain photos.

    Args:
        loaded: The run.
        paths: Photo files, or folders, tables and archives of them.
        coverage: Of the sets of classes, as in `LoadedRun.predict`.
        neighbours: Training photos for each.
        count: Called with the number of photos done and the total.

    Raises:
        DataError: If a path does not exist, a folder has no photo, or a photo cannot be read.
    """
    photos, found = find_photos(paths), []
    layer = map_layer_of(loaded)
    for start in range(0, len(photos), _CHUNK):
        found += _explain(loaded, photos[start : start + _CHUNK], layer, coverage, neighbours)
        if count:
            count(len(found), len(photos))
    rows = len(next(iter(found[0].maps.values()))) if layer else 0
    columns = len(next(iter(found[0].maps.values()))[0]) if layer else 0
    return Explanations(tuple(found), how_to_read(layer.name, (rows, columns)) if layer else MISSING)


def map_layer_of(loaded: LoadedRun) -> MapLayer | None:
    """Where the run read its own maps; else where it would have."""
    name = str((loaded.run.optional(GRADCAM) or {}).get("layer"))
    known = {layer.name: layer for layer in loaded.model.layers}
    return MapLayer(name, (known[name].output,)) if name in known else find_map_layer(loaded.model)


def _explain(
    loaded: LoadedRun, paths: list[Path], layer: MapLayer | None, coverage: float | None, neighbours: int
) -> list[Explanation]:
    squares = loaded.squares(paths)
    uncalibrated, traits = loaded.ask(squares)
    sets = None if coverage is None else loaded.sets(coverage)
    predictions = list(loaded.predictions(paths, uncalibrated, loaded.unlike(traits, len(paths)), sets))
    ranked = [list(_ranked(prediction))[:2] for prediction in predictions]
    near = _neighbours(loaded, traits, neighbours, len(paths))
    maps = _maps(loaded, squares, layer, ranked)
    return [
        Explanation(prediction, second, prediction.probabilities[second], alike, seen)
        for prediction, (_, second), alike, seen in zip(predictions, ranked, near, maps, strict=True)
    ]


def _ranked(prediction: Prediction) -> Iterable[str]:
    return sorted(prediction.probabilities, key=lambda name: -prediction.probabilities[name])


def _maps(
    loaded: LoadedRun, squares: NDArray[np.uint8], layer: MapLayer | None, ranked: list[list[str]]
) -> list[dict[str, list[list[float]]]]:
    if layer is None:
        return [{} for _ in squares]
    contract = contract_from(loaded.run.state["pixels"])
    found: list[dict[str, list[list[float]]]] = [{} for _ in squares]
    for place in range(2):
        asked = [loaded.classes.index(names[place]) for names in ranked]
        for one, names, heat in zip(
            found, ranked, gradcam_maps(loaded.model, layer, squares, asked, contract), strict=True
        ):
            one[names[place]] = np.round(heat.astype(np.float64), DECIMALS).tolist()
    return found


def _neighbours(loaded: LoadedRun, traits: Traits | None, count: int, photos: int) -> list[tuple[Neighbour, ...]]:
    if loaded.training is None or traits is None:
        return [()] * photos
    rows = {row["sha256"]: row for row in loaded.run.photos if row["split"] == TRAIN}
    near: list[list[tuple[str, float]]] = loaded.training.nearest(traits.features, count)
    return [tuple(Neighbour(rows[sha]["path"], sha, rows[sha]["label"], cosine) for sha, cosine in one) for one in near]


def _as_dict(one: Explanation) -> dict[str, Any]:
    return {
        **as_dict(one.prediction),
        "best": one.best,
        "runner_up": {"class": one.runner_up, "probability": one.runner_up_probability},
        "neighbours": [dataclasses.asdict(neighbour) for neighbour in one.neighbours],
        "maps": one.maps,
    }
