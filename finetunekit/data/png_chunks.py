"""PNG files whose texts or colour profiles are larger than Pillow reads: the same photo without them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGE_BYTES = 2**20
"""Unpacked; Pillow refuses a photo with a larger text or profile (`PngImagePlugin.MAX_TEXT_CHUNK`)."""
_MOST_CHUNKS = 200_000
_TEXTS = frozenset({b"iCCP", b"zTXt", b"iTXt", b"tEXt"})
_TURNS = (b"XML:com.adobe.xmp\0\0", b"Raw profile type exif\0")
"""Texts that may say which way up a photo is, and are kept where they are small; the first one not compressed."""


def without_large_texts(file: IO[bytes], most_bytes: int) -> IO[bytes] | None:
    """A PNG without its texts and its profile; None where the file is not a PNG, has only small ones, or has more than `most_bytes`.

    Source: PNG, third edition, sections 5.3 (chunks), 11.3.2.3 (iCCP) and 11.3.3 (texts).
    """
    file.seek(0)
    if file.read(len(SIGNATURE)) != SIGNATURE:
        file.seek(0)
        return None
    chunks = list(_chunks(file))
    is_large = any(_is_large(file, kind, at, length) for kind, at, length in chunks)
    kept = None
    if is_large and sum(12 + length for _, _, length in chunks) <= most_bytes:
        kept = io.BytesIO()
        kept.write(SIGNATURE)
        for kind, at, length in chunks:
            if kind not in _TEXTS or _says_the_way_up(file, at, length):
                file.seek(at - 8)
                kept.write(file.read(12 + length))
        kept.seek(0)
    file.seek(0)
    return kept


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place of the data and its length of each chunk, as far as they can be followed."""
    at = len(SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        yield kind, at + 8, length
        at += 12 + length


def _is_large(file: IO[bytes], kind: bytes, at: int, length: int) -> bool:
    if kind not in _TEXTS or length > LARGE_BYTES:
        return kind in _TEXTS
    if kind == b"tEXt" or length < LARGE_BYTES // 1032:  # what deflate packs best: RFC 1951, 258 bytes in two bits
        return False
    file.seek(at)
    data = file.read(length)
    packed = data.find(b"\x78", data.find(b"\0"))  # zlib's mark, behind keyword and flags
    try:
        return packed >= 0 and len(zlib.decompressobj().decompress(data[packed:], LARGE_BYTES + 1)) > LARGE_BYTES
    except zlib.error:
        return False


def _says_the_way_up(file: IO[bytes], at: int, length: int) -> bool:
    file.seek(at)
    return length <= LARGE_BYTES // 16 and file.read(32).startswith(_TURNS)
