"""A server on loopback that answers like iNaturalist's API, version 1, and like the hosts of its photos; it can be told to misbehave."""

from __future__ import annotations

import io
import json
import threading
import urllib.parse
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

TAXA = {
    "Felis catus": (118552, "species"),
    "Panthera leo": (41964, "species"),
    "Lynx": (41974, "genus"),
    "Panthera tigris": (41967, "species"),
    "Panthera": (41944, "genus"),
}
PANTHERA = 41944


def jpeg(seed: int, width_px: int = 160, height_px: int = 120) -> bytes:
    """A photo that no other number gives."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((width_px, height_px)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


class FakeInaturalist(ThreadingHTTPServer):
    """What the server knows, whom it was asked by, and what goes wrong next.

    `faults[path]` is a list of answers that are given, one a request, before the right one: a status, `(status, Retry-After)`, or one of
    `truncated`, `html`, `hang`, `huge`, `lies`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.observations: list[dict[str, Any]] = []
        self.bodies: dict[int, bytes] = {}
        self.faults: defaultdict[str, list[Any]] = defaultdict(list)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.agents: Counter[str] = Counter()
        self.closing = threading.Event()
        self.page_size = 7

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def api(self) -> str:
        return f"{self.address}/v1"

    def photos_asked(self) -> list[int]:
        return [int(path.split("/")[2]) for path, _ in self.asked if path.startswith("/photos/")]

    def add(self, taxon: str, observer: int, **changes: Any) -> int:
        """Add an observation with one photo; returns the photo's number."""
        number = 1000 + len(self.observations)
        photo_id = 500_000 + number
        taxon_id, rank = TAXA[taxon]
        photo = {
            "id": photo_id,
            "license_code": "cc-by",
            "attribution": f"(c) Person {observer}, some rights reserved (CC BY)",
            "url": f"{self.address}/photos/{photo_id}/square.jpg",
            "original_dimensions": {"width": 2048, "height": 1536},
            "hidden": False,
            "flags": [],
        }
        self.observations.append(
            {
                "id": number,
                "quality_grade": "casual" if taxon in ("Felis catus", "Panthera tigris") else "research",
                "captive": taxon == "Panthera tigris",
                "uri": "https://elsewhere.example/1",
                "user": {"id": observer, "login": f"person{observer}", "name": f"Person {observer}"},
                "taxon": {"id": taxon_id, "name": taxon, "rank": rank, "ancestor_ids": [1, PANTHERA, taxon_id]},
                "num_identification_disagreements": 0,
                "annotations": [],
                "created_at": "2020-02-03T04:05:06+00:00",
                "location": f"{number % 60 + 0.5},{number % 170 + 0.25}",
                "photos": [photo | changes.pop("photo", {})],
            }
            | changes
        )
        return photo_id


class _Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True  # headers and body are two writes: else each answer waits 40 ms
    server: FakeInaturalist
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        self.server.asked.append((path, asked))
        self.server.agents[self.headers["User-Agent"]] += 1
        fault = self.server.faults[path].pop(0) if self.server.faults[path] else None
        if path == "/v1/taxa":
            body, kind = self._taxa(asked), "application/json"
        elif path == "/v1/observations":
            body, kind = self._observations(asked), "application/json"
        else:
            photo_id = int(path.split("/")[2])
            body, kind = self.server.bodies.get(photo_id) or jpeg(photo_id), "image/jpeg"
        self._answer(fault, body, kind)

    def _answer(self, fault: Any, body: bytes, kind: str) -> None:
        match fault:
            case None:
                self._send(200, body, kind)
            case int() as status:
                self._send(status, b"no", "text/plain")
            case (int() as status, str() as after):
                self._send(status, b"later", "text/plain", {"Retry-After": after})
            case "truncated":
                self._send(200, body[: len(body) // 2], kind, {"Content-Length": str(len(body))})
                self.close_connection = True
            case "cut":  # half a photo whose length is right: only decoding tells
                self._send(200, body[: len(body) // 2], kind)
            case "html":
                self._send(200, b"<html>Please log in</html>", "text/html")
            case "lies":
                self._send(200, b"<html>Please log in</html>", kind)
            case "huge":
                self._send(200, b"", kind, {"Content-Length": "9000000000"})
                self.close_connection = True
            case "redirect":
                self._send(302, b"", "text/plain", {"Location": "http://169.254.169.254/latest"})
            case "hang":
                self.server.closing.wait(20)
                self.close_connection = True

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _taxa(self, asked: dict[str, str]) -> bytes:
        near = [name for name in TAXA if asked["q"].split()[0].lower()[:4] in name.lower()]
        results = [
            {"id": TAXA[name][0], "name": name, "rank": TAXA[name][1], "ancestor_ids": [1, PANTHERA, TAXA[name][0]]
             if name.startswith("Panthera") else [1, TAXA[name][0]], "observations_count": 9}
            for name in near
        ]  # fmt: skip
        return json.dumps({"total_results": len(results), "page": 1, "per_page": 30, "results": results}).encode()

    def _observations(self, asked: dict[str, str]) -> bytes:
        grades, licences = asked["quality_grade"].split(","), asked["photo_license"].split(",")
        found = [
            o
            for o in self.server.observations
            if o["id"] > int(asked["id_above"])
            and int(asked["taxon_id"]) in {o["taxon"]["id"], *o["taxon"].get("ancestor_ids", ())}
            and o["quality_grade"] in grades
            and any(not isinstance(p, dict) or p.get("license_code") in (*licences, 3) for p in o["photos"])
        ]
        page = found[: min(self.server.page_size, int(asked["per_page"]))]
        return json.dumps(
            {"total_results": len(found), "page": 1, "per_page": self.server.page_size, "results": page}
        ).encode()


@contextmanager
def serving() -> Iterator[FakeInaturalist]:
    server = FakeInaturalist()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


class FakeClock:
    """Stands for the module `time` where the client looks at it: time passes only when somebody waits."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time_s += seconds
