"""Pretrained arrays as a wheel: written, served by a package index on this machine, read by a run; and files that lie."""

from __future__ import annotations

import functools
import http.server
import json
import os
import struct
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import write_tiny_weights

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.config.planning import prepare
from finetunekit.errors import ConfigError, WeightsError
from finetunekit.models.load_weights import find_weights
from finetunekit.models.weights import StoredArrays
from finetunekit.models.weights.packed import distribution_of
from finetunekit.models.weights.safetensors import MOST_HEADER_BYTES, SafeArrays, write_safetensors
from finetunekit.system.progress import Progress

QUIET = Progress(is_quiet=True)
ARRAYS = {"conv/kernel": np.arange(12, dtype=np.float32).reshape(3, 4) / 7, "conv/bias": np.array([0.5], np.float32)}
ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


# ---- the format --------------------------------------------------------------------------------------------------------


def file_of(folder: Path, header: Any, data: bytes = bytes(8), *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "made.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def test_arrays_come_back_and_equal_arrays_make_equal_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_safetensors(tmp_path / name, dict(sorted(ARRAYS.items(), reverse=name == "two")), {"licence": "CC0-1.0"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found = SafeArrays(tmp_path / "one")
    assert found.about == {"licence": "CC0-1.0"}
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


def test_the_upper_half_of_a_float_is_that_float(tmp_path: Path) -> None:
    values = np.array([1.5, -2.0], np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    path = file_of(tmp_path, {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, upper)
    np.testing.assert_array_equal(SafeArrays(path)["a"], values)


@pytest.mark.parametrize(
    ("header", "data", "length", "said"),
    [
        (b"{}", b"", 1 << 62, "its header claims"),
        (b"{}", b"", MOST_HEADER_BYTES + 1, "its header claims"),
        (b"not json", b"", None, "Expecting value"),
        (b"[" * 100_000, b"", None, "recursion|Expecting value|too much"),
        (b"[1]", b"", None, "is not a map"),
        (b'{"a": 1, "a": 2}', b"", None, "names something twice"),
        ({"__metadata__": {"a": 1}}, b"", None, "holds something else than texts"),
        ({"a": {**ENTRY, "more": 1}}, bytes(8), None, "is not described by"),
        ({"a": {**ENTRY, "dtype": "I64"}}, bytes(8), None, "of type I64"),
        ({"a": {**ENTRY, "dtype": ["F32"]}}, bytes(8), None, "of type"),
        ({"a": {**ENTRY, "shape": [-2]}}, bytes(8), None, "impossible shape"),
        ({"a": {**ENTRY, "shape": [True, 2]}}, bytes(8), None, "impossible shape"),
        ({"a": {**ENTRY, "shape": [1 << 40, 1 << 40]}}, bytes(8), None, "impossible shape"),
        ({"a": {**ENTRY, "shape": [1 << 31, 1 << 31]}}, bytes(8), None, "claims .* and holds 8"),
        ({"a": {**ENTRY, "shape": [3]}}, bytes(8), None, "claims 12 bytes and holds 8"),
        ({"a": {**ENTRY, "data_offsets": [8, 16]}}, bytes(16), None, "does not begin where"),
        ({"a": ENTRY, "b": ENTRY}, bytes(8), None, "does not begin where"),
        ({"a": ENTRY}, bytes(4), None, "its arrays take 8 bytes, the file has 4"),
        ({"a": ENTRY}, bytes(12), None, "its arrays take 8 bytes, the file has 12"),
    ],
)
def test_a_file_that_claims_what_it_does_not_hold_is_one_line(
    tmp_path: Path, header: Any, data: bytes, length: int | None, said: str
) -> None:
    path = file_of(tmp_path, header, data, length=length)
    with pytest.raises(WeightsError, match=f"cannot be read as safetensors .*({said})") as caught:
        SafeArrays(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_an_empty_or_a_cut_file_is_one_line(tmp_path: Path) -> None:
    for content in (b"", b"\x02\0\0", struct.pack("<Q", 2) + b"{"):
        (tmp_path / "cut.safetensors").write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be read as safetensors"):
            SafeArrays(tmp_path / "cut.safetensors")


# ---- the wheel ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tiny_yaml: Path, own_cache: Path) -> Path:
    return write_tiny_weights(tiny_yaml)


def pack(*arguments: str | Path) -> tuple[list[str], str]:
    done = CliRunner().invoke(main, ["weights", "pack", *map(str, arguments)])
    return done.stdout.splitlines(), done.stderr


def packed(tiny_yaml: Path, weights: Path, folder: Path) -> tuple[Path, str, str]:
    """The wheel of the tiny network, its requirement and its checksum."""
    lines, said = pack(
        *("tiny", weights, "--preset", tiny_yaml, "--into", folder, "--licence", "CC0-1.0"),
        *("--attribution", "Arrays by nobody", "--pretrained-on", "noise"),
    )
    assert lines, said
    values = dict(part.split(": ") for part in lines[-2].removeprefix("weights: {").rstrip("}").split(", "))
    return Path(lines[-1]), values["package"].strip('"'), values["checksum"].strip('"')


def test_a_wheel_holds_data_only_and_says_what_it_is(tiny_yaml: Path, weights: Path, tmp_path: Path) -> None:
    wheel, package, checksum = packed(tiny_yaml, weights, tmp_path / "one")
    again, _, same = packed(tiny_yaml, weights, tmp_path / "two")
    assert (package, checksum) == ("finetunekit-weights-tiny==1.0", same)
    assert wheel.read_bytes() == again.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert not [name for name in names if name.endswith((".py", ".pth", ".pkl"))]
        metadata = archive.read("finetunekit_weights_tiny-1.0.dist-info/METADATA").decode()
        record = archive.read("finetunekit_weights_tiny-1.0.dist-info/RECORD").decode()
    assert "License: CC0-1.0\n" in metadata
    assert "Arrays by nobody" in metadata
    assert [line.split(",")[0] for line in record.splitlines()] == names
    assert "already exists" in pack("tiny", weights, "--preset", tiny_yaml, "--into", wheel.parent, "--licence", "x")[1]


def test_a_plan_reads_the_wheel_by_its_path_with_its_licence(tiny_yaml: Path, weights: Path, tmp_path: Path) -> None:
    wheel, _, _ = packed(tiny_yaml, weights, tmp_path)
    plan, _ = prepare(tiny_yaml, settings=[f"weights={{mode: pretrained, path: {wheel}}}"])
    found = find_weights(plan, QUIET.say)
    assert (found.provenance.licence, found.provenance.pretrained_on) == ("CC0-1.0", "noise")
    with np.load(weights) as own:
        assert {name: own[name].tolist() for name in own} == {
            name: array.tolist() for name, array in StoredArrays(found.path).items()
        }


class _Index(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a package index (PEP 503) on this machine serves."""
    for key in [k for k in os.environ if k.startswith(("PIP_", "UV_")) or k.lower().endswith("_proxy")]:
        monkeypatch.delenv(key)
    (root := tmp_path / "index").mkdir()
    handler = functools.partial(_Index, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_address[1]}/simple")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        yield root
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_run_fetches_it_from_a_private_index_once(
    tiny_yaml: Path, weights: Path, tmp_path: Path, index: Path
) -> None:
    page = index / "simple" / "finetunekit-weights-tiny"
    wheel, package, checksum = packed(tiny_yaml, weights, page)
    (page / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    named = f"weights={{mode: pretrained, package: {package}, checksum: '{checksum}'}}"
    frozen = "stages=[{name: probe, kind: solve, penalty: 0.001}]"
    result = ftk.run(tiny_yaml, settings=[named, frozen, "head={name: linear}"], out=tmp_path / "runs", progress=QUIET)
    said = json.loads((result.path / "weights.json").read_text())
    assert (said["licence"], said["attribution"]) == ("CC0-1.0", "Arrays by nobody")
    assert (said["location"], said["checksum"]) == (package, checksum)
    model = ftk.load(result.path).model
    with np.load(weights) as own:
        np.testing.assert_array_equal(model.get_layer("conv1").kernel, own["conv1/kernel"])
    wheel.unlink()
    plan, _ = prepare(tiny_yaml, settings=[named])
    assert find_weights(plan, QUIET.say).found_in == "cache"
    plan, _ = prepare(tiny_yaml, settings=[named.replace(checksum, "sha256:" + "0" * 64)])
    with pytest.raises(
        WeightsError, match=r"cannot be had .*PIP_INDEX_URL or pip.s index-url, or set weights.path to the wheel"
    ):
        find_weights(plan, QUIET.say)


def test_a_wheel_for_another_backbone_or_other_options_is_refused(
    tiny_yaml: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetunekit.models.weights import resolve

    wheel, package, checksum = packed(tiny_yaml, weights, tmp_path)
    monkeypatch.setattr(resolve, "fetch_wheel", lambda *_, **__: wheel)  # what pip would have brought
    named = f"weights={{mode: pretrained, package: {package}, checksum: '{checksum}'}}"
    plan, _ = prepare(tiny_yaml, settings=[named, "backbone={name: tiny, skip: true}"])
    with pytest.raises(WeightsError, match=r"packed for backbone.skip: False, the plan has True"):
        find_weights(plan, QUIET.say)
    plan, _ = prepare(tiny_yaml, settings=[named, "backbone={name: vgg16}", "pixels.size_px=32"])
    with pytest.raises(WeightsError, match="are for the backbone 'tiny', the plan's is 'vgg16'"):
        find_weights(plan, QUIET.say)


def test_what_cannot_be_packed_is_one_line(tiny_yaml: Path, weights: Path, tmp_path: Path) -> None:
    named = ("--preset", tiny_yaml, "--into", tmp_path / "out")
    cases = [
        (("tiny", weights, "--into", tmp_path / "out"), "'tiny' is no backbone that is installed. Name the preset"),
        (("tiny", weights, *named), "its licence is not known. State it: --licence"),
        (("tiny", weights, *named, "--licence", "x", "--version", "one"), "--version: numbers with dots"),
        (("tïny", weights, *named, "--licence", "x"), "cannot name a package"),
        (("tiny", tmp_path / "none.npz", *named), "does not exist"),
        (("tiny", weights, *named, "--licence", "x", "--set", "backbone.batch_norm=true"), "do not fit the backbone"),
    ]
    for arguments, said in cases:
        lines, complaint = pack(*arguments)
        assert not lines
        assert said in complaint.replace("\n", " "), complaint
    assert not (tmp_path / "out").exists()


def test_a_plan_names_a_package_with_its_checksum_or_a_file(tiny_yaml: Path) -> None:
    with pytest.raises(ConfigError, match="belong together"):
        prepare(tiny_yaml, settings=["weights={mode: pretrained, package: a==1}"])
    with pytest.raises(ConfigError, match=r"random reads no weights\.package"):
        prepare(tiny_yaml, settings=[f"weights={{package: a==1, checksum: 'sha256:{'0' * 64}'}}"])
    with pytest.raises(ConfigError, match="two places for the same arrays"):
        prepare(
            tiny_yaml,
            settings=[f"weights={{mode: pretrained, package: a==1, checksum: 'sha256:{'0' * 64}', path: a.npz}}"],
        )
    with pytest.raises(ConfigError, match=r"weights\.package"):
        prepare(
            tiny_yaml, settings=[f"weights={{mode: pretrained, package: 'a --index=x', checksum: 'sha256:{'0' * 64}'}}"]
        )
    assert distribution_of("DINOv2_small.v1") == "finetunekit-weights-dinov2-small-v1"
