"""What an answer, a URL and a broken connection mean, in a few words."""

from __future__ import annotations

import email.utils
import urllib.parse
from datetime import UTC, datetime
from typing import Any

CONNECT_TIMEOUT_S = 10.0


class Refused(Exception):
    """The server answered, and asking again would not help. Its text is a short reason."""


class Unreachable(Exception):
    """No usable answer after every attempt. Its text is a short reason."""


def retry_after_s(text: str, now: datetime | None = None) -> float | None:
    """Seconds that a `Retry-After` header asks for: a number, or a date. Source: RFC 9110, section 10.2.3."""
    if text.strip().isdigit():
        return float(text.strip())
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


def check_web_url(url: str) -> None:
    """Raise `Refused` for anything but an http or https URL with a host and without credentials."""
    try:
        parts = urllib.parse.urlsplit(url)
        is_web = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_web = False
    if not is_web or parts.username is not None or parts.password is not None:
        raise Refused(f"not an http or https URL: {url[:100]!r}")


def host_of(url: str) -> str:
    """The host of a URL, with its port where it gives one."""
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]


def describe_failure(exc: BaseException) -> str:
    """A network failure in a few words."""
    seen: Any = exc
    names: list[str] = []
    while seen is not None and len(names) < 12:
        names.append(type(seen).__name__)
        inner = [a for a in getattr(seen, "args", ()) if isinstance(a, BaseException)]
        seen = getattr(seen, "reason", None) or seen.__cause__ or seen.__context__ or (inner[0] if inner else None)
        seen = seen if isinstance(seen, BaseException) else None
    for name, words in _IN_WORDS.items():
        if name in names:
            return words
    return short(exc)


_NO_HOST, _NO_SERVER, _NO_PROXY = "host not found", "connection refused", "the proxy refuses"
#: Failures that mean, where nothing has answered yet, that there is no network.
NO_CONNECTION = frozenset({_NO_HOST, _NO_SERVER, _NO_PROXY})
#: Looked up in this order, since a time-out to connect is a connection error too.
_IN_WORDS = {
    "NameResolutionError": _NO_HOST,
    "gaierror": _NO_HOST,
    "ConnectTimeout": f"no connection within {CONNECT_TIMEOUT_S:g} s",
    "ReadTimeoutError": "no answer in time",
    "ReadTimeout": "no answer in time",
    "ProxyError": _NO_PROXY,
    "SSLCertVerificationError": "its certificate is not trusted",
    "ConnectionRefusedError": _NO_SERVER,
    "IncompleteRead": "cut off before its end",
    "ConnectionResetError": "connection closed",
    "RemoteDisconnected": "connection closed without an answer",
}


def short(exc: BaseException) -> str:
    """The text of an exception on one line of at most 120 letters; its class where it says nothing."""
    text = " ".join(str(exc).split()) or type(exc).__name__
    return text if len(text) <= 120 else text[:119] + "…"
