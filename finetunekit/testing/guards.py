"""Noticing what a builder must not do: reach for the network, change files."""

from __future__ import annotations

import hashlib
import io
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from finetunekit.testing.contract import ContractError, Subject


@contextmanager
def no_network(subject: Subject) -> Iterator[None]:
    """Refuse connections and look-ups of this thread meanwhile; other threads are left alone.

    Raises:
        ContractError: Where one is tried, also if the component caught the refusal.
    """
    tried: list[str] = []
    mine = threading.get_ident()
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def refusing(through: Callable[..., Any], position: int) -> Callable[..., Any]:
        def refuse(*arguments: Any, **named: Any) -> Any:
            if threading.get_ident() != mine:
                return through(*arguments, **named)
            tried.append(str(arguments[position]))
            raise OSError("finetunekit.testing: no network while a builder runs")

        return refuse

    socket.socket.connect = refusing(connect, 1)  # type: ignore[method-assign]
    socket.getaddrinfo = refusing(look_up, 0)
    try:
        yield
    except Exception as exc:
        if not tried:
            raise
        raise _reached_out(subject, tried) from exc
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]
        socket.getaddrinfo = look_up
    if tried:
        raise _reached_out(subject, tried)


def _reached_out(subject: Subject, tried: list[str]) -> ContractError:
    return ContractError(
        f"{subject.label}: its builder reaches for the network ({tried[0]}). Build without weights and name their sources in "
        "spec.weight_sources; the engine fetches and checks them."
    )


def fingerprint(folder: Path) -> dict[str, str]:
    """Path of everything in a folder → SHA-256 of a file's bytes, or what else it is; a file likewise."""
    paths = [Path(where) / name for where, folders, files in os.walk(folder) for name in (*folders, *files)]
    if folder.is_file():
        paths = [folder]
    return {str(path): _content(path) for path in sorted(paths)}


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Paths that were added, removed or altered."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


@contextmanager
def watched_output(subject: Subject) -> Iterator[None]:
    """Note where a component prints to stdout, or draws from the global random numbers."""
    printed, before = io.StringIO(), _random_states()
    with redirect_stdout(printed):
        yield
    now = _random_states()
    said = printed.getvalue().split("\n", 1)[0]
    subject.expect(not said, f"prints to stdout ({said!r:.60}), where the result of the run goes; use stderr.")
    subject.expect(now == before, "draws from Python's or NumPy's global random numbers; use random.Random().")


def _random_states() -> tuple[object, bytes]:
    import numpy as np

    return random.getstate(), repr(np.random.get_state(legacy=True)).encode()
