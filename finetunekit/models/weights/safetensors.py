"""Named arrays in the format safetensors: a short text that says where each lies, then nothing but numbers.

Source: https://github.com/huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

import json
import math
import os
import struct
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.errors import WeightsError
from finetunekit.models.weights.claims import MOST_BYTES
from finetunekit.system.files import open_regular
from finetunekit.types import Arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIX = ".safetensors"
MOST_HEADER_BYTES = 8 << 20
"""A network of a thousand arrays takes 100 kB."""
_MOST_AXES = 16
_LENGTH = struct.Struct("<Q")
_ABOUT = "__metadata__"
#: Floating-point types of the format → NumPy's; BF16 is the upper half of an F32.
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one array lies.

    Attributes:
        kind: Its type, as the format calls it.
        shape: Its shape.
        start: Byte of the file where it begins.
        count: Numbers in it.
    """

    kind: str
    shape: tuple[int, ...]
    start: int
    count: int


class SafeArrays(Mapping[str, "NDArray[np.float32]"]):
    """The arrays of such a file by name, each read when it is asked for. Nothing is executed, no memory set aside for what is not there.

    Attributes:
        about: Texts that the file says of itself.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; it stays open as long as this object lives.

        Raises:
            WeightsError: If the file cannot be opened or is damaged, in one line.
        """
        self._path = path
        try:
            self._stream = open_regular(path)
            weakref.finalize(self, self._stream.close)
            self.about, self._places = _read_header(self._stream, os.fstat(self._stream.fileno()).st_size)
        except (OSError, ValueError, RecursionError) as exc:
            raise WeightsError(f"{path}: cannot be read as safetensors ({_short(exc)}).") from exc

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        import numpy as np

        place = self._places[name]
        values: NDArray[Any] = np.empty(place.count, _TYPES[place.kind])
        self._stream.seek(place.start)
        if self._stream.readinto(values.view(np.uint8).data) != values.nbytes:
            raise WeightsError(f"{self._path}: was cut off while it was read.")
        if place.kind == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        found: NDArray[np.float32] = values.reshape(place.shape)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _short(exc: Exception) -> str:
    return " ".join(str(exc).split())[:200]


def _read_header(stream: Any, size_bytes: int) -> tuple[dict[str, str], dict[str, _Place]]:
    """Raises ValueError unless arrays lie one after the other without a gap, from the header to the end of the file."""
    start = _LENGTH.size
    length = _LENGTH.unpack(stream.read(start))[0] if size_bytes >= start else size_bytes
    if length > min(MOST_HEADER_BYTES, size_bytes - start):
        raise ValueError(f"its header claims {length:,} bytes of {size_bytes:,}; {MOST_HEADER_BYTES:,} are allowed")
    header = json.loads(stream.read(length).decode("utf-8"), object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise ValueError("its header is not a map")
    about = header.pop(_ABOUT, {})
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        raise ValueError(f"'{_ABOUT}' holds something else than texts")
    if size_bytes > MOST_BYTES:
        raise ValueError(f"it has {size_bytes:,} bytes; {MOST_BYTES:,} are allowed")
    places = {name: _place(name, entry) for name, entry in header.items()}
    end = 0
    for name, (_, offsets) in sorted(places.items(), key=lambda item: item[1][1]):
        if offsets[0] != end:
            raise ValueError(f"'{name[:80]}' does not begin where the one before it ends")
        end = offsets[1]
    if start + length + end != size_bytes:
        raise ValueError(f"its arrays take {end:,} bytes, the file has {size_bytes - start - length:,} for them")
    first = start + length
    return about, {
        name: _Place(place.kind, place.shape, first + place.start, place.count) for name, (place, _) in places.items()
    }


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its header names something twice")
    return found


def _place(name: str, entry: Any) -> tuple[_Place, tuple[int, int]]:
    """An entry of the header, its numbers looked at before anything is done with them."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"'{name[:80]}' is not described by dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ValueError(f"'{name[:80]}' is of type {str(kind)[:20]}; weights are {', '.join(_TYPES)}")
    if not _are_counts(shape) or len(shape) > _MOST_AXES or not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"'{name[:80]}' has an impossible shape or place")
    count, item = math.prod(shape), int(_TYPES[kind][-1])
    if offsets[1] - offsets[0] != count * item:
        raise ValueError(f"'{name[:80]}' claims {count * item:,} bytes and holds {offsets[1] - offsets[0]:,}")
    return _Place(kind, tuple(shape), offsets[0], count), (offsets[0], offsets[1])


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= MOST_BYTES for value in values)


def write_safetensors(path: Path, arrays: Arrays, about: Mapping[str, str]) -> None:
    """Write arrays as float32, by name; equal arrays make equal files.

    Args:
        path: File to write.
        arrays: By name; read one at a time.
        about: Texts that the file says of itself.

    Raises:
        OSError: If it cannot be written.
    """
    import numpy as np

    names, header, end = sorted(arrays), {_ABOUT: dict(sorted(about.items()))} if about else {}, 0
    entries: dict[str, Any] = {**header}
    for name in names:
        shape = arrays[name].shape
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end := end + 4 * math.prod(shape)]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # arrays begin at a multiple of eight
    with path.open("wb") as out:
        out.write(_LENGTH.pack(len(text)) + text)
        for name in names:
            out.write(np.ascontiguousarray(arrays[name], "<f4").reshape(-1).view(np.uint8).data)
