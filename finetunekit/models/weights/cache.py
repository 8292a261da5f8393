"""The cache of pretrained arrays: one .npz of named arrays, and beside it a .json that says where they came from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import weakref
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from finetunekit.errors import WeightsError
from finetunekit.models.weights.claims import check_npz
from finetunekit.system.files import open_regular, read_regular
from finetunekit.system.formatting import one_line
from finetunekit.system.user_dirs import cache_dir
from finetunekit.types import Arrays, BackboneSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["path", "framework", "url", "package_index", "library"]


@dataclass(frozen=True, slots=True)
class WeightsProvenance:
    """Where arrays came from first. It travels with them: a later cache hit reports the same.

    Attributes:
        backbone: Name the backbone is registered under.
        kind: Which kind of source had them.
        location: Path, URL or pinned requirement.
        checksum: `sha256:<hex>` or `md5:<hex>` of the file that was read.
        arrays_sha256: Digest of the arrays themselves, whatever file they were in (`arrays_digest`).
        licence: Licence of the weights; `unknown` for a user's own file.
        attribution: Line that must travel with what is made from them; may be empty.
        pretrained_on: Data set of the pretraining; `unknown` for a user's own file.
        note: What else the source says about its origin.
        fetched_at: UTC, ISO 8601.
    """

    backbone: str
    kind: Kind
    location: str
    checksum: str
    arrays_sha256: str
    licence: str
    attribution: str
    pretrained_on: str
    note: str
    fetched_at: str

    def to_json(self) -> dict[str, str]:
        """Plain JSON object."""
        return asdict(self)


def join_provenances(parts: Sequence[WeightsProvenance]) -> WeightsProvenance:
    """Where the arrays of several backbones came from, as one record: texts one after the other, one digest of their digests."""

    def all_of(key: str) -> str:
        return "; ".join(dict.fromkeys(text for text in (getattr(part, key) for part in parts) if text))

    digests = "\n".join(part.arrays_sha256 for part in parts)
    return replace(
        parts[0],
        backbone="+".join(part.backbone for part in parts),
        arrays_sha256=hashlib.sha256(digests.encode()).hexdigest(),
        location=all_of("location"),
        checksum=all_of("checksum"),
        licence=all_of("licence"),
        attribution=all_of("attribution"),
        pretrained_on=all_of("pretrained_on"),
        note=all_of("note"),
        fetched_at=max(part.fetched_at for part in parts),
    )


@dataclass(frozen=True, slots=True)
class ResolvedWeights:
    """Arrays that are on this machine and verified.

    Attributes:
        path: .npz of arrays named `<layer path>/<variable name>`.
        provenance: Where they came from first.
        found_in: `path` if the user named the file, `cache` if they were here already, `source` if fetched just now.
    """

    path: Path
    provenance: WeightsProvenance
    found_in: Literal["path", "cache", "source"]


@dataclass(frozen=True, slots=True)
class WeightsStatus:
    """What a listing shows of a backbone's arrays, without reading them.

    Attributes:
        name: Name the backbone is registered under.
        path: Where its arrays are, or would be, cached.
        is_cached: Whether they are there, from a source the backbone still lists.
        size_bytes: Size of the cached file; 0 where there is none.
        provenance: Where they came from; None where there are none.
    """

    name: str
    path: Path
    is_cached: bool
    size_bytes: int
    provenance: WeightsProvenance | None


def weights_cache_dir() -> Path:
    """`$FINETUNEKIT_CACHE/weights`, else `weights` in the user's cache folder. Not created here."""
    return cache_dir() / "weights"


def cached_path(name: str) -> Path:
    """The .npz that holds the arrays of backbone `name`."""
    return weights_cache_dir() / f"{safe_name(name)}.npz"


def safe_name(name: str) -> str:
    """A component's name as a file name on any system."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def arrays_digest(arrays: Arrays) -> str:
    """SHA-256 over sorted names, dtypes, shapes and little-endian C-order bytes: the same in any container."""
    import numpy as np

    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name}\0{little.dtype.str}\0{list(array.shape)}\0".encode())
        digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def new_provenance(
    name: str, arrays: Arrays, kind: Kind, location: str, checksum: str, *, note: str, spec: BackboneSpec | None
) -> WeightsProvenance:
    """Provenance of arrays that were read just now; without a `spec`, nobody knows whose they are."""
    return WeightsProvenance(
        backbone=name,
        kind=kind,
        location=location,
        checksum=checksum,
        arrays_sha256=arrays_digest(arrays),
        licence=spec.licence if spec else "unknown",
        attribution=spec.attribution if spec else "",
        pretrained_on=spec.pretrained_on if spec else "unknown",
        note=note,
        fetched_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def check_arrays(arrays: Arrays, origin: str) -> None:
    """Refuse arrays that no model can use.

    Raises:
        WeightsError: If there are none, one is not floating point, or one holds NaN or infinity.
    """
    import numpy as np

    if not arrays:
        raise WeightsError(f"{origin}: holds no arrays.")
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.floating):
            raise WeightsError(f"{origin}: array '{name}' is {array.dtype}; weights are floating point.")
        if not np.isfinite(array).all():
            raise WeightsError(f"{origin}: array '{name}' holds NaN or infinity.")


class StoredArrays(Mapping[str, "NDArray[np.float32]"]):
    """The arrays of an .npz by `<layer path>/<variable name>`, each read when it is asked for: a backbone lies in memory once, not twice.

    Nothing in the file is executed: pickled objects are refused.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; it stays open as long as this object lives.

        Raises:
            WeightsError: If the file cannot be opened or is no .npz. So does reading an array that is damaged.
        """
        import numpy as np

        self._path = path
        with self._read_errors():
            handle = open_regular(path)  # our own: numpy leaves its own open where the file is damaged
            weakref.finalize(self, handle.close)
            check_npz(handle, os.fstat(handle.fileno()).st_size)
            self._stored: Any = np.load(handle, allow_pickle=False)
            self._names = tuple(self._stored.files)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        if name not in self._names:
            raise KeyError(name)
        with self._read_errors():
            array: NDArray[np.float32] = self._stored[name]
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @contextmanager
    def _read_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, EOFError, AttributeError, RuntimeError, MemoryError, zipfile.BadZipFile) as exc:
            raise WeightsError(f"{self._path}: cannot be read as .npz of named arrays ({one_line(exc)}).") from exc


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write an .npz, uncompressed and without timestamps: equal arrays make equal files."""
    import numpy as np

    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(arrays[name]), allow_pickle=False)


def put(folder: Path, path: Path, arrays: Arrays, provenance: WeightsProvenance) -> None:
    """Place arrays and their provenance in the cache.

    The .json goes first: after a crash between the two renames the .npz is missing or older, and its digest tells.

    Args:
        folder: Temporary folder of this process, on the cache's file system.
        path: Final .npz.
        arrays: What to store.
        provenance: Stored beside it.
    """
    write_arrays(folder / "arrays.npz", arrays)
    (folder / "arrays.json").write_text(json.dumps(provenance.to_json(), indent=2) + "\n", encoding="utf-8")
    os.replace(folder / "arrays.json", path.with_suffix(".json"))
    os.replace(folder / "arrays.npz", path)


def read_provenance(path: Path) -> WeightsProvenance | None:
    """What the .json beside an .npz says; None where there is none or it is not one of ours."""
    try:
        stored: Any = json.loads(read_regular(path.with_suffix(".json")))
    except (OSError, ValueError, RecursionError):
        return None
    names = {field.name for field in fields(WeightsProvenance)}
    if not isinstance(stored, dict) or set(stored) != names or not all(isinstance(v, str) for v in stored.values()):
        return None
    return WeightsProvenance(**stored)


def weights_status(name: str, spec: BackboneSpec) -> WeightsStatus:
    """Whether a backbone's arrays are cached. Reads the .json only; digests are verified when arrays are used."""
    path, provenance = cached_path(name), read_provenance(cached_path(name))
    if provenance is None or not path.is_file() or not is_listed(provenance, spec):
        return WeightsStatus(name, path, is_cached=False, size_bytes=0, provenance=None)
    return WeightsStatus(name, path, is_cached=True, size_bytes=path.stat().st_size, provenance=provenance)


def is_listed(provenance: WeightsProvenance, spec: BackboneSpec) -> bool:
    """Whether cached arrays came from a file that the backbone still pins by checksum."""
    return provenance.checksum in {source.checksum for source in spec.weight_sources}


def find_cached(name: str, spec: BackboneSpec) -> ResolvedWeights | None:
    """The cached arrays, if they are there and their digest is the stored one."""
    path, provenance = cached_path(name), read_provenance(cached_path(name))
    if provenance is None or not is_listed(provenance, spec) or not path.is_file():
        return None
    try:
        is_intact = arrays_digest(StoredArrays(path)) == provenance.arrays_sha256
    except WeightsError:
        is_intact = False
    return ResolvedWeights(path, provenance, "cache") if is_intact else None


def set_aside_unusable(name: str, say: Callable[[str], None]) -> None:
    """Rename a cached .npz that `find_cached` refused, and say so in one line. Call under the lock only."""
    path = cached_path(name)
    if path.exists():
        aside = path.with_suffix(".npz.set-aside")
        os.replace(path, aside)
        say(
            f"{name}: cached arrays are damaged or from a source no longer listed; set aside as {aside}, fetching again"
        )
