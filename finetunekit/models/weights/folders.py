"""Folders and locks of the cache: what keeps two processes from harming each other's fetches."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from finetunekit.errors import WeightsError
from finetunekit.models.weights.cache import safe_name, weights_cache_dir
from finetunekit.models.weights.download import whole_timeout_s
from finetunekit.system.files import file_lock
from finetunekit.system.formatting import one_line
from finetunekit.system.user_dirs import CACHE_VARIABLE
from finetunekit.types import BackboneSpec

FETCHING = "fetching"


@contextlib.contextmanager
def temporary_folder(name: str, purpose: str) -> Iterator[Path]:
    """Folder of this process inside the cache, gone afterwards whatever happens.

    Raises:
        WeightsError: If the cache cannot be written.
    """
    root = weights_cache_dir()
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_prefix(name, purpose), dir=root))
    except OSError as exc:
        raise unwritable(root, exc) from exc
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prefix(name: str, purpose: str) -> str:
    return f".{safe_name(name)}~{purpose}~"


def remove_leftovers(name: str) -> None:
    """Remove what a killed fetch of `name` left. Call under its lock only."""
    prefix = _prefix(name, FETCHING)
    for folder in weights_cache_dir().iterdir():
        if folder.name.startswith(prefix):
            shutil.rmtree(folder, ignore_errors=True)


def unwritable(root: Path, error: OSError) -> WeightsError:
    """The cache folder cannot be used."""
    why = error.strerror or one_line(error)
    return WeightsError(
        f"{root}: the cache of weights cannot be written ({why}). Set {CACHE_VARIABLE} to another folder."
    )


@contextlib.contextmanager
def only_fetcher(name: str, spec: BackboneSpec, say: Callable[[str], None], timeout_s: float) -> Iterator[None]:
    """Hold the lock of one cache entry. The system frees it when a process dies."""
    lock = weights_cache_dir() / f"{safe_name(name)}.lock"
    limit_s = 60 + sum(whole_timeout_s(timeout_s, source.size_mb) for source in spec.weight_sources)
    waiting = f"{name}: another process is fetching these weights; waiting for it"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(lock, timeout_s=limit_s, on_wait=lambda: say(waiting)))
        except TimeoutError as exc:
            raise WeightsError(
                f"{name}: another process has held {lock} for {limit_s:.0f} s; end it and try again."
            ) from exc
        except OSError as exc:
            raise unwritable(lock.parent, exc) from exc
        remove_leftovers(name)
        yield
