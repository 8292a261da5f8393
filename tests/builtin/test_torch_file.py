from __future__ import annotations

import contextlib
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from finetunekit_efficientnet_lite.torch_file import read_float_tensors
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finetunekit.errors import WeightsError

MAGIC = 0x1950A86A20F9469CFC6C
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def whole(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if value < 2**31 else b"\x8a\x09" + struct.pack("<Q", value) + b"\0"


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(whole, values)) + b"t"


def storage(key: str, kind: str, count: int) -> bytes:
    return (
        b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu") + whole(count) + b"NtQ"
    )


def tensor(stored: bytes, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    arguments = stored + whole(offset) + numbers(shape) + numbers(strides) + b"\x89" + ORDERED_DICT
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def state(**tensors: bytes) -> bytes:
    """A state dictionary as PyTorch pickles it, with the attribute that it sets."""
    items = b"".join(text(name) + value for name, value in tensors.items())
    metadata = b"}" + text("_metadata") + ORDERED_DICT + b"sb"
    return b"\x80\x02" + ORDERED_DICT + b"(" + items + b"u" + metadata + b"."


def legacy(path: Path, pickled: bytes, storages: dict[str, np.ndarray]) -> Path:
    head = [pickle.dumps(value, 2) for value in (MAGIC, 1001, {"little_endian": True})]
    blocks = [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()]
    path.write_bytes(b"".join([*head, pickled, pickle.dumps(list(storages), 2), *blocks]))
    return path


def small(path: Path) -> Path:
    weight, count = np.arange(6, dtype="<f4"), np.array([3], dtype="<i8")
    pickled = state(
        weight=tensor(storage("1", "FloatStorage", 6), (2, 3), (3, 1)),
        turned=tensor(storage("1", "FloatStorage", 6), (3, 2), (1, 3)),
        last=tensor(storage("1", "FloatStorage", 6), (2,), (1,), offset=4),
        seen=tensor(storage("2", "LongStorage", 1), (), ()),
    )
    return legacy(path, pickled, {"1": weight, "2": count})


def test_float_tensors_are_views_of_their_storage(tmp_path: Path) -> None:
    found = read_float_tensors(small(tmp_path / "small.pth"))
    assert set(found) == {"weight", "turned", "last"}, "counters are no weights"
    np.testing.assert_array_equal(found["weight"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["turned"], found["weight"].T)
    np.testing.assert_array_equal(found["last"], [4, 5])
    assert np.shares_memory(found["weight"], found["turned"])
    assert all(array.dtype == np.float32 and not array.flags.writeable for array in found.values())


class _Malicious:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "was-executed"
    file = legacy(tmp_path / "bad.pth", pickle.dumps({"weight": _Malicious(mark)}, protocol), {})
    with pytest.raises(
        WeightsError, match=r"refused: (the file asks for '(posix|nt)\.mkdir'|its pickle uses the opcode)"
    ):
        read_float_tensors(file)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "called"),
    [("os\nsystem", "os.system"), ("builtins\neval", "builtins.eval"), ("torch\nDoubleStorage", "torch.DoubleStorage")],
)
def test_other_names_are_refused_by_name(tmp_path: Path, name: str, called: str) -> None:
    pickled = b"\x80\x02c" + name.encode() + b"\n(" + text("true") + b"tR."
    with pytest.raises(WeightsError, match=f"refused: the file asks for '{called}'; only tensors"):
        read_float_tensors(legacy(tmp_path / "bad.pth", pickled, {}))


HUGE = 2**62
ONE = np.zeros(1, dtype="<f4")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (tensor(storage("1", "FloatStorage", HUGE), (1,), (1,)), "cut off: storage 1 should hold"),
        (tensor(storage("1", "FloatStorage", 1), (HUGE,), (0,)), "does not fit its storage of 1 numbers"),
        (tensor(storage("1", "FloatStorage", 1), (HUGE, 0), (0, 0)), "does not fit its storage of 1 numbers"),
        (tensor(storage("1", "FloatStorage", 1), (1, 1), (HUGE, HUGE), offset=1), "does not fit its storage of 1"),
        (tensor(storage("1", "FloatStorage", 1), (1,), (1,), offset=HUGE), "does not fit its storage of 1 numbers"),
        (tensor(storage("1", "FloatStorage", 1), (1,) * 9, (1,) * 9), "a tensor of 9 axes"),
        (tensor(storage("1", "FloatStorage", 1), (1,), (1, 1)), "a tensor without storage, shape or strides"),
        (tensor(storage("2", "FloatStorage", 1), (1,), (1,)), "its tensors and its storages differ"),
        (tensor(storage("1", "LongStorage", 1), (1,), (1,)), "cut off: storage 1 should hold 8 bytes"),
        (tensor(text("no storage"), (1,), (1,)), "a tensor without storage, shape or strides"),
        (text("no tensor"), "'weight' is none"),
        (b"(" + text("module") + b"tQ", "points at something that is not a storage"),
        (b"h\xff", "recalls what it never stored"),
        (b"R", "calls something that is not a tensor"),
        (b"X\xff\xff\xff\xff", "not a legacy PyTorch file, or cut off"),
        (b"\x8d" + struct.pack("<Q", HUGE), "not a legacy PyTorch file, or cut off"),
        (b"0" * 9, "refused: its pickle uses the opcode POP"),
    ],
)
def test_impossible_tensors_are_refused_in_words(tmp_path: Path, made: bytes, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        read_float_tensors(legacy(tmp_path / "bad.pth", state(weight=made), {"1": ONE}))


def test_huge_strides_of_a_single_number_are_harmless(tmp_path: Path) -> None:
    one = state(weight=tensor(storage("1", "FloatStorage", 1), (1, 1), (HUGE, HUGE)))
    assert read_float_tensors(legacy(tmp_path / "a.pth", one, {"1": ONE}))["weight"].shape == (1, 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cut off"),
        (b"PK\x03\x04 and so on", "of the zip format; only the legacy format is read"),
        (pickle.dumps(1, 2) * 5, "no magic number"),
        (pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": False}, 2) * 2, "big-endian"),
        (
            pickle.dumps(MAGIC, 2)
            + pickle.dumps(1001, 2)
            + pickle.dumps({"little_endian": True}, 2)
            + pickle.dumps([], 2),
            "not a dict",
        ),
        (pickle.dumps([1] * 1_000_001, 2), "refused: a pickle of more than 1,000,000 opcodes"),
    ],
    ids=["empty", "zip", "other", "endian", "list", "long"],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        read_float_tensors(tmp_path / "bad.pth")


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    whole_file = small(tmp_path / "small.pth").read_bytes()
    for length in (*range(0, len(whole_file), 5), len(whole_file) - 1):
        (tmp_path / "cut.pth").write_bytes(whole_file[:length])
        with pytest.raises(WeightsError, match=r"."):
            read_float_tensors(tmp_path / "cut.pth")


@settings(max_examples=300, deadline=None)
@example(changes=[(52, 92)])  # an escape sequence that is none: Python warns of it
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_bytes_give_arrays_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    path = small(tmp_path_factory.mktemp("fuzz", numbered=True) / "small.pth")
    content = bytearray(path.read_bytes())
    for position, value in changes:
        content[position % len(content)] = value
    path.write_bytes(content)
    with contextlib.suppress(WeightsError):  # anything else that it raises fails the test
        assert all(array.size <= 6 for array in read_float_tensors(path).values())
