"""One run, step by step: the order of the steps and the events, nothing else."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.config.moved_inputs import MovedInputs
from finetunekit.config.plan import Plan, config_text
from finetunekit.data.listing import describe_photos, index_measured_listing, list_photos_changed, measure_listing
from finetunekit.engine.export import build_exporter, export_planned
from finetunekit.engine.result import RunResult, read_result
from finetunekit.engine.write_reports import write_reports
from finetunekit.errors import ExportError, FinetuneKitError, PrunedError
from finetunekit.plugins.guard import guarded, noting_calls
from finetunekit.plugins.host import PluginHost
from finetunekit.runs.checkpoint import remove_checkpoints
from finetunekit.runs.events import RunEvents
from finetunekit.runs.folder import (
    AUDIT,
    DECIDED,
    EXCLUDED,
    MODEL,
    MODEL_H5,
    MODEL_KERAS,
    PHOTOS,
    PRUNED,
    FinishedRun,
    note_seconds,
)
from finetunekit.runs.run_record import RunRecord
from finetunekit.system.beside import begin
from finetunekit.system.files import replacing, to_csv, to_json
from finetunekit.system.formatting import one_line
from finetunekit.system.progress import Progress
from finetunekit.types import SPLITS, TRAIN, VALID

if TYPE_CHECKING:
    from finetunekit.data.audit.findings import AuditReport
    from finetunekit.data.decoded_photos import Miniatures, PixelStore
    from finetunekit.data.index import PhotoIndex
    from finetunekit.data.known_photos import KnownPhotos, Measurements
    from finetunekit.data.listing import ChangedListing
    from finetunekit.evaluation.baselines.inputs import BaselineInputs
    from finetunekit.models.classifier import Classifier
    from finetunekit.training.devices import Together
    from finetunekit.training.stage_context import Prepared, StageContext
    from finetunekit.types import PhotoListing, PixelContract


class RunPipeline:
    """One run while it goes on; `run` reads top to bottom.

    Attributes:
        plan: What is run.
        backbones: Every one there is, by name.
        events: Where what happens is told.
        record: Of the run's folder, new or reopened.
        progress: Where progress is printed.
        is_forced: Go on with a run that another process left, although something changed.
        moved: Where what it reads lies here.
        together: Where several processes train its network.
    """

    def __init__(
        self,
        plan: Plan,
        host: PluginHost,
        record: RunRecord,
        progress: Progress,
        *,
        is_forced: bool = False,
        moved: MovedInputs | None = None,
        together: Together | None = None,
    ) -> None:
        self.plan, self.record, self.progress, self.is_forced = plan, record, progress, is_forced
        self.moved, self.together = moved or MovedInputs(Path.cwd()), together
        self.path, self.config = record.path, plan.config
        self.backbones = {
            name: entry.spec for name, entry in host.registries["backbone"].items() if entry.spec is not None
        }
        self.events = RunEvents(plan, host, record.path, progress.say)
        self.rows: Sequence[Mapping[str, Any]] = ()
        self.miniatures: Miniatures | None = None
        self._auditing: Future[AuditReport] | None = None

    # ---- the steps ---------------------------------------------------------------------------------------------------------------

    def finish_reports(self) -> RunResult:
        """What is left to do where an earlier process ended after the scores: maybe reports, maybe nothing."""
        metrics = FinishedRun(self.path).metrics
        # the time between the two processes is not counted
        self.record.started = time.time() - metrics["seconds"]["whole"]
        remove_checkpoints(self.path)
        with noting_calls(self.record.calling):
            return self._reported_at_last(metrics)

    def _reported_at_last(self, metrics: Mapping[str, Any]) -> RunResult:
        if not self.record.state.get("reported"):
            metrics = self._report(metrics)
            self.events.after_run(metrics)
        elif self.record.state.get("missing"):
            self._report(metrics)
        return read_result(self.path)

    def run(self) -> RunResult:
        """Run it; see `finetunekit.run`."""
        with noting_calls(self.record.calling):
            return self._run()

    def train_along(self) -> None:
        """Only help to train, where another process keeps the run; the record is one that is thrown away."""
        from finetunekit.engine.build import build_context
        from finetunekit.training.train_along import train_along

        index, photos = self._read_photos()
        self._hear_audit()
        context = build_context(self.moved.here(self.plan), index, photos, self.record, self.progress, self.together)
        assert context.devices is not None  # they are together
        train_along(context, context.devices)

    def _run(self) -> RunResult:
        from finetunekit.system.memory import free_models

        try:
            for chosen in self.plan.exports:  # a package that is missing is said before any work
                build_exporter(chosen)
            self.events.before_run()
            metrics = self._train_and_measure()
            self.record.finish("finished")
            free_models()  # reports read files only
            failed = export_planned(self.plan, self.path, self.progress)
            metrics = self._report(metrics)
            self.events.after_run(metrics)
            if failed:
                raise ExportError("\n".join([*failed, f"the run is finished: {self.path}"]))
            return read_result(self.path)
        except BaseException as exc:
            self._stopped(exc)
            raise

    def _train_and_measure(self) -> dict[str, Any]:
        """All that needs a network; content of `metrics.json`."""
        from finetunekit.evaluation.diagnostics import write_baselines
        from finetunekit.system.memory import free_models

        metrics, inputs = self._train_and_score()
        if not (self.config.evaluate.test and self.config.insights.baselines):
            return metrics
        free_models()  # the baselines look at the pretrained network, not at what training made of it
        return write_baselines(self.path, inputs, metrics, self.backbones)

    def _train_and_score(self) -> tuple[dict[str, Any], BaselineInputs]:
        """All that needs the trained network, to which nothing refers once this returns."""
        from finetunekit.engine.build import build_context, check_pixels
        from finetunekit.engine.score import predict_split, score_run
        from finetunekit.evaluation.diagnostics import baseline_inputs, write_gradcam
        from finetunekit.system.environment import loaded_beside
        from finetunekit.system.memory import free_models

        # processes that train together have to be told to TensorFlow before it wakes its devices
        index, photos = self._read_photos(beside=nullcontext if self.together else loaded_beside)
        context = build_context(self.moved.here(self.plan), index, photos, self.record, self.progress, self.together)
        if self.config.data.audit.gate == "error" or context.contract != self.plan.spec.pixels:
            self._hear_audit()  # before anything is computed for a run that may be refused, or said of its photos
        check_pixels(context, index, self.record)
        prepared = self._train(context)
        self._save_model(context)
        free_models()  # the graphs that were saved
        self.progress.say(f"saved {self.path / MODEL}; its scores, baselines and report follow")
        predict = partial(predict_split, self.plan, photos, prepared.answer, self.progress)
        metrics = score_run(self.plan, index, predict, self.rows, self.record, self.progress)
        inputs = baseline_inputs(context, index, photos, prepared)
        if self.config.evaluate.test and self.config.insights.gradcam_photos:
            metrics = write_gradcam(self.path, context.classifier, inputs, metrics)
        return metrics, inputs

    # ---- photos ------------------------------------------------------------------------------------------------------------------

    def _read_photos(
        self, beside: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> tuple[PhotoIndex, PixelStore]:
        """List, measure and index the photos, and begin to audit them; the pixels of those that are decoded for it are kept.

        Args:
            beside: What is done while they are measured.
        """
        from finetunekit.data.index import photo_order
        from finetunekit.data.known_photos import open_known_photos

        changed = list_photos_changed(self.moved.here(self.plan), self.progress)
        listing = changed.listing
        if listing.stand_in:
            self.progress.say(f"NOTE {listing.stand_in}")
        self.progress.say(f"run {self.path}")
        for note in listing.notes:
            self.progress.say(f"note: {note}")
        photos = self._pixel_store()
        photos.expect((record.path, record.split) for record in sorted(listing.photos, key=photo_order))
        with ExitStack() as stack:
            known = stack.enter_context(open_known_photos(self.progress.say))
            with beside():
                measured = measure_listing(self.plan, listing, known, self.progress, photos.put)
                index = self._index(listing, measured)
            self._note_photos(index, changed)
            if self.config.data.audit.gate != "off" and not (self.path / AUDIT).is_file():
                self._begin_audit(partial(self._audit, index, measured, known, stack.pop_all()))
        return index, photos.bind(index)

    def _index(self, listing: PhotoListing, measured: Measurements) -> PhotoIndex:
        return index_measured_listing(self.plan, listing, measured)

    def _pixel_store(self) -> PixelStore:
        from finetunekit.data.decoded_photos import Miniatures, PixelStore

        is_open, train = self.config.evaluate.test, self.config.train
        is_dealt_anew = train.fold is not None or train.leave_out is not None  # any photo may come to be trained on
        self.miniatures = Miniatures() if is_open and self.plan.reports else None
        splits = SPLITS if is_open or is_dealt_anew else (TRAIN, VALID)
        return PixelStore(self.config, self.progress, splits=splits, miniatures=self.miniatures)

    def _note_photos(self, index: PhotoIndex, changed: ChangedListing) -> None:
        from finetunekit.data.index import manifest_csv

        self.record.note(PHOTOS, manifest_csv(index))
        for name, made in ((EXCLUDED, changed.excluded), (DECIDED, changed.decided)):
            if made:
                rows = [dataclasses.asdict(photo) for photo in made]
                self.record.note(name, to_csv(rows, tuple(rows[0])))
        self.record.state |= {
            "classes": list(index.classes),
            "stand_in": index.stand_in,
            "photo_root": str(self.moved.as_asked(index.root.resolve())),
            "excluded": len(changed.excluded),
            "decided": len(changed.decided),
        }
        self.record.write_state()
        self.progress.say(describe_photos(index))

    def _begin_audit(self, audit: Callable[[], AuditReport]) -> None:
        """Look at the photos in a thread, before anything is trained on them; a resumed run need not, if it did so when it began."""
        self._auditing = begin(audit, name="audit")

    def _audit(self, index: PhotoIndex, measured: Measurements, known: KnownPhotos, held: ExitStack) -> AuditReport:
        from finetunekit.data.audit.gate import audit_index
        from finetunekit.system.memory import return_memory

        with held:
            report = audit_index(index, measured, known, self.config, Progress(is_quiet=True))
        return_memory()  # outlines of photos took as much as their pixels
        return report

    def _hear_audit(self) -> None:
        """Wait for what the audit found, say it once, and stop at errors."""
        from finetunekit.data.audit.gate import check_gate

        if self._auditing is None:
            return
        self.progress.show("waiting for the audit of the photos")
        report, self._auditing = self._auditing.result(), None
        self.record.note(AUDIT, to_json(report.to_dict(most=200)))
        check_gate(report, self.plan.source, self.progress)

    # ---- training ----------------------------------------------------------------------------------------------------------------

    def _train(self, context: StageContext) -> Prepared:
        from finetunekit.runs.trials import read_trial
        from finetunekit.training.run_log import RunLog
        from finetunekit.training.stages import Training

        self.record.check_unchanged(config_text(self.plan), self.progress, is_forced=self.is_forced)
        trial = read_trial(self.path, epochs=self.plan.epochs_before(len(self.plan.stages)), say=self.progress.say)
        log = RunLog(self.path, self.events, context.classifier, self.record.checkpoint, trial)
        try:
            return Training(context, self.events, self.record, log, self._hear_audit).run()
        except PrunedError:
            raise
        except BaseException:
            if log.rows:
                self._save_what_there_is(context)
            raise
        finally:
            self.rows = log.rows

    def _save_what_there_is(self, context: StageContext) -> None:
        """After an error, which is the one to show."""
        try:
            self._save_model(context)
        except FinetuneKitError as second:
            self.progress.say(f"warning: {second}")

    # ---- evaluation and artefacts ------------------------------------------------------------------------------------------------

    def _save_model(self, context: StageContext) -> None:
        self._save_network(context.classifier, context.contract, context.precision)

    def _save_network(self, network: Classifier, contract: PixelContract, precision: str) -> None:
        """The network as finetunekit loads it; then for others, as Keras can write it."""
        from finetunekit.models.classifier import save_h5
        from finetunekit.models.saved_network import save_network

        save_network(self.path / MODEL, network.logits, contract, precision)
        self._save_for_others(MODEL_KERAS, network.probabilities.save)
        if self.config.save.h5:
            self._save_for_others(MODEL_H5, partial(save_h5, network.probabilities))

    def _save_for_others(self, name: str, save: Callable[[Path], None]) -> None:
        """A file that the run itself does without: a layer that cannot describe itself is no reason to lose the run."""
        try:
            with replacing(self.path / name) as place, guarded(name):
                save(place)
        except FinetuneKitError:
            raise
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - a layer of a plugin may raise anything
            self.progress.say(
                f"note: no {name}: Keras cannot write this network ({type(exc).__name__}: {one_line(exc)}). finetunekit loads {MODEL}."
            )

    def _report(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        _, missing = write_reports(
            self.plan.reports if self.config.evaluate.test else (),  # they show test scores
            self.path,
            self.progress,
            self.config.save.report_timeout_s,
            miniatures=self.miniatures,
            plugin_files=self.plan.plugin_files,
        )
        self.record.state["missing"] = [dataclasses.asdict(report) for report in missing]
        now_s = {"report_s": time.perf_counter() - started, "whole": time.time() - self.record.started}
        metrics = note_seconds(self.path, metrics, now_s)
        self.record.state["reported"] = True
        self.record.write_state()
        return metrics

    # ---- the end -----------------------------------------------------------------------------------------------------------------

    def _stopped(self, exc: BaseException) -> None:
        self.progress.close()
        status = "interrupted" if isinstance(exc, (KeyboardInterrupt, SystemExit)) else "failed"
        status = PRUNED if isinstance(exc, PrunedError) else status
        is_finished = (
            self.record.state["status"] == "finished"
        )  # only reports are missing; `finetunekit report` makes them
        self.record.state["error"] = " ".join(f"{type(exc).__name__}: {exc}".split())
        if isinstance(exc, KeyboardInterrupt):
            exc.add_note(f"resume with: finetunekit resume {shlex.quote(str(self.path))}")
        if self.record.pending is not None:
            return  # refused: the folder stays as it was left
        if not self.record.is_resumed and "stages" not in self.record.state and isinstance(exc, FinetuneKitError):
            self.record.forget()  # nothing was trained: the error says all there is to know
            return
        try:
            self.record.finish("finished" if is_finished else status)
        except FinetuneKitError as second:  # the first error is the one to show
            self.progress.say(f"warning: {second}")
        self.events.stopped(status)
