"""A finished run folder made by hand: the files that reporters read, for any classes and any number of epochs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from finetunekit import FinishedRun

STAND_IN = "These photos are drawn by the program; they stand in for yours, and no score here says anything about real animals."
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


def make_run(
    folder: Path,
    classes: Sequence[str] = ("cat", "lion", "lynx"),
    *,
    epochs: Sequence[Mapping[str, object]] | None = None,
    photos_per_class: int = 4,
    wrong_every: int = 5,
    stand_in: str | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> FinishedRun:
    """Write the files of a finished run with `photos_per_class` test photos of each class, each of them a display photo too."""
    photo_root, run_path = folder / "images", folder / "run"
    run_path.mkdir(parents=True)
    rows = _predictions(photo_root, classes, photos_per_class, wrong_every)
    config = {"name": "tiny", "seed": 3}
    (run_path / "config.yaml").write_text("name: tiny\nseed: 3\n", encoding="utf-8")
    _write_json(run_path / "plan.json", {"config": config, "layers": LAYERS})
    _write_json(
        run_path / "run.json",
        {"classes": list(classes), "stand_in": stand_in, "photo_root": str(photo_root), "seed": 3},
    )
    _write_json(run_path / "metrics.json", metrics or {"test": {"photos": len(rows) // 2}})
    _write_csv(run_path / "predictions.csv", rows)
    _write_csv(run_path / "epochs.csv", epochs if epochs is not None else [epoch_row(i) for i in range(1, 4)])
    return FinishedRun(run_path)


def epoch_row(epoch: int, stage: str = "fine-tune", of: int = 50) -> dict[str, object]:
    """One row of an epoch log with the experiment's numbers of draws, its scores rising with the epoch."""
    progress = 1 - 0.97 ** (epoch * 150 / of)
    correct, val_correct, photos = (
        round(1584 * (0.4 + 0.59 * progress)),
        round(360 * (0.4 + 0.5 * progress)),
        round(200 * (0.4 + 0.5 * progress)),
    )
    return {
        "stage": stage, "epoch": epoch, "loss": 1.3 - 1.25 * progress, "accuracy": correct / 1584, "draws": 1584, "correct": correct,
        "val_loss": 1.35 - progress, "val_accuracy": val_correct / 360, "val_draws": 360, "val_correct": val_correct,
        "val_photos": 200, "val_photos_correct": photos, "learning_rate": 1e-4, "seconds": 1.5, "images_per_s": 1056.0,
    }  # fmt: skip


def _predictions(root: Path, classes: Sequence[str], per_class: int, wrong_every: int) -> list[dict[str, object]]:
    test: list[dict[str, object]] = []
    for i, truth in enumerate(classes):
        for j in range(per_class):
            shown = f"test/{i}/{j}.png"
            content = _photo(i, j, len(classes))
            predicted = (i + 1) % len(classes) if (i * per_class + j) % wrong_every == wrong_every - 1 else i
            (root / "test" / str(i)).mkdir(parents=True, exist_ok=True)
            (root / shown).write_bytes(content)
            shares = {
                f"p_{name}": 0.9 if k == predicted else 0.1 / (len(classes) - 1) for k, name in enumerate(classes)
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


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else ["stage", "epoch"])
        writer.writeheader()
        writer.writerows(rows)
