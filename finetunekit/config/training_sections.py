"""What was asked of training: schedules, early stopping, averaged weights, class weights, the flip at test time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Base of every section: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class ScheduleSection(Section):
    """How the learning rate goes over the steps of one stage; a pure function of the step."""

    name: Literal["constant", "cosine", "one_cycle"] = Field(
        "constant",
        description="constant; cosine: falls to 0 along half a cosine; one_cycle: rises from 1/25 of the rate, then falls to almost 0.",
    )
    warmup: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Part of the stage's steps over which the rate rises; null: 0, and 0.3 for one_cycle.",
    )


class EarlyStoppingSection(Section):
    """End a stage when validation no longer gets better, and keep the best epoch."""

    monitor: Literal["val_loss", "val_accuracy"] = Field(
        "val_loss", description="Column of the epoch log that is watched."
    )
    patience: int | None = Field(
        5,
        ge=1,
        le=100_000,
        description="Epochs without a better one after which the stage ends; null: it never ends early.",
    )
    min_delta: float = Field(0.0, ge=0, allow_inf_nan=False, description="By how much a better epoch has to be better.")
    restore_best: bool = Field(True, description="End with the weights of the best epoch, not of the last.")


class EmaSection(Section):
    """Validate and keep an exponential moving average of the weights."""

    decay: float = Field(
        0.99,
        gt=0,
        lt=1,
        description="Part of the average that stays at each step; less in the first steps, (1 + n) / (10 + n).",
    )


class ClassWeightsSection(Section):
    """How much each class counts in the loss."""

    mode: Literal["none", "balanced", "named"] = Field(
        "none",
        description="none: every photo alike; balanced: every class alike, whatever its number of photos; named: as given.",
    )
    named: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(
        default_factory=dict, description="Class name → weight (named); a class that is not named has weight 1."
    )


class EvaluateSection(Section):
    """How photos are scored once training is over, and predicted later."""

    flip: bool = Field(
        False, description="Mean of the probabilities of each photo and of its mirror image; takes twice as long."
    )
    test: bool = Field(
        True,
        description="Score the test photos. false: the test split stays shut; no network sees it, no opening, no baselines, no reports.",
    )
