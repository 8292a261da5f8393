"""Write a preset's pretrained arrays where `weights.path` can read them, its description beside them, and print the lines for the YAML.

python -m finetunekit_kerashub dinov2_small dinov2_small.npz --size 224
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from finetunekit import FinetuneKitError, named_variables


def export(preset: str, target: Path, *, features: str, size_px: int) -> int:
    """Load a preset with its weights and write them.

    Args:
        preset: Name, handle or folder.
        target: File to write, `.npz`.
        features: `spatial` or `pooled`.
        size_px: Side of the input; arrays may depend on it.

    Returns:
        Number of arrays written.

    Raises:
        PluginError: If the preset cannot be had.
    """
    import numpy as np

    from finetunekit_kerashub.network import build_preset

    backbone = build_preset(preset, features, size_px, load_weights=True)
    variables = named_variables(backbone.model, preset)
    arrays = {name: np.array(variable, np.float32) for name, variable in variables.items()}
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        np.savez(Path(folder) / "arrays.npz", allow_pickle=False, **arrays)
        os.replace(Path(folder) / "arrays.npz", target)
    return len(arrays)


def describe(preset: str, folder: Path) -> None:
    """Write what a preset is without its weights, as a folder that the option `preset` takes: its network is built from it without a hub.

    Args:
        preset: Name or handle.
        folder: Made; files of the same names are replaced.

    Raises:
        PluginError: If the preset cannot be had.
    """
    from finetunekit_kerashub.network import load_description

    network, converter = load_description(preset)
    network.save_to_preset(str(folder))
    converter.save_to_preset(str(folder))
    for weights in (*folder.glob("*.weights.h5"), *folder.glob("*.weights.json")):
        weights.unlink()  # Keras' initial ones


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m finetunekit_kerashub",
        description="Write a preset's pretrained arrays to a file for weights.path.",
    )
    parser.add_argument("preset", help="a preset's name, a handle (kaggle://, hf://) or a folder")
    parser.add_argument("target", type=Path, help="file to write, .npz")
    parser.add_argument("--size", type=int, default=224, metavar="PX", help="side of the input (default: 224)")
    parser.add_argument("--features", choices=("spatial", "pooled"), default="spatial")
    asked = parser.parse_args(arguments)
    try:
        count = export(asked.preset, asked.target, features=asked.features, size_px=asked.size)
        described = asked.preset
        if not Path(asked.preset).is_dir():
            described = str(asked.target.with_suffix(""))
            describe(asked.preset, Path(described))
    except FinetuneKitError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return exc.exit_code
    print(f"wrote {count} arrays to {asked.target}", file=sys.stderr)
    print(f"backbone: {{name: kerashub, preset: {described}, features: {asked.features}}}")
    print(f"weights: {{path: {asked.target}}}")
    print(f"pixels: {{size_px: {asked.size}}}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
