"""One thread for numerical libraries, while a problem is small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Bound BLAS and OpenMP to one thread each, for what consists of many small products.

    On several threads they wait for each other, on a busy machine ten times as long as they work; and one thread gives the same bits
    whatever the number of processors. TensorFlow's own threads are not bounded.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield
