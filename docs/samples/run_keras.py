"""python run_keras.py FOLDER PHOTO…: what an exported model says. Needs Keras with any backend, Pillow and numpy, nothing else."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageOps


def square_of(path: str, how: dict) -> Image.Image:
    """A photo as the network takes it; one that is such a square already stays as it is."""
    image, size = ImageOps.exif_transpose(Image.open(path)).convert("RGB"), how["size_px"]
    if image.size == (size, size):
        return image
    if how["source_px"] and max(image.size) > how["source_px"]:
        scale = how["source_px"] / max(image.size)
        image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)
    if how["fit"] == "crop":
        side = max(1, int(min(image.size) * (how["crop_pct"] or 1) + 0.5))
        left, top = ((length - side) // 2 for length in image.size)
        image = image.crop((left, top, left + side, top + side))
    if how["fit"] == "pad":
        photo, side = image, max(image.size)
        image = Image.new("RGB", (side, side), (128, 128, 128))
        image.paste(photo, tuple((side - length) // 2 for length in photo.size))
    return image.resize((size, size), Image.Resampling[how["resize"].upper()])


def main(folder: str, *photos: str) -> None:
    """Print the first answer for each photo."""
    how = json.loads((Path(folder) / "contract.json").read_text("utf-8"))
    model = keras.models.load_model(Path(folder) / "model.keras", compile=False)
    for path in photos:
        pixels = np.asarray(square_of(path, how))[np.newaxis]
        row = keras.ops.convert_to_numpy(model({"pixels": pixels}, training=False)["probabilities"])[0]
        print(f"{float(row.max()):.6f}", json.dumps(how["classes"][int(row.argmax())]), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
