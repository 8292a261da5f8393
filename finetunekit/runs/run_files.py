"""Files of run folders as anyone may have written them: regular, bounded, of the shape that readers rely on; or one line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, Self

import pydantic
from pydantic import ConfigDict, Field

from finetunekit.config.sections import RunConfig
from finetunekit.config.training_sections import Component, Stage
from finetunekit.config.yaml_source import show_path
from finetunekit.errors import RunFolderError
from finetunekit.system.files import MOST_BYTES, read_csv, read_regular
from finetunekit.system.formatting import one_line

MOST_JSON_BYTES = 64 * 2**20
DEEPEST = 60


class Told(dict[str, Any]):
    """A map of a run's file: a key that is not there is an error that names the file."""

    where: Path

    def __missing__(self, key: str) -> NoReturn:
        raise RunFolderError(f"{self.where}: has no '{key}'. The file is damaged, or the run did not get that far.")


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
        level = [inner for value in level for inner in _inside(value) if isinstance(inner, (dict, list))]
        if not level:
            return
    raise RunFolderError(f"{path}: is nested deeper than {DEEPEST} levels.")


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


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
    try:
        rows = tuple(read_csv(read_text_file(path, errors="surrogateescape"), Told))
    except (csv.Error, ValueError) as exc:
        raise RunFolderError(f"{path}: {one_line(exc)}. The file is damaged.") from exc
    for row in rows:
        row.where = path
    return rows


def read_text_file(path: Path, *, errors: str = "strict", most_bytes: int = MOST_BYTES) -> str:
    """A text that a run keeps, line ends as they are; `errors` as `bytes.decode` takes it.

    Raises:
        RunFolderError: If it is no regular file, larger than `most_bytes`, or no UTF-8.
    """
    try:
        return read_regular(path, most_bytes=most_bytes).decode("utf-8", errors)
    except OSError as exc:
        raise RunFolderError(f"{path}: cannot be read ({exc.strerror or exc}). Is the run finished?") from exc
    except UnicodeDecodeError as exc:
        raise RunFolderError(f"{path}: is not UTF-8 text (byte {exc.start}).") from exc
