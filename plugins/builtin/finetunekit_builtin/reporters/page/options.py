"""Options of the page."""

from __future__ import annotations

from pydantic import Field

from finetunekit import Options


class HtmlOptions(Options):
    """Options of `html`."""

    samples_per_class: int = Field(
        3, ge=0, le=20, description="Training photos shown of each class; at most 36 in all."
    )
    mistakes: int = Field(12, ge=0, le=60, description="Test photos shown that were got wrong, most confident first.")
    display: int = Field(16, ge=0, le=60, description="Display photos shown, chosen by the run's seed.")
    thumbnail_px: int = Field(144, ge=48, le=320, description="Side of a photo in the page, in pixels.")
    max_mb: float = Field(
        3.0,
        ge=0.2,
        le=50.0,
        allow_inf_nan=False,
        description="Size of the page; photos beyond it are left out, which is said.",
    )
