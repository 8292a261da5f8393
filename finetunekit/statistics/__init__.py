"""Intervals, paired tests, calibration, claims: only numbers, from arrays only.

Nothing here reads a file, prints, or knows Keras; SciPy and scikit-learn are imported inside the few functions that need them.
"""

from __future__ import annotations

from finetunekit.statistics.arrays import (
    PROBABILITY_FLOOR,
    SMALLEST,
    log_probabilities,
    log_sum_exp,
    logit_log_losses,
    photo_brier_scores,
    photo_log_losses,
    softmax,
)
from finetunekit.statistics.bootstrap import DEFAULT_REPLICATES, mean_interval
from finetunekit.statistics.calibration import (
    Calibration,
    CalibrationError,
    ReliabilityBin,
    default_bins,
    measure_calibration,
)
from finetunekit.statistics.claims import Claim, ClaimCheck, check_claim
from finetunekit.statistics.conformal import (
    ClassSets,
    conformal_p_values,
    coverage_spread,
    fit_class_sets,
    photos_for_coverage,
)
from finetunekit.statistics.confusion import (
    ClassScores,
    Proportion,
    class_scores,
    confusion_matrix,
    f1_interval,
)
from finetunekit.statistics.equivalence import Equivalence, accuracy_equivalence, log_loss_equivalence
from finetunekit.statistics.folds import stratified_folds
from finetunekit.statistics.intervals import (
    Interval,
    newcombe_interval,
    paired_interval,
    tango_interval,
    wilson_interval,
)
from finetunekit.statistics.macro import MacroScore, macro_scores
from finetunekit.statistics.multiple import bonferroni, simultaneous_level
from finetunekit.statistics.paired import (
    McNemar,
    PairedComparison,
    bootstrap_change,
    compare_predictions,
    mcnemar_exact,
)
from finetunekit.statistics.power import SampleSize, mcnemar_photos, photos_to_tell_apart
from finetunekit.statistics.scores import MeanScore, Scores, TopKScore, summarise_predictions, top_k_scores
from finetunekit.statistics.seeds import SeedSummary, seed_equivalence, summarise_seeds
from finetunekit.statistics.temperature import (
    TEMPERATURE_BOUNDS,
    TemperatureFit,
    apply_temperature,
    fit_temperature,
)

__all__ = [
    "DEFAULT_REPLICATES",
    "PROBABILITY_FLOOR",
    "SMALLEST",
    "TEMPERATURE_BOUNDS",
    "Calibration",
    "CalibrationError",
    "Claim",
    "ClaimCheck",
    "ClassScores",
    "ClassSets",
    "Equivalence",
    "Interval",
    "MacroScore",
    "McNemar",
    "MeanScore",
    "PairedComparison",
    "Proportion",
    "ReliabilityBin",
    "SampleSize",
    "Scores",
    "SeedSummary",
    "TemperatureFit",
    "TopKScore",
    "accuracy_equivalence",
    "apply_temperature",
    "bonferroni",
    "bootstrap_change",
    "check_claim",
    "class_scores",
    "compare_predictions",
    "conformal_p_values",
    "confusion_matrix",
    "coverage_spread",
    "default_bins",
    "f1_interval",
    "fit_class_sets",
    "fit_temperature",
    "log_loss_equivalence",
    "log_probabilities",
    "log_sum_exp",
    "logit_log_losses",
    "macro_scores",
    "mcnemar_exact",
    "mcnemar_photos",
    "mean_interval",
    "measure_calibration",
    "newcombe_interval",
    "paired_interval",
    "photo_brier_scores",
    "photo_log_losses",
    "photos_for_coverage",
    "photos_to_tell_apart",
    "seed_equivalence",
    "simultaneous_level",
    "softmax",
    "stratified_folds",
    "summarise_predictions",
    "summarise_seeds",
    "tango_interval",
    "top_k_scores",
    "wilson_interval",
]
