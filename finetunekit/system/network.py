"""Whether the network may be used."""

from __future__ import annotations

import os

OFFLINE_VARIABLE = "FINETUNEKIT_OFFLINE"


def is_offline() -> bool:
    """Whether `FINETUNEKIT_OFFLINE` forbids the network."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in {"", "0", "false", "no", "off"}
