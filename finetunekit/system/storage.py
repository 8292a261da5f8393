"""Storage that is reached by an address, such as `s3://bucket/folder`, through fsspec."""

from __future__ import annotations

from typing import Any

from finetunekit.errors import ConfigError, DataError
from finetunekit.system.formatting import escaped, one_line
from finetunekit.system.secrets import PASSWORD, has_password

INSTALL = "pip install 'finetunekit[remote]'"


def is_remote(text: str) -> bool:
    """Whether a text is an address and no path."""
    return "://" in text


def find_storage(url: str) -> tuple[Any, str]:
    """What reaches an address, and the path that it means there.

    Raises:
        ConfigError: If what reaches such storage is not installed, or a password stands in the address.
        DataError: If there is no such storage.
    """
    if has_password(url):
        raise ConfigError(PASSWORD)
    try:
        from fsspec.core import url_to_fs

        found: tuple[Any, str] = url_to_fs(url)
    except ImportError as exc:
        raise ConfigError(f"{escaped(url)}: needs more to be reached ({one_line(exc)}): {INSTALL}") from exc
    except ValueError as exc:
        raise DataError(f"{escaped(url)}: is no address of storage that is known ({one_line(exc)}).") from exc
    return found
