"""Baselines: what a sceptic would ask for beside every result, from always naming one class to a probe on frozen features."""
