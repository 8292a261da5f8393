"""Many runs of one question: seeds, folds, ablations, comparisons, rankings."""
