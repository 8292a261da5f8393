"""Secrets are the environment's: recognised in addresses, and taken out of what is printed."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

_NAMES = re.compile(r"TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|API_?KEY|ACCESS_?KEY", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/\s@]+@")
_QUERY = re.compile(r"(?<=[?&])([^=&\s]*(?:token|password|secret|api_?key)[^=&\s]*)=[^&\s]+", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"""([\w.\[\]-]*(?:token|password|passwd|secret|credential|api_?key|access_?key)[\w\]"'-]*\s*[:=]\s*)([^\s,}]+)""",
    re.IGNORECASE,
)
_HIDDEN = "***"
PASSWORD = "an address with a password is refused, since paths are written. Give it in the environment."


def has_password(address: str) -> bool:
    """Whether an address names a password or a token: `https://user:password@host`, `https://host?token=…`."""
    return bool("://" in address and ((_USER.search(address) and urlsplit(address).password) or _QUERY.search(address)))


def without_secrets(text: str) -> str:
    """A text in which the values of environment variables whose names sound like secrets, and users in addresses, are `***`."""
    for name, value in os.environ.items():
        if _NAMES.search(name) and len(value) >= 4:
            text = text.replace(value, _HIDDEN)
    return _QUERY.sub(rf"\1={_HIDDEN}", _USER.sub(f"{_HIDDEN}@", text))


def without_assigned_secrets(text: str) -> str:
    """As `without_secrets`, and without any value that stands behind a name that sounds like a secret (`token: …`, `api_key=…`)."""
    return _ASSIGNED.sub(rf"\1{_HIDDEN}", without_secrets(text))
