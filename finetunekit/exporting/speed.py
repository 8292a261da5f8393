"""What an exported model costs: time to open it, time a batch beside Keras, memory, bytes."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.forward import make_forward
from finetunekit.models.preprocessing import as_input
from finetunekit.statistics import softmax
from finetunekit.system.files import open_regular
from finetunekit.system.memory import own_bytes
from finetunekit.types import Exporter, Predict, Servable

BATCHES = (1, 32)
AT_LEAST, AT_MOST, ENOUGH_S = 3, 50, 1.0


def open_timed(exporter: Exporter, folder: Path, size_px: int) -> tuple[Predict, dict[str, Any]]:
    """Open a model and ask it once: how long that takes, and how much memory the process has more afterwards."""
    before, started = own_bytes(), time.perf_counter()
    predict = exporter.open(folder)
    predict(np.zeros((1, size_px, size_px, 3), np.uint8))
    return predict, {"load_s": time.perf_counter() - started, "memory_bytes": max(0, own_bytes() - before)}


def measure_speed(servable: Servable, predict: Predict) -> dict[str, Any]:
    """Median milliseconds a batch of photos of the network's size, from pixels to probabilities, beside Keras' graph of the same batch."""
    found = {}
    for size, exported in time_batches(predict, servable.size_px).items():
        photos = _noise(int(size), servable.size_px)
        own = _median_ms(partial(_ask_keras, servable, make_forward(servable.network, int(size)), photos))
        found[size] = {"keras_ms": own, "exported_ms": exported, "times_faster": own / exported}
    return found


def time_batches(predict: Predict, size_px: int) -> dict[str, float]:
    """Photos in a batch → median milliseconds that a model takes for it, from pixels to probabilities."""
    return {str(size): _median_ms(partial(predict, _noise(size, size_px))) for size in BATCHES}


def _noise(photos: int, size_px: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (photos, size_px, size_px, 3), dtype=np.uint8)


def _ask_keras(servable: Servable, forward: Callable[..., NDArray[np.float32]], photos: NDArray[np.uint8]) -> None:
    for side in (photos, photos[:, :, ::-1]) if servable.is_mirrored else (photos,):
        softmax(forward(as_input(side, servable.pixels)))


def _median_ms(call: Callable[[], Any]) -> float:
    call()
    times: list[float] = []
    while len(times) < AT_LEAST or (sum(times) < ENOUGH_S and len(times) < AT_MOST):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def list_files(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Path of each file of a model → its bytes and SHA-256; names that lead out of its folder are passed over."""
    inside = [folder / name for name in names if (folder / name).resolve().is_relative_to(folder.resolve())]
    paths = [path for place in inside for path in sorted([place, *place.rglob("*")]) if path.is_file()]
    return {path.relative_to(folder).as_posix(): _file_facts(path) for path in paths}


def _file_facts(path: Path) -> dict[str, Any]:
    with open_regular(path) as stream:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
