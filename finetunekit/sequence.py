"""One run, step by step: the sequence and the hook calls, nothing else."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit import runs
from finetunekit.config import RunConfig
from finetunekit.environment import describe_environment, prepare_tensorflow, resolve_precision
from finetunekit.errors import FinetuneKitError, RunFolderError
from finetunekit.folders import cache_dir
from finetunekit.plan import Plan
from finetunekit.plugins import PluginHost
from finetunekit.progress import Progress
from finetunekit.reporting import write_reports
from finetunekit.sources import describe_photos, list_photos
from finetunekit.types import TEST, TRAIN, VALID
from finetunekit.yamls import dump_yaml

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetunekit.data.index import PhotoIndex
    from finetunekit.ledger import Openings
    from finetunekit.model import Classifier
    from finetunekit.stage_job import StageState
    from finetunekit.stages import Photos, Prepared, StageContext


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

    def __init__(self, plan: Plan, host: PluginHost, path: Path, progress: Progress, settings: Sequence[str]) -> None:
        self.plan, self.host, self.path, self.progress = plan, host, path, progress
        self.config: RunConfig = plan.config
        self.started = time.time()
        self.rows: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {
            "status": "running",
            "name": plan.config.name,
            "seed": plan.config.seed,
            "preset": plan.source,
            "settings": list(settings),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    # ---- the sequence ------------------------------------------------------------------------------------------------------------

    def execute(self) -> RunResult:
        """Run it; see `finetunekit.run`."""
        try:
            self._write_plan()
            self.host.notify("before_run", plan=self.plan, run_path=self.path)
            index = self._index_photos()
            context = self._build(index)
            prepared = self._train(context)
            self._save_model(context.classifier)
            metrics = self._evaluate(context, index, prepared)
            self._finish("finished")
            self._report()
            self.host.notify("after_run", metrics=metrics, run_path=self.path)
            return RunResult(self.path, metrics, self._summary(metrics))
        except BaseException as exc:
            self._stopped(exc)
            raise

    def _write_plan(self) -> None:
        plan = self.plan.to_dict()
        runs.write_whole(self.path / runs.CONFIG, dump_yaml(self.config.model_dump(mode="json", exclude_none=True)))
        runs.write_whole(self.path / runs.PLAN, runs.to_json(plan))
        self._write_state()

    def _index_photos(self) -> PhotoIndex:
        from finetunekit.data.facts import open_facts
        from finetunekit.data.index import build_index
        from finetunekit.data.manifest import MANIFEST_COLUMNS, manifest_rows

        listing = list_photos(self.plan, self.progress)
        if listing.stand_in:
            self.progress.say(f"NOTE {listing.stand_in}")
        self.progress.say(f"run {self.path}")
        for note in listing.notes:
            self.progress.say(f"note: {note}")
        index = build_index(
            listing,
            max_pixels=self.config.data.max_photo_pixels,
            progress=self.progress.counter("reading photos"),
            store=open_facts(cache_dir(), self.progress.say),
        )
        runs.write_whole(self.path / runs.PHOTOS, runs.to_csv(manifest_rows(index), MANIFEST_COLUMNS))
        self.state |= {
            "classes": list(index.classes),
            "stand_in": index.stand_in,
            "photo_root": str(index.root.resolve()),
        }
        self._write_state()
        self.progress.say(describe_photos(index))
        return index

    def _build(self, index: PhotoIndex) -> StageContext:
        from finetunekit.features import open_cache
        from finetunekit.model import build_classifier
        from finetunekit.pixels import contract_of
        from finetunekit.stages import StageContext, build_augmenter

        prepare_tensorflow(seed=self.config.seed, is_deterministic=self.config.deterministic)
        precision = resolve_precision(self.config.precision)
        runs.write_whole(self.path / runs.ENVIRONMENT, runs.to_json(describe_environment()))
        classifier = build_classifier(self.plan, len(index.classes), precision)
        self._load_weights(classifier)
        contract = contract_of(self.config.pixels, self.plan.spec)
        self.state |= {"precision": precision, "pixels": dataclasses.asdict(contract)}
        context = StageContext(
            plan=self.plan,
            classifier=classifier,
            contract=contract,
            precision=precision,
            augmenter=build_augmenter(self.plan),
            train=self._decode(index, TRAIN),
            valid=self._decode(index, VALID),
            num_classes=len(index.classes),
            cache=open_cache(self.progress.say),
            progress=self.progress,
        )
        return context

    def _load_weights(self, classifier: Classifier) -> None:
        weights = self.config.weights
        if weights.mode == "random":
            runs.write_whole(self.path / runs.WEIGHTS, runs.to_json({"kind": "random", "seed": self.config.seed}))
            self.progress.say("weights: random (weights.mode: random)")
            return
        from finetunekit.weights import fit_arrays, load_arrays, resolve_weights

        explicit = Path(weights.path).expanduser() if weights.path else None
        found = resolve_weights(self.plan.backbone.name, self.plan.spec, explicit=explicit, say=self.progress.say)
        origin = str(found.provenance.location)
        fit_arrays(classifier.backbone.model, load_arrays(found.path), origin=origin, top=self.plan.spec.top)
        runs.write_whole(self.path / runs.WEIGHTS, runs.to_json(found.provenance.to_json()))
        self.progress.say(f"weights: {self.plan.spec.title}, {found.provenance.licence} ({found.provenance.location})")

    def _decode(self, index: PhotoIndex, split: str) -> Photos:
        from finetunekit.data.decode import load_photos
        from finetunekit.stages import Photos

        photos = index.split(split)
        pixels = load_photos(
            [photo.path for photo in photos],
            size_px=self.config.pixels.size_px,
            resize=self.config.pixels.resize,
            fit=self.config.pixels.fit,
            max_pixels=self.config.data.max_photo_pixels,
            progress=self.progress.counter(f"decoding {split} photos"),
        )
        labels = index.labels(split)
        return Photos(pixels, labels, tuple(photo.sha256 for photo in photos))

    # ---- training ----------------------------------------------------------------------------------------------------------------

    def _train(self, context: StageContext) -> Prepared:
        from finetunekit.stage_job import EPOCH_COLUMNS
        from finetunekit.stages import prepare_stage

        runs.write_whole(self.path / runs.EPOCHS, runs.to_csv([], EPOCH_COLUMNS))
        for number, stage in enumerate(self.config.stages):
            prepared = prepare_stage(context, number)
            self._announce_stage(number, prepared, context.classifier)
            try:
                rows = self._run_stage(context, prepared, number)
            except BaseException:
                if self.rows:
                    self._save_model(context.classifier)
                raise
            self.host.notify("after_stage", stage=stage.name, rows=rows, run_path=self.path)
        return prepared

    def _run_stage(self, context: StageContext, prepared: Prepared, number: int) -> tuple[dict[str, Any], ...]:
        from finetunekit.stage_job import StageJob, Validation
        from finetunekit.train import run_stage

        config = self.config
        job = StageJob(
            stage=config.stages[number],
            model=prepared.model,
            rates=prepared.rates,
            feed=prepared.feed,
            validation=Validation(
                lambda: prepared.predict(context.valid, VALID),
                context.valid.labels,
                config.train.validation_draws,
                config.seed,
            ),
            first_epoch=sum(stage.epochs for stage in config.stages[:number]),
            total_epochs=sum(stage.epochs for stage in config.stages),
            keep=self._keep_row,
            progress=self.progress,
            name_photos=lambda indices: _name_photos(self.path, indices),
        )
        return run_stage(job)

    def _announce_stage(self, number: int, prepared: Prepared, classifier: Classifier) -> None:
        from finetunekit.freezing import claim_lines
        from finetunekit.layer_table import layer_table

        frozen = sum(1 for rate in prepared.decision.values() if rate == 0)
        stage = self.config.stages[number]
        self.progress.say(
            f"stage {number + 1} of {len(self.config.stages)}, {stage.name}: {stage.epochs} epochs, "
            f"{frozen} of {len(prepared.decision)} backbone layers frozen"
        )
        for line in claim_lines(prepared.claims, prepared.decision):
            self.progress.say(line)
        self.progress.say(prepared.mode)
        self.state.setdefault("stages", []).append(
            {
                "name": stage.name,
                "mode": prepared.mode,
                "decision": prepared.decision,
                "trained_variables": prepared.rates,
            }
        )
        self._write_state()
        plan = {**self.plan.to_dict(), "layers": layer_table(classifier, prepared.decision, prepared.claims)}
        runs.write_whole(self.path / runs.PLAN, runs.to_json(plan))

    def _keep_row(self, row: dict[str, Any], state: StageState) -> None:
        from finetunekit.stage_job import EPOCH_COLUMNS

        self.rows.append(row)
        line = runs.to_csv([row], EPOCH_COLUMNS).split("\n", 1)[1]
        runs.append_line(self.path / runs.EPOCHS, line)
        self.host.notify("after_epoch", row=row, run_path=self.path)

    # ---- evaluation and artefacts ------------------------------------------------------------------------------------------------

    def _evaluate(self, context: StageContext, index: PhotoIndex, prepared: Prepared) -> dict[str, Any]:
        """The test split is first decoded for the network here, after the last epoch."""
        from finetunekit.evaluate import predict_splits, prediction_columns
        from finetunekit.scoring import score_splits

        started = time.time()
        decoded = {TRAIN: context.train, VALID: context.valid}

        def predict(split: str) -> NDArray[np.float32]:
            self.progress.tick(f"evaluating {split} photos")
            return prepared.predict(decoded.get(split) or self._decode(index, split), split)

        rows = predict_splits(index, predict)
        openings = self._open_test_split(index)  # before test labels stand beside predictions on disk
        runs.write_whole(self.path / runs.PREDICTIONS, runs.to_csv(rows, prediction_columns(index.classes)))
        metrics = {
            "name": self.config.name,
            "seed": self.config.seed,
            "stand_in": index.stand_in,
            "classes": list(index.classes),
            "epochs": len(self.rows),
            "last_epoch": self.rows[-1],
            **score_splits(rows, index.classes, (TRAIN, VALID, TEST)),
            "openings": dataclasses.asdict(openings) if openings else None,
            "seconds": {
                "training": round(sum(row["seconds"] for row in self.rows), 1),
                "evaluation": round(time.time() - started, 1),
                "whole": round(time.time() - self.started, 1),
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

    def _report(self) -> None:
        write_reports(self.plan.reports, self.path, self.progress)

    def _summary(self, metrics: Mapping[str, Any]) -> tuple[str, ...]:
        from finetunekit.ledger import Openings
        from finetunekit.summary import summary_lines

        openings = Openings(**metrics["openings"]) if metrics["openings"] else None
        return summary_lines(metrics, openings, time.time() - self.started)

    def _open_test_split(self, index: PhotoIndex) -> Openings | None:
        """Note in the user's ledger that test labels are about to meet predictions; None where the ledger cannot be written."""
        from finetunekit.ledger import config_key, record_opening

        plan = self.plan.to_dict()
        photos = [index.content_key(TRAIN), index.content_key(VALID)]
        key = config_key(plan["config"], components=plan["components"], photo_keys=photos)
        self.state |= {"config_key": key, "test_content_key": index.content_key(TEST)}
        try:
            return record_opening(index.content_key(TEST), key, name=self.config.name, run_path=self.path)
        except RunFolderError as exc:
            self.progress.say(f"warning: this opening of the test split is not counted: {exc}")
            return None

    # ---- state -------------------------------------------------------------------------------------------------------------------

    def _write_state(self) -> None:
        runs.write_whole(self.path / runs.STATE, runs.to_json(self.state))

    def _finish(self, status: str) -> None:
        self.state |= {"status": status, "ended": datetime.now(UTC).isoformat(timespec="seconds")}
        self._write_state()

    def _stopped(self, exc: BaseException) -> None:
        status = "interrupted" if isinstance(exc, (KeyboardInterrupt, SystemExit)) else "failed"
        if self.state["status"] == "finished":
            status = "finished"  # only reports are missing; `finetunekit report` makes them
        self.state["error"] = " ".join(f"{type(exc).__name__}: {exc}".split())
        self.host.notify("on_run_error", error=exc, run_path=self.path)
        if "stages" not in self.state and isinstance(exc, (FinetuneKitError, KeyboardInterrupt)):
            shutil.rmtree(self.path, ignore_errors=True)  # nothing was trained: the error says all there is to know
            return
        try:
            self._finish(status)
        except FinetuneKitError as second:  # the first error is the one to show
            self.progress.say(f"warning: {second}")


def _name_photos(path: Path, indices: Sequence[int]) -> str:
    names = [row["path"] for row in runs.FinishedRun(path).photos if row["split"] == TRAIN]
    shown = [names[i] for i in indices[:4]]
    return ", ".join(shown) + (f" and {len(indices) - 4} more" if len(indices) > 4 else "")
