"""Items made ahead in a thread: the same items, in order, and no thread left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from finetunekit.training.batches import prefetched


def feed_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "finetunekit-feed"]


def test_items_come_in_their_order_and_from_another_thread() -> None:
    makers: set[int] = set()

    def items() -> Iterator[int]:
        for number in range(50):
            makers.add(threading.get_ident())
            yield number

    assert list(prefetched(items())) == list(range(50))
    assert makers
    assert threading.get_ident() not in makers
    assert feed_threads() == []


def test_what_the_thread_raises_is_raised_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the photo is gone")

    ready = prefetched(items())
    assert next(ready) == 1
    with pytest.raises(ValueError, match="the photo is gone"):
        next(ready)
    assert feed_threads() == []


def test_closing_ends_a_thread_that_waits_to_hand_over() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    ready = prefetched(items(), ahead=2)
    assert next(ready) == 0
    ready.close()
    assert feed_threads() == []
    assert len(made) <= 5
