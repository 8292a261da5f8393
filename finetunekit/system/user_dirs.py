"""The user's folders outside a run: what can be made again (cache), and what must outlive every run (state)."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "FINETUNEKIT_CACHE"
STATE_VARIABLE = "FINETUNEKIT_STATE"


def expand_home(path: str | Path) -> Path:
    """A path with `~` and `~user` replaced; where there is no such user, as it is, as shells have it."""
    return Path(os.path.expanduser(path))


def cache_dir() -> Path:
    """`$FINETUNEKIT_CACHE`, or the user's cache folder: weights, features, drawn photos. Deleting it costs time only."""
    return expand_home(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("finetunekit"))


def state_dir() -> Path:
    """`$FINETUNEKIT_STATE`, or the user's state folder: the ledger of test split openings, and plugin files that runs were started with."""
    return expand_home(os.environ.get(STATE_VARIABLE) or platformdirs.user_state_dir("finetunekit"))
