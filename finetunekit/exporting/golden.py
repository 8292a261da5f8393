"""Photos with their answers beside an exported model, so that it can be tried wherever it lands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import DataError, ExportError, RunFolderError
from finetunekit.exporting.comparison import Reference, ask_network, compare_answers
from finetunekit.exporting.serving_graph import PROBABILITIES
from finetunekit.system.files import MOST_BYTES, to_json
from finetunekit.system.formatting import one_line
from finetunekit.types import Predict, Servable

FOLDER, ANSWERS = "golden", "answers.json"
PHOTOS = 8
_MOST_PIXELS = 2048 * 2048
LONG_SIDE_PX = 320
"""Photos are shrunk to it, so that they are a few hundred kilobytes together and show no more than they have to."""


def choose_photos(labels: Sequence[str]) -> list[int]:
    """Positions of `PHOTOS` photos at most, class by class in turn, in the order given."""
    by_class = {name: [i for i, label in enumerate(labels) if label == name] for name in dict.fromkeys(labels)}
    turns = [position for turn in range(PHOTOS) for own in by_class.values() for position in own[turn : turn + 1]]
    return turns[:PHOTOS]


def write_golden(
    folder: Path,
    servable: Servable,
    predict: Predict,
    reference: Reference,
    positions: Sequence[int],
    *,
    takes: Literal["pixels", "square"],
    tolerance: float,
    others: Mapping[str, Any],
) -> None:
    """Write `golden/1.png` and so on, with what the exported model and the run's network say of each.

    Args:
        folder: Of the model.
        servable: The network.
        predict: Runs the exported model.
        reference: Photos to choose from.
        positions: Which.
        takes: What the model takes: the files are photos of any size, or squares of the network's.
        tolerance: How far a probability may be off elsewhere.
        others: What else is written beside the answers; see `finetunekit.exporting.verification`.
    """
    from PIL import Image

    (folder / FOLDER).mkdir()
    answers = {}
    for number, position in enumerate(positions, 1):
        photo, square = _shown(servable, reference, position, takes)
        Image.fromarray(photo).save(folder / FOLDER / f"{number}.png")
        exported = predict(photo[np.newaxis])[PROBABILITIES][0]
        own = ask_network(servable, square[np.newaxis])[0]
        answers[f"{number}.png"] = {
            "class": servable.classes[int(exported.argmax())],
            "probabilities": dict(zip(servable.classes, map(float, exported), strict=True)),
            "network": dict(zip(servable.classes, map(float, own), strict=True)),
        }
    content = {"classes": list(servable.classes), "tolerance": tolerance, "photos": answers, **others}
    (folder / FOLDER / ANSWERS).write_text(to_json(content), encoding="utf-8")


def _shown(
    servable: Servable, reference: Reference, position: int, takes: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A golden photo, and the square that the network sees of it."""
    from finetunekit.data.decode import fit_photo, shrink_photo

    if takes == "square":
        return reference.squares[position], reference.squares[position]
    photo = shrink_photo(reference.photos(position), source_px=LONG_SIDE_PX)
    return photo, fit_photo(photo, **servable.fitting())


def read_golden(folder: Path) -> tuple[Mapping[str, Any], list[NDArray[np.uint8]]]:
    """The answers beside a model, and the golden photos.

    Args:
        folder: Of the model.

    Raises:
        ExportError: If they are missing or damaged.
    """
    from finetunekit.data.decode import decode_photo
    from finetunekit.runs.run_files import read_json_file

    try:
        content = read_json_file(folder / FOLDER / ANSWERS, most_bytes=MOST_BYTES)
        photos = [
            decode_photo(folder / FOLDER / Path(name).name, max_pixels=_MOST_PIXELS) for name in content["photos"]
        ]
    except (RunFolderError, DataError) as exc:
        raise ExportError(f"{folder / FOLDER}: the golden photos cannot be read ({one_line(exc)})") from exc
    return content, photos


def check_golden(content: Mapping[str, Any], photos: Sequence[NDArray[np.uint8]], predict: Predict) -> dict[str, Any]:
    """Ask a model for the golden photos, and compare what it says with what is written beside them.

    Args:
        content: The answers.
        photos: `(height, width, 3)` uint8 each.
        predict: Runs the model.
    """
    classes = content["classes"]
    given = np.array([predict(photo[np.newaxis])[PROBABILITIES][0] for photo in photos], np.float64)
    wanted = np.array([[row["probabilities"][name] for name in classes] for row in content["photos"].values()])
    return compare_answers(list(content["photos"]), wanted, given, classes)
