"""Trackio wants an older Pillow than finetunekit is developed with: its tests run beside a Trackio that is installed for them alone."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_tests_of_trackio_pass_with_the_pillow_that_it_wants(tmp_path: Path) -> None:
    if importlib.util.find_spec("trackio"):
        pytest.skip("it is installed: test_trackio.py runs here")
    site, tests = tmp_path / "site", Path(__file__).with_name("test_trackio.py")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site), "trackio>=0.43"]
    if subprocess.run(install, capture_output=True, check=False).returncode:
        pytest.skip("it cannot be installed here")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path[1:]])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
