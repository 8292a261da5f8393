"""What a user writes without finetunekit: timm's pixels, a frozen Keras network, scikit-learn's logistic regression as it comes.

    python benchmarks/plain_probe.py PHOTOS_TABLE [--source-px N]

The opponent of `bench_probe.py` and `bench_recipes.py`. The network and its arrays are the recipe's own, so that only the rest differs.
Short side to 256 px and the centre 224 px are what timm does for this network (`tf_efficientnet_lite0`: crop_pct .875, bicubic).
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Sequence
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


def build_network() -> Any:
    """EfficientNet-Lite0 with its ImageNet arrays, up to one vector a photo."""
    import keras
    from finetunekit_efficientnet_lite import SPECS
    from finetunekit_efficientnet_lite.network import LITE0, build_efficientnet_lite

    from finetunekit.models.weights import StoredArrays, fit_arrays, resolve_weights

    model, spec = build_efficientnet_lite(LITE0, SIZE_PX).model, SPECS[LITE0]
    found = resolve_weights(LITE0.name, spec, explicit=None, say=lambda _: None)
    fit_arrays(model, StoredArrays(found.path), origin=LITE0.name, top=spec.top)
    return keras.Model(model.input, keras.layers.GlobalAveragePooling2D()(model.output))


def extract(
    network: Any, paths: Sequence[Path], load: Callable[[Path], NDArray[np.float32]] = load_square
) -> NDArray[np.float32]:
    """Features of photos, `(photos, 1280)`."""
    squares = (np.stack([load(path) for path in paths[i : i + BATCH]]) for i in range(0, len(paths), BATCH))
    return np.concatenate([network.predict_on_batch(batch) for batch in squares])


def fit_and_ask(
    train: NDArray[np.float32], labels: NDArray[np.int64], test: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Probabilities of test photos, `(photos, classes)`, by scikit-learn's defaults."""
    from sklearn.linear_model import LogisticRegression

    shares: NDArray[np.float64] = LogisticRegression(max_iter=1000).fit(train, labels).predict_proba(test)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV of file_name, label, split")
    parser.add_argument("--source-px", type=int, help="shrink photos to this long side first")
    asked = parser.parse_args()
    load = partial(load_square, source_px=asked.source_px)
    rows = list(csv.DictReader(asked.table.open(encoding="utf-8")))
    names = sorted({row["label"] for row in rows})
    network, of = build_network(), {}
    for split in ("train", "test"):
        chosen = [row for row in rows if row["split"] == split]
        of[split] = (
            extract(network, [Path(row["file_name"]) for row in chosen], load),
            np.array([names.index(row["label"]) for row in chosen]),
        )
    shares = fit_and_ask(*of["train"], of["test"][0])
    labels = of["test"][1]
    losses = -np.log(np.maximum(shares[np.arange(len(labels)), labels], 1e-12))
    right = int((shares.argmax(axis=1) == labels).sum())
    scores = {"right": right, "photos": len(labels), "accuracy": right / len(labels), "log_loss": float(losses.mean())}
    print(json.dumps({**scores, "reverted": [], "cpu_s": time.process_time(), "saved_at": time.time()}))


if __name__ == "__main__":
    main()
