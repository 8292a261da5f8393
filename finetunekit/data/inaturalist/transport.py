"""HTTP as a good guest does it: one request at a time, paced, named, bounded in time and size, repeated with growing pauses."""

from __future__ import annotations

import importlib.util
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from finetunekit.data.inaturalist.http_errors import (
    CONNECT_TIMEOUT_S,
    NO_CONNECTION,
    Refused,
    Unreachable,
    check_web_url,
    describe_failure,
    host_of,
    retry_after_s,
    short,
)
from finetunekit.errors import ConfigError, FetchError

if TYPE_CHECKING:
    import requests

#: iNaturalist asks for at most 60 requests a minute. Source: api.inaturalist.org/v1/docs, terms of use.
LEAST_PAUSE_S = 1.0
READ_TIMEOUT_S = 30.0
#: Longest that one answer may take, however steadily it drips.
WHOLE_TIMEOUT_S = 180.0
ATTEMPTS = 6
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 2.0, 120.0
#: A server that wants a longer pause than this has closed for today.
LONGEST_RETRY_AFTER_S = 900.0
#: Worth another try: too many requests, and what a server or the proxy before it says when it is not well.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524})
_CHUNK_BYTES = 1 << 16


class Clock:
    """Time as the transport sees it; tests give one that does not wait."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """Let that much time pass."""
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer with status 200.

    Attributes:
        content: The body, as long as the server promised.
        media_type: Lower case, without parameters.
        url: What was asked.
    """

    content: bytes
    media_type: str
    url: str


class _Transient(Exception):
    """One attempt failed in a way that may pass.

    Attributes:
        after_s: The pause that the server asked for.
        is_no_connection: Whether there is no host, or no server on it; without any answer before, that is no network.
    """

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s
        self.is_no_connection = reason in NO_CONNECTION


@dataclass
class Transport:
    """Sends GET requests one after the other.

    Attributes:
        user_agent: Who asks.
        pause_s: Least time between the starts of two requests, at least `LEAST_PAUSE_S`.
        say: Tells of pauses and further attempts.
        clock: Time.
        seed: Seed of the jitter.
        read_timeout_s: Longest silence of a server.
        sent: Number of requests sent.
        has_answered: Whether any host has answered, be it with an error.
    """

    user_agent: str
    pause_s: float = LEAST_PAUSE_S
    say: Callable[[str], None] = lambda line: None
    clock: Clock = field(default_factory=Clock)
    seed: int | None = None
    read_timeout_s: float = READ_TIMEOUT_S
    sent: int = 0
    has_answered: bool = False

    def __post_init__(self) -> None:
        import requests

        self._random = random.Random(self.seed)
        self._session = requests.Session()
        self._session.headers["User-Agent"] = self.user_agent
        self._free_at = self.clock.now()

    def close(self) -> None:
        """Close connections that were kept open."""
        self._session.close()

    def get(self, url: str, *, max_bytes: int, headers: Mapping[str, str] | None = None) -> Response:
        """Ask until there is a whole answer.

        Args:
            url: `http` or `https`.
            max_bytes: A longer answer is refused.
            headers: Besides the `User-Agent`.

        Raises:
            Refused: If the server says no, redirects, or sends more than `max_bytes`.
            Unreachable: If `ATTEMPTS` attempts failed; after the first where there seems to be no network.
            FetchError: If the server asks for a longer pause than `LONGEST_RETRY_AFTER_S`.
        """
        check_web_url(url)
        for attempt in range(1, ATTEMPTS + 1):
            self._pace()
            try:
                return self._once(url, max_bytes, headers or {})
            except _Transient as exc:
                if attempt == ATTEMPTS or (exc.is_no_connection and not self.has_answered):
                    raise Unreachable(str(exc)) from exc
                self._back_off(url, attempt, exc)
        raise AssertionError("unreachable")

    def _pace(self) -> None:
        left_s = self._free_at - self.clock.now()
        if left_s > 0:
            self.clock.wait(left_s)
        self._free_at = max(self.clock.now(), self._free_at) + self.pause_s

    def _back_off(self, url: str, attempt: int, failure: _Transient) -> None:
        """Wait 2, 4, 8 … seconds, each ± 50 % so that many clients do not return together, or as long as the server asks."""
        wait_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (attempt - 1)) * self._random.uniform(0.5, 1.5)
        if failure.after_s is not None:
            if failure.after_s > LONGEST_RETRY_AFTER_S:
                raise FetchError(
                    f"{host_of(url)} asks for a pause of {failure.after_s:.0f} s ({failure}). Give the same command again"
                    " after that: it goes on where it stopped."
                ) from failure
            wait_s = max(wait_s, failure.after_s)
        self.say(f"{host_of(url)}: {failure}; again in {wait_s:.0f} s (attempt {attempt + 1} of {ATTEMPTS})")
        self.clock.wait(wait_s)

    def _once(self, url: str, max_bytes: int, headers: Mapping[str, str]) -> Response:
        import requests

        self.sent += 1
        try:
            with self._session.get(
                url,
                headers=dict(headers),
                stream=True,
                allow_redirects=False,
                timeout=(CONNECT_TIMEOUT_S, self.read_timeout_s),
            ) as response:
                self.has_answered = True
                _check_status(response)
                content = self._read(response, max_bytes)
                media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                return Response(content, media_type, url)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError) as exc:
            raise Refused(f"not a URL that can be asked ({short(exc)})") from exc
        except requests.exceptions.RequestException as exc:
            raise _Transient(describe_failure(exc)) from exc

    def _read(self, response: requests.Response, max_bytes: int) -> bytes:
        """The body as it was sent: no transfer is taken for whole that is shorter than promised."""
        import urllib3

        promised = response.headers.get("Content-Length", "")
        if promised.isdigit() and int(promised) > max_bytes:
            raise Refused(f"{int(promised) / 1e6:.1f} MB is more than the {max_bytes / 1e6:.1f} MB allowed")
        deadline, parts, received = self.clock.now() + WHOLE_TIMEOUT_S, [], 0
        try:
            for chunk in response.iter_content(_CHUNK_BYTES):
                parts.append(chunk)
                received += len(chunk)
                if received > max_bytes:
                    raise Refused(f"sends more than the {max_bytes / 1e6:.1f} MB allowed")
                if self.clock.now() > deadline:
                    raise _Transient(f"too slow: {received / 1e6:.2f} MB in {WHOLE_TIMEOUT_S:.0f} s")
        except urllib3.exceptions.HTTPError as exc:
            raise _Transient(describe_failure(exc)) from exc
        is_packed = response.headers.get("Content-Encoding", "identity") != "identity"
        if promised.isdigit() and not is_packed and received != int(promised):
            raise _Transient(f"cut off after {received} of {promised} bytes")
        return b"".join(parts)


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status in TRANSIENT:
        raise _Transient(f"HTTP {status}", retry_after_s(response.headers.get("Retry-After", "")))
    if status != 200:
        to = f" to {response.headers.get('Location', '')[:80]!r}" if response.is_redirect else ""
        raise Refused(f"HTTP {status}{to}")


def load_transport(*, pause_s: float, say: Callable[[str], None]) -> Transport:
    """A transport that names this tool and its version.

    Raises:
        ConfigError: If the packages of the extra `fetch` are not installed.
    """
    import finetunekit

    missing = [name for name in ("requests", "pyinaturalist") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"data fetch: needs {' and '.join(missing)}. Install: pip install 'finetunekit[fetch]'")
    agent = f"finetunekit/{finetunekit.__version__} (data fetch; photos for training a classifier)"
    return Transport(agent, pause_s=pause_s, say=say)
