"""Float tensors of a legacy PyTorch file (`torch.save` before 1.6), without PyTorch.

Such a file is five pickles (magic number, protocol, machine, the object, the keys of its storages) and then each storage: its count as
int64, and its numbers. Source: torch/serialization.py, `_legacy_save`.
"""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from finetunekit import WeightsError, read_regular
from finetunekit_efficientnet_lite.torch_pickle import Storage, Tensor, Value, read_value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
FLOAT32 = "<f4"
ZIP = b"PK\x03\x04"
MAX_FILE_BYTES = 1 << 30  # EfficientNet-Lite2 has 25 MB
MAX_AXES = 8


def read_float_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Every float32 tensor of a dictionary of tensors.

    Args:
        path: File that `torch.save(model.state_dict(), …)` wrote in the legacy format.

    Returns:
        Read-only arrays by name, in the shapes of the file; tensors of whole numbers are left out.

    Raises:
        WeightsError: If it is not such a file, is cut off, or asks for anything but tensors. Nothing in it is executed.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise WeightsError(f"larger than {MAX_FILE_BYTES >> 30} GiB, more than any file of this kind.")
    # in memory: whatever length the file claims, no more is set aside than there is
    file = io.BytesIO(read_regular(path, most_bytes=MAX_FILE_BYTES))
    tensors = _header(file)
    numbers = _read_storages(file, {tensor.storage for tensor in tensors.values()})
    return {
        name: _view(name, tensor, numbers[tensor.storage.key])
        for name, tensor in tensors.items()
        if tensor.storage.dtype == FLOAT32
    }


def _header(file: BinaryIO) -> dict[str, Tensor]:
    """The four pickles up to the object; the file is left before the keys of the storages."""
    if file.read(len(ZIP)) == ZIP:
        raise WeightsError("a PyTorch file of the zip format; only the legacy format is read.")
    file.seek(0)
    if read_value(file) != MAGIC_NUMBER or read_value(file) != PROTOCOL:
        raise WeightsError("not a legacy PyTorch file: no magic number.")
    machine, stored = read_value(file), read_value(file)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise WeightsError("a PyTorch file of a big-endian machine, which is not read.")
    if not isinstance(stored, dict) or not stored:
        raise WeightsError("not a dictionary of tensors.")
    return {name: _tensor(name, value) for name, value in stored.items()}


def _tensor(name: str, value: Value) -> Tensor:
    if not isinstance(value, Tensor):
        raise WeightsError(f"not a dictionary of tensors: '{name[:80]}' is none.")
    return value


def _read_storages(file: BinaryIO, expected: set[Storage]) -> dict[str, NDArray[np.float32]]:
    """Numbers of each storage, by key, in the order in which the file lists them."""
    import numpy as np

    by_key = {storage.key: storage for storage in expected}
    keys = read_value(file)
    if not isinstance(keys, list) or keys != list(dict.fromkeys(map(str, keys))) or set(keys) != set(by_key):
        raise WeightsError("not a legacy PyTorch file: its tensors and its storages differ.")
    numbers = {}
    for key in keys:
        storage = by_key[key]
        size = storage.count * np.dtype(storage.dtype).itemsize
        head, data = file.read(8), file.read(min(size, MAX_FILE_BYTES))
        if len(head) < 8 or len(data) < size:
            raise WeightsError(f"cut off: storage {key[:40]} should hold {size:,} bytes.")
        if struct.unpack("<q", head)[0] != storage.count:
            raise WeightsError(f"not a legacy PyTorch file: storage {key[:40]} is not as long as its tensors say.")
        numbers[key] = np.frombuffer(data, dtype=storage.dtype)
    return numbers


def _view(name: str, tensor: Tensor, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """The tensor as a view: however many tensors share a storage, its numbers are in memory once."""
    import numpy as np

    _check_bounds(name, tensor, numbers.size)
    strides = tuple(
        stride * numbers.itemsize if side > 1 else 0 for side, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)


def _check_bounds(name: str, tensor: Tensor, size: int) -> None:
    """Refuse a view that leaves its storage, or that is larger than it by repeating numbers."""
    shape = tensor.shape
    is_small = len(shape) <= MAX_AXES and max(shape, default=0) <= size and math.prod(shape) <= size
    last = tensor.offset + sum(max(0, side - 1) * stride for side, stride in zip(shape, tensor.strides, strict=True))
    if not is_small or last >= max(size, 1):
        raise WeightsError(
            f"'{name[:80]}': a tensor of {len(shape)} axes that does not fit its storage of {size:,} numbers."
        )
