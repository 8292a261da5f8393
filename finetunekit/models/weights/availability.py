"""Whether a backbone's arrays can be had on this machine now, from what lies on its disk alone: no network is asked."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Literal

from finetunekit.models.weights.cache import weights_status
from finetunekit.models.weights.resolve import framework_file, source_label
from finetunekit.system.formatting import show_bytes
from finetunekit.system.network import is_offline
from finetunekit.types import BackboneSpec, WeightSource

Place = Literal["here", "keras", "index", "host", "file"]


@dataclass(frozen=True, slots=True)
class Availability:
    """Where a backbone's arrays would come from.

    Attributes:
        place: `here` (in finetunekit's cache, checked by digest when used), `keras` (in Keras' own cache, checked when used), `index` (a
            package index has them), `host` (only a host of the framework or another URL has them), `file` (no source is known: the user
            names a file).
        words: The same in a sentence, with the size of the download.
        is_on_disk: Whether a run needs no network for them.
    """

    place: Place
    words: str
    is_on_disk: bool


def missing_package(spec: BackboneSpec) -> str | None:
    """The distribution that has to be installed before a backbone can be built; None: nothing is missing."""
    if not spec.requires:
        return None
    try:
        distribution(spec.requires)
    except PackageNotFoundError:
        return spec.requires
    return None


def needs_words(spec: BackboneSpec) -> str:
    """What a backbone takes beside its download: `pip install NAME; about 0.5 GB of memory to train all of it`."""
    from finetunekit.system.resource_check import network_budget  # loads numpy, which no listing needs

    package, memory = missing_package(spec), show_bytes(network_budget(spec.parameters).memory_bytes)
    install = [f"pip install {package}"] if package else []
    return "; ".join([*install, f"about {memory} of memory to train all of it"])


def weights_availability(name: str, spec: BackboneSpec) -> Availability:
    """The first place that has a backbone's arrays, or would be asked for them.

    Args:
        name: Name the backbone is registered under.
        spec: Its data.

    Returns:
        The place; whether a host or an index can be reached is not tried.
    """
    status = weights_status(name, spec)
    if status.is_cached:
        return Availability("here", f"here, {status.size_bytes / 1e6:.0f} MB: {status.path}", is_on_disk=True)
    for source in spec.weight_sources:
        if source.kind == "framework" and (local := framework_file(source)).is_file():
            return Availability("keras", f"in Keras' own cache: {local}", is_on_disk=True)
    sources = sorted(spec.weight_sources, key=lambda source: source.kind != "package_index")
    if not sources:
        words = "no source is known that pins a checksum: set weights.path to an .npz of its arrays"
        return Availability("file", words, is_on_disk=False)
    words = _to_fetch(sources)
    if spec.worth:
        words += f"; {needs_words(spec)}"
    return Availability(_place(sources[0]), words, is_on_disk=False)


def _place(source: WeightSource) -> Place:
    return "index" if source.kind == "package_index" else "host"


def _to_fetch(sources: list[WeightSource]) -> str:
    """Every source in words, most reachable first."""
    places = ", or ".join(
        source_label(source) + (f" ({source.size_mb:g} MB)" if source.size_mb else "") for source in sources
    )
    return f"not here; to be fetched from {places}{'; FINETUNEKIT_OFFLINE is set' if is_offline() else ''}"
