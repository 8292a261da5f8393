"""What a user of timm writes: logistic regression on its features, or a training loop with its transforms, optimizer and schedule.

    python benchmarks/plain_timm.py probe|tune TABLE --arrays FILE --check FILE [--seed N] [--rate X]

An opponent of `bench_peers.py`; runs in an environment of its own that has torch, timm and scikit-learn, and loads nothing of finetunekit.
The network is timm's `tf_efficientnet_lite0` with the arrays that finetunekit keeps, loaded as timm loads any file. --check holds photos
and the features that finetunekit's network gives them: a network that differs is refused.

`tune` trains all layers for 15 epochs with AdamW, a weight decay of 0.05, one epoch of warm-up and a cosine, from timm's own training
transforms (random crops of 8 to 100 %, mirror images, colours), BatchNorm learning along as in any plain loop.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from plain_probe import Split, cpu_seconds, describe_answers, fit_probe, read_table
from timm.data import create_transform, resolve_model_data_config
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch.nn import functional

NETWORK = "tf_efficientnet_lite0"
EPOCHS, WARMUP_EPOCHS, RATE, WEIGHT_DECAY = 15, 1, 5e-4, 0.05
#: Largest difference of a feature that counts as rounding, in parts of the largest feature.
TOLERANCE = 1e-4
STATISTICS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
#: timm's module of a block → finetunekit's layer.
FIRST_BLOCK = {"conv_dw": "depthwise_conv", "bn1": "depthwise_bn", "conv_pw": "project_conv", "bn2": "project_bn"}
OTHER_BLOCKS = {
    "conv_pw": "expand_conv",
    "bn1": "expand_bn",
    "conv_dw": "depthwise_conv",
    "bn2": "depthwise_bn",
    "conv_pwl": "project_conv",
    "bn3": "project_bn",
}
ENDS = {
    "conv_stem": "stem_conv",
    "bn1": "stem_bn",
    "conv_head": "top_conv",
    "bn2": "top_bn",
    "classifier": "imagenet_top",
}


def stored_name(name: str) -> str:
    """timm's name of an array → finetunekit's: `blocks.1.0.conv_pw.weight` → `block2a_expand_conv/kernel`."""
    *place, module, kind = name.split(".")
    if place:
        _, stage, repeat = place
        layer = (
            f"block{int(stage) + 1}{'abcdefgh'[int(repeat)]}_{(OTHER_BLOCKS if int(stage) else FIRST_BLOCK)[module]}"
        )
    else:
        layer = ENDS[module]
    if layer == "imagenet_top":
        return f"{layer}/{'kernel' if kind == 'weight' else 'bias'}"
    return f"{layer}/{'kernel' if layer.endswith('_conv') else STATISTICS[kind]}"


def convert_array(name: str, array: NDArray[np.float32]) -> torch.Tensor:
    """An array in torch's order: height, width, in, out → out, in, height, width; of depthwise kernels, channels come first."""
    if array.ndim == 4:
        array = array.transpose((2, 3, 0, 1) if "depthwise" in name else (3, 2, 0, 1))
    return torch.from_numpy(np.ascontiguousarray(array.T if array.ndim == 2 else array))


def write_weights(arrays: Path, folder: Path) -> Path:
    """Write the arrays as a file that timm loads; returns its path."""
    stored, state = np.load(arrays), {}
    for name, value in timm.create_model(NETWORK).state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = value
        else:
            state[name] = convert_array(stored_name(name), stored[stored_name(name)])
    torch.save(state, folder / "weights.pth")
    return folder / "weights.pth"


def build_network(arrays: Path, num_classes: int) -> torch.nn.Module:
    """timm's network with pretrained weights and a new head; without a head where there are no classes."""
    with tempfile.TemporaryDirectory() as folder:
        file = write_weights(arrays, Path(folder))
        model: torch.nn.Module = timm.create_model(
            NETWORK, pretrained=True, num_classes=num_classes, pretrained_cfg_overlay={"file": str(file)}
        )
    return model


@torch.inference_mode()
def check_features(forward: Callable[[torch.Tensor], torch.Tensor], file: Path) -> float:
    """Largest difference from the features of finetunekit's network, in parts of the largest feature.

    Raises:
        ValueError: If it is more than rounding.
    """
    known = np.load(file)
    found = forward(torch.from_numpy(known["photos"].transpose(0, 3, 1, 2))).numpy()
    apart = float(np.abs(found - known["features"]).max() / np.abs(known["features"]).max())
    if apart > TOLERANCE:
        raise ValueError(f"features differ by {apart:.1e}: this is another network")
    return apart


class Photos(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Photos of a split, decoded and transformed each time."""

    def __init__(self, split: Split, transform: Any) -> None:
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        photo = ImageOps.exif_transpose(Image.open(self.split.paths[i])).convert("RGB")
        return self.transform(photo), int(self.split.labels[i])


def batch_size(photos: int) -> int:
    """64, as is usual; 16 where that would leave fewer than four steps an epoch."""
    return 64 if photos >= 256 else 16


@torch.inference_mode()
def outputs(model: torch.nn.Module, split: Split) -> torch.Tensor:
    """What the network gives for the photos of a split, as timm evaluates."""
    model.eval()
    photos = Photos(split, create_transform(**resolve_model_data_config(model)))
    loader = torch.utils.data.DataLoader(photos, batch_size=32, num_workers=2)
    return torch.cat([model(x) for x, _ in loader])


def tune(model: torch.nn.Module, split: Split, rate: float) -> None:
    """The training loop."""
    transform = create_transform(**resolve_model_data_config(model), is_training=True)
    loader = torch.utils.data.DataLoader(
        Photos(split, transform),
        batch_size=batch_size(len(split.paths)),
        shuffle=True,
        drop_last=True,
        num_workers=2,
        persistent_workers=True,
    )
    optimizer = create_optimizer_v2(model, opt="adamw", lr=rate, weight_decay=WEIGHT_DECAY)
    schedule = CosineLRScheduler(
        optimizer, t_initial=EPOCHS * len(loader), warmup_t=WARMUP_EPOCHS * len(loader), t_in_epochs=False
    )
    model.train()
    step = 0
    schedule.step_update(step)
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            step += 1
            schedule.step_update(step)


def run_probe(asked: argparse.Namespace, splits: dict[str, Split]) -> tuple[float, NDArray[np.floating]]:
    """When the probe was fitted, and its probabilities of test photos."""
    model = build_network(asked.arrays, 0)
    probe = fit_probe(outputs(model, splits["train"]).numpy(), splits["train"].labels)
    saved_at = time.time()
    return saved_at, probe.predict_proba(outputs(model, splits["test"]).numpy())


def run_tune(
    asked: argparse.Namespace, names: Sequence[str], splits: dict[str, Split]
) -> tuple[float, NDArray[np.floating]]:
    """When the trained model was saved, and its probabilities of test photos."""
    model = build_network(asked.arrays, len(names))
    tune(model, splits["train"], asked.rate)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model.state_dict(), Path(folder) / "model.pth")
    saved_at = time.time()
    return saved_at, outputs(model, splits["test"]).softmax(dim=1).numpy()


def parse_peer(doc: str | None, parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The options that all peers have."""
    parser = parser or argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV of file_name, label, split")
    parser.add_argument("--arrays", type=Path, required=True, help="pretrained arrays as finetunekit keeps them")
    parser.add_argument("--check", type=Path, required=True, help="photos and their features, .npz")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("probe", "tune"))
    parse_peer(None, parser).add_argument("--rate", type=float, default=RATE)
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    names, splits = read_table(asked.table)
    saved_at, shares = run_probe(asked, splits) if asked.what == "probe" else run_tune(asked, names, splits)
    scores = {**describe_answers(shares, splits["test"].labels), "cpu_s": cpu_seconds(), "saved_at": saved_at}
    apart = check_features(build_network(asked.arrays, 0).eval(), asked.check)
    print(json.dumps({**scores, "features_apart": apart}))


if __name__ == "__main__":
    main()
