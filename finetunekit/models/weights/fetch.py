"""One file over HTTP: bounded in time and size, its checksum taken while it streams."""

from __future__ import annotations

import hashlib
import http.client
import queue
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from finetunekit.models.weights.cache import one_line
from finetunekit.models.weights.files import SourceFailed, check_checksum, parse_checksum
from finetunekit.system.network import OFFLINE_VARIABLE, is_offline

#: A host that does not answer by then is given up, however many addresses it has.
OPEN_TIMEOUT_S = 10.0
#: Slowest connection that is still waited for, 0.25 MB/s.
SECONDS_PER_MB = 4.0
PROGRESS_EVERY_S = 5.0
READ_BYTES = 1 << 16


def check_online() -> None:
    """Raise `SourceFailed` where `FINETUNEKIT_OFFLINE` forbids the network."""
    if is_offline():
        raise SourceFailed(f"not tried, {OFFLINE_VARIABLE} is set")


def whole_timeout_s(timeout_s: float, size_mb: float | None) -> float:
    """Longest that a whole download may take, in seconds: one silence, and `SECONDS_PER_MB` for each megabyte."""
    return timeout_s + SECONDS_PER_MB * (size_mb if size_mb is not None else 100.0)


@dataclass
class Progress:
    """Says how much has arrived, at most every `PROGRESS_EVERY_S` seconds."""

    label: str
    total_mb: float | None
    say: Callable[[str], None]
    _next: float = field(default_factory=lambda: time.monotonic() + PROGRESS_EVERY_S)

    def show(self, received_bytes: int) -> None:
        """Say so if it is time to."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_EVERY_S
            of = f" of {self.total_mb:.1f}" if self.total_mb else ""
            self.say(f"{self.label}: {received_bytes / 1e6:.1f}{of} MB")


def download(
    url: str,
    target: Path,
    checksum: str,
    *,
    label: str,
    say: Callable[[str], None],
    timeout_s: float,
    size_mb: float | None = None,
) -> None:
    """Fetch one file. Honours the proxy and certificate settings of the environment.

    Args:
        url: `http` or `https`.
        target: Where it goes; what is there after an error is to be thrown away by the caller.
        checksum: `sha256:<hex>` or `md5:<hex>` that the file must have.
        label: How progress lines start.
        say: Receives progress lines.
        timeout_s: Longest silence of the server, in seconds.
        size_mb: Expected size in megabytes; twice as much is refused.

    Raises:
        SourceFailed: With a short reason.
    """
    algorithm, _ = parse_checksum(checksum)
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        raise SourceFailed("only http and https URLs are fetched")
    deadline = time.monotonic() + whole_timeout_s(timeout_s, size_mb)
    try:
        with open_url(url, timeout_s) as response, target.open("wb") as out:
            digest = hashlib.new(algorithm, usedforsecurity=False)
            progress = Progress(label, size_mb, say)
            received, limit = 0, 2e6 * size_mb + 1e6 if size_mb else 4e9
            while chunk := response.read1(READ_BYTES):
                received += len(chunk)
                digest.update(chunk)
                out.write(chunk)
                progress.show(received)
                if received > limit:
                    raise SourceFailed(f"sends more than the {size_mb} MB expected")
                if time.monotonic() > deadline:
                    raise SourceFailed(
                        f"too slow: {received / 1e6:.1f} MB in {whole_timeout_s(timeout_s, size_mb):.0f} s"
                    )
            check_complete(response, received)
    except (OSError, http.client.HTTPException) as exc:
        raise SourceFailed(reason_of(exc, timeout_s)) from exc
    check_checksum(f"{algorithm}:{digest.hexdigest()}", checksum, "the file")


def check_complete(response: http.client.HTTPResponse, received: int) -> None:
    """Raise `SourceFailed` if the server promised more than it sent."""
    promised = response.headers.get("Content-Length", "")
    if promised.isdigit() and int(promised) != received:
        raise SourceFailed(f"connection closed after {received} of {promised} bytes")


def open_url(url: str, timeout_s: float) -> http.client.HTTPResponse:
    """Open a URL, or give up after `OPEN_TIMEOUT_S` in all.

    Name resolution knows no timeout and a socket's applies to each of a host's addresses, so the wait is bounded from
    outside: in a thread that is left behind if it does not answer.
    """
    answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()
    is_abandoned = threading.Event()
    request = urllib.request.Request(url, headers={"User-Agent": "finetunekit"})

    def work() -> None:
        try:
            response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout_s)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            close_error(exc)
            answers.put(exc)
            return
        answers.put(response)
        if is_abandoned.is_set():
            response.close()

    threading.Thread(target=work, name="finetunekit-open-url", daemon=True).start()
    try:
        answer = answers.get(timeout=min(timeout_s, OPEN_TIMEOUT_S))
    except queue.Empty:
        is_abandoned.set()
        raise SourceFailed(f"no answer within {min(timeout_s, OPEN_TIMEOUT_S):g} s") from None
    if isinstance(answer, ValueError):
        raise SourceFailed(one_line(answer)) from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


def close_error(error: Exception) -> None:
    """An HTTP error holds an open response."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()


def reason_of(error: BaseException, timeout_s: float) -> str:
    """A network error in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, socket.gaierror):
        return "host not found"
    if isinstance(inner, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(inner, ConnectionRefusedError):
        return "connection refused"
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({one_line(inner.verify_message)})"
    return one_line(inner)
