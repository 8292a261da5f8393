"""The stages of a run: preparing, fitting or solving them, sampling, callbacks; and what they will cost."""
