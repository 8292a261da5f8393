"""A connection to a Ray cluster, with one line for everything that keeps it from being made."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from finetunekit import FinetuneKitError

T = TypeVar("T")
_CLIENT = "ray://"
_TOKEN = "If it asks for a token, say so here: RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH."


@contextlib.contextmanager
def connected(address: str | None, timeout_s: float) -> Iterator[None]:
    """Connected to a cluster, or to a Ray that is started on this machine; what is connected already stays so.

    Raises:
        FinetuneKitError: If there is no cluster there, it does not answer in time, or refuses.
    """
    found = address or os.environ.get("RAY_ADDRESS")
    if found:
        _knock(found, timeout_s)
    drawn = random.getstate()
    _token_by_default(is_local=not found)
    import ray

    if ray.is_initialized():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _within(timeout_s if found else None, lambda: _connect(found))
    except FinetuneKitError:
        raise
    except Exception as exc:
        hint = f". {_TOKEN}" if found and isinstance(exc, ConnectionError) else ""
        raise FinetuneKitError(f"{_shown(found)}: cannot be used: {_first_line(exc)}{hint}") from exc
    finally:
        _put_back(handler)
        random.setstate(drawn)  # Ray draws its names and ports from it
    with _silenced():
        try:
            yield
        finally:
            drawn = random.getstate()
            ray.shutdown()
            random.setstate(drawn)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Ray prints to stdout, where results go, what its nodes report of workers that died: the executor says that in a line of its own.

    No setting keeps it from that; where a version of Ray has no such function any more, it prints.
    """
    from ray._private import worker

    printing = getattr(worker, "print_to_stdstream", None)
    if printing is None:
        yield
        return
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        worker.print_to_stdstream = printing


def _connect(address: str | None) -> None:
    import ray

    options: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    if address is None:
        options["include_dashboard"] = False
    try:
        ray.init(address or "local", **options)
    except ConnectionAbortedError:
        if not (address or "").startswith(_CLIENT):
            raise
        # a head gives the server that it starts for each client 30 s, which are too few on a busy machine; the next start is a quicker one
        ray.init(address, **options)


def _put_back(handler: Any) -> None:
    """Ray's way to meet SIGTERM would not keep what is under way."""
    if threading.current_thread() is threading.main_thread() and handler is not None:
        signal.signal(signal.SIGTERM, handler)


def _token_by_default(*, is_local: bool) -> None:
    """A Ray of this machine's own asks for a token: Ray 2.59 sees to that by itself, an older one where it is told before it is loaded.

    It stays told: the process has decided for good how it authenticates, and what a second Ray of its own starts has to agree.
    """
    if not is_local or "RAY_AUTH_MODE" in os.environ or "ray" in sys.modules:
        return
    if tuple(map(int, importlib.metadata.version("ray").split(".")[:2])) < (2, 59):
        os.environ["RAY_AUTH_MODE"] = "token"


def _knock(address: str, timeout_s: float) -> None:
    """Whether anybody is there at all: Ray itself waits long for a head that is not, or ends the process."""
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    if not host or not port.isdecimal():
        if address in ("auto", "local"):
            return
        raise FinetuneKitError(f"{address}: an address is ray://HOST:PORT or HOST:PORT, such as ray://head:10001.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()
    except (OSError, OverflowError) as exc:
        reason = "no answer in time" if isinstance(exc, TimeoutError) else getattr(exc, "strerror", None) or exc
        more = " --ray-client-server-port 10001" if address.startswith(_CLIENT) else ""
        raise FinetuneKitError(
            f"{address}: the head cannot be reached ({reason}). Is it running (ray start --head{more}), and its port open?"
        ) from exc


def _within(timeout_s: float | None, call: Callable[[], None]) -> None:
    """Wait for a call so long at most; None: as long as it takes."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as exc:  # noqa: BLE001 - raised again by who waits
            raised.append(exc)

    if timeout_s is None:
        call()
        return
    thread = threading.Thread(target=work, name="ray", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise FinetuneKitError(
            f"the Ray cluster has not answered within {timeout_s:g} s. Set executor.timeout_s higher."
        )
    if raised:
        raise raised[0]


def _shown(address: str | None) -> str:
    return address or "a Ray of this machine's own"


def _first_line(exc: BaseException) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return f"{type(exc).__name__}: {' '.join(lines)[:600]}" if lines else type(exc).__name__
