"""python run_onnx.py FOLDER PHOTO…: what an exported model says. Needs onnxruntime, Pillow and numpy, nothing else."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(folder: str, *photos: str) -> None:
    """Print the first answer for each photo."""
    session = onnxruntime.InferenceSession(str(Path(folder) / "model.onnx"))
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    for path in photos:
        pixels = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        (probabilities,) = session.run(["probabilities"], {"pixels": pixels[np.newaxis]})
        best = int(probabilities[0].argmax())
        print(f"{float(probabilities[0, best]):.6f}", json.dumps(classes[best]), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
