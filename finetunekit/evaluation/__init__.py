"""What a trained network is worth: predictions, scores, baselines, diagnostics."""
