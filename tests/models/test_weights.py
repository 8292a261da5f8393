from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from finetunekit.errors import WeightsError
from finetunekit.models.weights import (
    ResolvedWeights,
    StoredArrays,
    arrays_digest,
    download,
    fit_arrays,
    resolve_weights,
    weights_cache_dir,
    weights_status,
)
from finetunekit.models.weights import package_index as pip_index
from finetunekit.models.weights.cache import write_arrays
from finetunekit.system import network
from finetunekit.types import Arrays, BackboneSpec, PixelContract, WeightSource

ARRAYS: Arrays = {
    "conv/kernel": np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
    "conv/bias": np.array([0.5, -1.5], np.float32),
}
WHEEL = "tiny_arrays-1.0-py3-none-any.whl"
MEMBER = "tiny_arrays/data/arrays.bin"


# ---- a spec, a file, a wheel, a server ------------------------------------------------------------------------------


def convert(path: Path) -> Arrays:
    """The tests' own format: an .npz under another name."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def file_bytes(folder: Path, arrays: Arrays = ARRAYS) -> bytes:
    from finetunekit.models.weights.cache import write_arrays

    write_arrays(folder / "made", arrays)
    return (folder / "made").read_bytes()


def wheel_bytes(folder: Path, content: bytes) -> bytes:
    info = "tiny_arrays-1.0.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("tiny_arrays/__init__.py", "raise RuntimeError('this package must never be imported')\n")
        archive.writestr(MEMBER, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-arrays\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return (folder / WHEEL).read_bytes()


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def spec_of(*sources: WeightSource) -> BackboneSpec:
    return BackboneSpec(
        title="Tiny",
        pixels=PixelContract(),
        native_size_px=8,
        min_size_px=8,
        parameters=14,
        licence="CC0-1.0",
        attribution="Arrays by nobody",
        pretrained_on="nothing",
        published="none",
        reference="none",
        weight_sources=sources,
    )


class Handler(http.server.BaseHTTPRequestHandler):
    disable_nagle_algorithm = True  # headers and body are two writes: else each answer waits 40 ms
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
        self.send_header("Content-Length", str(len(content) + self.server.missing_bytes))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.missing_bytes = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's: cache, Keras' cache, index, proxy, offline switch."""
    for key in [k for k in os.environ if k.startswith(("PIP_", "UV_")) or k.lower().endswith("_proxy")]:
        monkeypatch.delenv(key)
    monkeypatch.delenv("FINETUNEKIT_OFFLINE", raising=False)
    monkeypatch.setenv("FINETUNEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setattr(network, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: None))


@dataclass
class Case:
    """One spec and what it says to the user."""

    spec: BackboneSpec
    lines: list[str] = field(default_factory=list)

    def resolve(self, explicit: Path | None = None, timeout_s: float = 20.0) -> ResolvedWeights:
        return resolve_weights("tiny", self.spec, explicit=explicit, say=self.lines.append, timeout_s=timeout_s)

    def fails(self, match: str, explicit: Path | None = None, timeout_s: float = 20.0) -> str:
        with pytest.raises(WeightsError, match=match) as caught:
            self.resolve(explicit, timeout_s)
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return file_bytes(tmp_path)


@pytest.fixture
def url_case(server: Server, content: bytes) -> Case:
    server.files["/arrays.bin"] = content
    return Case(spec_of(WeightSource("url", f"{server.url}/arrays.bin", sha256(content), convert, size_mb=0.01)))


@pytest.fixture
def index_case(tmp_path: Path, server: Server, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Case:
    wheel = wheel_bytes(tmp_path, content)
    server.files["/simple/tiny-arrays/"] = f'<a href="/files/{WHEEL}">{WHEEL}</a>'.encode()
    server.files[f"/files/{WHEEL}"] = wheel
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
    source = WeightSource(
        *("package_index", "tiny-arrays==1.0", sha256(wheel), convert),
        member=MEMBER,
        member_checksum=sha256(content),
        size_mb=5.0,
        note="made by the test",
    )
    return Case(spec_of(source))


def with_source(case: Case, change: Callable[[WeightSource], WeightSource]) -> Case:
    return Case(replace(case.spec, weight_sources=tuple(map(change, case.spec.weight_sources))))


def assert_arrays(found: ResolvedWeights) -> None:
    arrays = StoredArrays(found.path)
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)


def assert_nothing_cached() -> None:
    assert {path.name for path in weights_cache_dir().iterdir()} <= {"tiny.lock"}


# ---- URL ------------------------------------------------------------------------------------------------------------


def test_url_is_fetched_once_and_remembers_where_from(url_case: Case, server: Server) -> None:
    first = url_case.resolve()
    assert_arrays(first)
    assert first.found_in == "source"
    assert first.provenance.kind == "url"
    assert first.provenance.location == f"{server.url}/arrays.bin"
    assert first.provenance.licence == "CC0-1.0"
    assert first.provenance.arrays_sha256 == arrays_digest(ARRAYS)
    assert "Arrays by nobody" in url_case.lines[-1]
    second = url_case.resolve()
    assert (second.found_in, second.provenance) == ("cache", first.provenance)
    assert server.asked == ["/arrays.bin"]


def test_status_tells_what_is_here(url_case: Case) -> None:
    assert not weights_status("tiny", url_case.spec).is_cached
    found = url_case.resolve()
    status = weights_status("tiny", url_case.spec)
    assert (status.is_cached, status.path, status.provenance) == (True, found.path, found.provenance)
    assert status.size_bytes == found.path.stat().st_size > 0
    moved_on = with_source(url_case, lambda s: replace(s, checksum=sha256(b"newer")))
    assert not weights_status("tiny", moved_on.spec).is_cached


def test_url_with_other_content_leaves_nothing(url_case: Case, server: Server) -> None:
    server.files["/arrays.bin"] += b"!"
    url_case.fails(r"127.0.0.1:\d+: the file has the wrong checksum \(sha256:")
    assert_nothing_cached()


def test_url_not_found_names_every_way_out(url_case: Case, server: Server) -> None:
    del server.files["/arrays.bin"]
    line = url_case.fails("HTTP 404")
    assert "weights.path" in line
    assert "finetunekit weights fetch tiny" in line
    assert str(weights_cache_dir()) in line


def test_truncated_body_is_told_from_a_wrong_file(url_case: Case, server: Server, content: bytes) -> None:
    server.missing_bytes = 7
    url_case.fails(f"connection closed after {len(content)} of {len(content) + 7} bytes")
    assert_nothing_cached()


def test_server_that_never_answers_is_given_up(url_case: Case) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/arrays.bin"
        with_source(url_case, lambda s: replace(s, location=url)).fails(r"no answer within 0.2 s", timeout_s=0.2)


def test_endless_body_is_refused(url_case: Case, server: Server) -> None:
    server.files["/arrays.bin"] = bytes(3_000_000)
    url_case.fails("3.0 MB is more than the 1.0 MB allowed")


def test_host_that_is_not_there_falls_through_to_the_next(url_case: Case, content: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    dead = replace(url_case.spec.weight_sources[0], location=f"http://127.0.0.1:{port}/x")
    unnamed = replace(dead, location="http://no-such-host.invalid/x")
    local = replace(dead, location="file:///etc/hostname")
    case = Case(replace(url_case.spec, weight_sources=(local, dead, unnamed, *url_case.spec.weight_sources)))
    assert_arrays(case.resolve())
    said = "\n".join(case.lines)
    for reason in ("not an http or https URL", "connection refused", "no-such-host.invalid: host not found"):
        assert reason in said


def test_offline_switch_opens_no_connection(url_case: Case, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNEKIT_OFFLINE", "1")
    url_case.fails("not tried, FINETUNEKIT_OFFLINE is set")
    assert server.asked == []
    monkeypatch.setenv("FINETUNEKIT_OFFLINE", "0")
    assert_arrays(url_case.resolve())


def test_converter_that_fails_is_a_reason(url_case: Case) -> None:
    def broken(path: Path) -> Arrays:
        raise KeyError("conv/kernel")

    def endless(path: Path) -> Arrays:
        return {"conv/kernel": np.array([np.nan], np.float32)}

    with_source(url_case, lambda s: replace(s, convert=broken)).fails("its converter failed with KeyError")
    with_source(url_case, lambda s: replace(s, convert=endless)).fails("'conv/kernel' holds NaN")
    assert_nothing_cached()


@pytest.mark.parametrize("kind", ["url_case", "index_case"])
def test_long_download_says_how_far_it_is(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PROGRESS_EVERY_S", 0.0)
    case: Case = request.getfixturevalue(kind)
    case.resolve()
    total = case.spec.weight_sources[0].size_mb
    assert any(line.endswith(f" of {total:.1f} MB") for line in case.lines)


def test_no_source_says_so() -> None:
    Case(spec_of()).fails("tiny: its plugin names no source of pretrained arrays")


# ---- framework ------------------------------------------------------------------------------------------------------


def test_framework_cache_is_looked_at_before_the_network(url_case: Case, server: Server, tmp_path: Path) -> None:
    case = with_source(url_case, lambda s: replace(s, kind="framework"))
    local = tmp_path / "keras/models/arrays.bin"
    local.parent.mkdir(parents=True)
    local.write_bytes(server.files["/arrays.bin"])
    found = case.resolve()
    assert_arrays(found)
    assert (found.provenance.kind, server.asked) == ("framework", [])
    assert "framework's own cache" in found.provenance.note


def test_framework_file_with_wrong_checksum_is_passed_over(url_case: Case, server: Server, tmp_path: Path) -> None:
    case = with_source(url_case, lambda s: replace(s, kind="framework"))
    local = tmp_path / "keras/models/arrays.bin"
    local.parent.mkdir(parents=True)
    local.write_bytes(b"half a downl")
    assert_arrays(case.resolve())
    assert server.asked == ["/arrays.bin"]
    assert "wrong checksum" in case.lines[0]
    assert local.read_bytes() == b"half a downl", "the framework's cache is not ours to change"


# ---- package index --------------------------------------------------------------------------------------------------


def test_wheel_comes_through_pip_from_the_users_index(index_case: Case) -> None:
    found = index_case.resolve()
    assert_arrays(found)
    assert (found.provenance.kind, found.provenance.location) == ("package_index", "tiny-arrays==1.0")
    assert found.provenance.note == "made by the test"
    assert "tiny_arrays" not in sys.modules


def test_wheel_comes_through_pythons_own_pip(index_case: Case, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    if pip_index.bundled_pip() is None:
        pytest.skip("this Python carries no pip wheel")
    monkeypatch.setattr(pip_index, "installed_pip", lambda: None)
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"mine={server.url}/simple")  # without pip, the index is known to uv only
    assert_arrays(index_case.resolve())


def test_no_pip_at_all_is_a_reason(index_case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip_index, "installed_pip", lambda: None)
    monkeypatch.setattr(pip_index, "bundled_pip", lambda: None)
    index_case.fails("package index, tiny-arrays==1.0: pip is in neither this environment nor Python's ensurepip")


def test_wheel_with_other_content_is_refused_by_pip(index_case: Case, server: Server) -> None:
    server.files[f"/files/{WHEEL}"] += b"!"
    index_case.fails("the file that the package index has for tiny-arrays==1.0 has the wrong checksum")
    assert_nothing_cached()


def test_member_is_checked_by_itself(index_case: Case) -> None:
    with_source(index_case, lambda s: replace(s, member_checksum=sha256(b""))).fails(
        f"'{MEMBER}' has the wrong checksum"
    )
    with_source(index_case, lambda s: replace(s, member="tiny_arrays/none")).fails("holds no 'tiny_arrays/none'")


def test_index_without_the_package_and_index_out_of_reach_are_told_apart(
    index_case: Case, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    del server.files["/simple/tiny-arrays/"]
    index_case.fails("the package index has no wheel tiny-arrays==1.0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}/simple")
    assert "secret" not in index_case.fails("package index unreachable")


def test_index_that_never_answers_is_given_up(index_case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        case = with_source(index_case, lambda s: replace(s, size_mb=0.01))
        case.fails(r"package index gave no file within 0.54 s", timeout_s=0.5)
    assert_nothing_cached()


@pytest.mark.parametrize("requirement", ["tiny-arrays", "tiny==1 --index-url=http://x", "tiny==1\n-e .", "-r other"])
def test_requirement_that_is_not_pinned_is_refused(index_case: Case, requirement: str) -> None:
    with_source(index_case, lambda s: replace(s, location=requirement)).fails("its plugin must pin it as name==version")


# ---- cache ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flipped", "short", "foreign", "no record"])
def test_damaged_cache_entry_is_set_aside_and_fetched_again(
    url_case: Case, server: Server, tmp_path: Path, damage: str
) -> None:
    path = url_case.resolve().path
    whole = path.read_bytes()
    if damage == "flipped":
        path.write_bytes(whole.replace(ARRAYS["conv/bias"].tobytes(), bytes(8)))
    elif damage == "short":
        path.write_bytes(whole[:-40])
    elif damage == "foreign":
        path.write_bytes(file_bytes(tmp_path, {"conv/bias": np.zeros(2, np.float32)}))
    else:
        path.with_suffix(".json").unlink()
    url_case.lines.clear()
    again = url_case.resolve()
    assert_arrays(again)
    assert again.found_in == "source"
    assert len(server.asked) == 2
    assert sum("set aside as" in line for line in url_case.lines) == 1
    assert path.with_suffix(".npz.set-aside").exists()


def test_stored_arrays_are_read_when_asked_for_and_say_which_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    write_arrays(path, ARRAYS)
    stored = StoredArrays(path)
    assert sorted(stored) == sorted(ARRAYS)
    assert stored["conv/bias"] is not stored["conv/bias"]  # nothing is kept
    assert stored.get("conv/nothing") is None
    path.write_bytes(path.read_bytes().replace(ARRAYS["conv/bias"].tobytes(), bytes(8)))
    damaged = StoredArrays(path)
    np.testing.assert_array_equal(damaged["conv/kernel"], ARRAYS["conv/kernel"])
    with pytest.raises(WeightsError, match=r"arrays\.npz: cannot be read as \.npz of named arrays \(Bad CRC-32"):
        damaged["conv/bias"]
    path.write_bytes(b"no zip")
    with pytest.raises(WeightsError, match=r"arrays\.npz: cannot be read"):
        StoredArrays(path)


def test_leftovers_of_a_killed_fetch_are_removed(url_case: Case) -> None:
    left = weights_cache_dir() / ".tiny~fetching~abc"
    other = weights_cache_dir() / ".tiny-2~fetching~abc"
    for folder in (left, other):
        folder.mkdir(parents=True)
    url_case.resolve()
    assert (left.exists(), other.exists()) == (False, True)


FETCHER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_weights import Case, WeightSource, convert, spec_of
print("ready", flush=True)
sys.stdin.readline()
case = Case(spec_of(WeightSource("url", sys.argv[2], sys.argv[3], convert, size_mb=0.01)))
print(case.resolve().found_in, *case.lines, sep="\\n")
"""


def test_two_processes_fetch_once(url_case: Case, server: Server) -> None:
    source = url_case.spec.weight_sources[0]
    command = [sys.executable, "-c", FETCHER, str(Path(__file__).parent), source.location, source.checksum]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                )
            )
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        outputs = [process.communicate("go\n", timeout=60)[0] for process in processes]
    assert sorted(output.split()[0] for output in outputs) == ["cache", "source"], outputs
    assert server.asked == ["/arrays.bin"]
    assert_arrays(url_case.resolve())


def test_waiting_for_another_process_is_said(url_case: Case) -> None:
    import filelock

    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        weights_cache_dir().mkdir(parents=True)
        with filelock.FileLock(weights_cache_dir() / "tiny.lock", thread_local=False):
            held.set()
            released.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        released.set()

    resolve_weights("tiny", url_case.spec, explicit=None, say=say)
    holder.join()
    assert "another process is fetching" in lines[0]


def test_cache_that_cannot_be_written_is_one_line(
    url_case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FINETUNEKIT_CACHE", str(tmp_path / "file"))
    url_case.fails("the cache of weights cannot be written .* Set FINETUNEKIT_CACHE to another folder")


def test_digest_sees_names_shapes_types_and_values() -> None:
    base = arrays_digest(ARRAYS)
    assert arrays_digest(dict(reversed(ARRAYS.items()))) == base
    assert arrays_digest({k: np.asfortranarray(v) for k, v in ARRAYS.items()}) == base
    assert arrays_digest({k: v.astype(">f4") for k, v in ARRAYS.items()}) == base
    kernel, bias = ARRAYS["conv/kernel"], ARRAYS["conv/bias"]
    others = [
        {**ARRAYS, "conv/kernel": kernel.reshape(4, 3)},
        {**ARRAYS, "conv/kernel": kernel.astype(np.float64)},
        {"conv/kernel": kernel, "conv/offset": bias},
        {**ARRAYS, "conv/bias": bias + 1},
    ]
    assert len({base, *map(arrays_digest, others)}) == 5


# ---- explicit path --------------------------------------------------------------------------------------------------


def test_missing_explicit_path_never_falls_back(url_case: Case, server: Server, tmp_path: Path) -> None:
    url_case.resolve()
    server.asked.clear()
    url_case.fails(r"weights.path: .*nowhere.npz does not exist", explicit=tmp_path / "nowhere.npz")
    url_case.fails(r"weights.path: .* is a folder", explicit=tmp_path)
    assert server.asked == []


def test_explicit_npz_is_used_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "mine.npz"
    np.savez_compressed(mine, **{"conv/kernel": np.ones((3, 4), np.float32)})
    found = Case(spec_of()).resolve(explicit=mine)
    assert (found.path, found.found_in, found.provenance.kind) == (mine, "path", "path")
    assert (found.provenance.licence, found.provenance.attribution) == ("unknown", "")


def test_explicit_copy_of_a_cache_entry_keeps_its_origin(url_case: Case, tmp_path: Path) -> None:
    path = url_case.resolve().path
    copy = tmp_path / "copied.npz"
    for suffix in (".npz", ".json"):
        copy.with_suffix(suffix).write_bytes(path.with_suffix(suffix).read_bytes())
    found = url_case.resolve(explicit=copy)
    assert (found.provenance.licence, found.provenance.attribution) == ("CC0-1.0", "Arrays by nobody")
    assert "first from url" in found.provenance.note


def test_explicit_wheel_and_member_are_converted(
    index_case: Case, server: Server, tmp_path: Path, content: bytes
) -> None:
    found = index_case.resolve(explicit=tmp_path / WHEEL)
    assert_arrays(found)
    assert found.provenance.licence == "CC0-1.0", "byte for byte the file that the plugin pins"
    (tmp_path / "own.bin").write_bytes(content)
    assert_arrays(index_case.resolve(explicit=tmp_path / "own.bin"))
    assert server.asked == []


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.npz", b"no zip", r"cannot be read as .npz of named arrays"),
        ("a.txt", b"", r"files ending in '.txt' cannot be read. Allowed: .bin, .npz, .safetensors, .whl"),
        ("a.bin", b"no zip", r"a.bin: its converter failed"),
        ("a.whl", b"no zip", r"a.whl: damaged archive"),
    ],
)
def test_explicit_file_that_cannot_be_read(
    index_case: Case, tmp_path: Path, name: str, content: bytes, match: str
) -> None:
    (tmp_path / name).write_bytes(content)
    index_case.fails(match, explicit=tmp_path / name)


def test_pickles_in_an_npz_are_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap.npz"
    np.savez(trap, **{"conv/kernel": np.array([print], dtype=object)})
    Case(spec_of()).fails("cannot be read as .npz", explicit=trap)


# ---- into a model ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nested() -> object:
    import keras

    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")], name="inner")
    return keras.Sequential(
        [keras.Input((4,)), inner, keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(2, name="dense")]
    )


def nested_arrays(model: object) -> dict[str, np.ndarray]:
    from finetunekit.models.weights.fit import named_variables

    named = named_variables(model, "test")  # type: ignore[arg-type]
    return {name: np.full(variable.shape, 1 + i, np.float32) for i, (name, variable) in enumerate(named.items())}


def test_arrays_fit_by_layer_path(nested: object) -> None:
    arrays = nested_arrays(nested)
    assert list(arrays) == [
        *("inner/dense/kernel", "inner/dense/bias"),
        *("norm/gamma", "norm/beta", "norm/moving_mean", "norm/moving_variance", "dense/kernel", "dense/bias"),
    ]
    fit_arrays(nested, arrays, origin="test")  # type: ignore[arg-type]
    kernel = nested.get_layer("inner").get_layer("dense").kernel  # type: ignore[attr-defined]
    np.testing.assert_array_equal(kernel.numpy(), arrays["inner/dense/kernel"])
    np.testing.assert_array_equal(nested.get_layer("norm").moving_variance.numpy(), arrays["norm/moving_variance"])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"dense/bias": None}, "no array for dense/bias"),
        ({"dense/other": np.zeros(2, np.float32)}, "no weight for array dense/other"),
        ({"norm/beta": np.zeros(4, np.float32)}, r"norm/beta is \(3,\), its array \(4,\)"),
    ],
)
def test_arrays_that_do_not_fit_change_nothing(
    nested: object, change: dict[str, np.ndarray | None], match: str
) -> None:
    before = [w.copy() for w in nested.get_weights()]  # type: ignore[attr-defined]
    arrays = {name: array + 100 for name, array in nested_arrays(nested).items()} | change
    with pytest.raises(WeightsError, match=match):
        fit_arrays(nested, {k: v for k, v in arrays.items() if v is not None}, origin="test")  # type: ignore[arg-type]
    for old, new in zip(before, nested.get_weights(), strict=True):  # type: ignore[attr-defined]
        np.testing.assert_array_equal(old, new)


def test_weights_are_listed_without_tensorflow() -> None:
    code = "import sys, finetunekit.models.weights; sys.exit(any(m in sys.modules for m in ('tensorflow', 'keras', 'h5py')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
