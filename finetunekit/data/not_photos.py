"""Files that are called photos and are none: what they are, by their first bytes, and what to do."""

from __future__ import annotations

LOOKED_AT = 512
_AGAIN = "Download the photo itself."
#: How such a file begins, blanks apart and in lower case → what it is, and what to do about it.
_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer", "Fetch what it stands for: git lfs pull."),
    (b"/annex/objects/", "a git-annex pointer", "Fetch what it stands for: git annex get."),
    (b"<!doctype html", "an HTML page, as servers send if there is no photo", _AGAIN),
    (b"<html", "an HTML page, as servers send if there is no photo", _AGAIN),
    (b"<head", "an HTML page, as servers send if there is no photo", _AGAIN),
    (b"<svg", "an SVG drawing", "Save it as PNG."),
    (b"<?xml", "XML text, as servers send if there is no photo", _AGAIN),
    (b"{", "JSON text, as servers send if there is no photo", _AGAIN),
    (b"%pdf-", "a PDF document", "Save its pages as PNG."),
    (b"%!ps", "a PostScript document", "Save it as PNG."),
    (b"8bps", "a Photoshop document", "Save it as PNG."),
    (b"pk\x03\x04", "a zip archive", "Unpack it."),
    (b"\x1f\x8b", "compressed with gzip", "Unpack it."),
    (b"\x00\x05\x16\x07", "a side file of macOS (AppleDouble)", "Delete it."),
    (b"\x00\x00\x01\x00", "an icon", "Save it as PNG."),
    (b"\x1aE\xdf\xa3".lower(), "is a film", "Save frames of it as photos."),
)
_FILM_BRANDS = (b"ftypmp4", b"ftypisom", b"ftypqt", b"ftypm4v", b"ftypavc1", b"ftyp3gp")


def what_it_is(start: bytes) -> tuple[str, str] | None:
    """What a file is that begins so, and what to do about it; None: it cannot be told."""
    begun = start.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").lower()
    for beginning, what, remedy in _BEGINNINGS:
        if begun.startswith(beginning) or (beginning == b"<svg" and begun.startswith(b"<?xml") and b"<svg" in begun):
            return f"is not a photo but {what}", remedy
    if start[4:].startswith(_FILM_BRANDS):
        return "is not a photo but a film", "Save frames of it as photos."
    if len(start) >= 16 and not start.strip(b"\0"):
        return "begins with zeros only: it was never written to its end", "Copy it again or take it out of the data."
    return None
