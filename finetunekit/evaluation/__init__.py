"""How good a trained network is: predictions, scores, baselines, diagnostics."""
