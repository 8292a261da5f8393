"""Executor `ray`: whole runs on a Ray cluster, or on a Ray of this machine's own, taken up elsewhere where a worker or a node is lost."""

from __future__ import annotations

import importlib.metadata
import re

from pydantic import Field

from finetunekit import ConfigError, Executor, Options, hookimpl
from finetunekit.hookspecs import Register

LEAST_RAY = (2, 54)
_INSTALL = f"Install it: pip install 'ray[client]>={LEAST_RAY[0]}.{LEAST_RAY[1]}'"


class RayOptions(Options):
    """Options of `ray`."""

    address: str | None = Field(
        None,
        description="`ray://HOST:10001`, the client's port of a head, from anywhere; `HOST:6379` on a node of the cluster; "
        "null: what `RAY_ADDRESS` says, else a Ray of this machine's own.",
    )
    workers: int | None = Field(
        None, ge=1, le=100_000, description="Runs at a time; null: as many as the cluster has room for."
    )
    cpus_per_run: int = Field(2, ge=1, le=1024, description="Processors that Ray sets aside for a run.")
    gpus_per_run: float = Field(0, ge=0, le=64, description="GPUs that Ray sets aside for a run.")
    processes_per_run: int = Field(
        1,
        ge=1,
        le=1024,
        description="Processes, on different nodes where there are some, that train one network together, each with `cpus_per_run` and "
        "`gpus_per_run`; they share each batch. Only in a network that you trust: TensorFlow listens there and asks nobody who they are.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="TensorFlow's threads in each run, which change last bits of what it trains; null: as many as here.",
    )
    carry_mb: int = Field(
        300,
        ge=0,
        le=100_000,
        description="Largest set of photos that travels to nodes which do not see it, in megabytes.",
    )
    restarts: int = Field(
        2, ge=0, le=100, description="How often a run whose worker or node was lost is taken up again, elsewhere."
    )
    timeout_s: float = Field(30.0, gt=0, le=3600, description="How long the head and the nodes may take to answer.")


def build_ray(options: RayOptions) -> Executor:
    """Nothing is connected to yet.

    Raises:
        ConfigError: If Ray is not installed, or too old.
    """
    try:
        version = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError as exc:
        raise ConfigError(f"executor 'ray' needs Ray, which is not installed. {_INSTALL}") from exc
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < LEAST_RAY:
        raise ConfigError(f"executor 'ray' does not work with Ray {version}. {_INSTALL}")
    from finetunekit_ray.driver import RayExecutor

    return RayExecutor(options)


@hookimpl
def register_executors(register: Register) -> None:
    """One executor."""
    register("ray", build_ray, RayOptions)
