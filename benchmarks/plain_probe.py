"""What a user writes without finetunekit: timm's pixels, a frozen Keras network, scikit-learn's logistic regression as it comes.

    python benchmarks/plain_probe.py PHOTOS_TABLE [--source-px N]

The opponent of `bench_probe.py` and `bench_recipes.py`. The network and its arrays are the recipe's own, so that only the rest differs.
Short side to 256 px and the centre 224 px are what timm does for this network (`tf_efficientnet_lite0`: crop_pct .875, bicubic).
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SIZE_PX, CROP_PCT, BATCH = 224, 0.875, 32


def load_square(path: Path, source_px: int | None = None) -> NDArray[np.float32]:
    """A photo file as timm feeds it, `(224, 224, 3)` float32, (pixel - 127) / 128; `source_px`: shrunk to that long side first."""
    photo = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    if source_px is not None and max(photo.size) > source_px:
        shrink = source_px / max(photo.size)
        photo = photo.resize([max(1, round(side * shrink)) for side in photo.size], Image.Resampling.LANCZOS)
    scale = int(SIZE_PX / CROP_PCT) / min(photo.size)
    photo = photo.resize([max(int(side * scale), SIZE_PX) for side in photo.size], Image.Resampling.BICUBIC)
    left, top = ((side - SIZE_PX) // 2 for side in photo.size)
    return (np.asarray(photo.crop((left, top, left + SIZE_PX, top + SIZE_PX)), np.float32) - 127) / 128


@dataclass(frozen=True, slots=True)
class Split:
    """Photos of a split and their labels, `(photos,)` int64."""

    paths: list[Path]
    labels: NDArray[np.int64]


def read_table(path: Path) -> tuple[list[str], dict[str, Split]]:
    """Classes in alphabetical order, and the splits of a table of file_name, label and split."""
    with path.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    names = sorted({row["label"] for row in rows})
    splits = {}
    for split in ("train", "valid", "test"):
        chosen = [row for row in rows if row["split"] == split]
        labels = np.array([names.index(row["label"]) for row in chosen], np.int64)
        splits[split] = Split([Path(row["file_name"]) for row in chosen], labels)
    return names, splits


def describe_answers(shares: NDArray[np.floating], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Scores of probabilities, `(photos, classes)`."""
    losses = -np.log(np.maximum(shares[np.arange(len(labels)), labels], 1e-12))
    right = int((shares.argmax(axis=1) == labels).sum())
    return {
        "right": right,
        "photos": len(labels),
        "accuracy": right / len(labels),
        "log_loss": float(losses.mean()),
        "reverted": [],
    }


def cpu_seconds() -> float:
    """Of this process and of the workers that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def build_base() -> Any:
    """EfficientNet-Lite0 with its ImageNet arrays, up to its map `(batch, 7, 7, 1280)`."""
    from finetunekit_efficientnet_lite import SPECS
    from finetunekit_efficientnet_lite.network import LITE0, build_efficientnet_lite

    from finetunekit.models.weights import StoredArrays, fit_arrays, resolve_weights

    model, spec = build_efficientnet_lite(LITE0, SIZE_PX).model, SPECS[LITE0]
    found = resolve_weights(LITE0.name, spec, explicit=None, say=lambda _: None)
    fit_arrays(model, StoredArrays(found.path), origin=LITE0.name, top=spec.top)
    return model


def build_network() -> Any:
    """The same up to one vector a photo."""
    import keras

    base = build_base()
    return keras.Model(base.input, keras.layers.GlobalAveragePooling2D()(base.output))


def extract(
    network: Any, paths: Sequence[Path], load: Callable[[Path], NDArray[np.float32]] = load_square
) -> NDArray[np.float32]:
    """Features of photos, `(photos, 1280)`."""
    squares = (np.stack([load(path) for path in paths[i : i + BATCH]]) for i in range(0, len(paths), BATCH))
    return np.concatenate([network.predict_on_batch(batch) for batch in squares])


def fit_probe(train: NDArray[np.float32], labels: NDArray[np.int64]) -> Any:
    """scikit-learn's logistic regression by its defaults."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000).fit(train, labels)


def fit_and_ask(
    train: NDArray[np.float32], labels: NDArray[np.int64], test: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Probabilities of test photos, `(photos, classes)`."""
    shares: NDArray[np.float64] = fit_probe(train, labels).predict_proba(test)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV of file_name, label, split")
    parser.add_argument("--source-px", type=int, help="shrink photos to this long side first")
    asked = parser.parse_args()
    load = partial(load_square, source_px=asked.source_px)
    _, splits = read_table(asked.table)
    network = build_network()
    probe = fit_probe(extract(network, splits["train"].paths, load), splits["train"].labels)
    saved_at = time.time()
    shares = probe.predict_proba(extract(network, splits["test"].paths, load))
    scores = describe_answers(shares, splits["test"].labels)
    print(json.dumps({**scores, "cpu_s": cpu_seconds(), "saved_at": saved_at}))


if __name__ == "__main__":
    main()
