"""What is done on a node. Sent there as it stands, so that it need not be installed on it: it imports nothing of this package."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import io
import os
import platform
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

_SET_BY_RAY = ("OMP_NUM_THREADS",)
_LAST_LETTERS = 2_000


# ---- what a node has -------------------------------------------------------------------------------------------------------------


def look_around(requires: Mapping[str, str], reads: Mapping[str, str], mark: str) -> dict[str, Any]:
    """What a node has of what a job needs.

    Args:
        requires: Distribution → version.
        reads: Path of a file or folder → its outline, see `outline`.
        mark: A file that the node sees if it shares the storage of run folders.

    Returns:
        `node`: its name; `lacking`: what is not installed, or in another version, in words; `unseen`: those of `reads` that are not
        there, or not the same; `is_sharing`.
    """
    return {
        "node": platform.node(),
        "lacking": [words for name, version in requires.items() if (words := _lacking(name, version))],
        "unseen": [path for path, outlined in reads.items() if outline(path)[0] != outlined],
        "is_sharing": os.path.isfile(mark),
    }


def _lacking(name: str, version: str) -> str | None:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"lacks {name} {version}"
    return None if found == version else f"has {name} {found}, not {version}"


def outline(path: str) -> tuple[str, int]:
    """A digest of names and sizes, of a file or all files of a folder, which tells others apart without reading; and their bytes."""
    digest, total = hashlib.sha256(), 0
    for name, size_bytes in _files(path):
        digest.update(f"{name}\0{size_bytes}\0".encode(errors="surrogateescape"))
        total += size_bytes
    return digest.hexdigest(), total


def _files(path: str) -> list[tuple[str, int]]:
    if os.path.isfile(path):
        return [("", os.path.getsize(path))]
    found, folders = [], [""]
    while folders:
        below = folders.pop()
        with contextlib.suppress(OSError), os.scandir(os.path.join(path, below)) as entries:
            for entry in entries:
                name = os.path.join(below, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif not entry.is_dir():
                    with contextlib.suppress(OSError):  # a link that leads nowhere
                        found.append((name, entry.stat().st_size))
    return sorted(found)


# ---- what travels ----------------------------------------------------------------------------------------------------------------

_CONTENT = "content"


def pack(path: str, *, is_dated: bool = False) -> bytes:
    """A file, or all of a folder, in an archive; equal content, equal bytes, unless times are to be kept."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, _ in _files(path):
            file = os.path.join(path, name) if name else path
            entry = archive.gettarinfo(file, os.path.join(_CONTENT, name) if name else _CONTENT)
            entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, "", ""
            entry.mtime = entry.mtime if is_dated else 0
            with open(file, "rb") as content:
                archive.addfile(entry, content)
    return stream.getvalue()


def unpack(packed: bytes, folder: str) -> str:
    """What `pack` packed, into a folder that is made; where it lies there."""
    os.makedirs(folder, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return os.path.join(folder, _CONTENT)


def unpack_once(digest: str, fetch: Callable[[], bytes]) -> str:
    """Where a node keeps what has this digest: unpacked by the first job that comes, found there by the others."""
    place = Path(tempfile.gettempdir()) / f"finetunekit-ray-{os.getuid()}" / digest
    place.parent.mkdir(mode=0o700, exist_ok=True)
    with open(place.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            beside = place.with_suffix(".partial")
            shutil.rmtree(beside, ignore_errors=True)
            unpack(fetch(), str(beside))
            beside.rename(place)
    return str(place / _CONTENT)


# ---- the work --------------------------------------------------------------------------------------------------------------------


class Carrier:
    """An actor that carries out one job, in a process of its own that stops when the actor does, or when it is told to."""

    def __init__(self) -> None:
        """Nothing is started yet."""
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def carry_out(
        self,
        folder: str,
        packed: Sequence[Any],
        arguments: Sequence[str],
        carried: Mapping[str, tuple[str, str, Any]],
        environment: Mapping[str, str],
        threads: int,
        number: int = 0,
        *addresses: str,
    ) -> dict[str, Any]:
        """Carry out the job.

        Args:
            folder: Of the run, where this node shares its storage.
            packed: Where it does not: a reference to the folder, packed. It goes back as `folder` of what is returned, None where the
                run was refused and has left none.
            arguments: Of Python.
            carried: Path of what the job reads → its outline, its digest and a reference to it, packed: for nodes that do not see it.
            environment: What steers a run on the machine that asked.
            threads: Of TensorFlow.
            number: Of this one among those that carry out the job together.
            addresses: Of each of them; none: it is alone.

        Returns:
            `exit_code` and `answer` of the process, the end of its `progress`, the name of this `node`.
        """
        elsewhere = [
            f"--at={path}={unpack_once(digest, partial(_fetch, reference))}"
            for path, (outlined, digest, reference) in carried.items()
            if outline(path)[0] != outlined
        ]
        together = [f"--together={number}@{','.join(addresses)}"] if addresses else []
        command = [sys.executable, *arguments, *elsewhere, *together]
        child = _environment(environment, threads)
        if not packed:
            return self._run(command, folder, child)
        with tempfile.TemporaryDirectory(prefix="finetunekit-ray-", ignore_cleanup_errors=True) as scratch:
            copy = unpack(_fetch(packed[0]), scratch)
            child |= {
                "FINETUNEKIT_STATE": os.path.join(scratch, "state")
            }  # what is noted there is noted where it was asked
            done = self._run(command, copy, child)
            return {**done, "folder": pack(copy, is_dated=True) if os.path.isdir(copy) else None}

    def begun(self) -> bool:
        """Answers once there is a process to answer."""
        return True

    def address(self) -> str:
        """Where this node can be reached by the others, free a moment ago."""
        import ray

        with socket.socket() as one:
            one.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{one.getsockname()[1]}"

    def stop(self) -> None:
        """Have the process keep what it has, and end."""
        self._is_stopped = True
        if self._process is not None:
            _ask_to_stop(self._process)

    def _run(self, command: Sequence[str], folder: str, environment: Mapping[str, str]) -> dict[str, Any]:
        with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as progress:
            self._process = process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=answer,
                stderr=progress,
                env=environment,
                start_new_session=True,
            )
            if self._is_stopped:
                _ask_to_stop(process)
            process.wait()
            _ask_to_stop(process)  # which closes it on this side
            return {
                "exit_code": process.returncode,
                "answer": _text(answer),
                "progress": _text(progress)[-_LAST_LETTERS:],
                "node": platform.node(),
            }


def _fetch(reference: Any) -> bytes:
    import ray

    content: bytes = ray.get(reference)
    return content


def _ask_to_stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # it has ended
        process.stdin.close()


def _environment(given: Mapping[str, str], threads: int) -> dict[str, str]:
    """That of the node, without what Ray sets for tasks of its own, and with what steers a run on the machine that asked."""
    kept = {name: value for name, value in os.environ.items() if name not in _SET_BY_RAY}
    if (
        kept.get("CUDA_VISIBLE_DEVICES") == ""
    ):  # by Ray before 2.60, where no GPU is set aside for a run; later it leaves that alone
        del kept["CUDA_VISIBLE_DEVICES"]
    if threads != len(os.sched_getaffinity(0)):
        kept["TF_NUM_INTRAOP_THREADS"] = str(threads)
    return {**kept, **given}


def _text(stream: Any) -> str:
    stream.seek(0)
    text: str = stream.read().decode(errors="backslashreplace")
    return text
