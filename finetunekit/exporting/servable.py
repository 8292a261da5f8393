"""A loaded run as a servable: its network in float32, how photos become its input, and what travels with it."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit._version import __version__
from finetunekit.config.pixel_contract import contract_from, fitting_of
from finetunekit.errors import DataError
from finetunekit.evaluation.predictor import LoadedRun
from finetunekit.runs.folder import MODEL, FinishedRun
from finetunekit.types import TRAIN, Servable

CALIBRATION_SEED = 0


def servable_of(loaded: LoadedRun) -> Servable:
    """What exporters write of a run.

    Args:
        loaded: The run. Where it computes in bfloat16 its network is built again in float32, with the same weights.
    """
    config = loaded.run.config
    pixels = config["pixels"]
    return Servable(
        name=loaded.run.state["name"],
        network=loaded.model if loaded.run.state["precision"] == "float32" else loaded.build("float32"),
        classes=loaded.classes,
        **fitting_of(pixels),
        pixels=contract_from(loaded.run.state["pixels"]),
        is_mirrored=config.get("evaluate", {}).get("flip", False),
        temperature=loaded.run.temperature,
        metadata=_metadata(loaded.run),
        calibration=CalibrationPhotos(loaded.run),
    )


def _metadata(run: FinishedRun) -> dict[str, str]:
    return {
        "run": run.path.name,
        "model_sha256": hashlib.sha256((run.path / MODEL).read_bytes()).hexdigest(),
        "finetunekit": __version__,
        "pixels": json.dumps({**run.state["pixels"], **fitting_of(run.config["pixels"])}),
        "temperature": repr(run.temperature),
        "licence": str(run.weights.get("licence", "")),
        "attribution": str(run.weights.get("attribution", "")),
        "weights": str(run.weights.get("location", run.weights.get("kind", ""))),
        "photos": run.stand_in or "",
    }


@dataclass
class CalibrationPhotos:
    """Training photos for whoever needs examples, drawn by seed, class by class in turn, so that none is favoured.

    Attributes:
        run: Whose photos.
        used: SHA-256 of each photo that was given, in order.
    """

    run: FinishedRun
    used: list[str] = field(default_factory=list)

    def __call__(self, photos: int) -> NDArray[np.uint8]:
        """`(at most photos, size_px, size_px, 3)` uint8 RGB.

        Raises:
            DataError: If they are not where the run found them, or cannot be read.
        """
        from finetunekit.data.decode import load_photos

        rows = list(itertools.islice(self._in_turn(), photos))
        paths = [self.run.photo_path(row["path"]) for row in rows]
        gone = [str(path) for path in paths if not path.is_file()]
        if gone:
            raise DataError(
                f"{gone[0]}: is not there any more, nor are {len(gone) - 1} others; int8 is calibrated on training photos."
            )
        self.used = [row["sha256"] for row in rows]
        return load_photos(paths, **fitting(self.run))

    def _in_turn(self) -> Sequence[Mapping[str, str]]:
        random = np.random.default_rng(CALIBRATION_SEED)
        rows = [row for row in self.run.photos if row["split"] == TRAIN]
        queues = []
        for name in self.run.classes:
            own = [row for row in rows if row["label"] == name]
            queues.append([own[i] for i in random.permutation(len(own))])
        turns = itertools.zip_longest(*queues)
        return [row for turn in turns for row in turn if row is not None]


def fitting(run: FinishedRun) -> dict[str, Any]:
    """How a run's photos are decoded and fitted: what `finetunekit.data.decode.load_photos` takes beside the paths."""
    return {**fitting_of(run.config["pixels"]), "max_pixels": run.config["data"]["max_photo_pixels"]}


def existing(run: FinishedRun, splits: Sequence[str]) -> tuple[list[tuple[Path, Mapping[str, str]]], int]:
    """Predicted photos of some splits that still are what the run saw, each content once, with their rows; and how many are not."""
    found: dict[str, tuple[Path, Mapping[str, str]]] = {}
    missing = 0
    for row in run.predictions:
        if row["split"] not in splits or row["sha256"] in found:
            continue
        path = run.photo_path(row["path"])
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"]:
            found[row["sha256"]] = (path, row)
        else:
            missing += 1
    return list(found.values()), missing
