"""What travels and what is done on a node, without Ray; and every way in which a cluster cannot be used."""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from finetunekit_ray import RayOptions, build_ray, connection, worker
from finetunekit_ray.connection import connected

from finetunekit import ConfigError, FinetuneKitError
from finetunekit.runs.folder import FORMAT
from finetunekit.testing import tiny_job


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


# ---- what travels ----------------------------------------------------------------------------------------------------------------


def test_equal_content_is_packed_as_equal_bytes_whenever_and_wherever_it_was_written(tmp_path: Path) -> None:
    first = write(tmp_path / "a", train__cat__1="x", train__cat__2="yy")
    second = write(tmp_path / "b", train__cat__2="yy", train__cat__1="x")
    os.utime(second / "train/cat/1", (1, 1))
    assert worker.pack(str(first)) == worker.pack(str(second))
    there = Path(worker.unpack(worker.pack(str(first)), str(tmp_path / "there")))
    assert (there / "train/cat/2").read_text() == "yy"
    file = Path(worker.unpack(worker.pack(str(first / "train/cat/1")), str(tmp_path / "file")))
    assert file.read_text() == "x"


def test_an_outline_tells_other_names_and_sizes_apart_and_counts_bytes(tmp_path: Path) -> None:
    one = worker.outline(str(write(tmp_path / "a", x="12", y="3")))
    assert one[1] == 3
    assert one == worker.outline(str(write(tmp_path / "b", x="ab", y="c")))
    others = [write(tmp_path / "c", x="1", y="23"), write(tmp_path / "d", x="12", z="3"), tmp_path / "nowhere"]
    assert all(worker.outline(str(other))[0] != one[0] for other in others)


def test_what_travels_is_fetched_once_to_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fetched: list[int] = []

    def fetch() -> bytes:
        fetched.append(1)
        return worker.pack(str(write(tmp_path / "photos", cat__1="x")))

    places = {worker.unpack_once("digest", fetch) for _ in range(3)}
    assert len(fetched) == 1
    assert (Path(*places) / "cat/1").read_text() == "x"


def test_a_node_says_what_it_lacks(tmp_path: Path) -> None:
    outlined = worker.outline(str(write(tmp_path / "photos", x="1")))[0]
    reads = {str(tmp_path / "photos"): outlined, str(tmp_path / "other"): outlined}
    needed = {"pytest": importlib.metadata.version("pytest"), "pluggy": "0.0.1", "no-such-plugin": "1.0"}
    found = worker.look_around(needed, reads, str(tmp_path / "photos/x"))
    assert found["lacking"] == [
        f"has pluggy {importlib.metadata.version('pluggy')}, not 0.0.1",
        "lacks no-such-plugin 1.0",
    ]
    assert found["unseen"] == [str(tmp_path / "other")]
    assert found["is_sharing"]


# ---- the work --------------------------------------------------------------------------------------------------------------------


def carry_out(folder: Path, *code: str, carried: Any = None, threads: int = 1) -> dict[str, Any]:
    return worker.Carrier().carry_out(str(folder), [], code, carried or {}, {"ASKED": "here"}, threads)


def test_a_job_is_carried_out_in_its_folder_with_what_steers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as Ray sets it
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as Ray before 2.60 does
    code = (
        "import json, os, pathlib; pathlib.Path('seen').write_text(json.dumps(dict(os.environ))); print('no', end='')"
    )
    done = carry_out(tmp_path, "-c", f"{code}; raise SystemExit(4)", threads=3)
    assert (done["exit_code"], done["answer"]) == (4, "no")
    seen = json.loads((tmp_path / "seen").read_text())
    assert not {"OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"} & seen.keys()
    assert (seen["ASKED"], seen["TF_NUM_INTRAOP_THREADS"]) == ("here", "3")
    carry_out(tmp_path, "-c", code, threads=len(os.sched_getaffinity(0)))
    assert "TF_NUM_INTRAOP_THREADS" not in json.loads((tmp_path / "seen").read_text())


def test_a_job_that_is_told_to_stop_before_it_has_begun_stops(tmp_path: Path) -> None:
    folder = tiny_job.make_folder(tmp_path / "job", "wait", FORMAT)
    carrier = worker.Carrier()
    carrier.stop()
    done = carrier.carry_out(str(folder), [], ("-P", "-m", "finetunekit.testing.tiny_job"), {}, {}, 1)
    assert done["exit_code"] == 130


def test_what_a_node_does_not_see_is_read_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    packed = worker.pack(str(write(tmp_path / "photos", x="1")))
    monkeypatch.setattr(worker, "_fetch", lambda reference: packed)
    seen = worker.outline(str(tmp_path / "photos"))[0]
    carried = {str(tmp_path / "photos"): (seen, "a", None), "/not/here": (seen, "b", None)}
    done = carry_out(tmp_path, "-c", "import sys; print(*sys.argv[1:])", carried=carried)
    place = tmp_path / f"finetunekit-ray-{os.getuid()}" / "b" / "content"
    assert done["answer"].split() == [f"--at=/not/here={place}"]
    assert (place / "x").read_text() == "1"


# ---- a cluster that cannot be used -----------------------------------------------------------------------------------------------


def test_without_ray_or_with_an_old_one_a_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name != "ray":
            return real(name)
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)
    found: str | None = None
    with pytest.raises(
        ConfigError, match=r"needs Ray, which is not installed\. Install it: pip install 'ray\[client\]>=2\.54'"
    ):
        build_ray(RayOptions())
    found = "2.53.1"
    with pytest.raises(ConfigError, match=r"does not work with Ray 2\.53\.1\. Install it"):
        build_ray(RayOptions())


@pytest.mark.parametrize("address", ["ray://nobody", "head", "ray://:1", "10.0.0.1:port"])
def test_an_address_that_is_none_is_said(address: str) -> None:
    with pytest.raises(FinetuneKitError, match=r"an address is ray://HOST:PORT or HOST:PORT"), connected(address, 1.0):
        pass


def test_a_head_that_cannot_be_reached_is_said_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for scheme, start in (("ray://", "ray start --head --ray-client-server-port 10001"), ("", "ray start --head")):
            words = rf"{scheme}{address}: the head cannot be reached \(Connection refused\)\. Is it running \({start}\)"
            with pytest.raises(FinetuneKitError, match=words), connected(scheme + address, 5.0):
                pass


def test_a_head_that_takes_nobody_may_ask_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(place: str, **_: Any) -> None:
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(init=init, is_initialized=lambda: False))
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        words = rf"{address}: cannot be used: ConnectionError: Failed to .*\. If it asks for a token, say so here: RAY_AUTH_MODE"
        with pytest.raises(FinetuneKitError, match=words), connected(address, 5.0):
            pass


@pytest.mark.parametrize(("address", "tries"), [("ray://head:10001", 2), ("head:6379", 1)])
def test_a_head_whose_server_for_a_client_starts_too_slowly_is_asked_once_more(
    address: str, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def init(place: str, **_: Any) -> None:
        asked.append(place)
        raise ConnectionAbortedError("Starting Ray client server failed")

    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(init=init))
    with pytest.raises(ConnectionAbortedError):
        connection._connect(address)
    assert asked == [address] * tries
