"""A plugin file that kills its own process with SIGKILL, once, at a moment named in `kill.json` beside it; for `kills.py`.

A moment is `{"at": "hook", "name": "before_run", "count": 1}`, `{"at": "step", "count": 5}` (training steps of the process),
`{"at": "event", "name": "os.rename", "text": "metrics.json", "count": 1}` (Python's audit events, before the thing is done), or
`{"at": "member", "count": 9}` (arrays of checkpoints, before the array is written). The file `killed` marks that it was done, so that the
resumed run, whose configuration names this file too, is left alone. It also gives the network to train: one with dropout.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import zipfile
from pathlib import Path
from typing import Any

from finetunekit import Backbone, BackboneSpec, Options, PixelContract, hookimpl

HERE = Path(__file__).resolve().parent
MARK = HERE / "killed"
MOMENT: dict[str, Any] = json.loads((HERE / "kill.json").read_text()) if (HERE / "kill.json").is_file() else {}
SEEN = [0]

SPEC = BackboneSpec(
    title="Dropout between two convolutions",
    pixels=PixelContract(scale=1 / 255),
    native_size_px=8,
    min_size_px=8,
    parameters=260,  # 3·3·3·4 + 4 and 3·3·4·4 + 4
    licence="Apache-2.0",
    attribution="",
    pretrained_on="nothing",
    published="none",
    reference="benchmarks/kill_plugin.py",
)


def _meet(at: str, name: str = "", text: str = "") -> None:
    """Count a moment of this kind; the one that was asked for is the last."""
    if MOMENT.get("at") != at or MOMENT.get("name", "") != name or MOMENT.get("text", "") not in text or MARK.exists():
        return
    SEEN[0] += 1
    if SEEN[0] == MOMENT["count"]:
        os.close(os.open(MARK, os.O_CREAT | os.O_WRONLY))
        os.kill(os.getpid(), signal.SIGKILL)


def _watch_events(event: str, arguments: tuple[Any, ...]) -> None:
    if event == MOMENT.get("name"):
        _meet("event", event, " ".join(map(str, arguments)))


def _watch_steps() -> None:
    import keras

    step = keras.Model.train_on_batch

    def counted(self: Any, *positional: Any, **named: Any) -> Any:
        _meet("step")
        return step(self, *positional, **named)

    keras.Model.train_on_batch = counted


def _watch_members() -> None:
    opened = zipfile.ZipFile.open

    def counted(self: Any, name: Any, mode: str = "r", *positional: Any, **named: Any) -> Any:
        if mode == "w" and "checkpoints" in str(self.filename or getattr(self.fp, "name", "")):
            _meet("member")
        return opened(self, name, mode, *positional, **named)

    zipfile.ZipFile.open = counted  # type: ignore[method-assign]


if MOMENT.get("at") == "event":
    sys.addaudithook(_watch_events)
elif MOMENT.get("at") == "step":
    _watch_steps()
elif MOMENT.get("at") == "member":
    _watch_members()


def build_dropout(options: Options, image_size_px: int) -> Backbone:
    """Convolution, pooling, dropout, convolution: `(batch, size, size, 3)` → `(batch, size / 2, size / 2, 4)`."""
    import keras

    inputs = keras.Input((image_size_px, image_size_px, 3), name="input")
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="conv1")(inputs)
    x = keras.layers.MaxPooling2D(name="pool1")(x)
    x = keras.layers.Dropout(0.2, name="drop")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="conv2")(x)
    blocks = {"block1": ("conv1", "pool1"), "block2": ("drop", "norm", "conv2")}
    return Backbone(keras.Model(inputs, x, name="dropout"), "map", blocks)


@hookimpl
def register_backbones(register: Any) -> None:
    """The network to train."""
    register("killed", build_dropout, Options, spec=SPEC)


@hookimpl
def before_run() -> None:
    """A moment."""
    _meet("hook", "before_run")


@hookimpl
def after_epoch() -> None:
    """A moment."""
    _meet("hook", "after_epoch")


@hookimpl
def after_stage() -> None:
    """A moment."""
    _meet("hook", "after_stage")


@hookimpl
def after_run() -> None:
    """A moment."""
    _meet("hook", "after_run")
