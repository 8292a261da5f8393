"""The exporter `openvino`: it keeps the contract, and its answers are the run's."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytest.importorskip("openvino", reason="openvino is what this distribution exports to")

import finetunekit_openvino
from finetunekit_openvino import OpenvinoOptions, build_openvino

import finetunekit as ftk
from finetunekit.config.plan import Chosen
from finetunekit.config.sections import ExportSection
from finetunekit.engine.export import PlannedExport
from finetunekit.system.progress import Progress
from finetunekit.testing import check_exporter, shared_tiny_run
from finetunekit.types import Origin, Registered


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_tiny_run(tmp_path_factory)


@pytest.mark.parametrize(
    "options",
    [pytest.param(OpenvinoOptions(), marks=pytest.mark.slow), OpenvinoOptions(quantize="fp16")],
)
def test_it_keeps_its_contract(options: OpenvinoOptions, run: Path) -> None:
    check_exporter(build_openvino, options, run=run)


@pytest.mark.slow
def test_its_certificate_says_that_it_answers_as_the_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the converter in this process; the test of the contract runs it in one of its own."""
    main = runpy.run_path(str(Path(finetunekit_openvino.__file__).with_name("convert.py")))["main"]
    monkeypatch.setattr(finetunekit_openvino, "_convert", main)
    origin = Origin("openvino", "finetunekit-openvino", "0.1.0")
    chosen = Chosen("exporter", Registered("openvino", build_openvino, OpenvinoOptions, origin), OpenvinoOptions(), ())
    planned = PlannedExport(chosen, build_openvino(OpenvinoOptions()), tmp_path / "out", ExportSection())
    certificate = planned.execute(ftk.load(run), Progress(is_quiet=True)).certificate
    assert certificate["network"]["largest_difference"] < 1e-5
    assert certificate["probes"]["largest_difference"] < 1e-5
    assert certificate["points"]["probes"]["square"]["largest_difference"] == 0.0
