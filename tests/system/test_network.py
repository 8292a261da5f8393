"""The HTTP client against a server on loopback that breaks off, redirects and asks to wait."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from finetunekit.system import network
from finetunekit.system.network import Client, Closed, Received, Refused, Unreachable

CONTENT = bytes(range(256)) * 1000  # more than one piece


class Server(http.server.ThreadingHTTPServer):
    """Answers with `CONTENT`, but first with what `faults` says: a status and headers, or after how many bytes it hangs up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[Any] = []
        self.asked: list[str] = []
        self.gives_parts = True
        self.content = CONTENT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(http.server.BaseHTTPRequestHandler):
    disable_nagle_algorithm = True  # headers and body are two writes: else each answer waits 40 ms
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range", "whole"))
        fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, tuple):
            self._send(fault[0], b"", fault[1])
            return
        version = hashlib.md5(self.server.content).hexdigest()
        headers = {"ETag": f'"{version}"'} | ({"Accept-Ranges": "bytes"} if self.server.gives_parts else {})
        begin = 0
        if "Range" in self.headers and self.headers["If-Range"] == headers["ETag"]:
            begin = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"
        self._send(206 if begin else 200, self.server.content[begin:], headers, sent=fault)

    def _send(self, status: int, body: bytes, headers: dict[str, str], sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:sent])

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client would have waited."""
    found: list[float] = []
    monkeypatch.setattr(network, "time", SimpleNamespace(monotonic=time.monotonic, sleep=found.append))
    for key in [k for k in os.environ if k == "FINETUNEKIT_OFFLINE" or k.lower().endswith("_proxy")]:
        monkeypatch.delenv(key)
    return found


def get(server: Server, *, max_bytes: int = 10**6, **options: Any) -> tuple[bytes, Received]:
    out = io.BytesIO()
    with Client(**options) as client:
        received = client.get(server.url, out, max_bytes=max_bytes)
    return out.getvalue(), received


@pytest.mark.parametrize("gives_parts", [True, False])
def test_a_connection_that_breaks_is_taken_up_where_it_broke_or_from_the_start(
    server: Server, gives_parts: bool
) -> None:
    server.faults, server.gives_parts = [150_000, 70_000], gives_parts
    content, received = get(server)
    assert content == CONTENT
    assert received.checksum == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert received.size_bytes == len(CONTENT)
    starts = ["whole", "bytes=131072-", "bytes=196608-"]
    assert server.asked == (starts if gives_parts else ["whole"] * 3)


def test_a_file_that_changed_meanwhile_is_begun_anew(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.faults = [150_000]
    newer = CONTENT[::-1]

    def change(seconds: float) -> None:
        server.content = newer if server.asked else CONTENT

    monkeypatch.setattr(network.time, "sleep", change)
    assert get(server)[0] == newer


def test_an_answer_that_is_never_whole_is_given_up(server: Server) -> None:
    server.faults = [100] * 3
    with pytest.raises(Unreachable, match=f"connection closed after 100 of {len(CONTENT)} bytes"):
        get(server)


def test_a_server_that_is_not_well_is_asked_again_after_growing_pauses(server: Server, waits: list[float]) -> None:
    server.faults = [(503, {}), (429, {"Retry-After": "7"}), (500, {"Retry-After": "soon"})]
    lines: list[str] = []
    assert get(server, attempts=4, say=lines.append)[0] == CONTENT
    first, second, third = (wait for wait in waits if wait)
    assert 1 <= first <= 3
    assert second == 7
    assert 4 <= third <= 12
    assert [line.partition("; again in ")[0].rpartition(": ")[2] for line in lines] == [
        "HTTP 503",
        "HTTP 429",
        "HTTP 500",
    ]
    server.faults = [(503, {})] * 2
    with pytest.raises(Unreachable, match=r"^HTTP 503$"):
        get(server, attempts=2)
    server.faults = [(503, {"Retry-After": "3600"})]
    with pytest.raises(Closed, match=r"asks for a pause of 3600 s \(HTTP 503\)"):
        get(server)


def test_redirects_are_followed_only_where_that_was_said(server: Server) -> None:
    moved = (302, {"Location": f"{server.url}2"})
    server.faults = [moved]
    assert get(server)[0] == CONTENT
    server.faults = [moved]
    with pytest.raises(Refused, match=r"HTTP 302 to 'http://127\.0\.0\.1:\d+/file2'"):
        get(server, follows_redirects=False)


def test_size_is_bounded_by_what_is_promised_and_by_what_comes(server: Server) -> None:
    with pytest.raises(Refused, match=r"0\.3 MB is more than the 0\.1 MB allowed"):
        get(server, max_bytes=100_000)
    server.faults = [(206, {"Content-Range": "bytes 5-9/10"})]
    with pytest.raises(Refused, match="HTTP 206"):
        get(server)


def test_no_network_is_said_at_once_and_a_forbidden_one_is_not_tried(
    server: Server, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client() as client, pytest.raises(Unreachable, match="connection refused"):
        client.get("http://127.0.0.1:9/", io.BytesIO(), max_bytes=1)
    assert not any(waits)
    monkeypatch.setenv("FINETUNEKIT_OFFLINE", "1")
    with pytest.raises(Unreachable, match="not tried, FINETUNEKIT_OFFLINE is set"):
        get(server)
    assert server.asked == []
