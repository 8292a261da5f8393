"""The stages of a run: prepared, fitted or solved, sampled, accompanied by callbacks; and what they will cost."""
