"""A plugin that answers every hook with something very small: 8-pixel photos, a backbone of one convolution, one linear head."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from finetunekit import (
    Augmentation,
    Backbone,
    BackboneSpec,
    Executor,
    Exported,
    Exporter,
    Features,
    FinishedRun,
    FreezeDecision,
    Job,
    LayerInfo,
    Options,
    Outcome,
    PhotoListing,
    PhotoRecord,
    PixelContract,
    PluginError,
    Predict,
    Servable,
    SourceContext,
    TrackedEnd,
    TrackedRun,
    Tracker,
    draw_uniform,
    hookimpl,
    save_graph,
)
from finetunekit.hookspecs import Register, RegisterBackbone, RegisterPreset

if TYPE_CHECKING:
    import keras

    from finetunekit.config.plan import Plan

HEARD = "heard.jsonl"
SPEC = BackboneSpec(
    title="One convolution",
    pixels=PixelContract(scale=1 / 255),
    native_size_px=8,
    min_size_px=8,
    parameters=112,
    licence="Apache-2.0",
    attribution="",
    pretrained_on="nothing",
    published="none",
    reference="this file",
)


class ConvolutionOptions(Options):
    """Options of `one_convolution`."""

    filters: int = Field(4, ge=1, description="Filters of the convolution.")


def build_one_convolution(options: ConvolutionOptions, image_size_px: int) -> Backbone:
    """`(batch, size, size, 3)` → `(batch, size, size, filters)`."""
    import keras

    pixels = keras.Input((image_size_px, image_size_px, 3), name="pixels")
    maps = keras.layers.Conv2D(options.filters, 3, padding="same", activation="relu", name="conv")(pixels)
    return Backbone(keras.Model(pixels, maps), "map", {"only": ("conv",)})


class LinearOptions(Options):
    """Options of `linear_here`."""

    scale: float = Field(1.0, gt=0, description="Factor of the logits; a huge one makes training diverge.")


def build_linear(options: LinearOptions, features: Features, num_classes: int) -> keras.KerasTensor:
    """Mean over the map, one Dense."""
    import keras

    if features.kind != "map":
        raise PluginError(f"head 'linear_here' pools a map. Received: {features.kind}")
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(features.tensor)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="linear")(pooled)
    return keras.layers.Rescaling(options.scale, dtype="float32", name="logits")(logits)


def build_half_rate(options: Options, layers: tuple[LayerInfo, ...]) -> FreezeDecision:
    """Everything at half the stage's rate."""
    return {layer.path: 0.5 for layer in layers}


def build_darken(options: Options) -> tuple[Augmentation, ...]:
    """Each photo darkened by up to a fifth."""

    def apply(images: Any, labels: Any, keys: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        factor = 1.0 - 0.2 * tf.cast(draw_uniform(keys, 1), tf.float32)  # (batch, 1)
        return images * factor[:, None, None, :], labels

    return (Augmentation(apply=apply),)


def build_flat_folder(options: Options, context: SourceContext) -> PhotoListing:
    """`<split>-<class>-<number>.png` in one folder."""
    root = context.root or Path()
    records = [
        PhotoRecord(path, path.name.split("-")[1], path.name.split("-")[0]) for path in sorted(root.glob("*.png"))
    ]
    return PhotoListing(tuple(records), root, notes=(f"{len(records)} photos in one folder",))


def build_accuracy_text(options: Options, run: FinishedRun) -> Mapping[str, bytes]:
    """One line, of numbers that are in the metrics."""
    accuracy = run.metrics["test"]["accuracy"]
    return {"accuracy.txt": f"{accuracy['successes']}/{accuracy['photos']}".encode()}


class LinesOptions(Options):
    """Options of `lines`."""

    file: str = Field("tracked.jsonl", description="Relative to the working directory.")


class Lines:
    """Every call as a line."""

    def __init__(self, options: LinesOptions) -> None:
        self.path = Path(options.file).resolve()

    def start(self, run: TrackedRun) -> str:
        return self._add(
            run.run_id or "one", call="start", epochs=run.params["stages[0].epochs"], preset=run.tags["preset"]
        )

    def epoch(self, step: int, values: Mapping[str, float], at_s: float) -> None:
        self._add("", call="epoch", step=step, loss=values["loss"])

    def finish(self, end: TrackedEnd) -> None:
        self._add("", call="finish", photos=end.scores["test/accuracy/photos"], files=sorted(end.artefacts))

    def fail(self, status: str) -> None:
        self._add("", call="fail", status=status)

    def _add(self, answer: str, **what: Any) -> str:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(what) + "\n")
        return answer


def build_lines(options: LinesOptions) -> Tracker:
    """A tracker that writes down what it is told."""
    return Lines(options)


class Backwards:
    """Every job here, in the order opposite to that in which they were handed out."""

    def run(self, jobs: Iterator[Job], say: Callable[[str], None]) -> Iterator[Outcome]:
        for job in reversed(list(jobs)):
            say(f"backwards: {job.label}")
            job.here()
            yield Outcome(job)


def build_backwards(options: Options) -> Executor:
    """An executor that takes all jobs first."""
    return Backwards()


def build_folder(options: Options) -> Exporter:
    """A SavedModel, and the class names in a text file."""
    return Exporter(_write_folder, _open_folder, lambda folder: tuple((folder / "names.txt").read_text().split()))


def _write_folder(servable: Servable, folder: Path) -> Exported:
    save_graph(servable, folder / "graph")
    (folder / "names.txt").write_text(" ".join(servable.classes))
    return Exported(("graph", "names.txt"), "pixels", "float32", {"everything": 1}, ("tensorflow",))


def _open_folder(folder: Path) -> Predict:
    import tensorflow as tf

    graph = tf.saved_model.load(str(folder / "graph"))
    return lambda photos: {
        name: values.numpy() for name, values in graph.signatures["serving_default"](pixels=tf.constant(photos)).items()
    }


@hookimpl
def register_backbones(register: RegisterBackbone) -> None:
    register("one_convolution", build_one_convolution, ConvolutionOptions, spec=SPEC)


@hookimpl
def register_heads(register: Register) -> None:
    register("linear_here", build_linear, LinearOptions)


@hookimpl
def register_freezing_policies(register: Register) -> None:
    register("half_rate", build_half_rate)


@hookimpl
def register_augmentations(register: Register) -> None:
    register("darken", build_darken)


@hookimpl
def register_data_sources(register: Register) -> None:
    register("flat_folder", build_flat_folder)


@hookimpl
def register_reporters(register: Register) -> None:
    register("accuracy_text", build_accuracy_text)


@hookimpl
def register_trackers(register: Register) -> None:
    register("lines", build_lines, LinesOptions)


@hookimpl
def register_executors(register: Register) -> None:
    register("backwards", build_backwards)


@hookimpl
def register_exporters(register: Register) -> None:
    register("folder_here", build_folder)


@hookimpl
def register_presets(register: RegisterPreset) -> None:
    register("every_hook", Path(__file__).with_suffix(".yaml"))


def _note(run_path: Path, hook: str, **what: Any) -> None:
    with (run_path / HEARD).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"hook": hook, **what}) + "\n")


@hookimpl
def before_run(plan: Plan, run_path: Path) -> None:
    _note(run_path, "before_run", name=plan.config.name, has_config=(run_path / "config.yaml").is_file())


@hookimpl
def after_epoch(row: Mapping[str, Any], run_path: Path) -> None:
    logged = (run_path / "epochs.csv").read_text(encoding="utf-8").count("\n") - 1
    _note(run_path, "after_epoch", epoch=row["epoch"], logged=logged, columns=list(row))


@hookimpl
def after_stage(stage: str, rows: tuple[Mapping[str, Any], ...], run_path: Path) -> None:
    _note(run_path, "after_stage", stage=stage, epochs=[row["epoch"] for row in rows])


@hookimpl
def after_run(metrics: Mapping[str, Any], run_path: Path) -> None:
    report = (run_path / "reports" / "accuracy.txt").read_text(encoding="utf-8")
    _note(run_path, "after_run", photos=metrics["test"]["accuracy"]["photos"], report=report)
