"""Openly licensed photos from iNaturalist as a folder to train on: by species, split by observer, every licence written down."""
