"""Whether a run has room, asked before its work starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetunekit.errors import RunError
from finetunekit.system.formatting import show_bytes
from finetunekit.system.memory import free_disk_bytes, free_memory_bytes

_FLOAT_BYTES = 4
_IN_MEMORY = 6
"""Copies of every weight at most: weights, gradients, two optimizer slots, the last whole epoch, one being written."""
_ON_DISK = 9
"""Copies of every weight at most: two checkpoints of weights and two slots, `model.npz`, `model.keras`, `model.h5`."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run needs at most besides photos and features, which go to disk, or stay in memory, by themselves.

    Attributes:
        memory_bytes: For the network while it trains.
        disk_bytes: In the run folder.
    """

    memory_bytes: int
    disk_bytes: int


def network_budget(parameters: int) -> Budget:
    """From the number of parameters of a network, all of them trained."""
    return Budget(parameters * _FLOAT_BYTES * _IN_MEMORY, parameters * _FLOAT_BYTES * _ON_DISK)


def check_budget(
    budget: Budget, run_path: Path, *, free_memory: int | None = None, free_disk: int | None = None
) -> None:
    """Stop before work that cannot end.

    Args:
        budget: What is needed.
        run_path: Where it is written.
        free_memory: Bytes; default: what the system says. Nothing is checked where it says nothing.
        free_disk: As `free_memory`.

    Raises:
        RunError: If memory or disk are too small.
    """
    memory = free_memory_bytes() if free_memory is None else free_memory
    disk = free_disk_bytes(run_path) if free_disk is None else free_disk
    if memory is not None and budget.memory_bytes > memory:
        raise RunError(
            f"the network needs up to {show_bytes(budget.memory_bytes)} of memory while it trains; {show_bytes(memory)} are free. "
            "Close other programs, or choose a smaller backbone."
        )
    if disk is not None and budget.disk_bytes > disk:
        raise RunError(
            f"{run_path}: the run needs up to {show_bytes(budget.disk_bytes)} of disk for its checkpoints and its model; "
            f"{show_bytes(disk)} are free. Free space (finetunekit runs prune, finetunekit cache clear), or choose another --out."
        )
