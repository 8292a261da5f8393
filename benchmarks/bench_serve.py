"""A server beside `predict`: photos a second, times of answers, and what minutes of good and bad requests do to it.

    python benchmarks/bench_serve.py RUN PHOTOS [--clients 16] [--photos 400] [--minutes 10]
    python benchmarks/bench_serve.py RUN PHOTOS --export RUN/exports/onnx

RUN is served by a process of its own, and by another one its export. `predict` is measured first, in this process, on the same photos.
Clients are threads of this process that send one photo after the other. With `--minutes` 64 of them also send photos that are cut short,
too large, bombs or nonsense, send slowly, or leave before their answer; every good answer is compared with `predict`'s, to the bit for RUN,
and the server's memory is read all the while.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import requests
from common import describe_machine, new_parser
from PIL import Image

import finetunekit as ftk
from finetunekit.data.photo_paths import find_photos

MOST_BYTES = 4 * 2**20
TIMEOUT_S = 300.0
#: How far an exported model's probabilities may be from the run's.
CLOSE = 1e-3


@dataclass
class Asked:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    answered: int = 0
    refused: int = 0
    late: int = 0
    wrong: list[str] = field(default_factory=list)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("run")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--export", type=Path, help="folder of an exported model, served after the run")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--minutes", type=float, default=0.0)
    arguments = parser.parse_args()
    print(describe_machine())
    paths = [path for path in find_photos([arguments.folder]) if path.stat().st_size < MOST_BYTES][: arguments.photos]
    expected, rate = measure_predict(arguments.run, paths)
    print(f"predict: {rate:.1f} photos/s, {len(paths)} photos")
    measure(arguments.run, paths, expected, rate, arguments, tolerance=0.0)
    if arguments.export:
        measure(str(arguments.export), paths, expected, rate, arguments, tolerance=CLOSE)


def measure_predict(run: str, paths: Sequence[Path]) -> tuple[dict[Path, dict[str, float]], float]:
    """What `predict` says of each photo, and its rate once everything is loaded and traced."""
    loaded = ftk.load(run)
    loaded.predict(paths[:16])
    started = time.perf_counter()
    found = loaded.predict(paths)
    rate = len(paths) / (time.perf_counter() - started)
    return {p.path: dict(p.probabilities) for p in found}, rate


def measure(
    served: str, paths: Sequence[Path], expected: dict, rate: float, arguments: argparse.Namespace, *, tolerance: float
) -> None:
    with running(served) as (url, process):
        print(f"\n{served}")
        alone = ask_all(url, paths[:40], expected, 1, tolerance)
        once_ms = 1000 * float(np.median(alone.seconds))
        print(f"one client: {once_ms:.1f} ms a photo (median of {len(alone.seconds)})")
        started = time.perf_counter()
        asked = ask_all(url, paths, expected, arguments.clients, tolerance)
        throughput = asked.answered / (time.perf_counter() - started)
        p50, p99 = (1000 * float(np.quantile(asked.seconds, share)) for share in (0.5, 0.99))
        print(
            f"{arguments.clients} clients: {throughput:.1f} photos/s, {throughput / rate:.0%} of predict's; median {p50:.0f} ms, "
            f"99th percentile {p99:.0f} ms, {p99 / once_ms:.1f} x one client's; wrong {len(asked.wrong)}"
        )
        if arguments.minutes:
            endure(url, process.pid, paths, expected, 60 * arguments.minutes, tolerance)


@contextmanager
def running(served: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """A server in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "finetunekit",
        "serve",
        served,
        "--port",
        "0",
        "--max-megabytes",
        "8",
        "--time-limit",
        "20",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(url + "/v2/health/ready", timeout=5).ok:
                    break
        try:
            yield url, process
        finally:
            process.terminate()
            print(f"ended with {process.wait(60)}")


def ask_all(url: str, paths: Sequence[Path], expected: dict, clients: int, tolerance: float) -> Asked:
    """Every photo once, one after the other for each client."""
    asked, lock = Asked(), threading.Lock()
    sessions = threading.local()

    def ask(path: Path) -> None:
        session = sessions.__dict__.setdefault("session", requests.Session())
        began = time.perf_counter()
        answer = session.post(url + "/v1/predict", data=path.read_bytes(), timeout=TIMEOUT_S)
        seconds = time.perf_counter() - began
        with lock:
            note(asked, answer, path, expected, tolerance)
            asked.seconds.append(seconds)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, paths))
    return asked


def note(asked: Asked, answer: requests.Response, path: Path, expected: dict, tolerance: float) -> None:
    if answer.status_code == 503:
        asked.refused += 1
        return
    if answer.status_code == 504:  # it was given up in time, and said so
        asked.late += 1
        return
    asked.answered += 1
    (found,) = answer.json()["predictions"]
    of_predict = expected[path]
    if any(abs(found["probabilities"][name] - value) > tolerance for name, value in of_predict.items()):
        asked.wrong.append(str(path))


# ---- good and bad, for minutes -----------------------------------------------------------------------------------------------------


def endure(url: str, pid: int, paths: Sequence[Path], expected: dict, seconds: float, tolerance: float) -> None:
    """64 clients of all kinds; then how much memory the server had in the first and the last fifth of the time."""
    until, good, bad, lock = time.monotonic() + seconds, Asked(), {}, threading.Lock()
    memory: list[float] = []
    bomb = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(bomb, "PNG")
    kinds: list[Callable[[random.Random], object]] = [
        lambda rng: post(url, rng.choice(paths).read_bytes()[: rng.randint(1, 2000)]),
        lambda rng: post(url, b"\xff" * (9 * 2**20)),
        lambda rng: post(url, bomb.getvalue()),
        lambda rng: post(
            url,
            rng.randbytes(500),
            {"Content-Type": rng.choice(["application/json", "multipart/form-data; boundary=x"])},
        ),
        lambda rng: slow(url, rng),
        lambda rng: leave(url, rng.choice(paths).read_bytes()),
    ]

    def client(number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < until:
            if number % 2:
                kind = rng.randrange(len(kinds))
                outcome = kinds[kind](rng)
                with lock:
                    bad.setdefault(kind, {}).setdefault(outcome, 0)
                    bad[kind][outcome] += 1
                continue
            path = rng.choice(paths)
            answer = requests.post(url + "/v1/predict", data=path.read_bytes(), timeout=TIMEOUT_S)
            with lock:
                note(good, answer, path, expected, tolerance)

    clients = [threading.Thread(target=client, args=(number,)) for number in range(64)]
    for thread in clients:
        thread.start()
    while any(thread.is_alive() for thread in clients):
        memory.append(resident_mb(pid))
        time.sleep(1)
    fifth = max(1, len(memory) // 5)
    first, last = np.median(memory[fifth : 2 * fifth]), np.median(memory[-fifth:])
    print(
        f"{seconds / 60:g} minutes, 64 clients: {good.answered} good answers, {good.refused} told to come again, "
        f"{good.late} told that it takes too long, {len(good.wrong)} wrong"
    )
    for name, outcomes in zip(
        ("cut short", "too large", "bomb", "nonsense", "slow", "left"), map(bad.get, range(6)), strict=True
    ):
        print(f"    {name}: {json.dumps(outcomes)}")
    print(
        f"memory: {first:.0f} MB in the second fifth of the time, {last:.0f} MB in the last ({last / first - 1:+.1%})"
    )


def post(url: str, content: bytes, headers: dict[str, str] | None = None) -> object:
    try:
        return requests.post(url + "/v1/predict", data=content, headers=headers, timeout=TIMEOUT_S).status_code
    except requests.ConnectionError:
        return "closed"  # a server that refuses a body unread may close before it was sent


def connect(url: str) -> socket.socket:
    host, port = re.fullmatch(r"http://(.+):(\d+)", url).groups()
    return socket.create_connection((host, int(port)), timeout=TIMEOUT_S)


def slow(url: str, rng: random.Random) -> object:
    """A body that comes byte by byte and never ends."""
    with connect(url) as connection, contextlib.suppress(OSError):
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(rng.randint(1, 30)):
            connection.sendall(b"x")
            time.sleep(0.1)
    return "left"


def leave(url: str, content: bytes) -> object:
    """A whole photo from someone who does not wait for the answer."""
    with connect(url) as connection:
        head = f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
    return "left"


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1e3
    return 0.0


if __name__ == "__main__":
    main()
