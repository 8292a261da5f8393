"""Tiny photos and a tiny finished run, for the contract checks and for tests of one's own."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from finetunekit.config.yaml_source import dump_yaml
from finetunekit.engine.api import run
from finetunekit.system.progress import Progress
from finetunekit.system.user_dirs import CACHE_VARIABLE, STATE_VARIABLE
from finetunekit.testing import tiny_plugin
from finetunekit.types import TEST, TRAIN, VALID

TINY_CLASSES = ("blue", "green", "red")
#: Names that break figures, markup and tables which do not escape or shorten them.
AWKWARD_CLASSES = ("<&\">'", "two\nlines", "オオヤマネコ, " + "x" * 60)


def tiny_photos(folder: Path, *, classes: Sequence[str] = TINY_CLASSES, per_class: int = 4, size_px: int = 8) -> Path:
    """Write noisy photos whose colour is their class.

    Args:
        folder: Made if it is not there.
        classes: Names, which are folder names too.
        per_class: Training photos of each class; half as many, at least 2, to validate and to test on.
        size_px: Side of a photo.

    Returns:
        `folder`: photos in `{train,valid,test}/<class>/`, and the table `photos.csv` with path, label and split of each. With the defaults
        24 photos; the same bytes each time.
    """
    return _write_photos(folder, {name: name for name in classes}, per_class, size_px)


def _write_photos(folder: Path, label_of: Mapping[str, str], per_class: int, size_px: int) -> Path:
    from PIL import Image

    generator = np.random.default_rng(0)
    rows = []
    for split, count in ((TRAIN, per_class), (VALID, max(2, per_class // 2)), (TEST, max(2, per_class // 2))):
        for number, (name, label) in enumerate(label_of.items()):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for photo in range(count):
                pixels = generator.integers(0, 140, (size_px, size_px, 3), dtype=np.uint8)
                pixels[..., 2 - number % 3] += 100  # blue, green, red
                path = folder / split / name / f"{photo}.png"
                Image.fromarray(pixels).save(path)
                rows.append((path.relative_to(folder).as_posix(), label, split))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("path", "label", "split"), *rows])
    (folder / tiny_plugin.TABLE).write_text(table.getvalue(), encoding="utf-8", newline="")
    return folder


def tiny_run(folder: Path, *, classes: Sequence[str] = TINY_CLASSES) -> Path:
    """Make a finished run by really running the engine: two convolutions on 24 photos of 8 px, two epochs, seconds.

    Args:
        folder: Empty, or not there yet; everything is written into it, what the user's cache and ledger would get included.
        classes: Names; any text at all.

    Returns:
        The run folder. Its photos are said to be a stand-in.
    """
    _write_photos(folder / "photos", {f"class{number}": name for number, name in enumerate(classes)}, 4, 8)
    preset = folder / "tiny.yaml"
    preset.write_text(dump_yaml(_preset(folder)), encoding="utf-8")
    with _folders_of_its_own(folder):
        return run(str(preset), out=folder / "runs", progress=Progress(is_quiet=True)).path


def _preset(folder: Path) -> dict[str, object]:
    stage = {
        "name": "tune",
        "epochs": 2,
        "freeze": {"name": "testing_first_block"},
        "optimizer": {"learning_rate": 0.05},
    }
    return {
        "name": "tiny",
        "plugins": [str(Path(tiny_plugin.__file__).resolve())],
        "deterministic": False,  # asking TensorFlow for it would outlast the run
        "data": {"source": "testing_table", "root": str(folder / "photos")},
        "pixels": {"size_px": 8},
        "backbone": {"name": "testing_tiny"},
        "weights": {"mode": "random"},
        "head": {"name": "testing_linear"},
        "train": {"batch_size": 6},
        "stages": [stage],
        "cache": {"mode": "off"},
    }


@contextmanager
def _folders_of_its_own(folder: Path) -> Iterator[None]:
    """The user's cache and ledger are left alone."""
    own = {CACHE_VARIABLE: str(folder / "cache"), STATE_VARIABLE: str(folder / "state")}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
