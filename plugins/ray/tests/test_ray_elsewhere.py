"""Ray is large and has no part in anything else: its tests run beside one that is installed for them alone."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_tests_of_clusters_pass_with_a_ray_of_their_own(tmp_path: Path) -> None:
    if importlib.util.find_spec("ray"):
        pytest.skip("it is installed: test_cluster.py runs here")
    site, tests = tmp_path / "site", Path(__file__).with_name("test_cluster.py")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site), "ray[client]>=2.54"]
    if subprocess.run(install, capture_output=True, check=False).returncode:
        pytest.skip("it cannot be installed here")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "slow", "-p", "no:cacheprovider", str(tests)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path[1:], str(site)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
