"""The model's architecture as JSON, and its summary as a table."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit import RunError

from .options import ArchitectureJsonOptions

if TYPE_CHECKING:
    from finetunekit import FinishedRun

MEMBER = "config.json"
WIDTH = 80


def build_architecture_json(options: ArchitectureJsonOptions, run: FinishedRun) -> Mapping[str, bytes]:
    """Take the architecture out of the saved model, without Keras, and list its layers.

    Args:
        options: Layout and the size that is refused.
        run: A finished run; `model.keras` and the plan's layer table are read.

    Returns:
        `architecture.json`, which `keras.models.model_from_json` reads, and `model_summary.txt` where the plan lists its layers.

    Raises:
        RunError: If `model.keras` is missing or is not a Keras archive.
    """
    config = read_architecture(run.path / "model.keras", options.max_config_mb * 2**20)
    text = json.dumps(config, indent=options.indent, ensure_ascii=False) + "\n"
    files = {"architecture.json": text.encode()}
    layers = run.plan.get("layers")
    if layers:
        files["model_summary.txt"] = summary_table(layers, run.stand_in).encode()
    return files


def read_architecture(path: Path, max_bytes: int) -> Any:
    """The JSON document `config.json` of a `.keras` archive.

    Raises:
        RunError: If the file is missing, is not such an archive, or holds more than `max_bytes`.

    Source: Keras' `.keras` format, https://keras.io/guides/serialization_and_saving/ ("What's in the `.keras` archive").
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(MEMBER) as stream:
            content = stream.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise RunError(
                f"{path}: its {MEMBER} is larger than {max_bytes // 2**20} MB. Raise `max_config_mb` if that is right."
            )
        return json.loads(content)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as exc:
        raise RunError(f"{path}: cannot be read as a Keras model ({exc}). Is the run finished?") from exc


def summary_table(layers: Sequence[Mapping[str, Any]], stand_in: str | None = None) -> str:
    """Layers in the order of the forward pass: shape, parameters, and whether they train.

    Args:
        layers: Rows with `path`, `class_name`, `block`, `output_shape`, `parameters` and `rate`: the multiplier of the stage's learning
            rate, 0 for a frozen layer.
        stand_in: Sentence to add where the photos are a stand-in.

    Returns:
        A table of at most 80 columns, its totals below it.
    """
    lines = [_line("Layer (class)", "Output shape", "Parameters", "Trains"), "=" * WIDTH]
    for layer in layers:
        name = f"{layer['path']} ({layer['class_name']})"
        lines.append(_line(name, _shape(layer.get("output_shape")), f"{layer['parameters']:,}", _trains(layer)))
    total = sum(layer["parameters"] for layer in layers)
    trainable = sum(layer["parameters"] for layer in layers if _rate(layer) > 0)
    lines += [
        "=" * WIDTH,
        f"Parameters: {total:,}",
        f"  trainable: {trainable:,}",
        f"  frozen:    {total - trainable:,}",
    ]
    return "\n".join([*lines, *([stand_in] if stand_in else [])]) + "\n"


def _line(name: str, shape: str, parameters: str, trains: str) -> str:
    kept = name if len(name) <= 38 else f"…{name[-37:]}"
    return f"{kept:<38} {shape:<18} {parameters:>12} {trains:>9}".rstrip()


def _shape(shape: Sequence[int | None] | str | None) -> str:
    if shape is None or isinstance(shape, str):
        return shape or ""
    return " × ".join("N" if size is None else str(size) for size in shape)


def _rate(layer: Mapping[str, Any]) -> float:
    rate = layer.get("rate")
    return 1.0 if rate is None else float(rate)


def _trains(layer: Mapping[str, Any]) -> str:
    if not layer["parameters"]:
        return "–"
    rate = _rate(layer)
    return "frozen" if rate == 0 else "yes" if rate == 1 else f"× {rate:g}"
