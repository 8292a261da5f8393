"""Openly licensed photos from iNaturalist as a folder to train on: by species, split by observer, every licence written down."""

from __future__ import annotations

from finetunekit import FinetuneKitError


class FetchError(FinetuneKitError):
    """Photos could not be fetched: no network, a server that refuses or closes, too few photos for every split."""
