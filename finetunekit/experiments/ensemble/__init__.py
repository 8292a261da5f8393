"""Several finished runs as one: a run whose network is the mean of theirs."""

from finetunekit.experiments.ensemble.combine import ensemble

__all__ = ["ensemble"]
