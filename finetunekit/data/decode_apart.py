"""Photos decoded in a process of their own, which can be ended: what the cheap bounds of `photo_file` cannot judge.

The decoders of AVIF, HEIC and JPEG 2000 do all their work in one call, and what a header claims says little of it; so it is with a TIFF
whose strips add up to more bytes than its file has. Such a process decodes one photo after another and goes with the last of them; a server
keeps it for the next request. It may start no program, and its memory and its processor time are bounded by the system.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.photo_file import (
    DECODE_S,
    HEADER_BYTES,
    HEADER_S,
    HEIF_BRANDS,
    OverBudgetError,
    PhotoFile,
    photo_error,
    pillow_guard,
    undecodable,
)
from finetunekit.errors import DataError
from finetunekit.system.formatting import one_line

if TYPE_CHECKING:
    from PIL import Image

_IN_ONE_CALL = frozenset({"AVIF", "HEIF", "JPEG2000"})
# Source of the tag numbers: TIFF 6.0, sections 8 (Compression, StripByteCounts) and 15 (TileByteCounts).
_COMPRESSION, _STRIP_BYTES, _TILE_BYTES = 259, 279, 325
_COUNTED = frozenset({1, 2, 3, 4, 5, 8, 32773, 32946})
"""Compressions of a TIFF whose work its pixels bound: none, CCITT, LZW, deflate, PackBits; JPEG inside has scans of its own."""
_BOXED = frozenset({b"ftypavif", b"ftypavis", *HEIF_BRANDS})
_PIXELS_PER_S = 4e6
"""Pixels that give such a photo a second more; JPEG 2000 takes about 0.1 s a million."""
_WALL = 10
"""Times the processor time that a photo may take until its process is ended, whatever it waits for."""
_FREE_BYTES, _PIXEL_BYTES = 3 * 2**30, 48
"""Address space of such a process: of libraries, and for each pixel."""
_ASK, _ANSWER = struct.Struct("<QQQ"), struct.Struct("<II")
_NEVER = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "socket.connect",
)
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from finetunekit.data.decode_apart import serve; serve()"
)


def is_apart(image: Image.Image, file: PhotoFile) -> bool:
    """Whether an image whose header was read is decoded in a process of its own."""
    if image.format != "TIFF":
        return image.format in _IN_ONE_CALL
    tags = getattr(image, "tag_v2", {})
    if tags.get(_COMPRESSION, 1) not in _COUNTED:
        return True
    claimed = sum(sum(tags.get(tag, ())) for tag in (_STRIP_BYTES, _TILE_BYTES))
    return bool(claimed > os.fstat(file.fileno()).st_size)


def check_header_apart(file: PhotoFile, path: Path) -> None:
    """Have a process of its own read the header of an AVIF or HEIC first, whose readers are C; other files are passed over.

    Call it inside `pillow_guard`.

    Raises:
        DataError: If that crashes or takes too long.
    """
    file.seek(0)
    is_boxed = file.read(12)[4:] in _BOXED
    file.seek(0)
    if not is_boxed:
        return
    content = file.read()
    file.seek(0)
    file.allow(HEADER_BYTES, HEADER_S)
    worker = _taken(path)
    shape_or_problem, _ = worker.decode(path, content, 0)
    if isinstance(shape_or_problem, str):
        raise photo_error(path, shape_or_problem)
    pillow_guard.give_back(worker)  # what is wrong with the content otherwise is said by whoever opens it next


def _taken(path: Path) -> _Worker:
    try:
        return pillow_guard.taken(_Worker)
    except OSError as exc:
        raise photo_error(path, f"cannot be decoded (no process for it: {one_line(exc)})", "Free memory.") from exc


def decode_apart(image: Image.Image, file: PhotoFile, path: Path) -> NDArray[np.uint8]:
    """`finetunekit.data.decode.decode_image` in a process of its own. Call it inside `pillow_guard`, which ends the process at its end.

    Raises:
        DataError: If the photo cannot be decoded, or takes more time or memory than a photo of its size can need.
    """
    pixels = image.size[0] * image.size[1]
    try:
        file.seek(0)
        content = file.read()
    except OverBudgetError as exc:
        raise undecodable(path, exc) from exc
    worker = _taken(path)
    shape_or_problem, data = worker.decode(path, content, pixels)
    if isinstance(shape_or_problem, str):
        raise photo_error(path, shape_or_problem)
    pillow_guard.give_back(worker)
    if isinstance(shape_or_problem, dict):
        raise DataError(tuple(shape_or_problem["problems"]))
    return np.frombuffer(data, np.uint8).reshape(shape_or_problem)


class _Worker:
    """The process, as its parent sees it."""

    def __init__(self) -> None:
        places = json.dumps(
            [place for place in sys.path if place]
        )  # what Python would find here, the working folder apart
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )

    def decode(
        self, path: Path, content: bytes, pixels: int
    ) -> tuple[str | dict[str, list[str]] | list[int], bytearray]:
        """Shape and pixels; or problems that the decoder found; or, as text, how the process came to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        allowed_s = DECODE_S + pixels / _PIXELS_PER_S
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            self._process.kill()

        timer = threading.Timer(_WALL * allowed_s, end)
        timer.daemon = True
        timer.start()
        try:
            name = os.fsencode(path)
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(_ASK.pack(len(name), pixels, len(content)) + name)
                self._process.stdin.write(content)
                self._process.stdin.flush()
            head = self._process.stdout.read(_ANSWER.size)
            if len(head) == _ANSWER.size:
                length, size = _ANSWER.unpack(head)
                said, data = self._process.stdout.read(length), bytearray(min(size, 3 * pixels))
                if len(said) == length and _fill(self._process.stdout, data):
                    return json.loads(said), data
        finally:
            timer.cancel()
        return self._ending(is_late.is_set(), allowed_s), bytearray()

    def _ending(self, is_late: bool, allowed_s: float) -> str:
        self.close()
        import signal

        if is_late or self._process.returncode == -getattr(signal, "SIGXCPU", 0):
            return f"cannot be decoded within bounds (it takes longer than {allowed_s:.0f} s)"
        return f"cannot be decoded (its decoder crashes, exit status {self._process.returncode})"

    def is_alive(self) -> bool:
        """False once it was ended from outside, for memory, say."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it; it reads the end of its input, or is killed."""
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _fill(stream: IO[bytes], data: bytearray) -> bool:
    view = memoryview(data)
    while view and (count := stream.readinto(view)):  # type: ignore[attr-defined]
        view = view[count:]
    return not view


# ---- in the process --------------------------------------------------------------------------------------------------------------


def serve() -> None:
    """Decode the photos that come on standard input until it ends; of one with no pixels, read the header."""
    from PIL import Image

    from finetunekit.data.decode import decode_loaded
    from finetunekit.data.photo_file import photo_formats

    formats = photo_formats()
    sys.addaudithook(_refuse)
    asked, answer = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    while len(head := asked.read(_ASK.size)) == _ASK.size:
        name_bytes, pixels, content_bytes = _ASK.unpack(head)
        path, content = Path(os.fsdecode(asked.read(name_bytes))), asked.read(content_bytes)
        _bound(pixels)
        with pillow_guard(pixels):
            try:
                image = Image.open(io.BytesIO(content), formats=formats)
                found = decode_loaded(image, image.size, path) if pixels else np.empty(0, np.uint8)
                said, data = json.dumps(found.shape).encode(), found.tobytes()
            except DataError as exc:
                said, data = json.dumps({"problems": list(exc.problems)}).encode(), b""
            except Exception as exc:  # noqa: BLE001  # whatever a broken file drives a decoder into
                said, data = json.dumps({"problems": [str(undecodable(path, exc))]}).encode(), b""
        answer.write(_ANSWER.pack(len(said), len(data)) + said)
        answer.write(data)
        answer.flush()


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event in _NEVER:
        raise PermissionError(f"a photo asked for {event}")


def _bound(pixels: int) -> None:
    """Have the system end this process after the time that the photo may take; where it cannot, its parent does, later."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    limits: dict[int, Callable[[], float]] = {
        resource.RLIMIT_CPU: lambda: used.ru_utime + used.ru_stime + DECODE_S + pixels / _PIXELS_PER_S + 1,
        resource.RLIMIT_AS: lambda: _FREE_BYTES + _PIXEL_BYTES * pixels,
    }
    for limit, most in limits.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (int(most()), resource.getrlimit(limit)[1]))
