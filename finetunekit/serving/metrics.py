"""What the server counts, for Prometheus; nothing of a photo's content."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetunekit.serving.served import Answer

#: Seconds that a request takes.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """A registry of its own for each server."""

    def __init__(self, under_way: Callable[[], int]) -> None:
        """Count from nothing.

        Args:
            under_way: How many photos are under way now.
        """
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "finetunekit_requests", "Requests, by route and status.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "finetunekit_request_seconds",
            "Time from the first byte of a request to its answer.",
            ["route"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._photos = Counter("finetunekit_photos", "Photos, by what became of them.", ["outcome"], registry=registry)
        self._classes = Counter(
            "finetunekit_answers", "Answers, by class; 'unsure': none.", ["label"], registry=registry
        )
        self._confidence = Histogram(
            "finetunekit_confidence",
            "Probability of the most probable class.",
            buckets=[tenth / 10 for tenth in range(1, 11)],
            registry=registry,
        )
        self._unlike = Counter("finetunekit_unlike_photos", "Photos unlike any training photo.", registry=registry)
        Gauge("finetunekit_photos_under_way", "Photos accepted and not yet answered.", registry=registry).set_function(
            under_way
        )

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_answer(self, answer: Answer) -> None:
        """A photo was answered."""
        self._photos.labels("answered").inc()
        self._classes.labels(answer.label or "unsure").inc()
        self._confidence.observe(answer.probability)
        self._unlike.inc(answer.is_unlike)

    def count_refused(self, reason: str) -> None:
        """A photo was not: `unreadable`, `busy`, `late`."""
        self._photos.labels(reason).inc()

    def text(self) -> bytes:
        """In the text format of Prometheus."""
        from prometheus_client import generate_latest

        text: bytes = generate_latest(self._registry)
        return text
