"""Fixtures that every test module may use."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetunekit.testing import made_once, shared_folder

TESTS = Path(__file__).parent
CLASSES = ("blue", "green", "red")


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the user's ledger. Runs that any test started count as started here."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("FINETUNEKIT_STATE", str(folder))
    (folder / "started.jsonl").symlink_to(shared_folder(tmp_path_factory) / "started.jsonl")


@pytest.fixture(scope="session", autouse=True)
def shared_marks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where fixtures of a module or session have a state folder of their own, their runs count as started here too."""
    from finetunekit.runs import trust

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust, "marks_path", lambda: shared_folder(tmp_path_factory) / "started.jsonl")
        yield


@pytest.fixture(scope="session")
def frozen_at() -> list[int]:
    """How many modules were loaded when libraries were last spared from collection."""
    return [0]


@pytest.fixture(autouse=True)
def uncollected_libraries(frozen_at: list[int]) -> None:
    """What tests import on the way stays out of Python's collections: each of them would look at all of it again."""
    if len(sys.modules) > frozen_at[-1] + 300:
        frozen_at.append(len(sys.modules))
        gc.collect()
        gc.freeze()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("FINETUNEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_photos(root: Path, *, per_class: int = 4, size_px: int = 8, seed: int = 0) -> Path:
    """Noisy photos whose mean colour is their class, in `root/{train,valid,test}/<class>/`."""
    generator = np.random.default_rng(seed)
    for split in ("train", "valid", "test"):
        for channel, name in ((2, "blue"), (1, "green"), (0, "red")):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(per_class if split == "train" else max(2, per_class // 2)):
                pixels = generator.integers(0, 140, (size_px, size_px, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / f"{name}-{number}.png")
    return root


def write_counted_photos(root: Path, per_class: dict[str, int], classes: tuple[str, ...]) -> Path:
    """Noise at 8 px, a given number a class in each split."""
    generator = np.random.default_rng(0)
    for split, count in per_class.items():
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(
                    folder / f"{number:03d}.png"
                )
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """24 photos of three classes, 8 × 8 px: 4 a class to train on, 2 a class to validate and to test on."""
    return write_photos(tmp_path / "photos")


TINY = f"""
name: tiny
plugins: [{TESTS / "tiny_plugin.py"}]
data: {{source: folders, root: ROOT}}
pixels: {{size_px: 8, resize: nearest, contract: zero_to_one}}
backbone: {{name: tiny}}
weights: {{mode: random}}
head: {{name: gap_dense, units: 8}}
augment:
  - {{name: keras_generator, zoom_range: 0.2, horizontal_flip: true}}
train: {{batch_size: 5, draws_per_epoch: 30, validation_draws: 9}}
insights: {{baselines: false, gradcam_photos: 0}}
stages:
  - {{name: tune, epochs: 2, freeze: {{name: first_n, n: 3}}, optimizer: {{learning_rate: 0.05, momentum: 0.9}}}}
"""


@pytest.fixture
def tiny_yaml(tmp_path: Path, photos: Path) -> Path:
    """A preset that trains a tiny network on `photos` in a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.replace("ROOT", str(photos)), encoding="utf-8")
    return path


def convert_in_this_process(patch: pytest.MonkeyPatch) -> None:
    """Built-in exporters convert here; a process of its own for each, as users get, loads TensorFlow for seconds.

    `tests/exporting/test_backbones.py` starts those processes.
    """
    from finetunekit_builtin.exporters import litert, onnx

    def convert(module: str, *arguments: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a converter warns of is its own affair, as in its own process
            importlib.import_module(f"finetunekit_builtin.exporters.{module}").main(*arguments)

    for exporter in (litert, onnx):
        patch.setattr(exporter, "convert", convert)


@pytest.fixture
def convert_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """See `convert_in_this_process`."""
    convert_in_this_process(monkeypatch)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `TINY`, made once for all tests and processes: for looking at. `copied_run` may be changed.

    Its photos lie in `photos/`, two folders up. It has an HDF5 model and two reports.
    """
    folder = made_once(tmp_path_factory, "finished", _make_run)
    (path,) = (folder / "runs").iterdir()
    return path


def _make_run(folder: Path) -> None:
    import finetunekit as ftk
    from finetunekit.system.progress import Progress

    preset = folder / "tiny.yaml"
    preset.write_text(TINY.replace("ROOT", str(write_photos(folder / "photos"))), encoding="utf-8")
    settings = ("save.h5=true", "reports=[{name: confusion_matrix}, {name: learning_curves}]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
        patch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
        ftk.run(str(preset), settings=settings, out=folder / "runs", progress=Progress(is_quiet=True))


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of `finished_run`."""
    return Path(shutil.copytree(finished_run, tmp_path / "copied" / finished_run.name))


@pytest.fixture
def networks_built_again_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`plugins check` starts no process, which would have to load TensorFlow."""
    from finetunekit.testing import fresh_process

    monkeypatch.setattr(fresh_process, "ask", fresh_process.answer)


def write_tiny_weights(tiny_yaml: Path) -> Path:
    """A weights file for the backbone of `tiny_yaml`, so that it counts as pretrained and its pixel contract matters."""
    from finetunekit.config.planning import prepare
    from finetunekit.models.classifier import build_backbone
    from finetunekit.models.weights.fit import named_variables
    from finetunekit.system.environment import prepare_tensorflow

    plan, _ = prepare(tiny_yaml)
    prepare_tensorflow(seed=0, is_deterministic=True)
    model = build_backbone(plan.network, "float32").model
    path = tiny_yaml.parent / "tiny.npz"
    np.savez(path, **{name: variable.numpy() for name, variable in named_variables(model, "here").items()})
    return path


@pytest.fixture(scope="session", autouse=True)
def quiet_start() -> None:
    """TensorFlow's start-up chatter is of no use in test output."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(scope="session", autouse=True)
def two_devices() -> None:
    """The processor is two devices, for `train.devices`; whoever asks for one is given the first, as ever.

    It has to be said before TensorFlow has computed anything: no test module may while it is imported. Where none imports it, no test
    trains on two devices.
    """
    if "tensorflow" in sys.modules:
        from finetunekit.system.environment import divide_processor

        divide_processor(2)
