"""Options of the standard reporters, apart from what draws and writes: a plan needs no more than these."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from finetunekit import Options

Format: TypeAlias = Literal["svg", "png"]


class ArchitectureJsonOptions(Options):
    """Options of `architecture_json`."""

    indent: int = Field(2, ge=0, le=8, description="Spaces of indentation.")
    max_config_mb: int = Field(
        64, ge=1, le=1024, description="A model whose architecture is larger than this is refused."
    )


class ConfusionMatrixOptions(Options):
    """Options of `confusion_matrix`."""

    split: Literal["test", "valid", "train"] = Field("test", description="Split whose predictions are counted.")
    formats: tuple[Format, ...] = Field(("svg",), min_length=1, description="Figures to make in addition to the CSV.")


class DisplayGridOptions(Options):
    """Options of `display_grid`."""

    photos: int = Field(16, ge=1, le=400, description="Number of photos, at most as many as there are.")
    columns: int = Field(4, ge=1, le=20, description="Photos per row.")
    tile_px: int = Field(
        150, ge=48, le=1024, description="Side of a photo in the figure; smaller photos are enlarged to it."
    )
    seed: int | None = Field(None, ge=0, lt=2**32, description="Seed of the choice of photos; null: the run's seed.")
    formats: tuple[Format, ...] = Field(
        ("png",), min_length=1, description="Files to make; an SVG contains its photos."
    )
    png_scale: int = Field(1, ge=1, le=4, description="Pixels of the PNG per pixel of the figure.")


class LearningCurvesOptions(Options):
    """Options of `learning_curves`."""

    formats: tuple[Format, ...] = Field(("svg",), min_length=1, description="Files to make.")
    panel_width_px: int = Field(400, ge=200, le=2000, description="Width of each of the two plots.")
    panel_height_px: int = Field(260, ge=120, le=2000, description="Height of each of the two plots.")


class HtmlOptions(Options):
    """Options of `html`."""

    samples_per_class: int = Field(3, ge=0, le=20, description="Training photos shown per class; at most 36 in all.")
    mistakes: int = Field(
        12, ge=0, le=60, description="Number of wrongly answered test photos shown, most confident first."
    )
    display: int = Field(16, ge=0, le=60, description="Number of display photos shown, chosen by the run's seed.")
    thumbnail_px: int = Field(144, ge=48, le=320, description="Side of a photo on the page, in pixels.")
    max_mb: float = Field(
        3.0,
        ge=0.2,
        le=50.0,
        allow_inf_nan=False,
        description="Maximum size of the page; further photos are left out, and the page says so.",
    )


class ModelCardOptions(Options):
    """Options of `model_card`."""
