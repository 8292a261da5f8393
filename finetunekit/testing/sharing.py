"""What tests share: made once in a session, whichever process of pytest-xdist asks for it first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from finetunekit.testing.data import AWKWARD_CLASSES, tiny_run

if TYPE_CHECKING:
    import pytest


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder of this test session, the same for all its processes.

    Args:
        factory: Pytest's fixture `tmp_path_factory`.
    """
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that tests look at and do not change.

    Args:
        factory: Pytest's fixture `tmp_path_factory`.
        name: Of the folder.
        make: Fills the empty folder that it is given; called by the first who asks, while the others wait.
    """
    folder = shared_folder(factory) / name
    mark = folder.with_name(f"{name}.made")
    with FileLock(folder.with_name(f"{name}.lock")):
        if not mark.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one that failed half way
            folder.mkdir()
            make(folder)
            mark.touch()
    return folder


def shared_tiny_run(factory: pytest.TempPathFactory) -> Path:
    """The run folder of `tiny_run`, with class names that are awkward; made once, and not to be changed.

    Args:
        factory: Pytest's fixture `tmp_path_factory`.
    """
    folder = made_once(factory, "tiny-run", partial(tiny_run, classes=AWKWARD_CLASSES))
    (run,) = (folder / "runs").glob("[!.]*/")
    return run
