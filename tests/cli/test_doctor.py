"""What works on this machine, and what the machine is."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers_plugins import invoke

from finetunekit.engine import machine_checks
from finetunekit.engine.machine_checks import Finding, _ask, _reach, examine
from finetunekit.system.environment import describe_environment, resolve_precision


def test_doctor_looks_at_everything_without_network(own_cache: Path) -> None:
    findings = {finding.what: finding for finding in examine(is_offline=True)}
    assert {"python", "tensorflow", "bfloat16", "plugins", "cache folder", "state folder", "fonts"} <= set(findings)
    assert findings["tensorflow"].is_ok
    assert "Keras" in findings["tensorflow"].detail
    assert re.match(r"0 backbones here; to get \d+ others: finetunekit backbones", findings["weights"].detail)
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


def test_tensorflow_starts_without_a_word_on_stderr() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    code = "from finetunekit.system.environment import start_tensorflow; start_tensorflow(); print('started')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == ("started\n", "")
