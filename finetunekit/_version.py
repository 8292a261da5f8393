"""The version, by itself, so that whoever asks for it loads nothing else."""

__version__ = "0.1.0"
