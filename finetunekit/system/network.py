"""The network: whether it may be used, and the one HTTP client: bounded in time and size, repeated with growing pauses."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import ssl
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Self

from finetunekit.system.formatting import one_line

if TYPE_CHECKING:
    import requests

OFFLINE_VARIABLE = "FINETUNEKIT_OFFLINE"
CONNECT_TIMEOUT_S = 10.0
LONGEST_BACKOFF_S = 120.0
#: Worth another try: too many requests, and what a server or the proxy before it says when it is not well.
TRANSIENT = (408, 425, 429, 500, 502, 503, 504, 520, 522, 524)
#: What a failure is called. The first that is among its causes counts, since a time-out to connect is a connection error too.
_WORDS = {
    "NameResolutionError": "host not found",
    "gaierror": "host not found",
    "ConnectTimeoutError": f"no connection within {CONNECT_TIMEOUT_S:g} s",
    "ReadTimeoutError": "no answer within {:g} s",
    "ProxyError": "the proxy refuses",
    "SSLCertVerificationError": "its certificate is not trusted",
    "ConnectionRefusedError": "connection refused",
    "IncompleteRead": "connection closed",
    "ConnectionResetError": "connection closed",
    "RemoteDisconnected": "connection closed without an answer",
}


class Refused(Exception):
    """The server answered, and asking again would not help. Its text is a short reason."""


class Unreachable(Exception):
    """No usable answer after every attempt. Its text is a short reason."""


class Closed(Unreachable):
    """The server asks for a longer pause than was to be waited for."""


class _CutOff(Exception):
    """A connection ended in the middle of an answer."""


@dataclass(frozen=True, slots=True)
class Received:
    """A whole answer.

    Attributes:
        media_type: Lower case, without parameters.
        checksum: `<algorithm>:<hex>` of the content.
        size_bytes: Length of the content.
    """

    media_type: str
    checksum: str
    size_bytes: int


def is_offline() -> bool:
    """Whether `FINETUNEKIT_OFFLINE` forbids the network."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in {"", "0", "false", "no", "off"}


def is_web_url(url: str) -> bool:
    """Whether it is an http or https URL with a host."""
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def host_of(url: str) -> str:
    """The host of a URL, with its port where it gives one, and without a password."""
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]


@dataclass
class Client:
    """Sends GET requests, one after the other; proxies and certificates are those of the environment.

    Attributes:
        user_agent: Who asks.
        read_timeout_s: Longest silence of a server.
        attempts: How often an address is asked. Where nothing has answered yet, there is no network, and one failure is enough.
        longest_wait_s: A server that asks for a longer pause is not asked again.
        pause_s: Least time between the starts of two requests.
        follows_redirects: Whether an answer may lead elsewhere.
        say: Tells of pauses and further attempts.
        sent: Number of requests sent.
        has_answered: Whether any host has answered, be it with an error.
    """

    user_agent: str = "finetunekit"
    read_timeout_s: float = 30.0
    attempts: int = 3
    longest_wait_s: float = 30.0
    pause_s: float = 0.0
    follows_redirects: bool = True
    say: Callable[[str], None] = lambda line: None
    sent: int = 0
    has_answered: bool = False
    _free_at: float = 0.0
    _host: str = ""

    def __post_init__(self) -> None:
        import requests

        self._session = requests.Session()
        self._session.headers["User-Agent"] = self.user_agent
        adapter = _adapter(self)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._session.close()

    def get(
        self,
        url: str,
        out: IO[bytes],
        *,
        max_bytes: int,
        limit_s: float = 180.0,
        headers: Mapping[str, str] | None = None,
        algorithm: str = "sha256",
        show: Callable[[int], None] = lambda received: None,
    ) -> Received:
        """Write what is at an address to a file. A connection that breaks is taken up where it broke, if the server allows that.

        Args:
            url: `http` or `https`.
            out: Empty; what is in it after an error is to be thrown away.
            max_bytes: A longer answer is refused.
            limit_s: Longest that an answer may take, however steadily it drips.
            headers: Besides the `User-Agent`.
            algorithm: Of the checksum, taken while the answer streams.
            show: Called with the bytes received so far.

        Raises:
            Refused: If the server says no, redirects where that is not followed, or sends too much.
            Unreachable: If every attempt failed, or the network is forbidden.
        """
        if is_offline():
            raise Unreachable(f"not tried, {OFFLINE_VARIABLE} is set")
        if not is_web_url(url):
            raise Refused(f"not an http or https URL: {url[:100]!r}")
        answer, failures = _Answer(out, algorithm, max_bytes, show), 0
        while True:
            with self._open(url, {**(headers or {}), **answer.rest}) as response:
                try:
                    return answer.read(response, limit_s)
                except _CutOff as exc:
                    reason, failures = f"{self._in_words(exc.__cause__)} after {exc}", failures + 1
            if failures == self.attempts:
                raise Unreachable(reason)
            self._back_off(failures, reason)

    def _open(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        import requests
        import urllib3

        time.sleep(max(0.0, self._free_at - time.monotonic()))
        self._free_at, self._host = time.monotonic() + self.pause_s, host_of(url)
        self.sent += 1
        try:
            response = self._session.get(
                url,
                headers=headers,
                stream=True,
                allow_redirects=self.follows_redirects,
                timeout=(CONNECT_TIMEOUT_S, self.read_timeout_s),
            )
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError) as exc:
            raise Refused(f"not a URL that can be asked ({one_line(exc)})") from exc
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as exc:
            raise Unreachable(self._in_words(exc)) from exc
        self.has_answered = True
        return response

    def _back_off(self, failures: int, reason: str, asked_s: float = 0.0) -> None:
        """Wait 2, 4, 8 … seconds, each ± 50 % so that many clients do not return together, or as long as the server asks."""
        if asked_s > self.longest_wait_s:
            raise Closed(f"asks for a pause of {asked_s:.0f} s ({reason})")
        wait_s = max(asked_s, min(LONGEST_BACKOFF_S, 2.0**failures) * random.uniform(0.5, 1.5))
        self.say(f"{self._host}: {reason}; again in {wait_s:.0f} s (attempt {failures + 1} of {self.attempts})")
        time.sleep(wait_s)

    def _in_words(self, error: BaseException | None) -> str:
        """A network failure in a few words."""
        names: list[str] = []
        seen = error
        while isinstance(seen, BaseException) and len(names) < 12:
            names.append(type(seen).__name__)
            inner = next((a for a in seen.args if isinstance(a, BaseException)), None)
            seen = getattr(seen, "reason", None) or seen.__cause__ or seen.__context__ or inner
        words = next((words for name, words in _WORDS.items() if name in names), None)
        return words.format(self.read_timeout_s) if words else one_line(error, 120)


def _adapter(client: Client) -> requests.adapters.HTTPAdapter:
    """Repeats requests by the client's rules, and trusts the system's certificates besides those that requests brings."""
    import requests
    import urllib3

    trusted = ssl.create_default_context()

    class Retry(urllib3.Retry):
        def increment(
            self, method: Any = None, url: Any = None, response: Any = None, error: Any = None, *more: Any, **named: Any
        ) -> Self:
            if error is not None and not client.has_answered:
                raise error
            return super().increment(method, url, response, error, *more, **named)

        def sleep(self, response: urllib3.BaseHTTPResponse | None = None) -> None:
            reason, asked_s = client._in_words(self.history[-1].error), None
            if response is not None:
                client.has_answered, reason = True, f"HTTP {response.status}"
                with contextlib.suppress(urllib3.exceptions.InvalidHeader):  # neither seconds nor a date
                    asked_s = self.get_retry_after(response)
            client._back_off(len(self.history), reason, asked_s or 0.0)
            client.sent += 1

    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
            super().init_poolmanager(*sizes, **options, ssl_context=trusted)

        def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
            return super().proxy_manager_for(proxy, **options, ssl_context=trusted)

    return Adapter(max_retries=Retry(client.attempts - 1, status_forcelist=TRANSIENT, raise_on_status=False))


@dataclass
class _Answer:
    """What has come of an answer so far; `rest` are headers that ask for what is missing, where the server gives parts."""

    out: IO[bytes]
    algorithm: str
    max_bytes: int
    show: Callable[[int], None]
    received: int = 0
    rest: dict[str, str] = field(default_factory=dict)
    _digest: Any = None

    def read(self, response: requests.Response, limit_s: float) -> Received:
        """Raise `_CutOff` where the connection ends before the answer does."""
        import requests

        self._begin(response)
        headers, begun, deadline = response.headers, self.received, time.monotonic() + limit_s
        is_packed, length = "Content-Encoding" in headers, headers.get("Content-Length", "")
        promised = begun + int(length) if length.isdigit() and not is_packed else None
        self._check_size(promised or 0, f"{(promised or 0) / 1e6:.1f} MB is more")
        try:
            for chunk in response.iter_content(1 << 16):
                self._check_size(self.received + len(chunk), "sends more")
                self._take(chunk)
                if time.monotonic() > deadline:
                    raise Unreachable(f"too slow: {self.received / 1e6:.1f} MB in {limit_s:.0f} s")
        except requests.exceptions.RequestException as exc:
            if headers.get("Accept-Ranges") == "bytes" and self.received and not is_packed:
                same = {"If-Range": headers["ETag"]} if "ETag" in headers else {}
                self.rest = {"Range": f"bytes={self.received}-"} | same
            of = f" of {promised}" if promised else ""
            raise _CutOff(f"{begun + response.raw.tell()}{of} bytes") from exc
        media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Received(media_type, f"{self.algorithm}:{self._digest.hexdigest()}", self.received)

    def _begin(self, response: requests.Response) -> None:
        """Check the status, and go back to the start unless the rest that was asked for is coming."""
        status, part = response.status_code, response.headers.get("Content-Range", "")
        if status == 206 and self.rest and part.startswith(f"bytes {self.received}-"):
            return
        if status in TRANSIENT:
            raise Unreachable(f"HTTP {status}")
        if status != 200:
            to = f" to {response.headers.get('Location', '')[:80]!r}" if response.is_redirect else ""
            raise Refused(f"HTTP {status}{to}")
        self.received, self._digest = 0, hashlib.new(self.algorithm, usedforsecurity=False)
        self.out.seek(0)
        self.out.truncate()

    def _check_size(self, size_bytes: int, what: str) -> None:
        if size_bytes > self.max_bytes:
            raise Refused(f"{what} than the {self.max_bytes / 1e6:.1f} MB allowed")

    def _take(self, chunk: bytes) -> None:
        self.received += len(chunk)
        self._digest.update(chunk)
        self.out.write(chunk)
        self.show(self.received)
