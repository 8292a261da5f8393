"""The same job in plain PyTorch, as a careful author would write it for a CPU: the second opponent of the benches.

    python benchmarks/plain_torch.py --data DIR [--epochs N] [--steps N] [--validation-steps N] [--precision float32|bfloat16] [--json]

Needs PyTorch, which finetunekit does not: `pip install torch`. VGG16 with the same arrays, its first ten convolutions frozen, average
pooling, 1024 hidden units, SGD 1e-4 / 0.9, batches of 32 at 100 px, tensors channels-last, bfloat16 by autocast. In its favour: photos are
decoded once and stay in RAM, and a batch is augmented by one `grid_sample` (shear, zoom and flip with the experiment's bounds).
Draws are those of the experiment: passes over the split run on across epochs, each epoch's draws are counted and asserted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import EPOCHS, STEPS, Epoch, new_parser
from numpy.typing import NDArray
from PIL import Image
from plain_draws import VALIDATION_STEPS, expected_draws
from plain_weights import pretrained_arrays
from torch import nn
from torch.nn import functional

BATCH_SIZE, SIZE_PX = 32, 100
SHEAR_DEGREES, ZOOM = 0.2, 0.2
BLOCKS = ((1, 2, 64), (2, 2, 128), (3, 3, 256), (4, 3, 512), (5, 3, 512))
FROZEN_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class Split:
    """Photos of one split in RAM.

    Attributes:
        pixels: `(photos, 3, size, size)` float32 in [0, 1], channels-last.
        labels: `(photos,)` int64.
    """

    pixels: torch.Tensor
    labels: torch.Tensor


def read_split(folder: Path) -> Split:
    """Decode one split, classes in alphabetical order."""
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    paths = [(path, i) for i, name in enumerate(classes) for path in sorted((folder / name).iterdir())]
    arrays = [np.asarray(_open(path), dtype=np.float32) / 255 for path, _ in paths]
    pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)  # NHWC in memory: channels-last already
    return Split(pixels, torch.tensor([label for _, label in paths]))


def _open(path: Path) -> Image.Image:
    with Image.open(path) as photo:
        return photo.convert("RGB").resize((SIZE_PX, SIZE_PX), Image.Resampling.NEAREST)


class Network(nn.Module):
    """VGG16's convolutions in two parts, and the experiment's head."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.prefix = nn.Sequential(*build_blocks(BLOCKS[:FROZEN_BLOCKS], 3))
        self.suffix = nn.Sequential(*build_blocks(BLOCKS[FROZEN_BLOCKS:], 512))
        self.head = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, num_classes))
        self.prefix.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pixels `(batch, 3, size, size)` → logits `(batch, classes)`."""
        logits: torch.Tensor = self.head(self.suffix(self.prefix(x)).mean(dim=(2, 3)))
        return logits


def build_blocks(blocks: tuple[tuple[int, int, int], ...], channels: int) -> Iterator[nn.Module]:
    """Layers of some blocks of VGG16, `(number, convolutions, filters)` each, from `channels` channels."""
    for _, convolutions, width in blocks:
        for _ in range(convolutions):
            yield nn.Conv2d(channels, width, 3, padding=1)
            yield nn.ReLU(inplace=True)
            channels = width
        yield nn.MaxPool2d(2)


def load_convolutions(layers: Iterable[nn.Module], arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Put arrays by Keras' names into the convolutions of VGG16's first blocks."""
    names = [f"block{b}_conv{c + 1}" for b, count, _ in BLOCKS for c in range(count)]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        for name, layer in zip(names[: len(convolutions)], convolutions, strict=True):
            layer.weight.copy_(torch.from_numpy(arrays[f"{name}/kernel"].transpose(3, 2, 0, 1).copy()))
            layer.bias.copy_(torch.from_numpy(arrays[f"{name}/bias"]))


def augment(x: torch.Tensor) -> torch.Tensor:
    """Shear, zoom of each axis and flip, drawn for each photo; the edge is repeated outside."""
    batch = len(x)
    shear = torch.empty(batch).uniform_(-SHEAR_DEGREES, SHEAR_DEGREES) * (math.pi / 180)
    zoom = torch.empty(batch, 2).uniform_(1 - ZOOM, 1 + ZOOM)
    flip = 1 - 2 * torch.randint(0, 2, (batch,)).float()
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = flip * zoom[:, 0], -torch.sin(shear) * zoom[:, 1]
    theta[:, 1, 1] = torch.cos(shear) * zoom[:, 1]
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    sampled = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return sampled.contiguous(memory_format=torch.channels_last)


def endless(photos: int) -> Iterator[torch.Tensor]:
    """Shuffled passes, the last batch of a pass short, one after the other without end."""
    while True:
        yield from torch.randperm(photos).split(BATCH_SIZE)


class Job:
    """Training and validation of one network, timed."""

    def __init__(self, network: Network, train: Split, valid: Split, precision: str) -> None:
        self.network, self.train, self.valid = network, train, valid
        self.is_bfloat16 = precision == "bfloat16"
        trainable = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trainable, lr=1e-4, momentum=0.9)
        self.train_batches, self.valid_batches = endless(len(train.labels)), endless(len(valid.labels))

    def epoch(self, steps: int, validation_steps: int) -> Epoch:
        """One epoch and its validation."""
        began = time.perf_counter()
        draws = sum(self._step(index) for index in itertools.islice(self.train_batches, steps))
        trained = time.perf_counter()
        seen = sum(self._validate(index) for index in itertools.islice(self.valid_batches, validation_steps))
        return Epoch(trained - began, time.perf_counter() - trained, draws, seen)

    def _step(self, index: torch.Tensor) -> int:
        x = augment(self.train.pixels[index])
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            logits = self.network(x)
        loss = functional.cross_entropy(logits.float(), self.train.labels[index])
        loss.backward()
        self.optimizer.step()
        return len(index)

    @torch.no_grad()
    def _validate(self, index: torch.Tensor) -> int:
        functional.cross_entropy(self.logits(self.valid.pixels[index]), self.valid.labels[index]).item()
        return len(index)

    @torch.no_grad()
    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Of un-augmented photos, float32."""
        with self._autocast():
            logits: torch.Tensor = self.network(pixels.contiguous(memory_format=torch.channels_last)).float()
        return logits

    def _autocast(self) -> Any:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.is_bfloat16)


def run_script(asked: argparse.Namespace) -> dict[str, Any]:
    """The whole experiment; raises AssertionError where an epoch's draws are not those of the experiment."""
    torch.manual_seed(asked.seed)
    splits = {name: read_split(asked.data / name) for name in ("train", "valid", "test")}
    network = Network(int(splits["train"].labels.max()) + 1)
    load_convolutions((*network.prefix, *network.suffix), pretrained_arrays())
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    job = Job(network, splits["train"], splits["valid"], asked.precision)
    epochs = [job.epoch(asked.steps, asked.validation_steps) for _ in range(asked.epochs)]
    wanted = expected_draws(len(splits["train"].labels), BATCH_SIZE, asked.steps, asked.epochs)
    if [epoch.draws for epoch in epochs] != wanted:
        raise AssertionError(f"drew {[epoch.draws for epoch in epochs]}, the experiment draws {wanted}")
    began = time.perf_counter()
    logits = torch.cat([job.logits(part) for part in splits["test"].pixels.split(BATCH_SIZE)])
    labels = splits["test"].labels
    return {
        "epochs": [asdict(epoch) for epoch in epochs],
        "evaluation_s": time.perf_counter() - began,
        "test_loss": float(functional.cross_entropy(logits, labels)),
        "test_accuracy": float((logits.argmax(dim=1) == labels).float().mean()),
        "test_photos": len(labels),
        "precision": asked.precision,
    }


def parse_arguments() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds train/, valid/ and test/")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--steps", type=int, default=STEPS, help="training batches an epoch")
    parser.add_argument("--validation-steps", type=int, default=VALIDATION_STEPS)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of text")
    return parser.parse_args()


def main() -> None:
    asked = parse_arguments()
    result = run_script(asked)
    if asked.json:
        print(json.dumps(result))
        return
    epochs = result["epochs"][1:] or result["epochs"]
    rate = sum(e["draws"] for e in epochs) / sum(e["train_s"] for e in epochs)
    right = round(result["test_accuracy"] * result["test_photos"])
    print(f"{rate:.1f} images/s trained in {asked.precision}; test {right}/{result['test_photos']}")


if __name__ == "__main__":
    main()
