"""One run, step by step: the sequence and the hook calls, nothing else."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit import runs
from finetunekit.checkpoint import remove_checkpoints
from finetunekit.config import RunConfig
from finetunekit.environment import describe_environment, prepare_tensorflow, resolve_precision
from finetunekit.errors import FinetuneKitError, RunFolderError
from finetunekit.plan import Plan
from finetunekit.plugins import PluginHost
from finetunekit.progress import Progress
from finetunekit.reporting import note_seconds, write_reports
from finetunekit.sources import describe_photos, index_listing, list_and_leave_out
from finetunekit.types import SPLITS, TEST, TRAIN, VALID
from finetunekit.yamls import dump_yaml

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetunekit.data.index import PhotoIndex
    from finetunekit.ledger import Openings
    from finetunekit.model import Classifier
    from finetunekit.resume import Earlier
    from finetunekit.stage_context import Photos, Prepared, StageContext


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run.

    Attributes:
        path: The run folder.
        metrics: Content of `metrics.json`.
        summary: Sentences for the user, at most 80 columns a line.
    """

    path: Path
    metrics: Mapping[str, Any]
    summary: tuple[str, ...]

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        from finetunekit.notebook import result_html

        return result_html(self)


class RunSequence:
    """The state of one run while it goes on; `execute` reads top to bottom."""

    def __init__(
        self,
        plan: Plan,
        host: PluginHost,
        path: Path,
        progress: Progress,
        state: Mapping[str, Any],
        earlier: Earlier | None = None,
    ) -> None:
        self.plan, self.host, self.path, self.progress = plan, host, path, progress
        self.config: RunConfig = plan.config
        self.earlier = earlier
        self.started = time.time()
        self.rows: Sequence[Mapping[str, Any]] = ()
        self.state: dict[str, Any] = dict(state)
        # what the folder of a resumed run would get, until it is known that the run may go on
        self._unsettled = {runs.PLAN: runs.to_json(plan.to_dict())} if earlier else None

    # ---- the sequence ------------------------------------------------------------------------------------------------------------

    def finish_reports(self) -> RunResult:
        """What is left to do where an earlier process ended after the scores: maybe reports, maybe nothing."""
        self._unsettled = None
        metrics = runs.FinishedRun(self.path).metrics
        self.started = time.time() - metrics["seconds"]["whole"]  # the time between the two processes is not counted
        remove_checkpoints(self.path)
        if not self.state.get("reported"):
            metrics = self._report(metrics)
            self.host.notify("after_run", metrics=metrics, run_path=self.path)
        return RunResult(self.path, metrics, self._summary(metrics))

    def execute(self) -> RunResult:
        """Run it; see `finetunekit.run`."""
        from finetunekit.insights import write_insights

        try:
            self.host.notify("before_run", plan=self.plan, run_path=self.path)
            index = self._index_photos()
            context = self._build(index)
            self._check_pixels(context, index)
            prepared = self._train(context)
            self._save_model(context.classifier)
            metrics = self._evaluate(context, index, prepared)
            if self.config.evaluate.test:
                metrics = write_insights(self.path, context, index, prepared, metrics, self._decode)
            self._finish("finished")
            metrics = self._report(metrics)
            self.host.notify("after_run", metrics=metrics, run_path=self.path)
            return RunResult(self.path, metrics, self._summary(metrics))
        except BaseException as exc:
            self._stopped(exc)
            raise

    # ---- what the folder gets ----------------------------------------------------------------------------------------------------

    def _note(self, name: str, content: str) -> None:
        """Write a file of the run folder; while it is not known whether an earlier run may go on, only keep it in mind."""
        if self._unsettled is None:
            runs.write_whole(self.path / name, content)
        else:
            self._unsettled[name] = content

    def _settle(self, earlier: Earlier, noted: Mapping[str, str]) -> None:
        """Refuse to go on with what has changed since an earlier process left the run; else write what is known by now."""
        from finetunekit.resume import changes_since, refuse_changes

        changes = changes_since(self.path, noted)
        if not earlier.is_forced:
            refuse_changes(self.path, changes)
        for change in changes:
            self.progress.say(f"warning: changed since, and gone on with all the same: {change}")
        self.state["forced"] = [*self.state.get("forced", []), *changes]
        self._unsettled = None
        for name, content in {**noted, runs.CONFIG: config_text(self.plan)}.items():
            runs.write_whole(self.path / name, content)
        self._write_state()

    def _index_photos(self) -> PhotoIndex:
        from finetunekit.data.manifest import MANIFEST_COLUMNS, manifest_rows

        listing, excluded = list_and_leave_out(self.plan, self.progress)
        if listing.stand_in:
            self.progress.say(f"NOTE {listing.stand_in}")
        self.progress.say(f"run {self.path}")
        for note in listing.notes:
            self.progress.say(f"note: {note}")
        index = index_listing(self.plan, listing, self.progress)
        self._note(runs.PHOTOS, runs.to_csv(manifest_rows(index), MANIFEST_COLUMNS))
        if excluded:
            rows = [dataclasses.asdict(photo) for photo in excluded]
            self._note(runs.EXCLUDED, runs.to_csv(rows, tuple(rows[0])))
        self.state |= {
            "classes": list(index.classes),
            "stand_in": index.stand_in,
            "photo_root": str(index.root.resolve()),
            "excluded": len(excluded),
        }
        self._write_state()
        self.progress.say(describe_photos(index))
        if not (self.path / runs.AUDIT).is_file():
            self._audit(index)
        return index

    def _audit(self, index: PhotoIndex) -> None:
        """Look at the photos before anything is trained on them; a resumed run need not, if it did so when it began."""
        if self.config.data.audit.gate == "off":
            return
        from finetunekit.audit.gate import audit_index, check_gate

        report = audit_index(index, self.config, self.progress)
        self._note(runs.AUDIT, runs.to_json(report.to_dict(most=200)))
        check_gate(report, self.plan.source, self.progress)

    def _build(self, index: PhotoIndex) -> StageContext:
        from finetunekit.budget import check_budget, network_budget
        from finetunekit.features import open_cache
        from finetunekit.model import build_classifier
        from finetunekit.pixels import contract_of
        from finetunekit.replay import reproducibility
        from finetunekit.stage_context import StageContext
        from finetunekit.stages import build_augmenter

        prepare_tensorflow(seed=self.config.seed, is_deterministic=self.config.deterministic)
        precision = resolve_precision(self.config.precision)
        self._note(runs.ENVIRONMENT, runs.to_json(describe_environment()))
        classifier = build_classifier(self.plan, len(index.classes), precision)
        check_budget(network_budget(classifier.logits.count_params()), self.path)
        self._load_weights(classifier)
        contract = contract_of(self.config.pixels, self.plan.spec)
        augmenter = build_augmenter(self.plan)
        is_keyed = augmenter is None or augmenter.is_deterministic
        level, why = reproducibility(is_deterministic=self.config.deterministic, is_keyed=is_keyed)
        self.state |= {
            "precision": precision,
            "pixels": dataclasses.asdict(contract),
            "reproducibility": {"level": level, "why": why},
        }
        context = StageContext(
            plan=self.plan,
            classifier=classifier,
            contract=contract,
            precision=precision,
            augmenter=augmenter,
            train=self._decode(index, TRAIN),
            valid=self._decode(index, VALID),
            num_classes=len(index.classes),
            cache=open_cache(self.progress.say),
            progress=self.progress,
        )
        self._say_what_is_impure(context)
        return context

    def _say_what_is_impure(self, context: StageContext) -> None:
        """Before anything is computed, since what the options of such an augmentation are worth shows when it is traced."""
        from finetunekit.model import impurity_notes

        notes = impurity_notes(self.plan)
        for note in notes:
            self.progress.say(f"note: {note}")
        if notes and context.augmenter:
            size_px = self.config.pixels.size_px
            context.augmenter.trace(size_px, size_px, context.num_classes)

    def _load_weights(self, classifier: Classifier) -> None:
        weights = self.config.weights
        if weights.mode == "random":
            self._note(runs.WEIGHTS, runs.to_json({"kind": "random", "seed": self.config.seed}))
            self.progress.say("weights: random (weights.mode: random)")
            return
        from finetunekit.weights import fit_arrays, load_arrays, resolve_weights

        explicit = Path(weights.path).expanduser() if weights.path else None
        found = resolve_weights(self.plan.backbone.name, self.plan.spec, explicit=explicit, say=self.progress.say)
        origin = str(found.provenance.location)
        fit_arrays(classifier.backbone.model, load_arrays(found.path), origin=origin, top=self.plan.spec.top)
        self._note(runs.WEIGHTS, runs.to_json(found.provenance.to_json()))
        self.progress.say(f"weights: {self.plan.spec.title}, {found.provenance.licence} ({found.provenance.location})")

    def _decode(self, index: PhotoIndex, split: str) -> Photos:
        from finetunekit.data.decode import load_photos
        from finetunekit.stage_context import Photos

        photos = index.split(split)
        pixels = load_photos(
            [photo.path for photo in photos],
            size_px=self.config.pixels.size_px,
            resize=self.config.pixels.resize,
            fit=self.config.pixels.fit,
            source_px=self.config.pixels.source_px,
            max_pixels=self.config.data.max_photo_pixels,
            progress=self.progress.counter(f"decoding {split} photos"),
            say=self.progress.say,
        )
        labels = index.labels(split)
        groups = tuple(photo.group or photo.sha256 for photo in photos)
        return Photos(pixels, labels, tuple(photo.sha256 for photo in photos), groups)

    def _check_pixels(self, context: StageContext, index: PhotoIndex) -> None:
        """Say, and measure, what it costs to feed the backbone other pixels than it was pretrained on."""
        from finetunekit.pixels import contract_warning
        from finetunekit.probe.contract import contract_lines, measure_contract

        warning = contract_warning(self.config.pixels, self.plan.spec)
        if warning is None:
            return
        self.progress.say(f"warning: {warning}")
        if self.state.get("pixel_check") is None:
            self.state["pixel_check"] = measure_contract(context, index)
        if self.state["pixel_check"]:
            for line in contract_lines(self.state["pixel_check"], self.plan.spec.title):
                self.progress.say(line)

    # ---- training ----------------------------------------------------------------------------------------------------------------

    def _train(self, context: StageContext) -> Prepared:
        from finetunekit.training import Training

        if self.earlier is not None and self._unsettled is not None:
            self._settle(self.earlier, self._unsettled)
        checkpoint = self.earlier.checkpoint if self.earlier else None
        training = Training(context, self.host, self.path, self.state, self._write_state, checkpoint)
        try:
            return training.run()
        except BaseException:
            if training.rows:
                self._save_what_there_is(context.classifier)
            raise
        finally:
            self.rows = training.rows

    def _save_what_there_is(self, classifier: Classifier) -> None:
        """After an error, which is the one to show."""
        try:
            self._save_model(classifier)
        except FinetuneKitError as second:
            self.progress.say(f"warning: {second}")

    # ---- evaluation and artefacts ------------------------------------------------------------------------------------------------

    def _evaluate(self, context: StageContext, index: PhotoIndex, prepared: Prepared) -> dict[str, Any]:
        """The test split is first decoded for the network here, after the last epoch; not at all with `evaluate.test: false`."""
        from finetunekit.evaluate import mean_over_flip, predict_splits, prediction_columns
        from finetunekit.revert import kept_rows, revert_notes
        from finetunekit.scoring import score_splits

        started = time.time()
        decoded = {TRAIN: context.train, VALID: context.valid}

        def predict(split: str) -> NDArray[np.float64]:
            self.progress.tick(f"evaluating {split} photos")
            photos = decoded.get(split) or self._decode(index, split)
            return mean_over_flip(
                lambda pixels: prepared.predict(photos.with_pixels(pixels), split),
                photos.pixels,
                is_flipped=self.config.evaluate.flip,
            )

        is_open = self.config.evaluate.test
        scored = (TRAIN, VALID, TEST) if is_open else (TRAIN, VALID)
        rows = predict_splits(index, predict, SPLITS if is_open else scored)
        key = self._note_keys(index)
        openings = self._open_test_split(index, key) if is_open else None  # before test labels meet predictions on disk
        runs.write_whole(self.path / runs.PREDICTIONS, runs.to_csv(rows, prediction_columns(index.classes)))
        metrics = {
            "name": self.config.name,
            "seed": self.config.seed,
            "stand_in": index.stand_in,
            "classes": list(index.classes),
            "test_time_flip": self.config.evaluate.flip,
            "epochs": len(self.rows),
            "last_epoch": (kept_rows(self.rows, self.state["stages"]) or self.rows)[-1],
            "pixel_check": self.state.get("pixel_check"),
            "notes": revert_notes(self.state["stages"]),
            **score_splits(rows, index.classes, scored),
            "openings": dataclasses.asdict(openings) if openings else None,
            "seconds": {
                "training": round(sum(row["seconds"] for row in self.rows), 1),
                "evaluation": round(time.time() - started, 1),
                "whole": round(time.time() - self.started, 1),  # so far; complete once there are reports
                **({"legs_left_out": len(self.state["resumed"])} if self.earlier else {}),
            },
        }
        runs.write_whole(self.path / runs.METRICS, runs.to_json(metrics))
        return metrics

    def _save_model(self, classifier: Classifier) -> None:
        from finetunekit.model import save_h5

        with runs.replacing(self.path / runs.MODEL) as partial:
            classifier.probabilities.save(partial)
        if self.config.save.h5:
            with runs.replacing(self.path / runs.MODEL_H5) as partial:
                save_h5(classifier.probabilities, partial)

    def _report(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        reports = self.plan.reports if self.config.evaluate.test else ()  # they show test scores
        _, missing = write_reports(reports, self.path, self.progress, self.config.save.report_timeout_s)
        self.state["missing"] = [dataclasses.asdict(report) for report in missing]
        now_s = {"report_s": time.perf_counter() - started, "whole": time.time() - self.started}
        metrics = note_seconds(self.path, metrics, now_s)
        self.state["reported"] = True
        self._write_state()
        return metrics

    def _summary(self, metrics: Mapping[str, Any]) -> tuple[str, ...]:
        from finetunekit.ledger import Openings
        from finetunekit.summary import summary_lines

        openings = Openings(**metrics["openings"]) if metrics["openings"] else None
        ladder = runs.FinishedRun(self.path).optional(runs.LADDER)
        return summary_lines(metrics, openings, metrics["seconds"]["whole"], ladder=ladder)

    def _note_keys(self, index: PhotoIndex) -> str:
        """Note what the ledger calls this test split and this configuration; returns the latter."""
        from finetunekit.ledger import config_key

        plan = self.plan.to_dict()
        photos = [index.content_key(TRAIN), index.content_key(VALID)]
        key = config_key(plan["config"], components=plan["components"], photo_keys=photos)
        self.state |= {"config_key": key, "test_content_key": index.content_key(TEST)}
        return key

    def _open_test_split(self, index: PhotoIndex, key: str) -> Openings | None:
        """Note in the user's ledger that test labels are about to meet predictions; None where the ledger cannot be written."""
        from finetunekit.ledger import record_opening

        try:
            return record_opening(index.content_key(TEST), key, name=self.config.name, run_path=self.path)
        except RunFolderError as exc:
            self.progress.say(f"warning: this opening of the test split is not counted: {exc}")
            return None

    # ---- state -------------------------------------------------------------------------------------------------------------------

    def _write_state(self) -> None:
        if self._unsettled is not None:
            return
        runs.write_whole(self.path / runs.STATE, runs.to_json(self.state))

    def _finish(self, status: str) -> None:
        self.state |= {"status": status, "ended": datetime.now(UTC).isoformat(timespec="seconds")}
        self._write_state()
        if status == "finished":
            remove_checkpoints(self.path)

    def _stopped(self, exc: BaseException) -> None:
        self.progress.close()
        status = "interrupted" if isinstance(exc, (KeyboardInterrupt, SystemExit)) else "failed"
        if self.state["status"] == "finished":
            status = "finished"  # only reports are missing; `finetunekit report` makes them
        self.state["error"] = " ".join(f"{type(exc).__name__}: {exc}".split())
        if isinstance(exc, KeyboardInterrupt):
            exc.add_note(f"go on with: finetunekit resume {shlex.quote(str(self.path))}")
        self.host.notify("on_run_error", error=exc, run_path=self.path)
        if self._unsettled is not None:
            return  # refused: the folder stays as it was left
        if self.earlier is None and "stages" not in self.state and isinstance(exc, FinetuneKitError):
            shutil.rmtree(self.path, ignore_errors=True)  # nothing was trained: the error says all there is to know
            return
        try:
            self._finish(status)
        except FinetuneKitError as second:  # the first error is the one to show
            self.progress.say(f"warning: {second}")


def config_text(plan: Plan) -> str:
    """What `config.yaml` of a run holds."""
    return dump_yaml(plan.config.model_dump(mode="json", exclude_none=True))


def initial_files(plan: Plan, settings: Sequence[str]) -> dict[str, str]:
    """What a run folder holds from its first moment on: enough to begin again wherever the run is killed."""
    state = {
        "status": "running",
        "name": plan.config.name,
        "seed": plan.config.seed,
        "preset": plan.source,
        "settings": list(settings),
        "folder": str(Path.cwd()),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return {
        runs.CONFIG: config_text(plan),
        runs.PLAN: runs.to_json(plan.to_dict()),
        runs.STATE: runs.to_json(state),
    }
