"""What works on this machine, and what the machine is."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from helpers_plugins import invoke

from finetunekit.engine import machine_checks
from finetunekit.engine.machine_checks import Finding, _ask, _reach, examine
from finetunekit.system.environment import describe_environment, resolve_precision
from finetunekit.system.lean_import import _WithoutOptional


def test_doctor_looks_at_everything_without_network(own_cache: Path) -> None:
    findings = {finding.what: finding for finding in examine(is_offline=True)}
    assert {"python", "tensorflow", "bfloat16", "plugins", "cache folder", "state folder", "fonts"} <= set(findings)
    assert findings["tensorflow"].is_ok
    assert "Keras" in findings["tensorflow"].detail
    assert re.match(r"0 backbones here; \d+ more can be fetched: finetunekit backbones", findings["weights"].detail)
    assert len([what for what in findings if what.startswith("weights")]) == 1
    assert not any(what.startswith(("hub", "package index")) for what in findings)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_doctor_names_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setenv("FINETUNEKIT_CACHE", str(tmp_path / "cache"))
    findings = {finding.what: finding for finding in examine(is_offline=True)}
    tmp_path.chmod(0o700)
    assert not findings["cache folder"].is_ok
    assert "Set FINETUNEKIT_CACHE" in findings["cache folder"].detail


def test_what_is_printed_fits_80_columns_and_says_by_its_exit_code_what_every_run_needs(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = invoke("doctor", "--offline")
    assert result.exit_code == 0, result.stdout
    assert max(len(line) for line in result.stdout.splitlines() if str(own_cache.parent) not in line) <= 80
    (tmp_path / "file").touch()
    monkeypatch.setenv("FINETUNEKIT_CACHE", str(tmp_path / "file" / "cache"))
    refused = invoke("doctor", "--offline")
    assert refused.exit_code == 1
    assert "no  cache folder:" in refused.stdout


def test_a_host_that_cannot_be_reached_is_said_to_be_missed_only_where_there_is_no_other_source() -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError("no route")

    assert _reach("weights.example", 3, refuse).detail == "not reachable (no route); 3 backbones have no other source"
    assert _reach("weights.example", 1, refuse).detail == "not reachable (no route); 1 backbone has no other source"
    assert _reach("weights.example", 0, refuse).detail == "not reachable (no route); every backbone has another source"


def test_lookups_go_on_at_once_and_none_is_waited_for_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "_LIMIT_S", 0.05)
    together, never = threading.Barrier(2), threading.Event()

    def meet(what: str) -> Finding:
        together.wait(10)  # one after the other they would wait for each other
        return Finding(what, True, "reachable")

    def hang() -> Finding:
        never.wait()
        return Finding("c", True, "never said")

    asked = _ask([("c", hang)])
    assert asked[0].answer() == Finding("c", False, "no answer within 0 s; a fetch would wait longer")
    never.set()
    monkeypatch.setattr(machine_checks, "_LIMIT_S", 10)
    both = _ask([("a", lambda: meet("a")), ("b", lambda: meet("b"))])
    assert [one.answer().detail for one in both] == ["reachable", "reachable"]


def test_environment_names_versions_threads_and_devices() -> None:
    found = describe_environment()
    assert found["versions"]["keras"].startswith("3.")
    assert found["devices"][0].startswith("/physical_device:CPU")
    assert set(found["threads"]) == {"intra_op", "inter_op"}


def test_precision_is_resolved_only_where_it_is_auto() -> None:
    assert resolve_precision("float32") == "float32"
    assert resolve_precision("auto") in {"float32", "bfloat16"}


def test_tensorflow_starts_in_a_thread_without_a_word_on_stderr_and_without_what_is_not_used() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    code = """
import gc, sys
from finetunekit.cli.common import make_progress
from finetunekit.system.environment import loaded_beside
from finetunekit.system.lean_import import import_lean
import_lean()
with loaded_beside():
    make_progress().say("reading photos")
print(gc.isenabled(), gc.get_freeze_count() > 100_000, *sorted({"sklearn", "pandas", "matplotlib"} & set(sys.modules)))
import sklearn
print(sklearn.__name__, *{"pandas", "matplotlib"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == ["True True", "sklearn"]
    assert done.stderr == "reading photos\n"


def test_only_the_thread_that_imports_tensorflow_does_without_optional_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half_imported = types.ModuleType("tensorflow")
    half_imported.__spec__ = ModuleSpec("tensorflow", None)
    half_imported.__spec__._initializing = True  # type: ignore[attr-defined]  # as Python's import system notes it
    monkeypatch.setitem(sys.modules, "tensorflow", half_imported)
    finder = _WithoutOptional()
    assert finder.find_spec("pandas") is None, "nobody has asked for TensorFlow yet"
    finder.find_spec("tensorflow")
    with pytest.raises(ModuleNotFoundError, match="No module named 'pandas' while tensorflow is imported"):
        finder.find_spec("pandas")
    with ThreadPoolExecutor(1) as other:
        assert other.submit(finder.find_spec, "pandas").result() is None
    half_imported.__spec__._initializing = False  # type: ignore[attr-defined]
    assert finder.find_spec("pandas") is None


def test_doctor_names_a_package_that_does_not_fit_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(distribution: str) -> list[str]:
        return ['absent; extra == "and-cuda"', "click>=1", "click<1" if distribution == "tensorflow" else "click"]

    monkeypatch.setattr(machine_checks.metadata, "requires", requires)
    found = next(finding for finding in machine_checks._tensorflow())
    assert not found.is_ok
    assert found.is_needed
    assert re.match(r"cannot be loaded \(tensorflow needs click <1, not [0-9.]+\)\. Install it again", found.detail)


def test_tensorflow_itself_is_asked_for_devices_where_a_gpu_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "may_have_gpu", lambda: True)
    assert machine_checks._loaded_devices()[0] == "CPU"
