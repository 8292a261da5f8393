"""python run_litert.py FOLDER PHOTO…: what an exported model says. Needs ai-edge-litert, Pillow and numpy, nothing else."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps


def main(folder: str, *photos: str) -> None:
    """Print the first answer for each photo."""
    file = str(Path(folder) / "model.tflite")
    with zipfile.ZipFile(file) as archive:
        classes = json.loads(json.loads(archive.read("finetunekit.json"))["classes"])
    interpreter = Interpreter(model_path=file)
    run = interpreter.get_signature_runner()
    scale, zero = run.get_output_details()["probabilities"]["quantization"]
    for path in photos:
        pixels = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        row = run(pixels=pixels[np.newaxis])["probabilities"][0].astype(np.float32)
        row = (row - zero) * scale if scale else row  # of 8 bits
        print(f"{float(row.max()):.6f}", json.dumps(classes[int(row.argmax())]), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
