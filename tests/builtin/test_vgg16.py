from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finetunekit_builtin.onnx_arrays import read_initializers
from finetunekit_builtin.vgg16 import (
    BLOCKS,
    CONV_NAMES,
    VGG16_SPEC,
    VGG16Options,
    build_vgg16,
    convert_keras,
    convert_onnx,
)

from finetunekit.errors import PluginError, WeightsError
from finetunekit.models.weights import ResolvedWeights, StoredArrays, fit_arrays, resolve_weights, weights_cache_dir
from finetunekit.types import Arrays, Backbone

Field = tuple[int, int | bytes]


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(*fields: Field) -> bytes:
    return b"".join(
        varint(number << 3) + varint(value)
        if isinstance(value, int)
        else varint(number << 3 | 2) + varint(len(value)) + value
        for number, value in fields
    )


def tensor(name: str, array: np.ndarray, *, is_packed: bool = False) -> Field:
    dims: list[Field] = [(1, b"".join(map(varint, array.shape)))] if is_packed else [(1, side) for side in array.shape]
    data: Field = (4 if is_packed else 9, array.astype("<f4").tobytes())
    return 5, message(*dims, (2, 1), (8, name.encode()), data)


def onnx_file(path: Path, *initializers: Field) -> Path:
    int64_tensor: Field = (5, message((1, 1), (2, 7), (8, b"axes"), (9, b"\0" * 8)))
    graph = message((1, b"a node"), *initializers, int64_tensor, (2, b"main"))
    path.write_bytes(message((1, 8), (2, b"a producer"), (7, graph)))
    return path


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_vgg16(VGG16Options(), 32)


@pytest.fixture(scope="module")
def own_arrays(backbone: Backbone) -> Arrays:
    return {
        f"{layer.name}/{variable.name}": variable.numpy().copy()
        for layer in backbone.model.layers
        for variable in layer.weights
    }


def assert_same(received: Arrays, expected: Arrays) -> None:
    assert set(received) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(received[name], array, err_msg=name)


def test_build_gives_the_experiments_layers() -> None:
    first, second = (build_vgg16(VGG16Options(), 100) for _ in range(2))
    names = [layer.name for layer in first.model.layers]
    assert names == [layer.name for layer in second.model.layers], "names must not depend on how often it was built"
    assert names[1:] == [layer for block in BLOCKS.values() for layer in block]
    assert (names[14], names[15], len(names)) == ("block4_pool", "block5_conv1", 19)
    assert first.model.layers[14].output.shape == (None, 6, 6, 512)
    assert first.model.output.shape == (None, 3, 3, 512)
    assert first.model.count_params() == VGG16_SPEC.parameters == 14_714_688
    assert first.kind == "map"


def test_build_refuses_an_input_that_pools_away() -> None:
    with pytest.raises(PluginError, match=r"pixels.size_px is 31; .* at least 32"):
        build_vgg16(VGG16Options(), 31)


def test_pixel_contract_is_keras_preprocessing() -> None:
    from keras.applications.vgg16 import preprocess_input

    photo = np.random.default_rng(0).uniform(0, 255, (1, 4, 4, 3)).astype(np.float32)
    contract = VGG16_SPEC.pixels
    ours = (photo[..., ::-1] * contract.scale - np.array(contract.mean)) / np.array(contract.std)
    assert contract.order == "bgr"
    np.testing.assert_allclose(ours, preprocess_input(photo.copy()), atol=1e-4)


def test_framework_source_is_what_the_installed_keras_pins() -> None:
    from keras.src.applications import vgg16

    source = VGG16_SPEC.weight_sources[0]
    assert (source.kind, source.location) == ("framework", vgg16.WEIGHTS_PATH_NO_TOP)
    assert source.checksum.removeprefix("md5:") in Path(vgg16.__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize("is_packed", [False, True], ids=["raw_data", "float_data"])
def test_onnx_initializers_are_read_in_both_encodings(tmp_path: Path, is_packed: bool) -> None:
    array = np.arange(300, dtype=np.float32).reshape(2, 150)
    found = read_initializers(onnx_file(tmp_path / "a.onnx", tensor("a", array, is_packed=is_packed)))
    assert_same(found, {"a": array})  # the int64 one is left out


def test_onnx_kernels_become_hwio(tmp_path: Path, own_arrays: Arrays) -> None:
    fields = [
        tensor(f"functional_1/{name}_1/{part}", own_arrays[f"{name}/{key}"].transpose(axes))
        for name in CONV_NAMES
        for part, key, axes in (("convolution/ReadVariableOp:0", "kernel", (3, 2, 0, 1)), ("Squeeze:0", "bias", (0,)))
    ]
    file = onnx_file(tmp_path / "vgg.onnx", *fields, tensor("some/other/head", np.zeros((2, 2))))
    assert_same(convert_onnx(file), own_arrays)
    with pytest.raises(
        WeightsError, match=r"not an export of VGG16: it has no 'functional_1/block5_conv3_1/Squeeze:0'"
    ):
        convert_onnx(onnx_file(tmp_path / "short.onnx", *fields[:-1]))


@pytest.mark.parametrize("keep", [10, 60, 0])
def test_onnx_damaged_is_one_clear_error(tmp_path: Path, keep: int) -> None:
    file = onnx_file(tmp_path / "a.onnx", tensor("a", np.zeros((4, 5), np.float32)))
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"cut off|no ONNX initializers"):
        read_initializers(file)
    file.write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match=r"cut off|not an ONNX file"):
        read_initializers(file)


def test_onnx_shape_that_its_bytes_do_not_fill_is_refused(tmp_path: Path) -> None:
    lying = message((1, 1 << 62), (2, 1), (8, b"a"), (9, b"\0" * 8))
    with pytest.raises(WeightsError, match="initializer 'a' has 8 bytes for shape"):
        read_initializers(onnx_file(tmp_path / "a.onnx", (5, lying)))


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_files_that_keras_writes_are_read_by_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: Backbone, own_arrays: Arrays, suffix: str
) -> None:
    monkeypatch.setenv("FINETUNEKIT_CACHE", str(tmp_path / "cache"))
    file = tmp_path / f"vgg{suffix}"
    save = backbone.model.save_weights if suffix == ".weights.h5" else backbone.model.save
    save(file)
    found = resolve_weights("vgg16", VGG16_SPEC, explicit=file, say=print)
    assert_same(StoredArrays(found.path), own_arrays)
    assert (found.provenance.kind, found.provenance.licence) == ("path", "unknown")


def test_published_keras_layout_is_read(tmp_path: Path, own_arrays: Arrays) -> None:
    file = published_layout(tmp_path / "notop.h5", own_arrays)
    assert_same(convert_keras(file), own_arrays)
    with pytest.raises(WeightsError, match="no kernel and bias of 'block5_conv3'"):
        convert_keras(published_layout(tmp_path / "short.h5", own_arrays, CONV_NAMES[:-1]))


def published_layout(path: Path, arrays: Arrays, names: tuple[str, ...] = CONV_NAMES) -> Path:
    """Keras' own file names its arrays `block1_conv1_W_1:0` and `block1_conv1_b_1:0`."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group: Any = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}_W_1:0".encode(), f"{name}_b_1:0".encode()]
            group[f"{name}_W_1:0"], group[f"{name}_b_1:0"] = arrays[f"{name}/kernel"], arrays[f"{name}/bias"]
    return path


def oxfords_arrays() -> ResolvedWeights:
    """The real arrays, kept in the user's cache between test runs."""
    try:
        return resolve_weights("vgg16", VGG16_SPEC, explicit=None, say=print)
    except WeightsError as exc:
        if any(reason in str(exc) for reason in ("unreachable", "gave no file within", "FINETUNEKIT_OFFLINE is set")):
            pytest.skip(f"VGG16's arrays are not in {weights_cache_dir()} and no source is reachable: {exc}")
        raise


def test_vgg16_arrays_are_oxfords(backbone: Backbone) -> None:
    found = oxfords_arrays()
    arrays = StoredArrays(found.path)
    assert len(arrays) == 26
    assert sum(array.size for array in arrays.values()) == VGG16_SPEC.parameters
    assert arrays["block1_conv1/kernel"][0, 0, 0, 0] == pytest.approx(0.42947057, abs=1e-8)
    assert arrays["block5_conv3/bias"][0] == pytest.approx(0.18837857, abs=1e-8)
    # the same arrays, whichever source they came from
    assert found.provenance.arrays_sha256 == "648b56211d0423096cdd9d5df668e3324c5c35244e97f4a6dce22dde53914714"
    assert (found.provenance.licence, "Oxford" in found.provenance.attribution) == ("CC-BY-4.0", True)
    fit_arrays(backbone.model, arrays, origin="test")
    np.testing.assert_array_equal(
        backbone.model.get_layer("block3_conv2").kernel.numpy(), arrays["block3_conv2/kernel"]
    )
