"""The data about a backbone: what a listing, a plan and the fetching of weights rely on."""

from __future__ import annotations

import math
import re

from finetunekit.testing.contract import Subject
from finetunekit.types import BackboneSpec, PixelContract, WeightSource

_CHECKSUM = re.compile(r"(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})")
_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[^\s,;=*]+")
_TEXTS = ("title", "licence", "pretrained_on", "published", "reference")


def check_spec(subject: Subject, spec: BackboneSpec | None) -> None:
    """Check that every field of a spec can be what it says.

    Raises:
        ContractError: With every field that cannot.
    """
    subject.require(isinstance(spec, BackboneSpec), f"spec must be a finetunekit.BackboneSpec. Received: {spec!r:.80}")
    assert spec is not None
    for name in _TEXTS:
        value = getattr(spec, name)
        is_text = isinstance(value, str) and value.strip() and "\n" not in value
        subject.expect(is_text, f"spec.{name} must be one line of text. Received: {value!r:.80}")
    _check_sizes(subject, spec)
    with subject.part():
        _check_pixels(subject, spec.pixels)
    if str(spec.licence).upper().startswith("CC-BY"):
        subject.expect(spec.attribution.strip(), f"spec.attribution is empty, and {spec.licence} asks for one.")
    for number, source in enumerate(spec.weight_sources):
        with subject.part():
            _check_source(subject, f"spec.weight_sources[{number}]", source)
    subject.settle()


def _check_sizes(subject: Subject, spec: BackboneSpec) -> None:
    counts = {name: getattr(spec, name) for name in ("native_size_px", "min_size_px", "parameters")}
    for name, value in counts.items():
        is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
        subject.expect(is_count, f"spec.{name} must be a whole number above 0. Received: {value!r:.80}")
    words = f"spec.min_size_px is {spec.min_size_px}, above spec.native_size_px, {spec.native_size_px}."
    are_sizes = all(isinstance(value, int) for value in counts.values())
    subject.expect(not are_sizes or spec.min_size_px <= spec.native_size_px, words)


def _check_pixels(subject: Subject, pixels: PixelContract) -> None:
    subject.require(isinstance(pixels, PixelContract), f"spec.pixels must be a PixelContract. Received: {pixels!r:.80}")
    words = f"spec.pixels.order must be 'rgb' or 'bgr'. Received: {pixels.order!r}"
    subject.expect(pixels.order in ("rgb", "bgr"), words)
    numbers = (pixels.scale, *pixels.mean, *pixels.std)
    is_sane = len(pixels.mean) == len(pixels.std) == 3 and all(map(math.isfinite, numbers))
    subject.require(is_sane, f"spec.pixels needs finite numbers, three in mean and in std. Received: {pixels}")
    is_invertible = pixels.scale > 0 and all(value > 0 for value in pixels.std)
    subject.expect(is_invertible, f"spec.pixels.scale and std must be above 0. Received: {pixels}")


def _check_source(subject: Subject, where: str, source: WeightSource) -> None:
    subject.require(isinstance(source, WeightSource), f"{where} must be a WeightSource. Received: {source!r:.80}")
    kinds = ("framework", "url", "package_index", "library")
    subject.require(source.kind in kinds, f"{where}.kind must be one of {', '.join(kinds)}. Received: {source.kind!r}")
    subject.require(isinstance(source.location, str), f"{where}.location must be text. Received: {source.location!r}")
    if source.kind == "package_index":
        words = f"{where}.location must be pinned, name==version. Received: {source.location!r}"
        subject.expect(_PINNED.fullmatch(source.location), words)
    else:
        words = f"{where}.location must be an https:// or http:// URL. Received: {source.location!r}"
        subject.expect(source.location.startswith(("https://", "http://")), words)
    for name in ("checksum", "member_checksum"):
        value = getattr(source, name)
        pattern = re.compile("library:.+") if (source.kind, name) == ("library", "checksum") else _CHECKSUM
        is_sum = (name == "member_checksum" and value is None) or pattern.fullmatch(str(value))
        words = (
            f"{where}.{name} must be sha256:<64 hex digits> or md5:<32 hex digits>, lower case. Received: {value!r:.80}"
        )
        subject.expect(is_sum, words)
    words = f"{where}.convert must be callable: path of the file → arrays by name. Received: {source.convert!r:.80}"
    subject.expect(callable(source.convert), words)
