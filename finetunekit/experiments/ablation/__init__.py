"""One setting varied at a time, or a grid of them: whole runs from the feature cache, scored on validation, resumable."""

from __future__ import annotations

from finetunekit.experiments.ablation.running import run_ablation

__all__ = ["run_ablation"]
