"""Linear probes: how well frozen features tell this data's classes apart, in seconds and without training a network."""
