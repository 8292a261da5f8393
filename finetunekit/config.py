"""What was asked: the sections of a run's configuration, their bounds and their meanings. No I/O, no Keras."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """Base of every section: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Component(BaseModel):
    """A plugin's component by name; every other key belongs to that component's own options."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    name: str = Field(min_length=1, description="Name under which a plugin registered the component.")

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name, as written."""
        return dict(self.model_extra or {})


class DataSection(Section):
    """Where photos come from."""

    source: str = Field("folders", min_length=1, description="Data source plugin that lists the photos.")
    root: str | None = Field(None, min_length=1, description="Folder or table, relative to the working directory.")
    otherwise: str | None = Field(
        None,
        description="Data source used where `root` does not exist; dropped when a later layer or --set names another root.",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the data source.")
    max_photo_pixels: int = Field(
        100_000_000, ge=1, description="Photos with more pixels than this are refused (decompression bombs)."
    )


class PixelsSection(Section):
    """How a photo becomes the network's input."""

    size_px: int = Field(224, ge=8, le=2048, description="Side of the square input, in pixels.")
    resize: Literal["nearest", "bilinear", "bicubic", "lanczos", "box"] = Field(
        "bilinear", description="Pillow's resampling filter."
    )
    fit: Literal["stretch", "crop"] = Field(
        "stretch", description="Stretch to the square, or crop the centre square first."
    )
    contract: Literal["backbone", "zero_to_one", "minus_one_to_one", "zero_to_255"] = Field(
        "backbone",
        description="Range and order of pixels: the backbone's own contract, or RGB scaled as named.",
    )


class WeightsSection(Section):
    """Where the backbone's weights come from."""

    mode: Literal["pretrained", "random"] = Field(
        "pretrained", description="Pretrained arrays, or Keras' initialisers."
    )
    path: str | None = Field(
        None,
        description="Explicit .npz, .h5 or .keras file, relative to the working directory; looked at first.",
    )


class OptimizerSection(Section):
    """The optimizer of one stage."""

    name: Literal["sgd", "adamw"] = Field("sgd", description="Keras optimizer.")
    learning_rate: float = Field(
        1e-3, gt=0, le=10, allow_inf_nan=False, description="Rate of a layer whose multiplier is 1."
    )
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum (sgd).")
    nesterov: bool = Field(False, description="Nesterov momentum (sgd).")
    weight_decay: float = Field(0.0, ge=0, le=1, description="Decoupled weight decay.")


class Stage(Section):
    """One stage of training: freezing, a new optimizer, a number of epochs."""

    kind: Literal["fit"] = Field("fit", description="`fit`: gradient descent.")
    name: str = Field("fine-tune", min_length=1, max_length=40, description="Name in the log.")
    epochs: int = Field(10, ge=1, le=100_000, description="Number of epochs.")
    freeze: Component = Field(Component(name="none"), description="Freezing policy of the backbone's layers.")
    train_batch_norm: bool = Field(
        False, description="Let BatchNorm layers of the backbone train and move their statistics."
    )
    optimizer: OptimizerSection = Field(default_factory=OptimizerSection, description="Optimizer, new for each stage.")


class TrainSection(Section):
    """What all stages share."""

    batch_size: int = Field(32, ge=1, le=65_536, description="Photos a step.")
    draws_per_epoch: int | None = Field(
        None,
        ge=1,
        description="Training photos drawn an epoch, wrapping around shuffled passes; null: each photo once.",
    )
    validation_draws: int | None = Field(
        None, ge=1, description="Validation photos drawn an epoch, wrapping around; null: each photo once."
    )


class CacheSection(Section):
    """How features of the frozen prefix are reused."""

    mode: Literal["off", "exact", "bank"] = Field(
        "exact",
        description="off: compute everything each time. exact: un-augmented photos once. bank: K augmented views of each photo, reused.",
    )
    views: int = Field(8, ge=1, le=1024, description="Augmented views of each photo (bank).")
    require: Literal["bitwise", "close"] = Field(
        "close", description="Least grade of the cache's self-check; below it the run stops."
    )


class SaveSection(Section):
    """What a run keeps besides `model.keras`."""

    h5: bool = Field(False, description="Also save the model as HDF5.")


class Expected(Section):
    """A published result that the preset reproduces."""

    metric: Literal["test_accuracy"] = Field("test_accuracy", description="Which score.")
    value: float = Field(ge=0, le=1, description="Published value, as a fraction.")
    correct: int | None = Field(None, ge=0, description="Number of photos classified correctly, where it is known.")
    photos: int | None = Field(None, ge=1, description="Number of photos scored, where it is known.")
    margin_points: float = Field(
        5.0, gt=0, lt=100, description="Margin of `verify`, in percentage points; state it before the run."
    )
    direction: Literal["equal", "at_least"] = Field(
        "equal", description="equal: neither worse nor better than the margin; at_least: not worse."
    )
    source: str = Field(description="Where the value was published.")


class RunConfig(Section):
    """Everything one YAML file can ask for."""

    name: str = Field(
        min_length=1,
        max_length=80,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of runs made from it.",
    )
    description: str = Field("", description="One line shown in listings.")
    plugins: tuple[str, ...] = Field((), description="Plugin files to load, relative to the YAML that names them.")
    seed: Seed = Field(0, description="Seed of initial weights, shuffling and augmentation.")
    view_seed: Seed | None = Field(
        None, description="Seed of augmented views; null: the run's seed. Sharing it narrows the spread."
    )
    deterministic: bool = Field(True, description="Ask TensorFlow for deterministic operations.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", description="Compute precision; auto: bfloat16 where fast."
    )
    data: DataSection = Field(default_factory=DataSection)
    pixels: PixelsSection = Field(default_factory=PixelsSection)
    backbone: Component
    weights: WeightsSection = Field(default_factory=WeightsSection)
    head: Component
    augment: tuple[Component, ...] = Field((), description="Augmentations of training photos, in order.")
    train: TrainSection = Field(default_factory=TrainSection)
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=100)
    cache: CacheSection = Field(default_factory=CacheSection)
    save: SaveSection = Field(default_factory=SaveSection)
    reports: tuple[Component, ...] = Field((), description="Reporters, in order.")
    expected: Expected | None = Field(None, description="Published result that `verify` tests against.")
