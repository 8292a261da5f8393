from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from finetunekit_builtin.vgg16 import VGG16_SPEC

from finetunekit.cli import main
from finetunekit.models.backbone_facts import pixel_formula, pixel_range
from finetunekit.models.weights import weights_availability
from finetunekit.models.weights.resolve import framework_file
from finetunekit.types import PixelContract


@pytest.fixture(autouse=True)
def bare_machine(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cached here, by us or by Keras."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("FINETUNEKIT_OFFLINE", raising=False)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["backbones", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_listing_fits_80_columns_and_says_where_weights_are() -> None:
    lines = run().splitlines()
    assert max(map(len, lines)) <= 80
    by_name = {line.split()[0]: line for line in lines if line}
    assert by_name["vgg16"].split() == [
        "vgg16",
        "14.7",
        "15.3",
        "224",
        "71.3",
        "CC-BY-4.0",
        "bgr",
        "-124..151",
        "index",
    ]
    assert by_name["efficientnet_lite0"].endswith("rgb -1..1      index")
    assert by_name["resnet50"].endswith("bgr -124..151  host")
    assert by_name["mobilenetv2"].endswith("file")


def test_json_has_the_same_rows_and_one_can_be_asked_for() -> None:
    rows = {row["name"]: row for row in json.loads(run("--json"))}
    assert len(rows) >= 43
    assert rows["vgg16"] == json.loads(run("vgg16", "--json"))
    assert rows["efficientnet_lite0"]["has_own_answers"] is True
    assert all(
        row["parameters"] and row["multiply_adds"] and row["licence"] and row["published"] for row in rows.values()
    )
    assert {row["weights"]["is_on_disk"] for row in rows.values()} == {False}


def test_one_backbone_shows_everything() -> None:
    text = run("efficientnet_lite0")
    assert max(map(len, text.splitlines())) <= 80
    for part in (
        "383,907,552 for one photo at 224 px",
        "(rgb - 127) / 128, -1..1",
        "75.1 % top-1",
        "Apache-2.0",
        "17.4 MB",
    ):
        assert part in text
    result = CliRunner().invoke(main, ["backbones", "resnet5"])
    assert (result.exit_code, "Did you mean 'resnet50'?" in result.output) == (2, True)


def test_places_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights_availability("vgg16", VGG16_SPEC).place == "index"
    only_host = dataclasses.replace(VGG16_SPEC, weight_sources=VGG16_SPEC.weight_sources[:1])
    assert (
        weights_availability("vgg16", only_host).words
        == "not here; to be fetched from storage.googleapis.com (58.9 MB)"
    )
    monkeypatch.setenv("FINETUNEKIT_OFFLINE", "1")
    assert weights_availability("vgg16", only_host).words.endswith("; FINETUNEKIT_OFFLINE is set")
    assert weights_availability("x", dataclasses.replace(VGG16_SPEC, weight_sources=())).place == "file"
    file = framework_file(VGG16_SPEC.weight_sources[0])
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    found = weights_availability("vgg16", VGG16_SPEC)
    assert (found.place, found.is_on_disk) == ("keras", True)


def test_pixel_range_is_what_black_and_white_become() -> None:
    assert pixel_range(PixelContract()) == (0.0, 255.0)
    contract = PixelContract(scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.5, 0.4, 0.1))
    assert pixel_range(contract) == pytest.approx((-3.0, 7.0))


def test_pixel_formula_leaves_out_what_changes_nothing() -> None:
    words = pixel_formula(dataclasses.asdict(PixelContract(order="bgr", mean=(1.0, 2.0, 3.0))))
    assert words == "(bgr - (1, 2, 3))"
    assert pixel_formula(dataclasses.asdict(PixelContract())) == "rgb"
    assert pixel_formula(dataclasses.asdict(PixelContract(scale=1 / 127.5, mean=(1.0,) * 3))) == "(rgb * 0.007843 - 1)"


def test_listing_imports_no_keras() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from finetunekit.cli import main; "
        "assert CliRunner().invoke(main, ['backbones']).exit_code == 0; "
        "print(sorted({'keras', 'tensorflow', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout
