"""One weight source's file over HTTP, checked while it streams, and how long and how loudly a download may go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from finetunekit.models.weights.files import SourceFailed, check_checksum, parse_checksum
from finetunekit.system.network import Client, Refused, Unreachable
from finetunekit.types import WeightSource

#: Slowest connection that is still waited for, 0.25 MB/s.
SECONDS_PER_MB = 4.0
PROGRESS_EVERY_S = 5.0

Say = Callable[[str], None]


def whole_timeout_s(timeout_s: float, size_mb: float | None) -> float:
    """Longest that a whole download may take, in seconds: one silence, and `SECONDS_PER_MB` for each megabyte."""
    return timeout_s + SECONDS_PER_MB * (size_mb if size_mb is not None else 100.0)


def megabyte_counter(label: str, size_mb: float | None, say: Say) -> Callable[[int], None]:
    """A callback for the bytes received so far; it says how many, at most every `PROGRESS_EVERY_S` seconds."""
    next_s = time.monotonic() + PROGRESS_EVERY_S

    def show(received: int) -> None:
        nonlocal next_s
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + PROGRESS_EVERY_S
            say(f"{label}: {received / 1e6:.1f}{f' of {size_mb:.1f}' if size_mb else ''} MB")

    return show


def download(source: WeightSource, target: Path, *, label: str, say: Say, timeout_s: float) -> None:
    """Fetch the file at a source's URL; twice the expected size is refused.

    Args:
        source: A URL, its checksum and its size.
        target: Where it goes; what is there after an error is to be thrown away by the caller.
        label: How progress lines start.
        say: Receives progress lines.
        timeout_s: Longest silence of the server, in seconds.

    Raises:
        SourceFailed: With a short reason.
    """
    algorithm, _ = parse_checksum(source.checksum)
    try:
        with Client(read_timeout_s=timeout_s, say=say) as client, target.open("wb") as out:
            received = client.get(
                source.location,
                out,
                max_bytes=int(2e6 * source.size_mb + 1e6 if source.size_mb else 4e9),
                limit_s=whole_timeout_s(timeout_s, source.size_mb),
                algorithm=algorithm,
                show=megabyte_counter(label, source.size_mb, say),
            )
    except (Refused, Unreachable) as exc:
        raise SourceFailed(str(exc)) from exc
    check_checksum(received.checksum, source.checksum, "the file")
