"""Tiny finished run folders made by hand, as reporters, `compare` and `verify` read them: any classes, any number of epochs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from finetunekit import FinishedRun
from finetunekit.evaluation.predictions import prediction_columns
from finetunekit.runs.folder import FORMAT
from finetunekit.statistics import apply_temperature
from finetunekit.system.files import to_csv, write_whole

CLASSES = ("cat", "lion", "lynx", "tiger")
STAND_IN = "These photos are drawn by the program; they stand in for yours, and no score here says anything about real animals."
COMPONENTS = [
    {
        "path": "head",
        "kind": "head",
        "name": "gap_dense",
        "options": {"units": 1024},
        "plugin": "builtin",
        "distribution": "finetunekit",
        "version": "0.1.0",
    }
]

LAYERS = [
    {
        "path": "vgg16/block1_conv1",
        "class_name": "Conv2D",
        "block": "block1",
        "output_shape": [None, 8, 8, 4],
        "parameters": 112,
        "rate": 0.0,
    },
    {
        "path": "vgg16/block1_pool",
        "class_name": "MaxPooling2D",
        "block": "block1",
        "output_shape": [None, 4, 4, 4],
        "parameters": 0,
        "rate": 0.0,
    },
    {
        "path": "vgg16/block5_conv1",
        "class_name": "Conv2D",
        "block": "block5",
        "output_shape": [None, 4, 4, 4],
        "parameters": 148,
        "rate": 0.5,
    },
    {
        "path": "logits",
        "class_name": "Dense",
        "block": None,
        "output_shape": [None, 3],
        "parameters": 15,
        "rate": 1.0,
    },
]


def answers(wrong: Sequence[int] = (), photos: int = 160, *, confidence: float = 0.9) -> list[dict[str, Any]]:
    """One row a test photo, classes in turn; the photos at positions `wrong` are given the next class."""
    rows = []
    for i in range(photos):
        truth = i % len(CLASSES)
        given = (truth + 1) % len(CLASSES) if i in wrong else truth
        row = {name: confidence if k == given else (1 - confidence) / 3 for k, name in enumerate(CLASSES)}
        rows.append(photo_row(f"photo {i}", CLASSES[truth], row))
    return rows


def photo_row(content: str, true: str, probabilities: Mapping[str, float]) -> dict[str, Any]:
    """One row of `predictions.csv`; photos with the same `content` have the same checksum."""
    return {
        "split": "test",
        "path": f"test/{true}/{content.replace(' ', '_')}.jpg",
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
        "true": true,
        "predicted": max(probabilities, key=lambda name: probabilities[name]),
        **{f"{kind}_{name}": repr(float(p)) for kind in ("p", "uncalibrated") for name, p in probabilities.items()},
    }


def make_run(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    classes: Sequence[str] = CLASSES,
    config: Mapping[str, Any] | None = None,
    name: str = "felidae4",
    components: Sequence[Mapping[str, Any]] = COMPONENTS,
    layers: Sequence[Mapping[str, Any]] = (),
    environment: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    epochs: Sequence[Mapping[str, object]] | None = None,
    photo_root: Path | None = None,
    stand_in: str | None = None,
    status: str = "finished",
    seed: int = 0,
) -> Path:
    """Write a run folder around rows of `predictions.csv`; environment, metrics and epochs where they are given."""
    path.mkdir(parents=True)
    config = {
        "name": name,
        "seed": seed,
        "head": {"name": "gap_dense"},
        "expected": None,
        **(config or {}),
    }
    (path / "config.yaml").write_text(f"name: {name}\nseed: {seed}\n", encoding="utf-8")
    plan = {"source": name, "config": config, "components": list(components), "layers": list(layers)}
    _write_json(path / "plan.json", plan)
    state = {
        "format": FORMAT,
        "status": status,
        "name": name,
        "seed": seed,
        "classes": list(classes),
        "stand_in": stand_in,
    }
    _write_json(path / "run.json", state | {"photo_root": str(photo_root or path), "precision": "float32"})
    for file, content in (("environment.json", environment), ("metrics.json", metrics)):
        if content is not None:
            _write_json(path / file, content)
    _write_csv(path / "predictions.csv", rows, prediction_columns(classes))
    if epochs is not None:
        _write_csv(path / "epochs.csv", epochs, list(epochs[0]) if epochs else ["stage", "epoch"])
    return path


def with_temperature(path: Path, temperature: float) -> Path:
    """The same run as if its validation photos had told it to divide the logits by another number."""
    run = FinishedRun(path)
    calibration = {"temperature": temperature, "words": f"Probabilities are given out at temperature {temperature}."}
    _write_json(path / "run.json", {**run.state, "calibration": calibration})
    own = np.array([[float(row[f"uncalibrated_{name}"]) for name in run.classes] for row in run.predictions])
    shares = [
        {f"p_{name}": repr(float(p)) for name, p in zip(run.classes, row, strict=True)}
        for row in apply_temperature(own, temperature)
    ]
    rows = [{**row, **given} for row, given in zip(run.predictions, shares, strict=True)]
    write_whole(path / "predictions.csv", to_csv(rows, prediction_columns(run.classes)))
    return path


def make_pictured_run(
    folder: Path,
    classes: Sequence[str] = ("cat", "lion", "lynx"),
    *,
    epochs: Sequence[Mapping[str, object]] | None = None,
    photos_per_class: int = 4,
    wrong_every: int = 5,
    stand_in: str | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> FinishedRun:
    """A run with photos, as reporters read it: `photos_per_class` test photos of each class, each of them a display photo too."""
    rows = _pictured(folder / "images", classes, photos_per_class, wrong_every)
    path = make_run(
        folder / "run",
        rows,
        classes=classes,
        name="tiny",
        layers=LAYERS,
        metrics=metrics or {"test": {"photos": len(rows) // 2}},
        epochs=epochs if epochs is not None else [epoch_row(i) for i in range(1, 4)],
        stand_in=stand_in,
        photo_root=folder / "images",
        seed=3,
    )
    return FinishedRun(path)


def epoch_row(epoch: int, stage: str = "fine-tune", of: int = 50) -> dict[str, object]:
    """One row of an epoch log with the experiment's numbers of draws, its scores rising with the epoch."""
    progress = 1 - 0.97 ** (epoch * 150 / of)
    correct, val_correct, photos = (
        round(1584 * (0.4 + 0.59 * progress)),
        round(360 * (0.4 + 0.5 * progress)),
        round(200 * (0.4 + 0.5 * progress)),
    )
    return {
        "stage": stage, "epoch": epoch, "loss": 1.4 - 1.25 * progress, "log_loss": 1.3 - 1.25 * progress,
        "accuracy": correct / 1584, "draws": 1584, "correct": correct,
        "val_loss": 1.35 - progress, "val_accuracy": val_correct / 360, "val_draws": 360, "val_correct": val_correct,
        "val_photos": 200, "val_photos_correct": photos, "learning_rate": 1e-4, "seconds": 1.5, "images_per_s": 1056.0,
    }  # fmt: skip


def make_metrics(
    wrong: Sequence[int] = (), photos: int = 160, *, seed: int = 0, stand_in: str | None = None
) -> dict[str, Any]:
    """`metrics.json` of a run with these answers, through the same functions as a real one."""
    from finetunekit.evaluation.scores import score_splits

    rows = answers(wrong, photos)
    valid = [{**row, "split": "valid"} for row in rows]
    last = {"val_correct": 326, "val_draws": 360, "val_photos_correct": 181, "val_photos": 200}
    return {
        "name": "felidae4",
        "seed": seed,
        "stand_in": stand_in,
        "classes": list(CLASSES),
        "epochs": 50,
        "last_epoch": last,
        "calibration": {"temperature": 1.0, "words": "Probabilities are given out as the network computes them."},
        **score_splits([*rows, *valid], CLASSES, ("valid", "test")),
        "seconds": {"whole": 370.0},
    }


def spread(count: int, photos: int = 160, *, first: int = 0) -> tuple[int, ...]:
    """Positions of `count` distinct photos, spread over the split."""
    return tuple(int(i) for i in np.linspace(first, photos - 1, count))


def _pictured(root: Path, classes: Sequence[str], per_class: int, wrong_every: int) -> list[dict[str, object]]:
    test: list[dict[str, object]] = []
    for i, truth in enumerate(classes):
        for j in range(per_class):
            shown = f"test/{i}/{j}.png"
            content = _photo(i, j, len(classes))
            predicted = (i + 1) % len(classes) if (i * per_class + j) % wrong_every == wrong_every - 1 else i
            (root / "test" / str(i)).mkdir(parents=True, exist_ok=True)
            (root / shown).write_bytes(content)
            shares = {
                f"{kind}_{name}": 0.9 if k == predicted else 0.1 / (len(classes) - 1)
                for kind in ("p", "uncalibrated")
                for k, name in enumerate(classes)
            }
            sha256 = hashlib.sha256(content).hexdigest()
            test.append(
                {
                    "split": "test",
                    "path": shown,
                    "sha256": sha256,
                    "true": truth,
                    "predicted": classes[predicted],
                    **shares,
                }
            )
    return [*test, *({**row, "split": "display", "true": ""} for row in test)]


def _photo(i: int, j: int, n: int) -> bytes:
    image = Image.new("RGB", (40, 30), (255 * i // n, 120, 40 + 20 * (j % 10)))
    image.putpixel((0, 0), (j % 256, i % 256, j // 256))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)
