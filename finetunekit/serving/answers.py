"""From bytes that a client sent to what is said of each photo: decoded in a few threads, answered in one, all within a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import DataError
from finetunekit.serving.batching import Batcher
from finetunekit.serving.problems import Problem
from finetunekit.serving.served import Answer, Asked

if TYPE_CHECKING:
    from finetunekit.data.decode import Pixels
    from finetunekit.serving.admission import Admission
    from finetunekit.serving.metrics import Metrics
    from finetunekit.serving.served import Raw, Served, Window

#: Threads that decode: Pillow lets others work meanwhile.
DECODERS = 2
PLAIN = Asked()


@dataclass(frozen=True, slots=True)
class Sent:
    """One photo of a request.

    Attributes:
        name: How the client calls it.
        content: Of its file; or its pixels.
    """

    name: str
    content: bytes | Pixels


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a class was found in a photo.

    Attributes:
        label: The class.
        where: `(rows, columns)` in [0, 1].
        window: The part of the photo that `where` lies over.
    """

    label: str
    where: NDArray[np.float32]
    window: Window


class Desk:
    """A model with its thread, in use by requests; it closes when the last of them has its answer."""

    def __init__(self, served: Served) -> None:
        """Open it."""
        self.served, self.batcher = served, Batcher(served)
        self._users, self._is_closing = 0, False
        self._is_free = asyncio.Event()
        self._is_free.set()

    @contextlib.contextmanager
    def in_use(self) -> Any:
        """While a request needs it."""
        self._users += 1
        self._is_free.clear()
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._is_free.set()

    async def close(self) -> None:
        """Wait for the requests that use it, then end its thread."""
        await self._is_free.wait()
        await asyncio.to_thread(self.batcher.close)


class Answering:
    """Takes photos in and gives answers out.

    Attributes:
        desk: The model that answers now; another one takes its place where a newer run is served.
        admission: How much is taken on at once.
        metrics: What is counted.
    """

    def __init__(self, desk: Desk, admission: Admission, metrics: Metrics, *, time_limit_s: float) -> None:
        """Start the threads that decode."""
        self.desk, self.admission, self.metrics = desk, admission, metrics
        self._time_limit_s = time_limit_s
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decodes")

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """A request may take so long, from its first byte.

        Raises:
            Problem: 504 where it takes longer.
        """
        try:
            async with asyncio.timeout(self._time_limit_s):
                yield
        except TimeoutError:
            self.metrics.count_refused("late")
            words = f"The request took longer than {self._time_limit_s:g} s. Send fewer or smaller photos at once."
            raise Problem(504, words) from None

    async def answer(self, photos: Sequence[Sent], asked: Asked = PLAIN) -> list[Answer | DataError]:
        """What is said of each photo, or what is wrong with it, in the order given.

        Raises:
            Problem: 503 where too many photos are under way.
            ConfigError: If the model cannot give what is asked for.
        """
        with self._let_in(len(photos)), self.desk.in_use() as desk:
            found = await asyncio.gather(*(self._raw(desk, sent) for sent in photos))
            good = [raw for raw in found if not isinstance(raw, DataError)]
            said = await asyncio.to_thread(desk.served.say, good, asked) if good else []
        for answer in said:
            self.metrics.count_answer(answer)
        answers = iter(said)
        return [raw if isinstance(raw, DataError) else next(answers) for raw in found]

    async def explain(self, photo: Sent, label: str | None) -> Explanation:
        """Where in a photo a class was found; the most probable one where none is named.

        Raises:
            Problem: 503 as `answer`; 400 if there is no such class.
            DataError: If it is not a photo.
            ConfigError: If the model cannot say it.
        """
        with self._let_in(1), self.desk.in_use() as desk:
            served = desk.served
            if label is not None and label not in served.about.classes:
                raise Problem(400, f"There is no class of that name. Allowed: {', '.join(served.about.classes[:12])}.")
            pixels = await self._decoded(served, photo)
            fitted = await self._apart(lambda: served.fit(pixels))
            row, _ = await asyncio.wrap_future(desk.batcher.submit(fitted))
            index = int(np.argmax(row)) if label is None else served.about.classes.index(label)
            where = await asyncio.wrap_future(desk.batcher.call(lambda: served.explain(fitted, index)))
            return Explanation(served.about.classes[index], where, served.shown(*pixels.shape[:2]))

    async def take_over(self, served: Served) -> None:
        """Answer with another model from now on; requests that are under way keep the one that they began with."""
        before, self.desk = self.desk, Desk(served)
        await before.close()

    async def close(self) -> None:
        """After the last request: end all threads."""
        await self.desk.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    @contextlib.contextmanager
    def _let_in(self, count: int) -> Any:
        try:
            with self.admission.photos_let_in(count):
                yield
        except Problem as problem:
            if problem.status == 503:
                self.metrics.count_refused("busy")
            raise

    async def _raw(self, desk: Desk, sent: Sent) -> Raw | DataError:
        try:
            pixels = await self._decoded(desk.served, sent)
        except DataError as exc:
            self.metrics.count_refused("unreadable")
            return exc
        fitted = await self._apart(lambda: desk.served.fit(pixels))
        raw: Raw = await asyncio.wrap_future(desk.batcher.submit(fitted))
        return raw

    async def _decoded(self, served: Served, sent: Sent) -> Pixels:
        content, name = sent.content, sent.name
        return await self._apart(lambda: served.decode(content, name)) if isinstance(content, bytes) else content

    async def _apart(self, work: Callable[[], Pixels]) -> Pixels:
        """In a thread that decodes, so that the event loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)
