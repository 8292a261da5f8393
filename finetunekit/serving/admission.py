"""How much a server takes on at once: photos that are under way, and bytes of requests that are held in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from finetunekit.serving.problems import Problem


class Admission:
    """Counts, in the one thread of the event loop.

    Attributes:
        photos: Under way now.
        held_bytes: Of bodies, read and not yet answered.
    """

    def __init__(self, *, most_photos: int, body_bytes: int, most_bytes: int) -> None:
        """Set the limits: photos under way, bytes of one request, bytes of all requests together."""
        self.photos = self.held_bytes = 0
        self._most_photos, self._body_bytes, self._most_bytes = most_photos, body_bytes, most_bytes

    @contextmanager
    def photos_let_in(self, count: int) -> Iterator[None]:
        """While so many photos are under way.

        Raises:
            Problem: 503 where they would be too many now; 413 where they always are.
        """
        if count > self._most_photos:
            raise Problem(413, f"{count} photos in one request; allowed are {self._most_photos}. Send fewer at once.")
        if self.photos + count > self._most_photos:
            raise busy()
        self.photos += count
        try:
            yield
        finally:
            self.photos -= count

    @contextmanager
    def body(self) -> Iterator[Body]:
        """A body that is about to be read; what was read of it is given back at the end of the block."""
        found = Body(self)
        try:
            yield found
        finally:
            self.held_bytes -= found.size

    def check(self, size: int, more: int | None = None) -> None:
        """Whether a body may have this size, of which `more` bytes are new; None: all.

        Raises:
            Problem: 413 where it is too long, 503 where all requests together are.
        """
        if size > self._body_bytes:
            raise Problem(413, f"The request has more than {self._body_bytes:,} bytes, which is what is allowed.")
        if self.held_bytes + (size if more is None else more) > self._most_bytes:
            raise busy()

    def hold(self, body: Body, more: int) -> None:
        """So many bytes of a body came; Problem: see `check`."""
        self.check(body.size + more, more)
        body.size += more
        self.held_bytes += more


class Body:
    """The body of one request.

    Attributes:
        size: Bytes of it that are held.
    """

    def __init__(self, admission: Admission) -> None:
        """Nothing was read yet."""
        self._admission, self.size = admission, 0

    async def read(self, stream: AsyncIterator[bytes], claimed: str | None) -> bytes:
        """All of it, counted as it comes.

        Args:
            stream: What comes.
            claimed: Content-Length, where there is one: a body that claims too much is not read at all.

        Raises:
            Problem: See `Admission.check`.
        """
        if claimed is not None:
            self._admission.check(int(claimed))  # the server has refused what is not a number
        parts = []
        async for part in stream:
            self._admission.hold(self, len(part))
            parts.append(part)
        return b"".join(parts)


def busy() -> Problem:
    """Come again."""
    return Problem(503, "The server has as many photos as it takes at once. Send them again in a moment.", retry_s=1)
