"""SavedModel → OpenVINO's two files, as a separate program: `python convert.py GRAPH OUT.xml none|fp16
TEXTS.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(graph: str, out: str, quantize: str, texts: str) -> None:
    """Convert, and write the files.

    Args:
        graph: Folder of the SavedModel.
        out: File to write; weights go beside it.
        quantize: `none` or `fp16`.
        texts: JSON file of what goes into `rt_info`.
    """
    import openvino

    model = openvino.convert_model(graph)
    for name, text in json.loads(Path(texts).read_text(encoding="utf-8")).items():
        model.set_rt_info(text, ["finetunekit", name])
    openvino.save_model(model, out, compress_to_fp16=quantize == "fp16")


if __name__ == "__main__":
    main(*sys.argv[1:])
