"""Networks of a plugin saved here and built again in a process that has built nothing before, as `finetunekit predict` builds them.

`python -m finetunekit.testing.fresh_process` is that process: it reads what is asked as JSON and answers in JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetunekit.config.plan import Chosen
from finetunekit.errors import FinetuneKitError, PluginError
from finetunekit.models.classifier import Classifier
from finetunekit.models.saved_network import load_network, save_network
from finetunekit.plugins.host import PluginHost, load_plugins
from finetunekit.system.environment import seeded, start_tensorflow
from finetunekit.system.formatting import one_line
from finetunekit.testing.contract import example_options
from finetunekit.testing.networks import KINDS, PIXELS, SIZE_PX, build_network, tiny_backbone, tiny_head
from finetunekit.types import PixelContract

NETWORKS = ("backbone", "head")
"""Kinds of components that a network is built from."""
_TIMEOUT_S = 300.0
_SMALLEST_RUN_PX = 8


def check_in_fresh_process(
    host: PluginHost, names: Sequence[tuple[str, str]], folder: Path, *, has_others: bool
) -> dict[tuple[str, str], str]:
    """Save a tiny network with each component here, and have it loaded there.

    Args:
        host: The plugins.
        names: Kind and name of each component; they keep their contract in this process.
        folder: Where networks are saved.
        has_others: Whether other installed plugins are loaded beside those of this distribution.

    Returns:
        Kind and name → what is wrong, for each component whose network does not come back.
    """
    jobs = []
    for number, (kind, name) in enumerate(names):
        network, contract = _network(host, kind, name)
        path = folder / f"{number}.npz"
        save_network(path, network.logits, contract, "float32")
        jobs.append({"kind": kind, "name": name, "path": str(path)})
    files = [str(file.path.resolve()) for file in host.files]
    answers = ask({"files": files, "import_from": sys.path, "has_others": has_others, "jobs": jobs})
    return {key: words for key, words in zip(names, answers, strict=True) if words}


def ask(asked: Mapping[str, Any]) -> list[str | None]:
    """Ask another process; see `answer`."""
    command = [sys.executable, "-m", "finetunekit.testing.fresh_process"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
        answers: list[str | None] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return [f"a process that builds it again has not ended within {_TIMEOUT_S:g} s"] * len(asked["jobs"])
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return [f"a process that builds it again ended with {done.returncode}: {last}"] * len(asked["jobs"])
    return answers


def answer(asked: Mapping[str, Any]) -> list[str | None]:
    """What is wrong with each network that another process saved; None: it comes back."""
    disabled = None if asked["has_others"] else frozenset({"all"})
    try:
        host = load_plugins(lambda _: None, map(Path, asked["files"]), disabled=disabled)
    except PluginError as exc:
        return [one_line(exc, 1000)] * len(asked["jobs"])
    return [_come_back(host, **job) for job in asked["jobs"]]


def _come_back(host: PluginHost, kind: str, name: str, path: str) -> str | None:
    try:
        network, contract = _network(host, kind, name)
        load_network(Path(path), network.logits, contract, "float32")
    except FinetuneKitError as exc:
        return one_line(exc, 1000).removeprefix(f"{path}: ")
    return None


def _network(host: PluginHost, kind: str, name: str) -> tuple[Classifier, PixelContract]:
    """A tiny network with a component, and what it is fed by; the same in every process."""
    start_tensorflow()
    registered = host.find(kind, name, "plugins check")
    chosen = Chosen(kind, registered, example_options(registered.options), ())
    with seeded(0):
        if registered.spec is not None:
            size_px = max(registered.spec.min_size_px, _SMALLEST_RUN_PX)
            return build_network(chosen, tiny_head(), size_px, 3, "float32"), registered.spec.pixels
        return _with_head(chosen), PIXELS


def _with_head(chosen: Chosen) -> Classifier:
    """On the first kind of features that it takes."""
    for kind in KINDS[:-1]:
        try:
            return build_network(tiny_backbone(kind), chosen, SIZE_PX, 3, "float32")
        except PluginError:
            continue
    return build_network(tiny_backbone(KINDS[-1]), chosen, SIZE_PX, 3, "float32")


def main() -> None:
    """Answer on stdout; what plugins print goes to stderr."""
    stdout = os.dup(1)
    os.dup2(2, 1)
    asked = json.load(sys.stdin)
    sys.path[:] = asked["import_from"]
    os.write(stdout, json.dumps(answer(asked)).encode())


if __name__ == "__main__":
    main()
