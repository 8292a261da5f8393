"""Weights files whose headers claim what they do not hold: one line, and nothing set aside."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from finetunekit.errors import WeightsError
from finetunekit.models.weights.cache import StoredArrays, write_arrays
from finetunekit.models.weights.claims import check_h5
from finetunekit.models.weights.files import convert_file


def npy(shape: tuple[int, ...], held: bytes = b"") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue() + held


def packed(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a/kernel.npy", content)
    return path


@pytest.mark.parametrize(
    "content",
    [npy((10**12,)), npy((10**6, 10**6), b"1234"), npy((10**30,)), npy((-1,)), b"\x93NUMPY\1\0\xff\xff", b"x", b""],
)
def test_an_npz_that_claims_more_than_it_holds_is_one_line(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot be read as \.npz") as caught:
        dict(StoredArrays(packed(tmp_path / "x.npz", content)))
    assert len(str(caught.value)) < 600


def test_a_packed_array_that_unpacks_to_gigabytes_and_a_bare_npy_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(npy((10**12,)))
    with pytest.raises(WeightsError, match="not a zip file"):
        StoredArrays(path)
    packed(path, bytes(80 << 20), zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="claims 83,886,080 bytes of arrays"):
        StoredArrays(path)
    write_arrays(path, {"a/kernel": np.ones((3, 4), np.float32), "a/bias": np.zeros((), np.float32)})
    assert {name: array.shape for name, array in StoredArrays(path).items()} == {"a/kernel": (3, 4), "a/bias": ()}


def test_an_hdf5_file_claims_what_it_holds_and_leads_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"

    def refused(says: str) -> None:
        with pytest.raises(WeightsError, match=says):
            convert_file(lambda _: pytest.fail("was read"), path, "here")

    with h5py.File(path, "w") as file:
        file.create_dataset("big", (10**6, 10**6), "f4", chunks=(100, 100))
    refused("claims 4,000,000,000,000 bytes")
    with h5py.File(path, "w") as file:
        file["a"] = h5py.ExternalLink("/etc/passwd", "/")
    refused("'a' leads to another file")
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (4,), "u1", external=[("/etc/passwd", 0, 4)])
    refused("lies in another file")
    with h5py.File(path, "w") as file:
        group = file.create_group("a")
        group["itself"] = file["/"]
        group["gone"] = h5py.SoftLink("/nowhere")
        group["b"] = np.ones(3, np.float32)
    check_h5(path)
    path.write_bytes(os.urandom(100))
    refused("cannot be converted")
