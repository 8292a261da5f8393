"""What the Keras guide on transfer learning does: a new head on a frozen network, then all layers at a rate of 1e-5.

    python benchmarks/plain_keras_guide.py TABLE [--seed N]

An opponent of `bench_peers.py`; network and arrays are those of `plain_probe.py`. Photos are resized to the network's size without regard
to their shape and kept in memory, mirrored and rotated at random by layers of the network, in batches of 32. The head, after dropout of
0.2, trains for 20 epochs with Adam; then all layers train for 10 epochs, BatchNorm in inference mode.

Source: keras.io/guides/transfer_learning, its end-to-end example, with the epochs of the edition of 2020; later ones have 2 and 1 for 9,300
photos, which is too few for small tasks. Pixels are scaled as this network asks for.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plain_probe import SIZE_PX, build_base, cpu_seconds, describe_answers, read_table

HEAD_EPOCHS, FINE_EPOCHS, FINE_RATE, BATCH = 20, 10, 1e-5, 32


def load_photos(paths: list[Path]) -> NDArray[np.float32]:
    """Photos stretched to the network's size, `(photos, size, size, 3)`, 0 to 255."""
    import keras

    side = (SIZE_PX, SIZE_PX)
    return np.stack(
        [keras.utils.img_to_array(keras.utils.load_img(p, target_size=side, interpolation="bilinear")) for p in paths]
    )


def build_model(num_classes: int) -> tuple[Any, Any]:
    """The guide's model and the base in it, which is frozen."""
    import keras
    from keras import layers

    base = build_base()
    base.trainable = False
    inputs = keras.Input((SIZE_PX, SIZE_PX, 3))
    x = layers.RandomRotation(0.1)(layers.RandomFlip("horizontal")(inputs))
    x = layers.Rescaling(scale=1 / 128, offset=-127 / 128)(x)
    x = base(x, training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(num_classes)(x)), base


def fit(model: Any, data: dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]], rate: float, epochs: int) -> None:
    """Compile and train."""
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    x, y = data["train"]
    model.fit(x, y, batch_size=BATCH, epochs=epochs, validation_data=data["valid"], verbose=0)


def main() -> None:
    import keras

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV of file_name, label, split")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    keras.utils.set_random_seed(asked.seed)
    names, splits = read_table(asked.table)
    data = {name: (load_photos(split.paths), split.labels) for name, split in splits.items() if name != "test"}
    model, base = build_model(len(names))
    fit(model, data, 1e-3, HEAD_EPOCHS)
    base.trainable = True
    fit(model, data, FINE_RATE, FINE_EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
    saved_at = time.time()
    logits = model.predict(load_photos(splits["test"].paths), batch_size=BATCH, verbose=0)
    shares = np.asarray(keras.ops.softmax(logits))
    scores = describe_answers(shares, splits["test"].labels)
    print(json.dumps({**scores, "cpu_s": cpu_seconds(), "saved_at": saved_at}))


if __name__ == "__main__":
    main()
