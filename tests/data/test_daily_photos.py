"""Photo files as people have them: PNGs with large texts, and files that are called photos and are none."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from finetunekit import DataError
from finetunekit.config.sections import AuditKind, AuditSection
from finetunekit.data.audit.findings import AuditReport, Finding
from finetunekit.data.audit.gate import check_gate
from finetunekit.data.decode import decode_photo
from finetunekit.system.progress import Progress

PIXELS = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
XMP = b"XML:com.adobe.xmp\0\0\0\0\0<x xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation=\"3\"/>"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, behind: bool = False) -> bytes:
    """A PNG with more chunks before its pixels, or behind them."""
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG")
    whole = stream.getvalue()
    at = len(whole) - 12 if behind else 33  # before IEND; behind IHDR
    return whole[:at] + b"".join(chunks) + whole[at:]


LARGE = {
    "profile": chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(3 * 2**20))),
    "packed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 3 * 2**20)),
    "packed international text": chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * 3 * 2**20)),
    "texts": b"".join(chunk(b"tEXt", b"Comment\0" + b"x" * 3 * 2**20) for _ in range(3)),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("behind", [False, True])
def test_pngs_with_large_texts_or_profiles_are_read(name: str, behind: bool, tmp_path: Path) -> None:
    photo = tmp_path / "x.png"
    photo.write_bytes(png(LARGE[name], behind=behind))
    np.testing.assert_array_equal(decode_photo(photo, max_pixels=1000), PIXELS)
    photo.write_bytes(png(LARGE[name], chunk(b"iTXt", XMP), behind=behind))
    np.testing.assert_array_equal(decode_photo(photo, max_pixels=1000), PIXELS[::-1, ::-1])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer.*git lfs pull"),
        (b"/annex/objects/SHA256E-s1--0.jpg\n", "a git-annex pointer.*git annex get"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><html>403</html>", "an HTML page.*Download the photo"),
        (b"<html><body>not found", "an HTML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML text"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "an SVG drawing"),
        (b'{"error": "gone"}', "JSON text"),
        (b"%PDF-1.7 ....", "a PDF document"),
        (b"PK\x03\x04....", "a zip archive"),
        (b"\0\0\0\x18ftypmp42....", "a film"),
        (bytes(5000), "begins with zeros only"),
    ],
)
def test_what_is_called_a_photo_and_is_none_is_called_what_it_is(content: bytes, says: str, tmp_path: Path) -> None:
    photo = tmp_path / "x.jpg"
    photo.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        decode_photo(photo, max_pixels=1000)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("kinds", [("unreadable",), ("leak",), ("leak", "layout")])
def test_the_audit_advises_what_the_configuration_accepts(kinds: tuple[str, ...]) -> None:
    findings = tuple(Finding(kind, "error", "some", "Look.", (), ()) for kind in kinds)
    report = AuditReport("", {}, {}, {}, None, findings, (), 0.0, 0)
    with pytest.raises(DataError) as caught:
        check_gate(report, "x", Progress(is_quiet=True))
    advised = caught.value.problems[-1].partition("data.audit.allow: ")[2]
    assert bool(advised) == all(kind in get_args(AuditKind) for kind in kinds)
    if advised:
        AuditSection.model_validate({"allow": tuple(advised.strip("[]").split(", "))})
