"""The pickles inside a legacy PyTorch file, read as data: an interpreter of the few opcodes that a dictionary of tensors needs.

Nothing is imported, called or unpickled: a name in the file is looked up in a table of two, and what it stands for is a record of ours.
Any other name or opcode is refused.

Source of the opcodes: docs.python.org/3/library/pickletools.html; of the names: torch/_utils.py, `_rebuild_tensor_v2`.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, TypeAlias

from finetunekit import WeightsError

#: More than any published backbone needs (EfficientNet-Lite2 has 17,000); bounds the work that a hostile file can ask for.
MAX_OPCODES = 1_000_000
ORDERED_DICT = "collections OrderedDict"
REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"
#: Storage class → little-endian numpy dtype. Source: torch/storage.py.
STORAGES = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}


@dataclass(frozen=True, slots=True)
class Name:
    """A global of the file that is known here; never imported."""

    text: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers that follow the pickles: `count` of them, of one dtype."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage; offset and strides in numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


#: What can be on the stack: plain values, tuples, lists, dictionaries, and the three records above.
Value: TypeAlias = object


class _Mark:
    """Where a run of items on the stack begins."""


_MARK = _Mark()


@dataclass(slots=True)
class _Machine:
    """The stack and the memo of one pickle."""

    stack: list[Value] = field(default_factory=list)
    memo: dict[int, Value] = field(default_factory=dict)

    def pop(self) -> Value:
        if not self.stack:
            raise WeightsError("not a legacy PyTorch file: its pickle takes from an empty stack.")
        return self.stack.pop()

    def items(self) -> list[Value]:
        """Everything above the last mark, the mark taken away."""
        taken: list[Value] = []
        while (value := self.pop()) is not _MARK:
            taken.append(value)
        return taken[::-1]

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise WeightsError("not a legacy PyTorch file: its pickle recalls what it never stored.")
        self.stack.append(self.memo[index])

    def store(self, index: int) -> None:
        self.memo[index] = self.stack[-1] if self.stack else self.pop()

    def set_items(self, flat: list[Value]) -> None:
        target = self.stack[-1] if self.stack else None
        if not isinstance(target, dict) or len(flat) % 2 or not all(isinstance(key, str) for key in flat[::2]):
            raise WeightsError("not a legacy PyTorch file: its pickle sets items that are not named.")
        target.update(zip(flat[::2], flat[1::2], strict=True))

    def append_items(self, items: list[Value]) -> None:
        target = self.stack[-1] if self.stack else None
        if not isinstance(target, list):
            raise WeightsError("not a legacy PyTorch file: its pickle appends to what is not a list.")
        target.extend(items)

    def tuple_of(self, count: int) -> None:
        self.stack.append(tuple([self.pop() for _ in range(count)][::-1]))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(_reduced(function, arguments))

    def build(self) -> None:
        """Attributes of a dictionary (`_metadata`, layer versions) are dropped."""
        self.pop()
        if not self.stack or not isinstance(self.stack[-1], dict):
            raise WeightsError("refused: its pickle sets the state of an object.")


def read_value(file: BinaryIO) -> Value:
    """One pickle, from the file's position to its end.

    Args:
        file: Open for reading bytes; left behind the pickle.

    Returns:
        What the pickle holds, of dictionaries, lists, tuples, text, numbers, `Storage` and `Tensor` only.

    Raises:
        WeightsError: If it names anything but a tensor's parts, uses another opcode, is cut off or longer than `MAX_OPCODES`.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # Python's word for an escape sequence that is none
            _run(machine, file)
    except (
        ValueError,
        OverflowError,
        UnicodeError,
        DeprecationWarning,
    ) as exc:  # pickletools on bytes that are no pickle
        raise WeightsError(f"not a legacy PyTorch file, or cut off: {' '.join(str(exc).split())[:100]}") from exc
    return machine.pop()


def _run(machine: _Machine, file: BinaryIO) -> None:
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if number >= MAX_OPCODES:
            raise WeightsError(f"refused: a pickle of more than {MAX_OPCODES:,} opcodes.")
        if opcode.name == "STOP":
            return
        _step(machine, opcode.name, argument)


def _step(machine: _Machine, name: str, argument: Value) -> None:
    if name in _PUSH_ARGUMENT:
        machine.stack.append(argument)
    elif name in _PUSH:
        machine.stack.append(_PUSH[name]())
    elif name in ("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"):
        assert isinstance(argument, int)
        (machine.store if name.endswith("PUT") else machine.recall)(argument)
    elif name == "GLOBAL":
        machine.stack.append(_known(str(argument)))
    elif name in _ACTIONS:
        _ACTIONS[name](machine)
    elif name != "PROTO":
        raise WeightsError(f"refused: its pickle uses the opcode {name}, which no dictionary of tensors needs.")


_PUSH_ARGUMENT = frozenset({"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"})
_PUSH: dict[str, Callable[[], Value]] = {
    "MARK": lambda: _MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_ACTIONS: dict[str, Callable[[_Machine], None]] = {
    "TUPLE": lambda m: m.stack.append(tuple(m.items())),
    "TUPLE1": lambda m: m.tuple_of(1),
    "TUPLE2": lambda m: m.tuple_of(2),
    "TUPLE3": lambda m: m.tuple_of(3),
    "SETITEM": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m: m.set_items(m.items()),
    "APPEND": lambda m: m.append_items([m.pop()]),
    "APPENDS": lambda m: m.append_items(m.items()),
    "BINPERSID": lambda m: m.stack.append(_storage(m.pop())),
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}


def _known(text: str) -> Name:
    if text not in (ORDERED_DICT, REBUILD_TENSOR, *STORAGES):
        raise WeightsError(
            f"refused: the file asks for '{text.replace(' ', '.')[:80]}'; only tensors of {', '.join(STORAGES)} are read."
        )
    return Name(text)


def _reduced(function: Value, arguments: Value) -> Value:
    if function == Name(ORDERED_DICT) and arguments == ():
        return {}
    if function != Name(REBUILD_TENSOR) or not isinstance(arguments, tuple) or len(arguments) < 4:
        raise WeightsError("refused: its pickle calls something that is not a tensor.")
    storage, offset, shape, strides = arguments[:4]
    if not isinstance(storage, Storage) or not _are_counts((offset,)) or not _are_counts(shape, strides):
        raise WeightsError("not a legacy PyTorch file: a tensor without storage, shape or strides.")
    return Tensor(storage, offset, shape, strides)


def _are_counts(*groups: Value) -> bool:
    """Whether all groups are tuples of as many whole numbers, none below 0."""
    return all(
        isinstance(group, tuple) and len(group) == len(groups[0]) and all(_is_count(item) for item in group)  # type: ignore[arg-type]
        for group in groups
    )


def _is_count(value: Value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _storage(identifier: Value) -> Storage:
    """Source: torch/serialization.py, `_legacy_save`: ('storage', class, key, location, count, view)."""
    match identifier:
        case ("storage", Name(text=text), str(key), str(), int(count), None) if text in STORAGES and _is_count(count):
            return Storage(key, STORAGES[text], count)
    raise WeightsError("refused: its pickle points at something that is not a storage of numbers.")
