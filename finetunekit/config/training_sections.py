"""What was asked of training: stages of two kinds, and what each can ask for."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from finetunekit.system.secrets import PASSWORD, has_password


class Section(BaseModel):
    """Base of every section: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Component(BaseModel):
    """A plugin's component, chosen by name; every other key is one of that component's options."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    name: str = Field(min_length=1, description="Name under which a plugin registered the component.")

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name, as written."""
        return dict(self.model_extra or {})


class ScheduleSection(Section):
    """How the learning rate changes over the steps of one stage; a pure function of the step."""

    name: Literal["constant", "cosine", "one_cycle"] = Field(
        "constant",
        description="constant; cosine: falls to 0 along half a cosine; one_cycle: rises from 1/25 of the rate, then falls to almost 0.",
    )
    warmup: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Fraction of the stage's steps during which the rate rises; null: 0, and 0.3 for one_cycle.",
    )


class OptimizerSection(Section):
    """The optimizer of one stage."""

    name: Literal["sgd", "adamw"] = Field("sgd", description="Keras optimizer.")
    learning_rate: float = Field(
        1e-3, gt=0, le=10, allow_inf_nan=False, description="Learning rate of a layer whose multiplier is 1."
    )
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum (sgd).")
    weight_decay: float = Field(0.0, ge=0, le=1, description="Decoupled weight decay.")
    clip_norm: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Maximum norm of the gradient over all weights; longer gradients are shortened. null: no limit.",
    )
    schedule: ScheduleSection = Field(
        default_factory=ScheduleSection, description="How the rate changes over the stage."
    )


class EarlyStoppingSection(Section):
    """End a stage when the validation score no longer improves, and keep the best epoch."""

    monitor: Literal["val_loss", "val_accuracy"] = Field("val_loss", description="Column of the epoch log to watch.")
    patience: int | None = Field(
        5,
        ge=1,
        le=100_000,
        description="The stage ends after this many epochs without a better one; null: it never ends early.",
    )
    min_delta: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="An epoch counts as better only if it improves by more than this."
    )
    restore_best: bool = Field(True, description="End with the weights of the best epoch instead of the last one.")


class EmaSection(Section):
    """Validate and keep an exponential moving average of the weights."""

    decay: float = Field(
        0.99,
        gt=0,
        lt=1,
        description="Fraction of the average that is kept at each step; less in the first steps, (1 + n) / (10 + n).",
    )


class ClassWeightsSection(Section):
    """How much each class counts in the loss."""

    mode: Literal["none", "balanced", "named"] = Field(
        "none",
        description="none: every photo counts the same; balanced: every class counts the same, whatever its size; named: as given.",
    )
    named: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(
        default_factory=dict, description="Class name → weight (mode: named); a class without an entry has weight 1."
    )

    @model_validator(mode="after")
    def _check_named(self) -> Self:
        if self.named and self.mode != "named":
            raise ValueError("the weights in `named` count with mode: named only; set it, or drop them")
        return self


_REVERT = "Restore the weights from before the stage unless the validation photos show, by a 95 % interval, that it lowers their log loss."


class FitStage(Section):
    """A stage of gradient descent: freezing, a new optimizer, a number of epochs."""

    kind: Literal["fit"] = Field("fit", description="Gradient descent.")
    name: str = Field("fine-tune", min_length=1, max_length=40, description="Name in the log.")
    epochs: int = Field(10, ge=1, le=100_000, description="Number of epochs.")
    freeze: Component = Field(Component(name="none"), description="Freezing policy of the backbone's layers.")
    train_batch_norm: bool = Field(
        False, description="Let the backbone's BatchNorm layers train and update their statistics."
    )
    optimizer: OptimizerSection = Field(default_factory=OptimizerSection, description="Optimizer, new for each stage.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Fraction of each label that is spread evenly over all classes."
    )
    class_weights: ClassWeightsSection = Field(
        default_factory=ClassWeightsSection, description="How much each class counts in the loss."
    )
    early_stopping: EarlyStoppingSection | None = Field(
        None, description="End early and keep the best epoch; null: do neither."
    )
    ema: EmaSection | None = Field(None, description="Validate and keep a moving average of the weights; null: do not.")
    interpolate: float = Field(
        1.0,
        gt=0,
        le=1,
        description="End this far along the line from the weights before the stage (0) to those it reached (1).",
    )
    revert_unless_better: bool = Field(False, description=_REVERT)
    cross_fit: int | None = Field(
        None,
        ge=2,
        le=100,
        description="Folds of the training photos: the stage is tried without each fold first, and left out unless the photos of the folds "
        "show, by a 95 % interval, that it lowers their log loss. The stage before it must be solved. null: it is not tried first.",
    )

    @model_validator(mode="after")
    def _check_judges(self) -> Self:
        if self.cross_fit and self.revert_unless_better:
            raise ValueError("cross_fit and revert_unless_better both say which photos decide; leave one out")
        return self


class SolveStage(Section):
    """A stage that is solved, not trained by steps: the head's last Dense layer on frozen features. It has one log row and no epoch."""

    kind: Literal["solve"] = Field(
        description="The head's last Dense layer, solved: by L-BFGS (logistic) or in closed form (ridge)."
    )
    name: str = Field("probe", min_length=1, max_length=40, description="Name in the log.")
    solver: Literal["logistic", "ridge"] = Field(
        "logistic", description="Logistic regression, or ridge regression on one-hot labels scaled to logits."
    )
    penalty: float | None = Field(
        None,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="L2 penalty on features of one scale; null: several, weighted by cross-validation on the training photos.",
    )
    folds: int = Field(5, ge=2, le=100, description="Folds of that cross-validation.")
    repeats: int = Field(
        1,
        ge=1,
        le=100,
        description="How many times that cross-validation is repeated with other folds; the losses are averaged.",
    )
    mirror: bool = Field(
        False, description="Solve on each photo and on its mirror image, and not on the views of cache.mode: bank."
    )
    features: str | None = Field(
        None,
        min_length=1,
        description="Folder that `finetunekit features` wrote, relative to the working directory, or its address (s3://…): its "
        "training rows are solved on in the place of the run's training photos.",
    )
    revert_unless_better: bool = Field(False, description=_REVERT)

    @model_validator(mode="after")
    def _check_features(self) -> Self:
        if self.features is not None and self.mirror:
            raise ValueError("mirror is of photos, and with `features` none are looked at; leave one out")
        if self.features is not None and has_password(self.features):
            raise ValueError(PASSWORD)
        return self

    @property
    def epochs(self) -> int:
        """None: its row in the log bears the number of the epoch before it."""
        return 0


def kind_of_stage(stage: Any) -> str:
    """The kind that a stage, read or made, says it is; `fit` where it says nothing."""
    return str(stage.get("kind", "fit") if isinstance(stage, dict) else getattr(stage, "kind", "fit"))


Stage = Annotated[
    Annotated[FitStage, Tag("fit")] | Annotated[SolveStage, Tag("solve")],
    Discriminator(kind_of_stage),
]
