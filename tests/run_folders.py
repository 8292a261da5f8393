"""Tiny finished run folders made by hand, as `compare` and `verify` read them."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("cat", "lion", "lynx", "tiger")
STAND_IN = "These photos are drawn by the program; no score here says anything about real animals."
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
        **{f"p_{name}": repr(float(p)) for name, p in probabilities.items()},
    }


def make_run(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    classes: Sequence[str] = CLASSES,
    config: Mapping[str, Any] | None = None,
    components: Sequence[Mapping[str, Any]] = COMPONENTS,
    environment: Mapping[str, Any] | None = None,
    stand_in: str | None = None,
    status: str = "finished",
    seed: int = 0,
) -> Path:
    """Write a run folder around rows of `predictions.csv`."""
    path.mkdir(parents=True)
    config = {
        "name": "felidae4",
        "seed": seed,
        "head": {"name": "gap_dense"},
        "expected": None,
        **(config or {}),
    }
    (path / "config.yaml").write_text(f"name: felidae4\nseed: {seed}\n", encoding="utf-8")
    _write_json(path / "plan.json", {"source": "felidae4", "config": config, "components": list(components)})
    state = {"status": status, "name": "felidae4", "seed": seed, "classes": list(classes)}
    _write_json(path / "run.json", state | {"stand_in": stand_in, "photo_root": str(path), "precision": "float32"})
    if environment is not None:
        _write_json(path / "environment.json", environment)
    with (path / "predictions.csv").open("w", encoding="utf-8", newline="") as stream:
        columns = ["split", "path", "sha256", "true", "predicted", *(f"p_{name}" for name in classes)]
        writer = csv.DictWriter(stream, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_metrics(
    wrong: Sequence[int] = (), photos: int = 160, *, seed: int = 0, stand_in: str | None = None
) -> dict[str, Any]:
    """`metrics.json` of a run with these answers, through the same functions as a real one."""
    from finetunekit.scoring import score_splits

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
        **score_splits([*rows, *valid], CLASSES, ("valid", "test")),
        "seconds": {"whole": 370.0},
    }


def spread(count: int, photos: int = 160, *, first: int = 0) -> tuple[int, ...]:
    """Positions of `count` distinct photos, spread over the split."""
    return tuple(int(i) for i in np.linspace(first, photos - 1, count))


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
