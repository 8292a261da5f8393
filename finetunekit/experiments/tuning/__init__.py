"""A search for the best settings: trials proposed by Optuna, scored on validation, the winner run once on the test split."""

from __future__ import annotations

from finetunekit.experiments.tuning.running import run_tune

__all__ = ["run_tune"]
