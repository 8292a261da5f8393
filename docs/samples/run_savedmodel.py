"""python run_savedmodel.py FOLDER PHOTO…: what an exported model says. Needs tensorflow, Pillow and numpy, nothing else."""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps


def main(folder: str, *photos: str) -> None:
    """Print the first answer for each photo."""
    path = Path(folder) / "saved_model"
    classes = json.loads(json.loads((path / "assets.extra" / "finetunekit.json").read_text("utf-8"))["classes"])
    model = tf.saved_model.load(str(path))
    for photo in photos:
        pixels = np.asarray(ImageOps.exif_transpose(Image.open(photo)).convert("RGB"))
        answers = model.signatures["serving_default"](pixels=tf.constant(pixels[np.newaxis]))
        row = answers["probabilities"].numpy()[0]
        print(f"{float(row.max()):.6f}", json.dumps(classes[int(row.argmax())]), photo)


if __name__ == "__main__":
    main(*sys.argv[1:])
