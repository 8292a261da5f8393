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
    """One place to get pretrained arrays from. This is data only; the core fetches, checks and caches them.

    Attributes:
        kind: `framework` (a URL of the framework's own storage, after a look into its local cache), `url`,
            `package_index`, or `library`: `convert` has a library fetch them itself, which checks them in its own way.
        location: The URL, or for `package_index` a pinned requirement such as `name==1.2.3`; for `library` the URL
            where it finds them.
        checksum: `sha256:<hex>` or `md5:<hex>` of the file that is downloaded; for `library`, which pins nothing,
            `library:<what it fetches>`.
        convert: Reads the file (or the member extracted from it; for `library` it gets an empty folder) and returns
            arrays named `<layer path>/<variable name>`.
        member: Path of the file inside the downloaded archive, if it is one.
        member_checksum: Like `checksum`, but of that member.
        size_mb: Approximate size of the download, for messages.
        note: Where these arrays came from originally, for the run's provenance.
    """

    kind: Literal["framework", "url", "package_index", "library"]
    location: str
    checksum: str
    convert: Callable[[Path], Arrays]
    member: str | None = None
    member_checksum: str | None = None
    size_mb: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class PretrainedTop:
    """The classification layer that a backbone was pretrained with: `pool(features) @ kernel + bias` gives its own
    logits.

    Its arrays come from the same weight source as the backbone's, under names that no layer has.

    Attributes:
        kernel: Name of the array `(channels, 1000)`.
        bias: Name of the array `(1000,)`.
        pool: How features become a vector: `avg` is the mean over all axes but the first and the last.
        labels: What the logits stand for: `imagenet-1k` means the classes of `finetunekit.evaluation.imagenet`, in
            that order.
    """

    kernel: str
    bias: str
    pool: Literal["avg"] = "avg"
    labels: Literal["imagenet-1k"] = "imagenet-1k"


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """What is known about a backbone without building it.

    Attributes:
        title: Name as in the literature.
        pixels: What its pretrained weights expect.
        native_size_px: Side of the square input it was pretrained with.
        min_size_px: Smallest side it can be built for.
        parameters: Number of parameters without the classification top.
        licence: Licence of the weights, as an SPDX identifier if there is one.
        attribution: Line that must accompany the weights and everything made from them.
        pretrained_on: Data set of the pretraining.
        published: Published score with its source, in words.
        reference: Where the architecture is described.
        weight_sources: Tried in order.
        multiply_adds: For one photo at `native_size_px`, as `finetunekit.models.flops` counts them; None if unknown.
        top: The classification layer it was pretrained with, if its weight sources include it.
        top_1_percent: Published percentage of ImageNet-1k's validation photos whose first answer was right, as in
            `published`.
        crop_pct: Side of the centre square that the published evaluation used, as a fraction of the photo's short
            side, in (0, 1].
        requires: Distribution that has to be installed to build it; empty: none.
        worth: For what it is worth a large download, in a few words: `doctor` names such backbones. Empty: not said.
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
    requires: str = ""
    worth: str = ""


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
    """One leaf layer of the backbone, in the order of the forward pass, including the input layer.

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
    """A rate multiplier with the rule that gave it, for policies with several rules: a run can then say which rule
    decided for which layer.

    Attributes:
        rate: 0 freezes, 1 is the stage's learning rate, and others are layer-wise rates.
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
    """How a resampling fills pixels outside the photo: `nearest` repeats the edge, `constant` uses `value` (grey
    level in [0, 255])."""

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
        fill: How an affine step fills pixels outside the photo.
        scope: `photo` if each photo is changed separately, `batch` if photos are mixed.
        is_deterministic: False if it cannot draw its random numbers from `keys` only; exact resume and the view bank
            are then off.
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
    """One photo as a data source lists it; nothing is decoded yet.

    Attributes:
        path: File.
        label: Class name; None only in the `display` split.
        split: One of `train`, `valid`, `test`, `display`.
        group: Photos of one group (an animal, a burst) stay in one split.
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
        stand_in: If these are not the user's photos, the sentence that says so; it appears in the first line, the
            metrics and every figure.
        notes: One line each about what was skipped, for the terminal.
        dealt: Splits to which the source assigned photos itself, rather than finding them there. If people decide
            that photos are one group, these are brought together across these splits.
    """

    photos: tuple[PhotoRecord, ...]
    root: Path
    stand_in: str | None = None
    notes: tuple[str, ...] = ()
    dealt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What a data source is told in addition to its own options.

    Attributes:
        root: `data.root` of the configuration, resolved against the working directory; None if it gives none.
        cache_dir: Folder where a source may keep what it has made or unpacked.
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
    """A run as a tracker opens it. Everything comes from the run folder, so it is the same whenever it is sent.

    Attributes:
        name: Of the run folder.
        key: Identifies this run; a tracker that finds a tracked run with this key continues that one.
        group: Name of the folder of seeds, folds or cells that the run belongs to; None if it belongs to none.
        group_key: Identifies that folder, as `key` identifies the run, since another folder may have the same name.
        run_id: What `start` returned in an earlier process; None if the run was never opened.
        next_step: The first step that will be sent, from 1. If the tracker already has steps from here on, they come
            from a process that was killed, and are sent again with the same values and times.
        started_s: When the run began, in seconds since 1970.
        params: The resolved configuration, flattened: `stages[0].epochs` → 50.
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
    """What a tracker is told about a finished run.

    Attributes:
        step: The last epoch.
        ended_s: When the run ended, in seconds since 1970.
        scores: `test/accuracy` → value, with `test/accuracy/photos` (its denominator), `test/accuracy/low` and
            `test/accuracy/high` (its 95 % interval); the baselines as `baselines/<name>/accuracy` and so on.
        verdict: What the run found, in sentences; empty if it was not compared with anything.
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
    """Sends one run to the place where runs are compared. It is called in its own thread, one call after the other,
    never two at once.

    If it raises, you get one warning and the run continues; `finetunekit track RUN` sends what was not sent. Secrets
    come from environment variables that the tracker's own library reads, since options are written into run folders.
    """

    def start(self, run: TrackedRun) -> str:
        """Open the tracked run, or continue the one that `run.run_id` or `run.key` names; return its id."""
        ...

    def epoch(self, step: int, values: Mapping[str, float], at_s: float) -> None:
        """Receive an epoch: every number in its line of `epochs.csv`; `stage` is the number of the stage, from 1."""
        ...

    def finish(self, end: TrackedEnd) -> None:
        """The run has finished; everything has to be sent before this returns."""
        ...

    def fail(self, status: str) -> None:
        """The run has `failed`, or was `interrupted` or `killed`. It may be resumed, and is then opened again."""
        ...


# ---- executors -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Job:
    """A whole run to be carried out. Everything it needs to know is in its folder, from which it can be resumed
    wherever it stopped.

    Attributes:
        folder: The run folder, absolute: its configuration, its plan, copies of its plugin files, and a checkpoint
            from its first epoch on. Started again with the same folder, the job continues where it was.
        label: For the user, such as `seed 5`.
        arguments: `python ARGUMENTS`, with the run folder or a copy of it as the working folder, carries out the job
            in a separate process. It exits with 0 if the run is finished, and otherwise with another code, with the
            reason on stdout. Progress goes to stderr. If its stdin is a pipe, it stops when that is closed, as it
            does on SIGINT or SIGTERM: what was done is kept, and the exit code is 130. Add `--at=A=B` (repeatable) if
            what is at A on the machine that asked is at B here.
        is_divisible: Whether several processes can carry it out together, each started with `arguments` and
            `--together=I@HOST:PORT,HOST:PORT`: its number I, from 0, and an address for each, on which it will listen.
            Number 0 is the job; the others only help, write nothing into the folder, and stay until their stdin is
            closed. If one is lost, end all of them and start again.
        here: Carries out the job in this process; raises like `finetunekit.run`.
        reads: Files and folders outside the run folder that it reads, absolute: photos, tables, the user's own
            weights.
        memory_bytes: The most memory it needs; photos and features go to disk if memory is short.
        requires: Package → version, of finetunekit and of every plugin that it uses: what has to be installed where
            it is carried out.
    """

    folder: Path
    label: str
    arguments: tuple[str, ...]
    here: Callable[[], None] = field(compare=False, repr=False)
    reads: tuple[Path, ...] = ()
    memory_bytes: int = 0
    requires: Mapping[str, str] = field(default_factory=dict, compare=False)
    is_divisible: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: As it was given.
        error: Why it could not be carried out; None if its run is finished, in its folder.
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
    """Carries out whole runs, somewhere, several at a time or one after the other. It does not know what a run is."""

    def run(self, jobs: Iterator[Job], say: Callable[[str], None]) -> Iterator[Outcome]:
        """Carry out every job, and yield how each ended, in any order, as soon as it has ended.

        This is called in the caller's thread. When the returned iterator is closed, or an exception such as the
        user's Ctrl-C passes through it, jobs in progress are stopped and waited for; they can be resumed later.

        Args:
            jobs: Take the next one only when there is room for it, because its folder is made then.
            say: Prints one line for the user.

        Raises:
            FinetuneKitError: If no more jobs can be carried out at all, for example because a cluster cannot be
                reached.
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
        crop_pct: Side of the square that `crop` cuts out, as a fraction of the short side; None means 1.
        source_px: Long side to which larger photos are shrunk first; None if they are not shrunk.
        pixels: From RGB in [0, 255] to the network's input.
        is_mirrored: Whether probabilities are the mean over the photo and its mirror image.
        temperature: Logits are divided by it before the softmax; with `is_mirrored`, the logarithm of the mean is.
        metadata: Texts that travel with the model: run, checksums, licences, attribution.
        calibration: Requested number → training photos as examples, class by class in turn, `(photos, size_px,
            size_px, 3)` uint8.
        has_points: Also output intermediate values, so that a comparison can say where two models diverge; see
            `finetunekit.save_graph`.
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
        files: Names of the files and folders that it wrote into the given folder; the first is the model.
        takes: `pixels`: photos of any size; `square`: photos that are resized to `size_px` already.
        precision: Of weights and arithmetic; it decides which limits of a certificate apply.
        operations: Name of each operation of the model → how often it occurs.
        requires: Names of the packages that the model needs to run; the certificate gives their versions.
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
        write: `(servable, folder) → Exported`: writes files into an existing, empty folder.
        open: `(folder) → predict`: opens what was written, which may have been moved since, in its own runtime.
        classes: `(folder) → class names` in the order of the answers, read back from what was written.
        again: Alternatives to `write`, in order, to try if what was written does not keep its limits; they cost more
            and may keep them.
        decode: `(folder) → decode`: opens the model's own way from the bytes of a photo file to `(height, width, 3)`
            uint8, which raises if it cannot read them; None if the caller of the model decodes.
        check: Raises `ConfigError` if something is missing that writing needs and opening does not; called before any
            work. None if there is no such thing.
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
