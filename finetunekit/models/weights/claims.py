"""What the headers of a weights file claim, beside what the file holds: nothing is set aside for numbers that are not there."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

MOST_BYTES = 4 << 30
"""Of all arrays together; no published backbone comes near."""
MOST_PACKED = 100
"""Times the size of its file that compressed arrays have at most; trained numbers hardly shrink at all."""
FREE_BYTES = 64 << 20


def check_npz(stream: IO[bytes], size_bytes: int) -> None:
    """Compare what an .npz claims with its members.

    Args:
        stream: Of the file, which is left at its beginning.
        size_bytes: Of the file.

    Raises:
        ValueError: If it holds something else than arrays, or claims more than it holds.
        zipfile.BadZipFile: If it is not a zip archive.
    """
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        _check_total(sum(member.file_size for member in members), size_bytes)
        for member in members:
            try:
                with archive.open(member) as opened:
                    claimed = _npy_bytes(opened)
            except zipfile.BadZipFile:  # the checksum of a short one; whoever reads that array is told
                continue
            if claimed > member.file_size:
                raise ValueError(f"'{member.filename[:80]}' claims {claimed:,} bytes and holds {member.file_size:,}")
    stream.seek(0)


def _npy_bytes(stream: Any) -> int:
    """Bytes that the header of an .npy file claims. Source: NEP 1."""
    import numpy as np

    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return math.prod(shape) * dtype.itemsize


def check_h5(path: Path) -> None:
    """Compare what an HDF5 file claims with its size; arrays that lie in other files are refused.

    Raises:
        ValueError: If it claims more than it can hold, or leads out of itself.
        OSError: If it is no HDF5 file.
    """
    import h5py

    with h5py.File(path, "r") as file:
        datasets = list(_datasets(file))
        _check_total(sum(dataset.size * dataset.dtype.itemsize for dataset in datasets), path.stat().st_size)
        for dataset in datasets:
            if dataset.external or dataset.is_virtual:
                raise ValueError(f"'{dataset.name[:80]}' lies in another file")


def _datasets(file: Any) -> Iterator[Any]:
    """Every array, each group entered once.

    Raises:
        ValueError: At a link to another file.
    """
    import h5py

    seen, groups = set(), [file]
    while groups:
        group = groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ValueError(f"'{name[:80]}' leads to another file")
            entry = group.get(name) if isinstance(link, h5py.HardLink) else None
            if isinstance(entry, h5py.Dataset):
                yield entry
            elif isinstance(entry, h5py.Group) and entry.id.__hash__() not in seen:
                seen.add(entry.id.__hash__())
                groups.append(entry)


def _check_total(claimed: int, size_bytes: int) -> None:
    most = min(MOST_BYTES, MOST_PACKED * size_bytes + FREE_BYTES)
    if claimed > most:
        raise ValueError(
            f"it claims {claimed:,} bytes of arrays; a file of {size_bytes:,} bytes holds {most:,} at most"
        )
