"""Named arrays and what is to be known of them as one file: an .npz without pickle, with a checksum over all of it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.system.files import open_regular
from finetunekit.system.formatting import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ABOUT = "about"


def write_arrays(path: Path, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays, `bfloat16` ones among them, and plain values about them.

    Args:
        path: Written as it is called; `system.files.replacing` gives one that is then put in its place.
        about: Plain values; `names`, `dtypes` and `sha256` are added.
        arrays: In order.

    Raises:
        OSError: If the file cannot be written.
    """
    import numpy as np

    stored = {f"{i:06d}": _plain(array) for i, array in enumerate(arrays.values())}
    complete = {**about, "names": list(arrays), "dtypes": [array.dtype.name for array in arrays.values()]}
    complete["sha256"] = _digest(complete, stored)
    text = np.frombuffer(json.dumps(complete).encode(), np.uint8)
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{_ABOUT: text}, **stored)


def read_arrays(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What `write_arrays` wrote: the values about the arrays, and the arrays. Costs no more memory than the file is large, twice.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged, or no such file.
    """
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            stored = _members(archive, os.fstat(stream.fileno()).st_size)
        about = json.loads(stored.pop(_ABOUT).tobytes())
        if about.pop("sha256") != _digest(about, stored):
            raise ValueError("it does not match its checksum")
        arrays = {
            name: _typed(stored[f"{i:06d}"], dtype)
            for i, (name, dtype) in enumerate(zip(about.pop("names"), about.pop("dtypes"), strict=True))
        }
    except (KeyError, TypeError, AttributeError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile) as exc:
        raise ValueError(one_line(exc)) from exc
    return about, arrays


def _members(archive: zipfile.ZipFile, size_bytes: int) -> dict[str, NDArray[Any]]:
    """Every array of an archive that holds them as they are, so that what it claims is no more than the file."""
    members = archive.infolist()
    is_plain = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    if not is_plain or sum(member.file_size for member in members) > size_bytes:
        raise ValueError("it claims more than it holds")
    return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}


def _array(content: bytes) -> NDArray[Any]:
    """An array of the .npy format; what its header claims has to be there before anything is set aside for it."""
    import numpy as np

    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read_header(stream)
    flat = np.frombuffer(content, dtype, offset=stream.tell()) if len(content) > stream.tell() else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if is_fortran else "C").copy()


def _digest(about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    import numpy as np

    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} {arrays[name].dtype.str}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """A dtype that .npz does not know (bfloat16) as integers of its size."""
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def _typed(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    import ml_dtypes
    import numpy as np

    wanted = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    return array if array.dtype == wanted else array.view(wanted)
