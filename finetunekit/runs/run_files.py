"""Files of run folders as anyone may have written them: regular, bounded, of the shape that readers rely on; or one line."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, Self

import pydantic
from pydantic import ConfigDict, Field

from finetunekit.config.sections import RunConfig
from finetunekit.config.training_sections import Component, Stage
from finetunekit.config.yaml_source import show_path
from finetunekit.errors import RunFolderError
from finetunekit.system.files import MOST_BYTES, open_regular, read_cells, read_regular
from finetunekit.system.formatting import one_line

MOST_JSON_BYTES = 64 * 2**20
MOST_TABLE_BYTES = 4 * 2**30
"""The answers to 10,000 photos of 1,000 classes take 440 MB."""
DEEPEST = 60
#: Columns beyond which the rows of a table are `WideRow`.
_WIDE = 64


class Told(dict[str, Any]):
    """A map of a run's file: a key that is not there is an error that names the file."""

    where: Path

    def __missing__(self, key: str) -> NoReturn:
        raise _no_key(self.where, key)


class WideRow(Mapping[str, str]):
    """A row of a table of many columns, whose cells stay one text until one beyond the first is asked for.

    As dictionaries, the answers to 5,000 photos of 1,000 classes take 2.4 GB, and of most rows nothing but the first few cells is read.
    """

    __slots__ = ("_first", "_places", "_rest", "where")
    _FIRST, _BETWEEN = 8, "\x1f"

    def __init__(self, places: Mapping[str, int], cells: list[str], where: Path) -> None:
        """Keep a row.

        Args:
            places: Column → position, shared by all rows.
            cells: As many.
            where: The file.
        """
        self._places, self.where = places, where
        self._first, rest = tuple(cells[: self._FIRST]), cells[self._FIRST :]
        text = self._BETWEEN.join(rest)
        self._rest: str | list[str] = text if text.count(self._BETWEEN) == len(rest) - 1 else rest

    def __getitem__(self, column: str) -> str:
        """A cell.

        Raises:
            RunFolderError: If the table has no such column.
        """
        place = self._places.get(column)
        if place is None:
            raise _no_key(self.where, column)
        if place < self._FIRST:
            return self._first[place]
        if isinstance(self._rest, str):
            self._rest = self._rest.split(self._BETWEEN)
        return self._rest[place - self._FIRST]

    def get(self, column: str, default: Any = None) -> Any:
        """A cell, or `default` where the table has no such column."""
        return self[column] if column in self._places else default

    def __contains__(self, column: object) -> bool:
        """Whether the table has such a column."""
        return column in self._places

    def __iter__(self) -> Iterator[str]:
        """Columns in order."""
        return iter(self._places)

    def __len__(self) -> int:
        """Number of columns."""
        return len(self._places)


def _no_key(where: Path, key: str) -> RunFolderError:
    return RunFolderError(f"{where}: has no '{key}'. The file is damaged, or the run did not get that far.")


class _Shape(pydantic.BaseModel):
    """What a file says, where it says it; anything else in it is nobody's business."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Pixels(_Shape):
    order: str = "rgb"
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


class _Level(_Shape):
    level: str | None = None


class _Missing(_Shape):
    report: str = ""
    why: str


class _State(_Shape):
    format: int = 1
    status: str = ""
    name: str = ""
    seed: int | None = None
    preset: str = ""
    settings: list[str] = []
    folder: str | None = None
    group: str | None = None
    git: dict[str, Any] | None = None
    started: str = ""
    ended: str = ""
    error: str | None = None
    classes: list[str] = []
    stand_in: str | None = None
    photo_root: str = ""
    precision: str = ""
    pixels: _Pixels = Field(default_factory=_Pixels)
    reproducibility: _Level = Field(default_factory=_Level)
    stages: list[dict[str, Any]] = []
    resumed: list[str] = []
    forced: list[str] = []
    test_content_key: str = Field("0" * 64, pattern=r"^[0-9a-f]{64}$")
    missing: list[_Missing] = []


class _Interval(_Shape):
    low: float
    high: float


class _Score(_Shape):
    value: float | None = None
    successes: int | None = None
    photos: int | None = None
    interval: _Interval | None = None


class _Counted(_Score):
    value: float
    successes: int
    photos: int


class _ClassScores(_Shape):
    support: int | None = None
    recall: _Score | None = None
    precision: _Score | None = None
    f1: float | None = None


class _Scores(_Shape):
    photos: int | None = None
    accuracy: _Score = Field(default_factory=_Score)
    macro_f1: _Score = Field(default_factory=_Score)
    macro_recall: _Score = Field(default_factory=_Score)
    log_loss: _Score = Field(default_factory=_Score)
    brier: _Score = Field(default_factory=_Score)
    classes: list[_ClassScores] = []
    confusion: list[list[int]] = []
    calibration: dict[str, Any] = {}


class _Openings(_Shape):
    openings: int
    configs: int


class _Metrics(_Shape):
    name: str = ""
    classes: list[str] = []
    stand_in: str | None = None
    seconds: dict[str, float] = {}
    notes: list[str] = []
    last_epoch: dict[str, Any] = {}
    openings: _Openings | None = None
    train: _Scores | None = None
    valid: _Scores | None = None
    test: _Scores | None = None

    @pydantic.model_validator(mode="after")
    def _check_classes(self) -> Self:
        count = len(self.classes)
        for scores in filter(None, (self.train, self.valid, self.test)):
            sizes = {len(row) for row in scores.confusion} | {len(scores.confusion), len(scores.classes)} - {0}
            if count and sizes - {count}:
                raise ValueError(f"scores of {max(sizes - {count})} classes where there are {count}")
        return self


class _Against(_Shape):
    difference: float
    interval: _Interval
    gained: int
    lost: int
    p_adjusted: float
    is_told_apart: bool


class _Baseline(_Shape):
    title: str
    accuracy: _Counted | None = None
    against: _Against | None = None


class _Baselines(_Shape):
    baselines: list[_Baseline] = []
    words: list[str] = []
    tuned: _Counted
    is_finetuned: bool = True


class _Step(_Shape):
    what: str
    command: str | None


class _NextSteps(_Shape):
    steps: list[_Step]


class _Component(_Shape):
    kind: str
    name: str
    path: str = ""
    options: dict[str, Any]


class _Config(RunConfig):
    """A configuration of which parts may be missing; what is there is within the bounds of a preset."""

    name: str = "x"
    head: Component = Component(name="x")
    stages: tuple[Stage, ...] = ()


class _Plan(_Shape):
    source: str = ""
    config: _Config
    components: list[_Component] = []


class _Pooled(_Shape):
    accuracy: dict[str, Any] = {}


class _Group(_Shape):
    status: str = ""
    name: str = ""
    preset: str = ""
    settings: list[str] = []
    folder: str = ""
    started: str = ""
    seeds: list[int] = []
    planned: int | None = None
    photos: int | None = None
    over_photos: _Pooled = Field(default_factory=_Pooled)
    pooled: _Pooled = Field(default_factory=_Pooled)


class _Exporter(_Shape):
    name: str
    options: dict[str, Any]


class _Exported(_Shape):
    files: dict[str, Any]
    classes: list[str]
    size_px: int = Field(ge=8, le=2048)
    takes: str
    fitting: dict[str, Any]


class _Certificate(_Shape):
    exporter: _Exporter
    model: _Exported


class _GoldenAnswer(_Shape):
    probabilities: dict[str, float]


class _ProbeAnswer(_Shape):
    pixels_sha256: str
    probabilities: list[float]


class _Answers(_Shape):
    classes: list[str]
    tolerance: float
    photos: dict[str, _GoldenAnswer] = Field(min_length=1)
    probes: dict[str, _ProbeAnswer]
    photos_of_the_run: dict[str, list[float]]


class _Environment(_Shape):
    platform: str = ""
    versions: dict[str, str | None] = {}
    devices: list[str] = []


_SHAPES: Mapping[str, type[_Shape]] = {
    "run.json": _State,
    "metrics.json": _Metrics,
    "plan.json": _Plan,
    "environment.json": _Environment,
    "next_steps.json": _NextSteps,
    "certificate.json": _Certificate,
    "answers.json": _Answers,
    "baselines.json": _Baselines,
    "seeds.json": _Group,
    "left_out.json": _Group,
    "cross_validation.json": _Group,
}


def read_json_file(path: Path, *, most_bytes: int = MOST_JSON_BYTES) -> Told:
    """A JSON object that a run keeps.

    Raises:
        RunFolderError: If it is no regular file, larger than `most_bytes`, no JSON object, deeper than 60 levels, or what is known by its
            name has another shape.
    """
    text = read_text_file(path, most_bytes=most_bytes)
    try:
        content = json.loads(text, object_hook=Told, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise RunFolderError(f"{path}: is not JSON ({one_line(exc)}).") from exc
    if not isinstance(content, Told):
        raise RunFolderError(f"{path}: is not a JSON object. Received: {text.strip()[:40]!r}")
    _mark(content, path)
    if shape := _SHAPES.get(path.name):
        _check_shape(path, shape, text)
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _mark(content: Told, path: Path) -> None:
    """Have each map inside know its file, level by level."""
    level: list[Any] = [content]
    for _ in range(DEEPEST):
        for value in level:
            if isinstance(value, Told):
                value.where = path
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return
    raise RunFolderError(f"{path}: is nested deeper than {DEEPEST} levels.")


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    """Maps and lists in a map or list; most lists are long and hold numbers alone."""
    inner = value.values() if isinstance(value, dict) else value
    return () if _PLAIN.issuperset(map(type, inner)) else [one for one in inner if isinstance(one, (dict, list))]


_PLAIN = frozenset((str, int, float, bool, type(None)))


def _check_shape(path: Path, shape: type[_Shape], text: str) -> None:
    try:
        shape.model_validate_json(text)
    except pydantic.ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        place = show_path(error["loc"]) or "its values"
        raise RunFolderError(
            f"{path}: {place}: {one_line(error['msg'])}. The file is damaged, or another version wrote it."
        ) from exc


def read_table_file(path: Path) -> tuple[Mapping[str, str], ...]:
    """Rows of a table that a run keeps, as text.

    Raises:
        RunFolderError: If it cannot be read, or a row has more or fewer cells than the header.
    """
    with _refused(path), open_regular(path) as stream:
        if os.fstat(stream.fileno()).st_size > MOST_TABLE_BYTES:
            raise OSError(errno.EFBIG, f"it is larger than {MOST_TABLE_BYTES:,} bytes")
        lines = io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="\n")
        try:
            return tuple(_rows(read_cells(lines), path))
        except (csv.Error, ValueError) as exc:
            raise RunFolderError(f"{path}: {one_line(exc)}. The file is damaged.") from exc


def _rows(cells: Iterator[list[str]], path: Path) -> Iterator[Mapping[str, str]]:
    header = next(cells, [])
    places = {name: place for place, name in enumerate(header)}
    for row in cells:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells where the header has {len(header)}")
        if len(places) > _WIDE:
            yield WideRow(places, row, path)
        else:
            told = Told(zip(header, row, strict=True))
            told.where = path
            yield told


def read_text_file(path: Path, *, errors: str = "strict", most_bytes: int = MOST_BYTES) -> str:
    """A text that a run keeps, line ends as they are; `errors` as `bytes.decode` takes it.

    Raises:
        RunFolderError: If it is no regular file, larger than `most_bytes`, or no UTF-8.
    """
    with _refused(path):
        return read_regular(path, most_bytes=most_bytes).decode("utf-8", errors)


@contextlib.contextmanager
def _refused(path: Path) -> Iterator[None]:
    """What reading a text may raise, as one line."""
    try:
        yield
    except OSError as exc:
        raise RunFolderError(f"{path}: cannot be read ({exc.strerror or exc}). Is the run finished?") from exc
    except UnicodeDecodeError as exc:
        raise RunFolderError(f"{path}: is not UTF-8 text (byte {exc.start}).") from exc
