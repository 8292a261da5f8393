"""The plain Keras script of the experiment, as its author would write it with Keras 3: the opponent of the benches.

    python benchmarks/plain_keras.py --data DIR [--epochs N] [--steps N] [--validation-steps N] [--seed N] [--json] [--predictions FILE]

VGG16 with ImageNet weights, `layers[:15]` frozen, average pooling, Dense(1024, relu), Dense(4, softmax); SGD 1e-4 / 0.9; batches of 32 at
100 px, nearest; ImageDataGenerator(rescale, shear 0.2, zoom 0.2, flip). It keeps what the experiment kept: summary, architecture, epoch
log, weights; the grid of display photos is left out, in its favour. `DIR` holds train/, valid/ and test/ with one folder a class.

Keras 3's `fit` stops at the end of an iterator and would train on 600 draws an epoch instead of 1584. So its iterators are fed through an
endless generator, running on across epochs as Keras 2.2.4 had them, and every epoch's draws are counted inside the model and asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from common import EPOCHS, STEPS, Epoch, new_parser
from numpy.typing import NDArray
from plain_draws import VALIDATION_STEPS
from plain_watch import Draws, Timing, check_draws
from plain_weights import pretrained_arrays
from tensorflow.keras.preprocessing.image import ImageDataGenerator

FROZEN_LAYERS = 15
AUGMENTATION: dict[str, Any] = {"shear_range": 0.2, "zoom_range": 0.2, "horizontal_flip": True}
Flows = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What the script measured.

    Attributes:
        epochs: Times and draws of each epoch.
        evaluation_s: Test evaluation.
        test_loss: Mean over the test photos, in nats.
        test_accuracy: Fraction of the test photos.
        test_photos: Photos evaluated.
    """

    epochs: tuple[Epoch, ...]
    evaluation_s: float
    test_loss: float
    test_accuracy: float
    test_photos: int


def endless(batches: Any) -> Iterator[Any]:
    """A legacy iterator as a generator that never ends."""
    while True:
        yield next(batches)


def open_flows(data: Path, *, seed: int, size_px: int = 100, batch_size: int = 32) -> Flows:
    """The three splits as the experiment read them; test photos in order."""

    def flow(split: str, shuffle: bool, **augmentation: Any) -> Any:
        generator = ImageDataGenerator(rescale=1.0 / 255, **augmentation)
        return generator.flow_from_directory(
            data / split, target_size=(size_px, size_px), batch_size=batch_size, shuffle=shuffle, seed=seed
        )

    return {
        "train": flow("train", True, **AUGMENTATION),
        "valid": flow("valid", True),
        "test": flow("test", False),
    }


def build_model(num_classes: int, arrays: Mapping[str, NDArray[np.float32]] | None, size_px: int = 100) -> Any:
    """The experiment's network, compiled.

    Args:
        num_classes: Width of the softmax.
        arrays: VGG16's by `<layer>/<variable>`; None leaves it random.
        size_px: Side of the square input.
    """
    from finetunekit.models.weights import fit_arrays

    vgg16 = keras.applications.VGG16(include_top=False, weights=None, input_shape=(size_px, size_px, 3))
    if arrays is not None:
        fit_arrays(vgg16, arrays, origin="VGG16")
    for layer in vgg16.layers[:FROZEN_LAYERS]:
        layer.trainable = False
    x = keras.layers.GlobalAveragePooling2D()(vgg16.output)
    x = keras.layers.Dense(1024, activation="relu")(x)
    model = keras.Model(vgg16.input, keras.layers.Dense(num_classes, activation="softmax")(x))
    optimizer = keras.optimizers.SGD(learning_rate=1e-4, momentum=0.9)
    model.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy", Draws()])
    return model


def time_epochs(
    model: Any,
    flows: Flows,
    *,
    steps: int,
    validation_steps: int,
    epochs: int = 1,
    out: Path | None = None,
    verbose: int = 0,
) -> Timing:
    """Train `epochs` epochs of `steps` steps, each followed by one validation; draws are asserted.

    Args:
        model: Of `build_model`.
        flows: Fresh from `open_flows`.
        steps: Training batches an epoch.
        validation_steps: Validation batches an epoch.
        epochs: At least 1.
        out: Folder of the epoch log; None keeps none.
        verbose: As in Keras.

    Raises:
        AssertionError: If an epoch's draws are not those of the experiment.
    """
    timing = Timing()
    model.fit(
        endless(flows["train"]),
        steps_per_epoch=steps,
        epochs=epochs,
        validation_data=endless(flows["valid"]),
        validation_steps=validation_steps,
        callbacks=[timing] if out is None else [keras.callbacks.CSVLogger(str(out / "epochs.csv")), timing],
        shuffle=False,  # the generator shuffles; Keras would warn that it cannot
        verbose=verbose,
    )
    check_draws(timing.epochs, flows["train"], flows["valid"], steps, validation_steps)
    return timing


def run_script(
    model: Any, flows: Flows, out: Path, *, epochs: int, steps: int, validation_steps: int, verbose: int
) -> Result:
    """The whole experiment: train, keep what it kept, evaluate all test photos."""
    (out / "model.json").write_text(model.to_json(), encoding="utf-8")
    with (out / "summary.txt").open("w", encoding="utf-8") as stream:
        model.summary(print_fn=lambda line: print(line, file=stream))
    timing = time_epochs(
        model, flows, steps=steps, validation_steps=validation_steps, epochs=epochs, out=out, verbose=verbose
    )
    model.save_weights(out / "model.weights.h5")
    began = time.perf_counter()
    scores = model.evaluate(endless(flows["test"]), steps=len(flows["test"]), verbose=verbose, return_dict=True)
    evaluation_s, seen = time.perf_counter() - began, round(float(scores["draws"]))
    if seen != flows["test"].n:
        raise AssertionError(f"the test evaluation saw {seen} photos of {flows['test'].n}")
    return Result(tuple(timing.epochs), evaluation_s, float(scores["loss"]), float(scores["accuracy"]), seen)


def prediction_rows(model: Any, test: Any) -> list[dict[str, str]]:
    """Rows as in a run's `predictions.csv`, test split only; `test` must be fresh, as Keras fetches ahead of what it uses."""
    classes = list(test.class_indices)
    probabilities = model.predict(endless(test), steps=len(test), verbose=0)
    rows = []
    for name, label, row in zip(test.filenames, test.classes, probabilities, strict=True):
        content = (Path(test.directory) / name).read_bytes()
        rows.append(
            {
                "split": "test",
                "path": f"test/{Path(name).as_posix()}",
                "sha256": hashlib.sha256(content).hexdigest(),
                "true": classes[label],
                "predicted": classes[int(row.argmax())],
                **{f"p_{name}": repr(float(p)) for name, p in zip(classes, row, strict=True)},
            }
        )
    return rows


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def parse_arguments() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds train/, valid/ and test/")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--steps", type=int, default=STEPS, help="training batches an epoch")
    parser.add_argument("--validation-steps", type=int, default=VALIDATION_STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for what the script keeps; default: a temporary one")
    parser.add_argument("--predictions", type=Path, help="CSV of the test photos' probabilities to write")
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of text")
    return parser.parse_args()


def main() -> None:
    asked = parse_arguments()
    with contextlib.redirect_stdout(sys.stderr):  # Keras and the legacy iterators chat on stdout
        result = run_as_asked(asked)
    print(json.dumps(asdict(result)) if asked.json else describe(result))


def run_as_asked(asked: argparse.Namespace) -> Result:
    keras.utils.set_random_seed(asked.seed)
    flows = open_flows(asked.data, seed=asked.seed)
    model = build_model(len(flows["train"].class_indices), pretrained_arrays())
    with tempfile.TemporaryDirectory() as temporary:
        out = asked.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        result = run_script(
            model, flows, out,
            epochs=asked.epochs, steps=asked.steps, validation_steps=asked.validation_steps, verbose=0 if asked.json else 2,
        )  # fmt: skip
    if asked.predictions:
        write_rows(asked.predictions, prediction_rows(model, open_flows(asked.data, seed=asked.seed)["test"]))
    return result


def describe(result: Result) -> str:
    epochs = result.epochs[1:] or result.epochs  # the first one builds graphs
    rate = sum(e.draws for e in epochs) / sum(e.train_s for e in epochs)
    epoch_s = sum(e.train_s + e.validation_s for e in epochs) / len(epochs)
    return (
        f"{rate:.1f} images/s trained; {epoch_s:.1f} s an epoch of {result.epochs[0].draws} + {result.epochs[0].validation_draws} draws\n"
        f"test loss {result.test_loss:.4f}, accuracy {result.test_accuracy:.4f} "
        f"({round(result.test_accuracy * result.test_photos)}/{result.test_photos})"
    )


if __name__ == "__main__":
    main()
