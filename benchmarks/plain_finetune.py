"""Training steps of EfficientNet-Lite0 as a plain PyTorch loop takes them, one at a time on request: the opponent of `bench_finetune.py`.

    python benchmarks/plain_finetune.py --batch N

Runs in an environment of its own that has torch and timm. It reads lines of JSON with `blocks`, `depthwise`, `is_cut` (what these mean is
said in `bench_finetune.py`) and `channels_last` from stdin, takes that step, and answers with its seconds by the wall's clock and of CPU
time, so that the two take turns. BatchNorm is frozen, the optimizer is SGD with momentum and gradients are clipped, as they are there;
weights and input are random.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import nn
from torch.nn import functional

NETWORK, SIZE_PX, CLASSES = "tf_efficientnet_lite0", 224, 10


def split_network(blocks: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The network before its last blocks, and these with the head; the last block is the top, as in finetunekit."""
    model: Any = timm.create_model(NETWORK, num_classes=CLASSES).eval()  # BatchNorm keeps its statistics
    parts = [
        nn.Sequential(model.conv_stem, model.bn1),
        *model.blocks,
        nn.Sequential(model.conv_head, model.bn2, model.global_pool, model.classifier),
    ]
    return nn.Sequential(*parts[:-blocks]), nn.Sequential(*parts[-blocks:])


def freeze(prefix: nn.Sequential, suffix: nn.Sequential, *, depthwise: bool) -> None:
    """Leave the convolutions of the last blocks and the head to train."""
    prefix.requires_grad_(False)
    for name, module in suffix.named_modules():
        if isinstance(module, nn.BatchNorm2d) or (name.endswith("conv_dw") and not depthwise):
            module.requires_grad_(False)


def build_step(batch: int, blocks: int, depthwise: bool, is_cut: bool, channels_last: bool) -> Callable[[], None]:
    """One step of a contestant."""
    prefix, suffix = split_network(blocks)
    freeze(prefix, suffix, depthwise=depthwise)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = nn.Sequential(prefix, suffix).to(memory_format=layout)
    x = torch.randn(batch, 3, SIZE_PX, SIZE_PX).to(memory_format=layout)
    if is_cut:
        x, model = prefix(x).detach(), suffix
    y = torch.arange(batch) % CLASSES
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-5, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    asked = parser.parse_args()
    steps: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        if line not in steps:
            steps[line] = build_step(asked.batch, **json.loads(line))
        started, used = time.perf_counter(), time.process_time()
        steps[line]()
        print(json.dumps({"wall": time.perf_counter() - started, "cpu": time.process_time() - used}), flush=True)


if __name__ == "__main__":
    main()
