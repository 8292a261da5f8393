"""Many runs that answer one question: seeds, folds, ablations, comparisons, rankings."""
