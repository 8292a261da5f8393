"""The certificate: an exported model measured beside the run, as plain values, and what of it is not within the limits."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.plan import Chosen
from finetunekit.config.sections import ExportSection
from finetunekit.errors import ExportError
from finetunekit.evaluation.predictor import LoadedRun
from finetunekit.exporting import comparison, golden, verification
from finetunekit.exporting.probe_photos import write_probes
from finetunekit.exporting.servable import CALIBRATION_SEED, CalibrationPhotos, existing
from finetunekit.exporting.speed import list_files, measure_speed, open_timed
from finetunekit.system.environment import describe_environment
from finetunekit.types import TEST, VALID, Exported, Exporter, Predict, Servable

FORMAT = 1
PAGE = "certificate.md"
POINT_PHOTOS = 32
#: Largest difference of a probability where none is stated: rounding.
USUAL = 1e-4
#: How far a golden answer may be off elsewhere for a model in 8 bits: twelve steps of 256.
INT8_TOLERANCE = 0.05


@dataclass(frozen=True)
class Writing:
    """An export under way.

    Attributes:
        chosen: The exporter as the plan names it.
        exporter: What its builder returned.
        folder: What it wrote into.
        exported: What it said of that.
        limits: What the certificate has to keep.
    """

    chosen: Chosen
    exporter: Exporter
    folder: Path
    exported: Exported
    limits: ExportSection

    @property
    def limit(self) -> float | None:
        """Largest difference of a probability that is allowed; None where accuracy decides."""
        limits = {"float32": self.limits.max_difference or USUAL, "float16": self.limits.max_difference_float16}
        return limits.get(self.exported.precision)


def certify(loaded: LoadedRun, servable: Servable, writing: Writing, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure an exported model, and write the golden photos beside it.

    Args:
        loaded: The run.
        servable: What was written.
        writing: The export.
        say: Receives a line for each part.

    Returns:
        Content of `certificate.json`.

    Raises:
        DataError: If there is no photo of the run to compare on.
        ExportError: If it loses accuracy where that decides; nothing more is measured then.
    """
    measured = measure(loaded, servable, writing, say)
    golden.write_golden(
        writing.folder,
        servable,
        measured.predict,
        measured.photos.reference,
        golden.choose_photos(measured.photos.labels),
        takes=writing.exported.takes,
        tolerance=writing.limit or INT8_TOLERANCE,
        others={
            "probes": verification.expect_probes(measured.probes, measured.probe_answers),
            "photos_of_the_run": verification.expect_photos(measured.photos.contents, measured.answers),
        },
    )
    return measured.certificate


@dataclass(frozen=True)
class Measured:
    """An exported model beside the run, and what it was asked.

    Attributes:
        certificate: Content of `certificate.json`.
        predict: Runs the model.
        photos: Of the run.
        answers: To them, `(photos, classes)`.
        probes: The probe photos, which are gone by now; their pixels are known.
        probe_answers: To them.
    """

    certificate: dict[str, Any]
    predict: Predict
    photos: RunPhotos
    answers: NDArray[np.float64]
    probes: Mapping[str, str]
    probe_answers: NDArray[np.float64]


def measure(loaded: LoadedRun, servable: Servable, writing: Writing, say: Callable[[str], None]) -> Measured:
    """The whole of a certificate; nothing is written. As `certify`."""
    exported = writing.exported
    predict, cost = open_timed(writing.exporter, writing.folder, servable.size_px)
    say("comparing answers on the run's photos")
    photos = _run_photos(loaded, servable)
    answers = comparison.ask_model(predict, photos.reference, exported.takes)
    accuracy = comparison.compare_accuracy(
        photos.reference.probabilities, answers, photos.truth, writing.limits.margin_points / 100
    )
    if writing.limit is None and (lost := _inferior(accuracy)):
        raise ExportError(lost[0])
    say("comparing answers on probe photos")
    with tempfile.TemporaryDirectory() as folder:
        probes = comparison.refer(servable, write_probes(Path(folder)), max_pixels=2**30)
        probe_answers = comparison.ask_model(predict, probes, exported.takes)
        probed = _probed(servable, predict, probes, probe_answers, exported.takes)
        points = _points(servable, writing, probes, photos)
        contents = verification.pixels_of(probes)
    say("measuring speed")
    certificate = {
        "format": FORMAT,
        "exporter": writing.chosen.to_dict(),
        "run": _run(loaded, servable),
        "model": {
            "files": list_files(writing.folder, exported.files),
            "takes": exported.takes,
            "precision": exported.precision,
            "size_px": servable.size_px,
            "fitting": servable.fitting(),
            "classes": list(writing.exporter.classes(writing.folder)),
            "operations": dict(sorted(exported.operations.items())),
            "notes": list(exported.notes),
        },
        "calibration": _calibration(servable),
        "photos": {"compared": len(photos.labels), "missing": photos.missing},
        "network": comparison.compare_answers(
            photos.reference.names, photos.reference.probabilities, answers, servable.classes
        ),
        "recorded": comparison.compare_answers(photos.reference.names, photos.recorded, answers, servable.classes),
        "accuracy": accuracy,
        "probes": probed,
        "points": points,
        "cost": {**cost, "milliseconds": measure_speed(servable, predict)},
        "limits": {**writing.limits.model_dump(mode="json", exclude={"to"}), "difference": writing.limit},
        "versions": {name: metadata.version(name) for name in exported.requires},
        "environment": describe_environment(),
    }
    return Measured(certificate, predict, photos, answers, contents, probe_answers)


@dataclass(frozen=True)
class RunPhotos:
    """Validation and test photos of a run, with what it recorded of them."""

    reference: comparison.Reference
    contents: tuple[str, ...]
    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    recorded: NDArray[np.float64]
    missing: int


def _run_photos(loaded: LoadedRun, servable: Servable) -> RunPhotos:
    found, missing = existing(loaded.run, (VALID, TEST))
    rows = [row for _, row in found]
    paths = {row["path"]: path for path, row in found}
    reference = comparison.refer(servable, paths, loaded.run.config["data"]["max_photo_pixels"])
    labels = tuple(row["true"] for row in rows)
    return RunPhotos(
        reference,
        tuple(row["sha256"] for row in rows),
        labels,
        np.array([servable.classes.index(label) for label in labels]),
        np.array([[float(row[f"p_{name}"]) for name in servable.classes] for row in rows]),
        missing,
    )


def _probed(
    servable: Servable, predict: Predict, probes: comparison.Reference, answers: NDArray[np.float64], takes: str
) -> dict[str, Any]:
    found = comparison.compare_answers(probes.names, probes.probabilities, answers, servable.classes)
    differences = np.abs(probes.probabilities - answers).max(axis=1)
    photo = probes.photos(0) if takes == "pixels" else probes.squares[0]
    return {
        **found,
        "differences": dict(zip(probes.names, map(float, differences), strict=True)),
        "batches": comparison.compare_batches(probes.probabilities[0], predict, photo),
    }


def _points(servable: Servable, writing: Writing, probes: comparison.Reference, photos: RunPhotos) -> dict[str, Any]:
    """Of the same model written once more with its points, for the probes and the first photos of the run."""
    compared = {"probes": probes, "run": _first(photos.reference, POINT_PHOTOS)}
    decode = writing.exporter.decode
    own = decode(writing.folder) if decode else comparison.read_plainly
    decoded = {name: comparison.compare_decoding(reference, own) for name, reference in compared.items()}
    with tempfile.TemporaryDirectory() as name:
        exported = writing.exporter.write(dataclasses.replace(servable, has_points=True), Path(name))
        predict = writing.exporter.open(Path(name))
        later = {
            name: comparison.compare_points(servable, predict, reference, exported.takes)
            for name, reference in compared.items()
        }
    by = "the model" if decode else "the reader in the examples"
    return {"decoded_by": by, **{name: {"pixels": decoded[name], **later[name]} for name in compared}}


def _first(reference: comparison.Reference, photos: int) -> comparison.Reference:
    return comparison.Reference(
        reference.names[:photos],
        reference.files[:photos],
        reference.photos,
        reference.squares[:photos],
        reference.probabilities[:photos],
    )


def _run(loaded: LoadedRun, servable: Servable) -> dict[str, Any]:
    precision = loaded.run.state.get("precision", "float32")
    return {
        "name": servable.name,
        "folder": loaded.run.path.name,
        "classes": list(servable.classes),
        "precision": precision,
        "is_rebuilt": servable.network is not loaded.model,
        "temperature": servable.temperature,
        "stand_in": loaded.run.stand_in,
        **{key: servable.metadata[key] for key in ("model_sha256", "licence", "attribution", "weights", "pixels")},
    }


def _calibration(servable: Servable) -> dict[str, Any] | None:
    source = servable.calibration
    if not isinstance(source, CalibrationPhotos) or not source.used:
        return None
    return {"photos": len(source.used), "seed": CALIBRATION_SEED, "sha256": list(source.used)}


def broken_limits(certificate: Mapping[str, Any], limit: float | None) -> list[str]:
    """One sentence for each limit that a model does not keep.

    Args:
        certificate: See `certify`.
        limit: Largest difference of a probability that is allowed; None where accuracy decides.
    """
    found = []
    if certificate["model"]["classes"] != certificate["run"]["classes"]:
        found.append(f"the labels in the model are {certificate['model']['classes']}, not in the run's order.")
    if limit is None:
        return [*found, *_inferior(certificate["accuracy"])]
    for name, words in (("network", "the run's photos"), ("probes", "probe photos")):
        largest = certificate[name]["largest_difference"]
        if largest > limit:
            where = f"'{certificate[name]['largest_on']}'"
            found.append(
                f"on {words} a probability differs by up to {largest:.2g} ({where}), allowed: {limit:g}. "
                f"{_parting(certificate['points']['run' if name == 'network' else 'probes'])}"
            )
    worst = max(certificate["probes"]["batches"].values())
    if worst > limit:
        found.append(f"in batches of several photos a probability differs by up to {worst:.2g}, allowed: {limit:g}.")
    return found


def _inferior(accuracy: Mapping[str, Any]) -> Sequence[str]:
    if accuracy["is_not_inferior"]:
        return ()
    low, margin = 100 * accuracy["margin_interval"]["low"], 100 * accuracy["margin"]
    return (
        f"on {accuracy['photos']:,} labelled photos {accuracy['exported_right']:,} are right, the run has {accuracy['run_right']:,}: it is "
        f"not shown that it loses at most {margin:g} points (90 % interval from {low:.1f}). State another margin, or use more "
        "photos or calibration photos.",
    )


def _parting(points: Mapping[str, Any]) -> str:
    """Where two models part: the first point whose values differ by more than rounding. Both began with the same pixels."""
    for name, found in points.items():
        if name != "pixels" and found["largest_difference"] > 1e-5 * max(1.0, found["largest_value"]):
            return f"They part at '{name}' ({found['largest_difference']:.2g} on '{found['largest_on']}')."
    return "No point between shows it."
