"""The machine and the versions a run happened on, and how TensorFlow is asked to behave there."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

from finetunekit.errors import ConfigError

_RECORDED = ("finetunekit", "tensorflow", "keras", "numpy", "pillow", "scipy", "pluggy", "pydantic")
_SWITCHES = (
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
)
#: NVIDIA's driver, its module of Jetson boards, AMD's, and that of Windows' Linux.
_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/kfd", "/dev/dxg")
CPU_DEVICES_VARIABLE = "FINETUNEKIT_CPU_DEVICES"
_CHATTER = re.compile(rb"^([IWE]\d{4} |WARNING: All log messages before absl|To enable the following instructions)")


def start_tensorflow() -> None:
    """Import TensorFlow and wake its devices, without its start-up chatter on stderr.

    Python's collector rests meanwhile: it would look at a million objects again and again, a fifth of the time, and find nothing to free.
    What was loaded is then set aside from it for good, or it would look again each time a model is freed.
    """
    if "tensorflow" in sys.modules:
        _wake()
        return
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with without_chatter():
            _wake()
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def loaded_beside() -> Iterator[None]:
    """TensorFlow is loaded in a thread, while something else is done that needs none of it; afterwards it is there."""
    with ThreadPoolExecutor(1, thread_name_prefix="finetunekit-start") as pool:
        loading = pool.submit(start_tensorflow)
        yield
        loading.result()


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Keep what TensorFlow's library says while it is loaded from stderr.

    The C++ side writes some of it before any level can be set, straight to the file descriptor. Lines of its log format are dropped;
    anything else is passed on. With `TF_CPP_MIN_LOG_LEVEL` set by the user nothing is held back.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    try:
        kept = os.dup(2)
    except OSError:  # a process without a stderr hears nothing anyway
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            os.write(2, b"".join(line for line in held if not _CHATTER.match(line)))


def _wake() -> None:
    import tensorflow as tf

    tf.config.list_physical_devices()
    divide_processor(int(os.environ.get(CPU_DEVICES_VARIABLE, "1")))
    tf.constant(0) + 1


def divide_processor(parts: int) -> None:
    """Have TensorFlow see the processor as several devices, to try what several devices do where there is one.

    Raises:
        ConfigError: If TensorFlow has computed something before.
    """
    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    if parts == 1 or tf.config.get_logical_device_configuration(processor) is not None:
        return
    try:
        tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * parts)
    except RuntimeError as exc:
        raise ConfigError(
            f"{CPU_DEVICES_VARIABLE}: TensorFlow has computed in this process before; begin a new one."
        ) from exc


def prepare_tensorflow(*, seed: int, is_deterministic: bool) -> None:
    """Seed Python, NumPy and TensorFlow, and ask for deterministic operations where wanted."""
    start_tensorflow()
    import keras
    import tensorflow as tf

    if not gc.get_freeze_count():  # somebody else imported it
        gc.collect()
        gc.freeze()
    keras.utils.set_random_seed(seed)
    if is_deterministic:
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python, NumPy and TensorFlow seeded as for a run while a network is built again; afterwards they go on as they were."""
    import keras
    import numpy as np
    import tensorflow as tf

    states, tensorflow_seed = (random.getstate(), np.random.get_state()), tf.compat.v1.get_seed(None)[0]
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        tf.random.set_seed(tensorflow_seed)


def has_fast_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 natively: AVX-512 BF16 or AMX on x86, BF16 on Arm, or a GPU of capability >= 8."""
    flags = _processor_flags()
    if {"avx512_bf16", "amx_bf16", "bf16"} & flags:
        return True
    if not may_have_gpu():
        return False
    import tensorflow as tf

    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return any(detail.get("compute_capability", (0, 0))[0] >= 8 for detail in details)


def may_have_gpu() -> bool:
    """Whether TensorFlow has to be asked for GPUs: on Linux only where the driver of one has left its device file."""
    return not sys.platform.startswith("linux") or any(map(os.path.exists, _GPU_DRIVERS))


def _processor_flags() -> set[str]:
    with contextlib.suppress(OSError):  # /proc is Linux only; elsewhere no flag is known and float32 is used
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return set(line.split(":", 1)[1].split())
    return set()


def resolve_precision(asked: str) -> str:
    """`auto` → `bfloat16` where it is fast, else `float32`."""
    if asked != "auto":
        return asked
    return "bfloat16" if has_fast_bfloat16() else "float32"


def installed_version(name: str) -> str | None:
    """Version of an installed distribution, whose package is not loaded for it; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def processor_name() -> str:
    """Marketing name of the processor where the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def available_cpus() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def git_state() -> dict[str, Any] | None:
    """Commit of the working folder, and whether tracked files differ from it; None where there is no repository, or no git."""
    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    commit = next((line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid ")), None)
    return {"commit": commit, "is_dirty": any(not line.startswith("#") for line in lines)}


def describe_environment(*, training_devices: Sequence[str] = ()) -> dict[str, Any]:
    """What `environment.json` holds. Imports TensorFlow to ask for devices and threads.

    Args:
        training_devices: Names of those that train together; empty: one, and nothing is noted of it.
    """
    import tensorflow as tf

    together = {"training_devices": ", ".join(training_devices)} if training_devices else {}
    return {
        **together,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": processor_name(),
        "cpus": available_cpus(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "versions": {name: installed_version(name) for name in _RECORDED},
        "threads": {
            "intra_op": tf.config.threading.get_intra_op_parallelism_threads(),
            "inter_op": tf.config.threading.get_inter_op_parallelism_threads(),
        },
        "switches": {name: os.environ[name] for name in _SWITCHES if name in os.environ},
        "command": sys.argv,
    }
