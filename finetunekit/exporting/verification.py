"""A model that may have been copied anywhere, asked once more: what its certificate says, as far as it can be measured without the run.

`golden/answers.json` holds what the model answered when it was certified: to the golden photos, to the probe photos, which are made
anew, and to every photo of the run that was compared, known by the SHA-256 of its file.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import ExportError
from finetunekit.exporting.comparison import (
    Reference,
    ask_model,
    compare_answers,
    compare_batches,
    refer_to,
)
from finetunekit.exporting.golden import check_golden, read_golden
from finetunekit.exporting.probe_photos import write_probes
from finetunekit.exporting.speed import time_batches
from finetunekit.types import Predict

MOST_NUMBERS = 200_000
"""Probabilities that are kept at most of the run's photos, a few megabytes."""


def pixels_of(reference: Reference) -> dict[str, str]:
    """Name → SHA-256 of the decoded pixels: decoders differ, and another photo has another answer."""
    return {name: _pixels_sha256(reference.photos(i)) for i, name in enumerate(reference.names)}


def _pixels_sha256(photo: NDArray[np.uint8]) -> str:
    return hashlib.sha256(f"{photo.shape}".encode() + photo.tobytes()).hexdigest()


def expect_probes(pixels: Mapping[str, str], answers: NDArray[np.float64]) -> dict[str, Any]:
    """What is kept of the probe photos: name → their pixels' SHA-256 and the probabilities."""
    return {
        name: {"pixels_sha256": content, "probabilities": row.tolist()}
        for (name, content), row in zip(pixels.items(), answers, strict=True)
    }


def expect_photos(contents: Sequence[str], answers: NDArray[np.float64]) -> dict[str, list[float]]:
    """What is kept of the run's photos, the first of them where they are very many: SHA-256 of the file → probabilities."""
    most = max(1, MOST_NUMBERS // answers.shape[1])
    return {content: row.tolist() for content, row in list(zip(contents, answers, strict=True))[:most]}


def verify_model(
    folder: Path, certificate: Mapping[str, Any], predict: Predict, photos: Iterable[Path] = ()
) -> dict[str, Any]:
    """Ask a model for everything whose answer lies beside it.

    Args:
        folder: Of the model.
        certificate: Of it.
        predict: Runs it here.
        photos: Files; those that the run had are asked for too, whatever they are called here.

    Returns:
        `golden`, `probes`, `batches`, `photos` (None where there were none), `milliseconds`; see `finetunekit.exporting.comparison`.

    Raises:
        ExportError: If the answers are missing or damaged, or none of the photos is one of the run's.
        DataError: If a photo cannot be read.
    """
    content, golden = read_golden(folder)
    files = list(photos)
    return {
        "tolerance": content["tolerance"],
        "golden": check_golden(content, golden, predict),
        "probes": _check_probes(content, certificate["model"], predict),
        "batches": compare_batches(predict(golden[0][np.newaxis])["probabilities"][0], predict, golden[0]),
        "photos": _check_photos(content, certificate["model"], predict, files) if files else None,
        "milliseconds": time_batches(predict, certificate["model"]["size_px"]),
    }


def _check_probes(content: Mapping[str, Any], model: Mapping[str, Any], predict: Predict) -> dict[str, Any]:
    """Probe photos that come out of this decoder as they came out of that of the certificate; the names of the others."""
    expected: Mapping[str, Any] = content["probes"]
    with tempfile.TemporaryDirectory() as name:
        paths = write_probes(Path(name))
        pixels = pixels_of(_reference(paths, model, np.zeros((len(paths), 1))))
        same = [probe for probe in paths if probe in expected and expected[probe]["pixels_sha256"] == pixels[probe]]
        wanted = np.array([expected[probe]["probabilities"] for probe in same])
        found = _compare({probe: paths[probe] for probe in same}, wanted, model, predict) if same else None
    return {"same_pixels": found, "other_pixels": [probe for probe in paths if probe not in same]}


def _check_photos(
    content: Mapping[str, Any], model: Mapping[str, Any], predict: Predict, files: Sequence[Path]
) -> dict[str, Any]:
    expected: Mapping[str, Sequence[float]] = content["photos_of_the_run"]
    known = {hashlib.sha256(file.read_bytes()).hexdigest(): file for file in files}
    paths = {str(file): file for sha256, file in known.items() if sha256 in expected}
    if not paths:
        raise ExportError(
            f"none of {len(files):,} photos is one that the certificate was written with; photos are known by their SHA-256."
        )
    wanted = np.array([expected[sha256] for sha256 in known if sha256 in expected])
    return {**_compare(paths, wanted, model, predict), "known": len(expected)}


def _compare(
    paths: Mapping[str, Path], wanted: NDArray[np.float64], model: Mapping[str, Any], predict: Predict
) -> dict[str, Any]:
    reference = _reference(paths, model, wanted)
    given = ask_model(predict, reference, model["takes"])
    return compare_answers(reference.names, wanted, given, model["classes"])


def _reference(paths: Mapping[str, Path], model: Mapping[str, Any], wanted: NDArray[np.float64]) -> Reference:
    return refer_to(paths, model["fitting"], lambda _: wanted, max_pixels=2**30)


def too_far(found: Mapping[str, Any]) -> list[str]:
    """One sentence for each part in which a model is further off than its tolerance.

    Args:
        found: See `verify_model`.
    """
    parts = {
        "to a golden photo": found["golden"],
        "to a probe photo": found["probes"]["same_pixels"],
        "to a photo of the run": found["photos"],
    }
    tolerance, sentences = found["tolerance"], []
    for words, part in parts.items():
        if part and part["largest_difference"] > tolerance:
            sentences.append(
                f"the answer {words} ('{part['largest_on']}') is off by {part['largest_difference']:.2g} here, allowed: {tolerance:g}."
            )
    worst = max(found["batches"].values())
    if worst > tolerance:
        sentences.append(f"in batches of several photos an answer is off by {worst:.2g} here, allowed: {tolerance:g}.")
    return sentences
