"""From finished runs to one more run, whose network is the mean of theirs; nothing is trained."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.plan import Plan
from finetunekit.config.preset import setting_text
from finetunekit.engine.pipeline import RunPipeline
from finetunekit.engine.result import RunResult
from finetunekit.errors import RunError, RunFolderError
from finetunekit.experiments.ensemble.judge import (
    WeightsVerdict,
    best_of,
    change,
    gain_words,
    judge_weights,
    member_entry,
)
from finetunekit.experiments.ensemble.members import (
    Photo,
    check_members,
    every_photo,
    find_members,
    is_of_folds,
    joined_weights,
    may_share_weights,
    photos_of,
    recorded,
)
from finetunekit.experiments.ensemble.shared_input import SharedInput, share_input
from finetunekit.reports.notebook import default_progress
from finetunekit.runs.folder import (
    AUDIT,
    CONFIG,
    ENSEMBLE_WEIGHTS,
    ENVIRONMENT,
    EPOCHS,
    MEMBERS,
    METRICS,
    PLAN,
    PROBABILITIES,
    STATE,
    WEIGHTS,
    FinishedRun,
)
from finetunekit.runs.reopening import reopen_plan
from finetunekit.runs.run_record import RunRecord
from finetunekit.runs.trust import note_started
from finetunekit.system.files import locked, to_csv, to_json, work_in, write_whole
from finetunekit.system.formatting import counted
from finetunekit.system.progress import Progress
from finetunekit.types import SPLITS, TEST, TRAIN, VALID

if TYPE_CHECKING:
    from finetunekit.data.decoded_photos import PixelStore
    from finetunekit.data.index import PhotoIndex
    from finetunekit.data.known_photos import Measurements
    from finetunekit.engine.score import Predicted
    from finetunekit.evaluation.baselines.inputs import BaselineInputs
    from finetunekit.evaluation.predictor import LoadedRun
    from finetunekit.models.classifier import Classifier
    from finetunekit.types import PhotoListing

_SAME_ANSWERS = {"float32": 0.01, "bfloat16": 0.1}
"""How far a probability may be from what a member recorded: other processors and kernels change that much, other pixels more."""
_OUT_OF_FOLD = (
    "The members are folds: every photo was trained on by some of them. Its validation figures, its temperature and its sets of "
    "classes come from answers of the members that were not trained on the photo, which are fewer than answer together; it has no "
    "test split, and does not tell photos that are unlike any training photo."
)


def ensemble(
    *runs: str | Path,
    name: str | None = None,
    out: str | Path = "runs",
    progress: Progress | None = None,
    trust: bool = False,
) -> RunResult:
    """Make one run of several finished ones: their weights averaged where validation photos allow it, else their probabilities.

    Args:
        runs: Run folders, their names under `out`, or the folder of several seeds or folds; two runs or more.
        name: Of the new run; default: that of the first run, with `-ensemble`.
        out: Folder of runs.
        progress: Where progress is printed; default: stderr, or a live line in a notebook.
        trust: Run plugin files that came with the runs, although this user did not start them here.

    Returns:
        The run's folder, metrics and summary.

    Raises:
        ConfigError: If the runs cannot answer together.
        RunFolderError: If there is no such run, one is not finished, or its photos have changed.
        As `finetunekit.load`.
    """
    progress, folder = progress or default_progress(), Path(out).resolve()
    members = find_members(runs, folder)
    check_members(members)
    shared = share_input(members)
    base = members[shared.base]
    name = name or f"{re.sub(r'-(seed|fold)-[0-9]+$', '', base.state['name'])[:80]}-ensemble"
    with work_in(base.state["folder"]):
        settings = _settings(members, shared, name)
        plan, host = reopen_plan(base.path / CONFIG, settings=settings, progress=progress, trust=trust)
        plan = dataclasses.replace(plan, source=base.state["preset"])
        record = RunRecord.create(folder, plan, ())
        if not trust:
            note_started(plan.plugin_files, progress.say)
        with locked(record.path):
            return EnsemblePipeline(plan, host, record, progress, members=members, shared=shared, trust=trust).run()


def _settings(members: Sequence[FinishedRun], shared: SharedInput, name: str) -> list[str]:
    """What differs from the configuration of the member whose square is used."""
    base = members[shared.base]
    wanted: dict[str, Any] = {"name": name}
    if base.config["pixels"]["size_px"] != shared.size_px:
        wanted["pixels.size_px"] = shared.size_px
    if shared.crop_pct is not None:
        wanted["pixels.crop_pct"] = shared.crop_pct
    if any(member.config["evaluate"]["flip"] for member in members):
        wanted["evaluate.flip"] = True
    if is_of_folds(members):
        wanted |= {"train.fold": None, "evaluate.test": False}
    return [setting_text(key, value) for key, value in wanted.items()]


class EnsemblePipeline(RunPipeline):
    """A run whose network is made of finished runs' instead of being trained; all else is done as for any run."""

    def __init__(
        self,
        plan: Plan,
        host: Any,
        record: RunRecord,
        progress: Progress,
        *,
        members: Sequence[FinishedRun],
        shared: SharedInput,
        trust: bool,
    ) -> None:
        """See `RunPipeline`.

        Args:
            plan: Of the member whose square is used, with its changes.
            host: The plugins it was made with.
            record: Of the new run.
            progress: Where progress is printed.
            members: What it is made of.
            shared: How a photo becomes the input of all.
            trust: Run plugin files of members.
        """
        super().__init__(plan, host, record, progress)
        self.members, self.shared, self.trust = members, shared, trust
        self.is_of_folds = is_of_folds(members)
        record.state["ensemble"] = {
            "by": PROBABILITIES,
            "members": [*self._entries()],
            "is_out_of_fold": self.is_of_folds,
        }
        record.write_state()
        for number, member in enumerate(members, 1):
            _keep_member(member, record.path / MEMBERS / str(number))

    def _entries(self) -> list[dict[str, Any]]:
        """What `run.json` says of each member: enough to build its part of the network again."""
        own = self.shared
        return [
            {
                "run": str(member.path),
                "name": member.state["name"],
                "seed": member.state["seed"],
                "folder": member.state.get("folder"),
                "config_key": member.state["config_key"],
                "contract": None if contract is None else dataclasses.asdict(contract),
                "crop_px": crop_px,
            }
            for member, contract, crop_px in zip(self.members, own.own_contracts, own.crops_px, strict=True)
        ]

    # ---- photos ------------------------------------------------------------------------------------------------------------------

    def _pixel_store(self) -> PixelStore:
        from finetunekit.data.decoded_photos import PixelStore

        if not self.is_of_folds:
            return super()._pixel_store()
        return PixelStore(self.config, self.progress, splits=SPLITS)  # a fold's photos come from any split

    def _index(self, listing: PhotoListing, measured: Measurements) -> PhotoIndex:
        """As the members had them; of folds, every photo is trained on by some, and judged by the others."""
        from finetunekit.data.index import photo_order

        index = super()._index(listing, measured)
        if not self.is_of_folds:
            now = {split: [(p.name, p.sha256, p.label) for p in index.split(split)] for split in (TRAIN, VALID, TEST)}
            for split, photos in now.items():
                self._check_photos(photos, photos_of(self.members[0], split))
            return index
        known = set(every_photo(self.members[0]))
        dealt = {photo.path: photo for photo in index.photos if (photo.name, photo.sha256, photo.label) in known}
        self._check_photos([(p.name, p.sha256, p.label) for p in dealt.values()], list(known))
        both = tuple(dataclasses.replace(photo, split=split) for split in (TRAIN, VALID) for photo in dealt.values())
        return dataclasses.replace(index, photos=tuple(sorted(both, key=photo_order)))

    def _check_photos(self, now: Sequence[Photo], then: Sequence[Photo]) -> None:
        """By content and class: a folder may have been moved."""
        if sorted(photo[1:] for photo in now) != sorted(photo[1:] for photo in then):
            raise RunFolderError(
                f"{self.members[0].path}: its photos or their classes have changed since it was trained. Put them back, or train its "
                "members again."
            )

    # ---- the network -------------------------------------------------------------------------------------------------------------

    def _train_and_score(self) -> tuple[dict[str, Any], BaselineInputs]:
        from finetunekit.engine.score import score_run
        from finetunekit.evaluation.baselines.inputs import BaselineInputs
        from finetunekit.evaluation.diagnostics import write_gradcam
        from finetunekit.system.environment import describe_environment, prepare_tensorflow

        prepare_tensorflow(seed=self.config.seed, is_deterministic=self.config.deterministic)
        self.record.note(ENVIRONMENT, to_json(describe_environment()))
        self.record.note(WEIGHTS, to_json(joined_weights(self.members)))
        self.record.note(EPOCHS, to_csv([], tuple(self.members[0].text(EPOCHS).splitlines()[0].split(","))))
        if (audit := self.members[self.shared.base].optional(AUDIT)) is not None:
            self.record.note(AUDIT, to_json(audit))
        index, photos = self._read_photos()
        classifier, words = self._make_network(index, photos)
        self._note_plan()
        self._save_network(classifier, self.shared.contract, self.precision)
        self.progress.say(f"saved {self.path}; its scores follow")
        # only now: until then an error leaves no folder behind
        self.record.state["stages"] = self.members[self.shared.base].state["stages"]
        self.record.write_state()
        predict = partial(self._predict, index, photos, classifier)
        metrics = score_run(self.plan, index, predict, (), self.record, self.progress)
        metrics |= self._told(index, words)
        write_whole(self.path / METRICS, to_json(metrics))
        inputs = BaselineInputs(
            self.plan, index, self.shared.contract, self.precision, photos, (), (), None, self.progress
        )
        if self.config.evaluate.test and self.config.insights.gradcam_photos:
            metrics = write_gradcam(self.path, classifier, inputs, metrics)
        return metrics, inputs

    @cached_property
    def precision(self) -> str:
        """In which the network computes: the members', or float32 where they differ."""
        found = {str(member.state["precision"]) for member in self.members}
        return found.pop() if len(found) == 1 else "float32"

    def _make_network(self, index: PhotoIndex, photos: PixelStore) -> tuple[Classifier, list[str]]:
        """The network of all, and the sentences that say what it is."""
        from finetunekit.evaluation.predictor import load

        self.record.state |= {"precision": self.precision, "pixels": dataclasses.asdict(self.shared.contract)}
        loaded = [load(member.path, progress=self.progress, trust=self.trust) for member in self.members]
        networks = [
            one.model if member.state["precision"] == self.precision else one.build(self.precision)
            for one, member in zip(loaded, self.members, strict=True)
        ]
        first = f"An ensemble of {counted(len(self.members), 'run')}: {', '.join(m.path.name for m in self.members)}."
        why = may_share_weights(self.members)
        if why is not None:
            words = f"The members' probabilities are averaged: {why}."
        else:
            classifier, verdict = self._try_weights(loaded, networks, index, photos)
            words = verdict.words()
            if verdict.is_kept:
                self.record.state["ensemble"]["by"] = ENSEMBLE_WEIGHTS
                return classifier, [first, words]
        classifier = self._put_together(networks, index, photos)
        return classifier, [first, words, *([_OUT_OF_FOLD] if self.is_of_folds else [])]

    def _try_weights(
        self, loaded: Sequence[LoadedRun], networks: Sequence[Any], index: PhotoIndex, photos: PixelStore
    ) -> tuple[Classifier, WeightsVerdict]:
        from finetunekit.models.ensemble_network import mean_weights
        from finetunekit.models.layer_names import weights_by_name
        from finetunekit.runs.reopening import reopen_network

        base = loaded[self.shared.base].run
        classifier = self._build(reopen_network(base, self.progress, trust=self.trust))
        for weight, mean in zip(weights_by_name(classifier.logits).values(), mean_weights(networks), strict=True):
            weight.assign(mean)
        averaged, _ = self._ask(classifier, photos, VALID)
        labels = index.labels(VALID)
        return classifier, judge_weights(averaged, self._recorded(index), labels)

    def _put_together(self, networks: Sequence[Any], index: PhotoIndex, photos: PixelStore) -> Classifier:
        """Every member in one network; refused where it does not answer as they do."""
        from finetunekit.models.ensemble_network import fill_members
        from finetunekit.runs.reopening import reopen_network
        from finetunekit.system.resource_check import check_budget, network_budget

        self.record.write_state()
        check_budget(network_budget(sum(network.count_params() for network in networks)), self.path)
        planned = reopen_network(FinishedRun(self.path), self.progress, trust=self.trust)
        classifier = self._build(planned)
        fill_members(classifier.logits, networks)
        self._check_answers(classifier, index, photos)
        return classifier

    def _build(self, network: Any) -> Classifier:
        from finetunekit.models.classifier import build_classifier
        from finetunekit.system.environment import seeded

        with seeded(self.members[self.shared.base].state["seed"]):
            return build_classifier(network, len(self.members[0].classes), self.precision)

    def _check_answers(self, classifier: Classifier, index: PhotoIndex, photos: PixelStore) -> None:
        """Compare with what the members recorded, where each sees what it saw then; say how far it is where photos are resized inside."""
        split = TRAIN if self.is_of_folds else VALID
        labelled = index.split(split)
        flips = {member.config["evaluate"]["flip"] for member in self.members}
        now, _ = self._ask(classifier, photos, split)
        then = np.mean(
            [
                [known[p.sha256] for p in labelled]
                for member in self.members
                if (known := recorded(member, TRAIN, VALID, TEST))
            ],
            axis=0,
        )
        furthest = float(np.abs(now - then).max())
        sizes = [member.config["pixels"]["size_px"] for member in self.members]
        is_resized = any(crop != size for crop, size in zip(self.shared.crops_px, sizes, strict=True))
        if is_resized or len(flips) > 1:
            self.progress.say(
                f"note: members are given their pixels inside the network, from a square of {self.shared.size_px} px: the mean of their "
                f"answers differs from what they answered themselves by {furthest:.3f} at most"
            )
        elif furthest > _SAME_ANSWERS[self.precision]:
            raise RunError(
                f"{self.path.name}: the network of all answers otherwise than its members did (a probability differs by {furthest:.3f}). "
                "A layer may keep numbers where Keras does not see them."
            )

    def _note_plan(self) -> None:
        """`plan.json` says what was put together, so that comparisons name it."""
        together = self.record.state["ensemble"]
        names = [f"{Path(member['run']).name}" for member in together["members"]]
        self.record.note(PLAN, to_json({**self.plan.to_dict(), "ensemble": {"by": together["by"], "members": names}}))

    # ---- answers -----------------------------------------------------------------------------------------------------------------

    def _ask(self, classifier: Classifier, photos: PixelStore, split: str) -> Predicted:
        from finetunekit.engine.score import predict_split
        from finetunekit.models.feature_cache import EXTRACTION_BATCH
        from finetunekit.models.forward import answer_photos, make_answering

        forward = make_answering(classifier.logits, EXTRACTION_BATCH)
        return predict_split(
            self.plan,
            photos,
            lambda decoded, _: answer_photos(forward, decoded.pixels, self.shared.contract),
            self.progress,
            split,
        )

    def _predict(self, index: PhotoIndex, photos: PixelStore, classifier: Classifier, split: str) -> Predicted:
        if self.is_of_folds and split == VALID:
            return self._out_of_fold(index), None
        return self._ask(classifier, photos, split)

    def _out_of_fold(self, index: PhotoIndex) -> NDArray[np.float64]:
        """Of each photo, the mean answer of the members that were not trained on it, `(photos, classes)`.

        Source: Breiman 1996, "Out-of-bag estimation", technical report, University of California at Berkeley.
        """
        answers = [recorded(member, VALID, TEST) for member in self.members]
        trained = [{sha256 for _, sha256, _ in photos_of(member, TRAIN)} for member in self.members]
        return np.array(
            [
                np.mean([a[p.sha256] for a, t in zip(answers, trained, strict=True) if p.sha256 not in t], axis=0)
                for p in index.split(VALID)
            ]
        )

    def _recorded(self, index: PhotoIndex) -> list[NDArray[np.float64]]:
        """Each member's probabilities for validation photos, uncalibrated, `(photos, classes)`."""
        answers = [recorded(member, VALID) for member in self.members]
        return [np.array([known[photo.sha256] for photo in index.split(VALID)]) for known in answers]

    def _told(self, index: PhotoIndex, words: Sequence[str]) -> dict[str, Any]:
        """What `metrics.json` says beside the scores of any run."""
        from finetunekit.evaluation.scores import split_arrays
        from finetunekit.statistics import apply_temperature

        together = self.record.state["ensemble"]
        entries: list[Mapping[str, Any]] = together["members"]
        found: dict[str, Any] = {"by": together["by"], "is_out_of_fold": self.is_of_folds, "gain": None}
        if self.is_of_folds:
            found["members"] = [member_entry(entry, None) for entry in entries]
            return {"notes": [*words], "ensemble": found}
        own, labels = split_arrays(FinishedRun(self.path).predictions, index.classes, VALID)
        given = [
            apply_temperature(rows, m.temperature) for rows, m in zip(self._recorded(index), self.members, strict=True)
        ]
        best = best_of(given, labels)
        gain = change(given[best], own, labels)
        found |= {"gain": {"best": best + 1, **gain.to_json()}}
        losses = [change(rows, own, labels).before for rows in given]
        found["members"] = [member_entry(entry, loss) for entry, loss in zip(entries, losses, strict=True)]
        return {"notes": [*words, gain_words(self.members[best].path.name, gain)], "ensemble": found}

    # ---- the end -----------------------------------------------------------------------------------------------------------------

    def _stopped(self, exc: BaseException) -> None:
        """Half an ensemble is of no use: nothing of it was trained."""
        if self.record.state["status"] == "finished":
            super()._stopped(exc)
            return
        self.progress.close()
        self.record.forget()
        self.events.stopped("interrupted" if isinstance(exc, (KeyboardInterrupt, SystemExit)) else "failed")


def _keep_member(member: FinishedRun, folder: Path) -> None:
    """What a member was, its model apart: enough to build its network again, and to say what it was worth."""
    from finetunekit.plugins.files import KEPT

    folder.mkdir(parents=True)
    for name in (CONFIG, PLAN, STATE, WEIGHTS, METRICS):
        if (member.path / name).is_file():
            shutil.copyfile(member.path / name, folder / name)
    if (member.path / KEPT).is_dir():
        shutil.copytree(member.path / KEPT, folder / KEPT)
