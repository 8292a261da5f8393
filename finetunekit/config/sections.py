"""What was asked: the sections of a run's configuration, their bounds and their meanings. No I/O, no Keras."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from finetunekit.config.training_sections import Component, Section, Stage

Seed = Annotated[int, Field(ge=0, lt=2**32)]


AuditKind = Literal[
    "leak",
    "conflict",
    "group",
    "label",
    "outlier",
    "duplicate",
    "misnamed",
    "blank",
    "dark",
    "bright",
    "blurred",
    "grey",
    "imbalance",
    "properties",
    "small",
    "long",
]


class AuditSection(Section):
    """The audit before the first epoch, and which of its findings stop the run."""

    gate: Literal["error", "warn", "off"] = Field(
        "error",
        description="error: leaks, contradictory labels and similar findings stop the run; warn: they are reported; off: no audit.",
    )
    allow: tuple[AuditKind, ...] = Field(
        (), description="Kinds of findings that you know about and accept, such as `leak`; they become notes."
    )


class DataSection(Section):
    """Where photos come from."""

    source: str = Field("folders", min_length=1, description="Data source plugin that lists the photos.")
    root: str | None = Field(None, min_length=1, description="Folder or table, relative to the working directory.")
    otherwise: str | None = Field(
        None,
        description="Data source used if `root` does not exist; it is dropped when a later layer or --set names another root.",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the data source.")
    exclude: tuple[str, ...] = Field(
        (),
        description="CSV lists of photos to leave out, relative to the working directory; `data audit --fix` writes them.",
    )
    decisions: str | None = Field(
        None,
        min_length=1,
        description="CSV of decisions about photos, relative to the working directory; `finetunekit review` writes it.",
    )
    audit: AuditSection = Field(default_factory=AuditSection, description="The audit before the first epoch.")
    max_photo_pixels: int = Field(
        100_000_000, ge=1, description="Photos with more pixels than this are refused (decompression bombs)."
    )


class PixelsSection(Section):
    """How a photo becomes the network's input."""

    size_px: int = Field(224, ge=8, le=2048, description="Side of the square input, in pixels.")
    resize: Literal["nearest", "bilinear", "bicubic", "lanczos", "box"] = Field(
        "bilinear", description="Pillow's resampling filter."
    )
    fit: Literal["stretch", "crop", "pad"] = Field(
        "stretch",
        description="stretch: resize both sides to the square; crop: cut a square from the middle; pad: fill the short side up with grey.",
    )
    crop_pct: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Side of the square that crop cuts out, as a fraction of the photo's short side; null: the backbone's own.",
    )
    source_px: int | None = Field(
        None,
        ge=8,
        le=65_536,
        description="Shrink photos to this long side first (Lanczos), as if they had been that small; null: leave them as they are.",
    )
    contract: Literal["backbone", "zero_to_one", "minus_one_to_one", "zero_to_255"] = Field(
        "backbone",
        description="Range and order of pixels: the backbone's own contract, or RGB scaled as named.",
    )
    check_photos: int = Field(
        400,
        ge=0,
        description="Maximum number of photos on which a probe measures the cost of a contract that is not the backbone's; "
        "0: not measured.",
    )

    @model_validator(mode="after")
    def _check_crop(self) -> Self:
        if self.crop_pct is not None and self.fit != "crop":
            raise ValueError(f"crop_pct is for fit: crop; fit is {self.fit}")
        return self


class WeightsSection(Section):
    """Where the backbone's weights come from."""

    mode: Literal["pretrained", "random"] = Field(
        "pretrained", description="Pretrained arrays, or Keras' initialisers."
    )
    path: str | None = Field(
        None,
        description="A .npz, .h5 or .keras file, relative to the working directory; it is tried before any other source.",
    )
    package: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+_-]+$",
        description="A package that `finetunekit weights pack` wrote, as name==version; your package index is asked for it.",
    )
    checksum: str | None = Field(
        None, pattern=r"^sha256:[0-9a-f]{64}$", description="Of the package's wheel; `weights pack` prints it."
    )

    @model_validator(mode="after")
    def _check_package(self) -> Self:
        if (self.package is None) != (self.checksum is None):
            raise ValueError("weights.package and weights.checksum belong together")
        if self.package is not None and self.mode == "random":
            raise ValueError("weights.mode: random reads no weights.package; leave one out")
        if self.package is not None and self.path is not None:
            raise ValueError("weights.path and weights.package are two places for the same arrays; leave one out")
        return self


class TrainSection(Section):
    """What all stages share."""

    batch_size: int = Field(32, ge=1, le=65_536, description="Photos per step.")
    devices: Annotated[int, Field(ge=1, le=1024)] | Literal["all"] = Field(
        1,
        description="Devices of this machine that train the network together, GPUs if there are any; all: as many as there are. A batch is "
        "divided between them.",
    )
    draws_per_epoch: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="Training photos drawn per epoch, from as many shuffled passes as needed; null: each photo once.",
    )
    validation_draws: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="Validation photos drawn per epoch, from as many passes as needed; null: each photo once.",
    )
    folds: int | None = Field(
        None,
        ge=3,
        le=100,
        description="Cross-validate: split all photos into this many folds, with one run per fold that tests on it. null: use the splits.",
    )
    fold: int | None = Field(
        None, ge=1, le=100, description="Run only this fold; a cross-validation sets it for each of its runs."
    )
    fold_seed: Seed = Field(
        0, description="Seed that decides which photos go to which fold; independent of the run's seed."
    )

    leave_out: str | None = Field(
        None,
        min_length=1,
        description="Test on the photos of this group, such as a camera, and learn nothing from them; test photos of other groups are left "
        "aside. `run --leave-out` sets it for each of its runs.",
    )

    @model_validator(mode="after")
    def _check_devices(self) -> Self:
        if self.devices != "all" and self.devices > self.batch_size:
            raise ValueError(f"devices: {self.devices} cannot share batch_size: {self.batch_size}; each needs a photo")
        return self

    @model_validator(mode="after")
    def _check_fold(self) -> Self:
        if self.leave_out is not None and self.folds is not None:
            raise ValueError("leave_out and folds both say what to test on; set one of them")
        if self.fold is not None and (self.folds is None or self.fold > self.folds):
            raise ValueError("fold must be at most folds")
        return self


class CacheSection(Section):
    """How features of the frozen prefix are reused."""

    mode: Literal["off", "exact", "bank"] = Field(
        "exact",
        description="off: compute everything each time. exact: compute un-augmented photos once. bank: compute K views of each photo once.",
    )
    views: int = Field(8, ge=1, le=1024, description="Augmented views of each photo (bank).")
    require: Literal["bitwise", "close"] = Field(
        "close", description="Lowest acceptable result of the cache's self-check; the run stops if it is worse."
    )


class EvaluateSection(Section):
    """How photos are scored once training is over, and predicted later."""

    flip: bool = Field(
        False, description="Average the probabilities of each photo and its mirror image; this takes twice as long."
    )
    test: bool = Field(
        True,
        description="Score the test photos. false: the test split stays closed; no network sees it, and there are no baselines or reports.",
    )


class InsightsSection(Section):
    """What is measured in addition to the scores, after the last epoch; it changes no prediction."""

    baselines: bool = Field(
        True,
        description="Measure the baselines (majority, nearest neighbour, logistic probe, the pretrained head) and the pretraining overlap.",
    )
    gradcam_photos: int = Field(
        12,
        ge=0,
        le=60,
        description="Number of wrongly answered test photos that get a Grad-CAM map, most confident first.",
    )


class SaveSection(Section):
    """What a run keeps besides its network in `model.npz` and `model.keras`."""

    h5: bool = Field(False, description="Also save the model as HDF5.")
    report_timeout_s: float = Field(
        600.0, gt=0, le=86_400, allow_inf_nan=False, description="How long to wait for each reporter."
    )
    seeds: Literal["all", "first", "none"] = Field(
        "first", description="Whose model is kept if one command runs several seeds; the figures of all seeds are kept."
    )


class ExportSection(Section):
    """The run as a model for other runtimes, and how far its answers may be from the run's there."""

    to: tuple[Component, ...] = Field(
        (), description="Exporters to run at the end, in order; `finetunekit export` does the same later."
    )
    max_difference: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Largest allowed difference of a probability, on any photo, for a float32 model; null: 0.0001.",
    )
    max_difference_float16: float = Field(1e-2, gt=0, le=1, description="The same for a 16-bit model.")
    margin_points: float = Field(
        2.0,
        gt=0,
        lt=100,
        description="Percentage points by which the accuracy of an 8-bit model may be lower; the photos have to prove it.",
    )


class Expected(Section):
    """A published result that the preset reproduces."""

    metric: Literal["test_accuracy"] = Field("test_accuracy", description="Which score.")
    value: float = Field(ge=0, le=1, description="Published value, as a fraction.")
    correct: int | None = Field(
        None, ge=0, le=1_000_000_000, description="Number of photos classified correctly, if known."
    )
    photos: int | None = Field(None, ge=1, le=1_000_000_000, description="Number of photos scored, if known.")
    margin_points: float = Field(
        5.0, gt=0, lt=100, description="Margin used by `verify`, in percentage points; state it before the run."
    )
    direction: Literal["equal", "at_least"] = Field(
        "equal",
        description="equal: neither worse nor better by more than the margin; at_least: not worse by more than the margin.",
    )
    source: str = Field(description="Where the value was published.")


def _check_values(values: Any) -> Any:
    is_range = isinstance(values, str) and re.fullmatch(r"(log|lin|int):[^:]+:[^:]+", values)
    if not is_range and not (isinstance(values, list) and values):
        raise ValueError("should be a list of values, or log:LOW:HIGH, lin:LOW:HIGH or int:LOW:HIGH")
    return values


Values = Annotated[
    Any,
    AfterValidator(_check_values),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "minItems": 1},
                {"type": "string", "pattern": "^(log|lin|int):[^:]+:[^:]+$"},
            ]
        }
    ),
]
"""Of a setting in a search: a list of them, or a range as text."""


class TuneSection(Section):
    """What `finetunekit tune` searches and how far; a run takes no notice of it."""

    vary: dict[str, Values] = Field(
        default_factory=dict,
        description="Key of a setting as for --set → a list of its values, or `log:LOW:HIGH`, `lin:LOW:HIGH`, `int:LOW:HIGH`.",
    )
    trials: int = Field(40, ge=1, le=10_000, description="Trials in all, the preset itself among them.")
    pruner: Literal["median", "halving", "none"] = Field(
        "median",
        description="Which trials are stopped early: those worse than the median of the others at the same epoch, those not among the best "
        "quarter at epochs 1, 4, 16, …, or none.",
    )
    min_epochs: int = Field(1, ge=1, le=100_000, description="Epochs that every trial may train before it is stopped.")


class RunConfig(Section):
    """Everything one YAML file can ask for."""

    name: str = Field(
        min_length=1,
        max_length=80,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the runs made from this configuration.",
    )
    description: str = Field("", description="One line that listings show.")
    plugins: tuple[str, ...] = Field((), description="Plugin files to load, relative to the YAML that names them.")
    seed: Seed = Field(0, description="Seed of initial weights, shuffling and augmentation.")
    view_seed: Seed | None = Field(
        None,
        description="Seed of augmented views; null: the run's seed. If several runs share it, their spread is narrower.",
    )
    deterministic: bool = Field(True, description="Ask TensorFlow for deterministic operations.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", description="Precision of computation; auto: bfloat16 if the processor is fast at it."
    )
    data: DataSection = Field(default_factory=DataSection)
    pixels: PixelsSection = Field(default_factory=PixelsSection)
    backbone: Component | None = Field(
        None, description="The pretrained network; either this or `backbones` is required."
    )
    backbones: tuple[str, ...] = Field(
        (),
        description="Names of several pretrained networks whose pooled features are joined; each sees the photo at its own size.",
    )
    weights: WeightsSection = Field(default_factory=WeightsSection)
    head: Component
    augment: tuple[Component, ...] = Field((), description="Augmentations of training photos, in order.")
    train: TrainSection = Field(default_factory=TrainSection)
    stages: tuple[Stage, ...] = Field(
        min_length=1,
        max_length=100,
        description="The stages of training, one after the other; `kind` says how each is trained.",
    )
    cache: CacheSection = Field(default_factory=CacheSection)
    evaluate: EvaluateSection = Field(default_factory=EvaluateSection)
    insights: InsightsSection = Field(default_factory=InsightsSection)
    save: SaveSection = Field(default_factory=SaveSection)
    reports: tuple[Component, ...] = Field((), description="Reporters, in order.")
    track: tuple[Component, ...] = Field((), description="Trackers that the run is sent to; they do not change it.")
    executor: Component = Field(
        Component(name="local"),
        description="Where runs are carried out, and how many at a time; it does not change them.",
    )
    export: ExportSection = Field(default_factory=ExportSection)
    tune: TuneSection | None = Field(None, description="The search of `finetunekit tune`; it changes nothing in a run.")
    expected: Expected | None = Field(None, description="Published result that `verify` tests against.")

    @model_validator(mode="after")
    def _check_cross_fit(self) -> Self:
        for number, stage in enumerate(self.stages):
            if stage.kind == "fit" and stage.cross_fit:
                before = self.stages[:number]
                if not before or any(one.kind != "solve" or one.features is not None for one in before):
                    raise ValueError(
                        f"stages[{number}].cross_fit solves the head anew for each fold: every stage before it must be of kind solve, on "
                        "the run's own photos"
                    )
        return self

    @model_validator(mode="after")
    def _check_backbones(self) -> Self:
        if self.backbone is not None and self.backbones:
            raise ValueError("backbone and backbones are two ways to say the same; leave one out")
        if not self.backbones:
            return self
        if len(set(self.backbones)) != len(self.backbones) or len(self.backbones) < 2:
            raise ValueError("backbones needs two names or more, each once")
        if self.weights.path is not None or self.weights.package is not None:
            raise ValueError(
                "weights.path and weights.package are one backbone's; with backbones each has its own source"
            )
        if self.pixels.contract != "backbone":
            raise ValueError("pixels.contract has to be backbone with backbones: each is fed by its own")
        return self
