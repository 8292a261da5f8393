"""What answers for photos: a loaded network, and the columns that it fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.moved_inputs import MovedInputs
from finetunekit.config.pixel_contract import contract_of, fitting_of, pixel_parts
from finetunekit.config.plan import Plan
from finetunekit.errors import RunError
from finetunekit.evaluation.shards.jobs import FeaturesJob, Job, PredictionsJob
from finetunekit.system.progress import Progress

Columns = Mapping[str, Any]
"""Column → one value a photo: a list, or an array `(photos,)` or `(photos, channels)`."""


class Worker(Protocol):
    """A network that is loaded once and answers for shard after shard."""

    @property
    def fitting(self) -> dict[str, Any]:
        """How a photo becomes the network's square, see `finetunekit.config.pixel_contract.fitting_of`."""
        ...

    @property
    def max_pixels(self) -> int:
        """A photo whose header claims more is refused."""
        ...

    @property
    def signature(self) -> Mapping[str, Any]:
        """What is known of the network once it is loaded, for the manifest."""
        ...

    @property
    def is_labelled(self) -> bool:
        """Whether label, split and group of a photo are columns as well."""
        ...

    def schema(self) -> list[tuple[str, Any]]:
        """Its columns, as name and `pyarrow.DataType`."""
        ...

    def answer(self, paths: Sequence[Path], squares: Sequence[NDArray[np.uint8]]) -> Columns:
        """Rows of photos. Called from several threads.

        Args:
            paths: What they are called.
            squares: Of each, `(size, size, 3)` uint8 RGB, at least one.
        """
        ...


def open_worker(job: Job, progress: Progress, moved: MovedInputs | None = None) -> Worker:
    """Load the network of a job.

    Args:
        job: What is asked of each photo.
        progress: Receives warnings.
        moved: Where weights and runs lie here; None: where their paths say.

    Raises:
        FinetuneKitError: If it cannot be built or its weights cannot be had.
    """
    if isinstance(job, FeaturesJob):
        plan = job.plan(progress)
        return _Featurer(job, plan if moved is None else moved.here(plan), progress)
    return _Predictor(job, job.run if moved is None else moved.place(job.run), progress)


class _Featurer:
    is_labelled = True

    def __init__(self, job: FeaturesJob, plan: Plan, progress: Progress) -> None:
        from finetunekit.evaluation.probe_features import load_backbone, pool_backbone
        from finetunekit.models.feature_cache import Extractor, prefix_signature

        backbone, precision = load_backbone(plan, progress)
        pooled = pool_backbone(backbone, precision)
        self._contract = contract_of(plan.config.pixels, plan.spec)
        self._extract, self._dtype = Extractor(pooled), np.dtype(job.dtype)
        self._extract.prepare()
        self.fitting, self.max_pixels = fitting_of(plan.config.pixels), plan.config.data.max_photo_pixels
        parts = pixel_parts(plan.config.pixels, self._contract)
        outputs, digest, *_ = prefix_signature(pooled, parts, precision)
        self._channels = int(pooled.prefix.output_shape[-1])
        self.signature: Mapping[str, Any] = {
            "channels": self._channels,
            "network_sha256": digest,
            "outputs": outputs,
            "pixels": parts,
            "computed_in": precision,
            "weights_bytes": 4 * int(pooled.prefix.count_params()),
        }

    def schema(self) -> list[tuple[str, Any]]:
        import pyarrow as pa

        return [("features", pa.list_(pa.from_numpy_dtype(self._dtype), self._channels))]

    def answer(self, paths: Sequence[Path], squares: Sequence[NDArray[np.uint8]]) -> Columns:
        from finetunekit.models.forward import input_batches
        from finetunekit.training.batches import prefetched

        with closing(prefetched(input_batches(squares, self._contract))) as ready:
            features = np.concatenate([arrays[0] for arrays in self._extract(ready)]).astype(np.float32)
        with np.errstate(over="ignore"):
            kept = features.astype(self._dtype)
        if self._dtype == np.float16 and np.isfinite(features).all() and not np.isfinite(kept).all():
            raise RunError(f"features up to {np.abs(features).max():.0f} do not fit float16. Use --dtype float32.")
        return {"features": kept}


class _Predictor:
    is_labelled = False

    def __init__(self, job: PredictionsJob, run: str, progress: Progress) -> None:
        from finetunekit.evaluation.predictor import load

        self._run, self._job = load(run, progress=progress, trust=job.trust), job
        self._sets = None if job.coverage is None else self._run.sets(job.coverage, is_per_class=job.is_per_class)
        config = self._run.run.config
        self.fitting, self.max_pixels = fitting_of(config["pixels"]), int(config["data"]["max_photo_pixels"])
        self.signature: Mapping[str, Any] = {"computed_in": self._run.run.state["precision"]}

    def schema(self) -> list[tuple[str, Any]]:
        import pyarrow as pa

        text, number, truth = pa.string(), pa.float64(), pa.bool_()
        return [
            ("predicted", text),
            ("probability", number),
            ("temperature", number),
            ("unlike_p", number),
            ("is_unlike", truth),
            *((f"p_{name}", number) for name in self._run.classes),
            *((f"in_set_{name}", truth) for name in (self._run.classes if self._sets else ())),
        ]

    def answer(self, paths: Sequence[Path], squares: Sequence[NDArray[np.uint8]]) -> Columns:
        from finetunekit.evaluation.predictor import withheld

        run, job = self._run, self._job
        uncalibrated, traits = run.ask(np.stack(squares))
        rows = list(
            withheld(
                run.predictions(paths, uncalibrated, run.unlike(traits, len(paths)), self._sets),
                below=job.abstain_below,
                unlike=job.abstain_unlike,
            )
        )
        kept = [set(row.class_set or ()) for row in rows]
        return {
            "predicted": [row.label for row in rows],
            "probability": [row.probability for row in rows],
            "temperature": [row.temperature for row in rows],
            "unlike_p": [row.unlike_p for row in rows],
            "is_unlike": [row.is_unlike for row in rows],
            **{f"p_{name}": [row.probabilities[name] for row in rows] for name in run.classes},
            **({f"in_set_{name}": [name in one for one in kept] for name in run.classes} if self._sets else {}),
        }
