"""A finished run's network on new photos, with the labels and the pixels it was trained with."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.pixel_contract import contract_from, fitting_of
from finetunekit.config.plan import PlannedNetwork
from finetunekit.data.known_photos import photo_sha256
from finetunekit.data.parallel import bounded
from finetunekit.data.photo_paths import labelled_photos, splits_of
from finetunekit.errors import DataError, RunFolderError
from finetunekit.evaluation.given_photos import GivenPhoto, photo_files
from finetunekit.evaluation.prediction_table import Predictions, thumbnail_of
from finetunekit.runs.folder import MODEL, FinishedRun, find_run, run_from
from finetunekit.runs.reopening import reopen_network
from finetunekit.statistics import apply_temperature
from finetunekit.system.environment import seeded, start_tensorflow
from finetunekit.system.progress import Progress

if TYPE_CHECKING:
    from finetunekit.evaluation.answer_sets import AnswerSets
    from finetunekit.evaluation.explanation import Explanations
    from finetunekit.evaluation.likeness import TrainFeatures, Traits
    from finetunekit.models.forward import Answers
    from finetunekit.runs.test_split_ledger import Openings

_CHUNK = 64
"""Photos decoded at a time, while the network is asked for those before them."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says about one photo.

    Attributes:
        path: The photo.
        label: The most probable class; None if its probability is below the requested threshold.
        probability: Probability of the most probable class, calibrated.
        temperature: What the network's logits were divided by; 1 if the probabilities are its own.
        probabilities: Class name → probability, in class order.
        unlike_p: How rarely a photo like the validation photos is as unlike the training photos; a small value means
            a strange photo. None if the run keeps nothing to compare with.
        is_unlike: Whether that is so rare that the photo may show none of the classes.
        class_set: The classes that are kept at the requested coverage, which can be none or all of them; None if no
            coverage was requested.
    """

    path: Path
    label: str | None
    probability: float
    temperature: float
    probabilities: Mapping[str, float]
    unlike_p: float | None = None
    is_unlike: bool = False
    class_set: tuple[str, ...] | None = None


@dataclass(frozen=True)
class LoadedRun:
    """A run's network, ready to predict.

    Attributes:
        run: The run folder.
        classes: Class names; position is the class index.
        build: `float32` or `bfloat16` → the network up to its logits as a Keras model, built by its plugins in that precision.
        answering: The network as `finetunekit.models.forward.make_answering` makes it, without being built; None where it has to be.
    """

    run: FinishedRun
    classes: tuple[str, ...]
    build: Callable[[str], Any]
    answering: Callable[..., Answers] | None = None

    def predict(
        self,
        photos: GivenPhoto | Iterable[GivenPhoto],
        *,
        abstain_below: float = 0.0,
        abstain_unlike: bool = False,
        coverage: float | None = None,
        is_per_class: bool = False,
        count: Callable[[int, int], None] | None = None,
        unreadable: Callable[[str], None] | None = None,
    ) -> Predictions:
        """Predict photos, prepared exactly as in training.

        Args:
            photos: One or several of: a path of a photo file, or of a folder, table or archive of them; the bytes of a photo file; a PIL
                image; an array `(height, width)` or `(height, width, channels)` of uint8, or a batch of them.
            abstain_below: Give no label if the most probable class has a lower probability.
            abstain_unlike: Give no label to photos that are unlike any training photo.
            coverage: Give a set of classes that contains the true one for at least this fraction of photos like the
                validation photos, in (0, 1); see `sets`, which also says what that rests on.
            is_per_class: The same for the photos of each class.
            count: Called with the number of photos done and the total.
            unreadable: Called with a line about each photo that cannot be read, which is then left out; None: such a
                photo is an error.

        Returns:
            A list of one prediction for each photo, in the order given; a folder's photos by name. A notebook shows it as a table with
            small pictures; `to_pandas` makes a DataFrame of it. Photos without a path are called `photo 1`, `photo 2`, ….

        Raises:
            DataError: If a path does not exist, a folder has no photo, or a photo cannot be read.
            ValueError: If the coverage is impossible.
        """
        sets = None if coverage is None else self.sets(coverage, is_per_class=is_per_class)
        predictions: list[Prediction] = []
        with photo_files(photos) as files:
            for done, read, uncalibrated, traits in self.read([photo.file for photo in files], unreadable):
                predictions += self.predictions(read, uncalibrated, self.unlike(traits, len(read)), sets)
                if count:
                    count(done, len(files))
            given = {photo.file: photo.name for photo in files if not photo.is_kept}
            thumbnails = {i: thumbnail_of(p.path) for i, p in enumerate(predictions) if p.path in given}
        named = (dataclasses.replace(p, path=given.get(p.path, p.path)) for p in predictions)
        return Predictions(withheld(named, below=abstain_below, unlike=abstain_unlike), thumbnails)

    def sets(self, coverage: float, *, is_per_class: bool = False) -> AnswerSets:
        """The rule by which `predict` makes sets of classes, what it promises, and what it did on the test photos.

        Args:
            coverage: Share of photos whose set holds the true class, in (0, 1).
            is_per_class: The same for the photos of each class.

        Raises:
            ValueError: If the coverage is impossible.
            RunFolderError: If the run ended before it was scored.
        """
        from finetunekit.evaluation.answer_sets import answer_sets

        return answer_sets(self.run, coverage, is_per_class=is_per_class)

    def read(
        self, paths: Sequence[Path], unreadable: Callable[[str], None] | None
    ) -> Iterator[tuple[int, Sequence[Path], NDArray[np.float64], Traits | None]]:
        """Photo files part by part; the next part is decoded while the network is asked for one.

        Args:
            paths: Of photo files.
            unreadable: Receives the line of each one that cannot be read, which is then left out; None: it is an error.

        Yields:
            How many photos are done, and of the readable ones of this part the files, their uncalibrated probabilities `(photos, classes)`
            and their traits.

        Raises:
            DataError: If a photo cannot be read and nobody is told.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="decoding") as ahead:
            parts = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
            coming = ahead.submit(self._decoded, parts[0]) if parts else None
            for number, part in enumerate(parts, 1):
                assert coming is not None
                read, squares, problems = coming.result()
                coming = ahead.submit(self._decoded, parts[number]) if number < len(parts) else None
                if problems and unreadable is None:
                    raise DataError(bounded(problems))
                if unreadable is not None:
                    for line in problems:
                        unreadable(line)
                answers = self.ask(squares) if read else (np.zeros((0, len(self.classes))), None)
                yield (number - 1) * _CHUNK + len(part), read, *answers

    def _decoded(self, paths: Sequence[Path]) -> tuple[list[Path], NDArray[np.uint8], list[str]]:
        from finetunekit.data.decode import load_readable

        config = self.run.config
        return load_readable(paths, **fitting_of(config["pixels"]), max_pixels=config["data"]["max_photo_pixels"])

    def probabilities(self, paths: Sequence[Path]) -> NDArray[np.float64]:
        """Probabilities of photo files as they are given out, `(photos, classes)` float64: see `uncalibrated`, and the run's temperature.

        Raises:
            DataError: If a photo cannot be read.
        """
        return apply_temperature(self.uncalibrated(paths), self.run.temperature)

    def uncalibrated(self, paths: Sequence[Path]) -> NDArray[np.float64]:
        """The network's own probabilities, `(photos, classes)` float64; over the mirror image too where the run was scored so.

        Raises:
            DataError: If a photo cannot be read.
        """
        return self._ask(paths)[0]

    def traits(self, paths: Sequence[Path]) -> Traits | None:
        """What the network makes of photo files before it answers, by which they are compared; None where it reads no vector.

        Raises:
            DataError: If a photo cannot be read.
        """
        return self._ask(paths)[1]

    def explain(
        self,
        paths: Iterable[str | Path],
        *,
        coverage: float | None = None,
        neighbours: int = 5,
        count: Callable[[int, int], None] | None = None,
    ) -> Explanations:
        """Why photos are answered as they are: see `finetunekit.evaluation.explanation.explain`."""
        from finetunekit.evaluation.explanation import explain

        return explain(self, paths, coverage=coverage, neighbours=neighbours, count=count)

    def _ask(self, paths: Sequence[Path]) -> tuple[NDArray[np.float64], Traits | None]:
        return self.ask(self.squares(paths))

    def ask(
        self, squares: NDArray[np.uint8], forward: Callable[..., Answers] | None = None
    ) -> tuple[NDArray[np.float64], Traits | None]:
        """Ask the network.

        Args:
            squares: Photos as it sees them, `(photos, size, size, 3)` uint8 RGB.
            forward: Of `make_answering`; default: in batches of the size that `predict` uses.

        Returns:
            Uncalibrated probabilities `(photos, classes)` float64, and what it makes of the photos before it answers.
        """
        from finetunekit.evaluation.likeness import traits_of
        from finetunekit.models.forward import answer_photos, mean_probabilities

        is_flipped, count = self.run.config.get("evaluate", {}).get("flip", False), len(squares)
        both = np.concatenate([squares, squares[:, :, ::-1]]) if is_flipped else squares  # fills batches better
        logits, features = answer_photos(forward or self._forward, both, contract_from(self.run.state["pixels"]))
        traits = None if features is None else traits_of(features[:count], logits[:count])
        return mean_probabilities(logits[:count], logits[count:] if is_flipped else None), traits

    @functools.cached_property
    def model(self) -> Any:
        """The network up to its logits as a Keras model in the run's precision, built by its plugins when it is first asked for.

        Raises:
            RunFolderError: If the plugins now build another network.
            PluginError: If a builder fails.
        """
        return self.build(self.run.state["precision"])

    @functools.cached_property
    def _forward(self) -> Callable[..., Answers]:
        from finetunekit.models.feature_cache import EXTRACTION_BATCH
        from finetunekit.models.forward import make_answering

        return self.answering or make_answering(self.model, EXTRACTION_BATCH)

    @functools.cached_property
    def training(self) -> TrainFeatures | None:
        """What the run keeps of its training photos, to tell photos that are unlike them; None where it keeps nothing.

        Raises:
            RunFolderError: If the file is damaged.
        """
        from finetunekit.evaluation.likeness import read_features

        return read_features(self.run)

    def squares(self, paths: Sequence[Path]) -> NDArray[np.uint8]:
        """Photo files as the network sees them, `(photos, size, size, 3)` uint8 RGB.

        Raises:
            DataError: If a photo cannot be read.
        """
        from finetunekit.data.decode import load_photos

        pixels = self.run.config["pixels"]
        max_pixels = self.run.config["data"]["max_photo_pixels"]
        return load_photos(paths, **fitting_of(pixels), max_pixels=max_pixels)

    def evaluate(
        self, folder: Path, *, options: Sequence[str] = (), count: Callable[[int, int], None] | None = None
    ) -> dict[str, Any]:
        """Score labelled photos, classes matched by name.

        Args:
            folder: One folder of photos for each class; or a table or an archive. Classes without photos may be left out.
            options: `NAME=VALUE` texts for the data source of a table or an archive.
            count: Called with the number of photos done and the total.

        Returns:
            Every score with denominator and interval (`finetunekit.statistics.Scores`) as plain values, those of the probabilities that
            are given out, at `temperature`. `openings`: how often these photos have been scored by now; None where the ledger cannot be
            written, and `uncounted` says why. `seen` counts the photos that the run was trained on (`train`) and validated on (`valid`),
            by SHA-256; `tested` those of its own test split; `unseen` has the scores of the others, None where all were seen.
            `unlike` counts photos that are unlike any training photo.

        Raises:
            DataError: If a folder is not one of the run's classes, or there are no photos.
        """
        from finetunekit.statistics import summarise_predictions

        paths, labels = labelled_photos(folder, self.classes, options=options)
        predictions = self.predict(paths, count=count)
        hashes = [photo_sha256(path) for path in paths]
        splits = splits_of(hashes, self.run.photos)
        tested = {row["sha256"] for row in self.run.photos if row["split"] == "test"}
        openings, uncounted = self._record_opening(hashes, labels)
        rows = np.array([list(p.probabilities.values()) for p in predictions], dtype=np.float64)

        def score(chosen: NDArray[np.bool_]) -> dict[str, Any] | None:
            if not chosen.any():
                return None
            found = summarise_predictions(rows[chosen], np.array(labels)[chosen], num_classes=len(self.classes))
            return dataclasses.asdict(found)

        return {
            "stand_in": self.run.stand_in,
            "folder": str(folder),
            "temperature": self.run.temperature,
            "openings": dataclasses.asdict(openings) if openings else None,
            **({"uncounted": uncounted} if uncounted else {}),
            "unlike": sum(p.is_unlike for p in predictions),
            "seen": {split: splits.count(split) for split in ("train", "valid")},
            "tested": sum(sha256 in tested for sha256 in hashes),
            "unseen": score(np.array([split is None for split in splits])),
            **(score(np.ones(len(paths), np.bool_)) or {}),
        }

    def _record_opening(self, hashes: Sequence[str], labels: Sequence[int]) -> tuple[Openings | None, str | None]:
        """Labels are about to meet predictions: the same opening as the run's own where these are its test photos; or why not noted."""
        from finetunekit.data.index import content_key
        from finetunekit.runs.test_split_ledger import record_opening

        key = content_key(zip(hashes, (self.classes[label] for label in labels), strict=True))
        state = self.run.state
        try:
            return record_opening(key, state["config_key"], name=state["name"], run_path=self.run.path), None
        except RunFolderError as exc:
            return None, str(exc)

    def predictions(
        self,
        paths: Sequence[Path],
        uncalibrated: NDArray[np.float64],
        unlike: Sequence[float | None],
        sets: AnswerSets | None = None,
    ) -> Iterator[Prediction]:
        """What `predict` says of photos that the network was asked for.

        Args:
            paths: What they are called.
            uncalibrated: See `ask`.
            unlike: See `unlike`.
            sets: Which classes to keep.
        """
        kept = sets.names(uncalibrated) if sets else [None] * len(paths)
        given = apply_temperature(uncalibrated, self.run.temperature) if len(paths) else uncalibrated
        for path, row, class_set, unlike_p in zip(paths, given, kept, unlike, strict=True):
            best = int(row.argmax())
            yield Prediction(
                path=path,
                label=self.classes[best],
                probability=float(row[best]),
                temperature=self.run.temperature,
                probabilities=dict(zip(self.classes, map(float, row), strict=True)),
                unlike_p=unlike_p,
                is_unlike=self._is_unlike(unlike_p),
                class_set=class_set,
            )

    def unlike(self, traits: Traits | None, photos: int) -> list[float | None]:
        """See `Prediction.unlike_p`, of so many photos."""
        if traits is None or self.training is None:
            return [None] * photos
        return list(map(float, self.training.p_values(traits)))

    def _is_unlike(self, unlike_p: float | None) -> bool:
        at = self.training.unlike_at if self.training else None
        return unlike_p is not None and at is not None and unlike_p <= at


def withheld(predictions: Iterable[Prediction], *, below: float, unlike: bool) -> Iterator[Prediction]:
    """Predictions without the labels of those less probable than `below`, and of those unlike any training photo if that is asked for."""
    for p in predictions:
        yield dataclasses.replace(p, label=None) if p.probability < below or (unlike and p.is_unlike) else p


def find_network(run: str | Path, *, out: str | Path = "runs") -> FinishedRun:
    """A run that `load` could load, found without TensorFlow: what is asked of it can be checked first.

    Args:
        run: The run folder, its name under `out`, or `last`.
        out: Folder of runs.

    Raises:
        RunFolderError: If there is no such run, or it has no model.
    """
    finished = FinishedRun(find_run(run, Path(out), prefers_finished=True))
    if not (finished.path / MODEL).is_file():
        raise RunFolderError(
            f"{finished.path / MODEL}: is missing; the run ended as '{finished.state['status']}' before a model was saved."
        )
    return finished


def load(
    run: str | Path, *, out: str | Path = "runs", progress: Progress | None = None, trust: bool = False
) -> LoadedRun:
    """Load a run's network: what it computes is read from its file. Where that cannot be, and for `model`, its plugins build it again.

    Args:
        run: The run folder, its name under `out`, or `last`.
        out: Folder of runs.
        progress: Receives warnings about broken plugins.
        trust: Run plugin files that came with the run, although this user did not start it here.

    Raises:
        RunFolderError: If there is no such run, if it has no model, or if its plugins now build another network.
        ConfigError: If a plugin that the network came from is missing, or may not be run; the message names it.
        PluginError: If a plugin file cannot be loaded, or a builder fails.
    """
    finished = find_network(run, out=out)
    network = reopen_network(finished, progress, trust=trust)
    start_tensorflow()
    from finetunekit.models.saved_network import read_network

    build = partial(_build_again, finished, network)
    loaded = LoadedRun(finished, finished.classes, build, read_network(finished.path / MODEL))
    if loaded.answering is None:
        _ = loaded.model  # what is wrong with it is said now
    return loaded


def _build_again(run: FinishedRun, network: PlannedNetwork, precision: str) -> Any:
    """A run's network up to its logits, in a precision, with the run's weights."""
    from finetunekit.models.classifier import build_classifier
    from finetunekit.models.saved_network import load_network

    with (
        run_from(run.path),
        seeded(run.state["seed"]),
    ):  # a builder may draw what is no weight, or read a file by a relative path
        logits = build_classifier(network, len(run.classes), precision).logits
    load_network(run.path / MODEL, logits, contract_from(run.state["pixels"]), precision)
    return logits


def calibration_words(run: FinishedRun) -> str:
    """One sentence that says by which temperature a run gives out its probabilities, and why."""
    known: Mapping[str, Any] = run.state.get("calibration") or {}
    return str(known.get("words", "Probabilities are the network's own: the run ended before it was scored."))


def as_dict(prediction: Prediction) -> dict[str, Any]:
    """Plain values of a prediction, for JSON."""
    return {**dataclasses.asdict(prediction), "path": str(prediction.path)}
