"""What may be imported when: listings, plans and config errors load nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers_plugins import SMALL, write

ROOT = Path(__file__).parents[1]
HEAVY = ("tensorflow", "keras", "scipy", "sklearn", "matplotlib", "jinja2", "statsmodels", "pandas")
#: Command → exit code. None of them may load what is heavy, nor numpy.
LIGHT = {
    "--help": 0,
    "--version": 0,
    "run --help": 0,
    "predict --help": 0,
    "evaluate --help": 0,
    "doctor --help": 0,
    "data --help": 0,
    "data fetch --taxon cat": 2,
    "presets show felidae4": 0,
    "plan felidae4": 0,
    "plan felidae4 --json": 0,
    "run felidae5": 2,
    "run no/such.yaml": 2,
    "run felidae4 --set nope=1": 2,
    "run felidae4 --set train.batch_size=0": 2,
    "run felidae4 --set head.name=nope": 2,
    "run felidae4 --set head.units=many": 2,
    "run broken.yaml": 2,
    "run wrong.yaml": 2,
    "presets list": 0,
    "plugins list": 0,
    "weights list": 0,
}
#: These print tables, which rich lays out.
WITH_TABLES = ("presets list", "plugins list", "weights list")
#: These answer before anything of pydantic's or of a plugin's is loaded.
LIGHTEST = ("--help", "--version", "run --help", "data --help")
#: These look at photos or at runs, and may load numpy before they find what is wrong.
WITH_NUMPY = {
    "data stats nowhere": 2,
    "ablate felidae4 --vary image_size=4,8": 2,
    "tune felidae4 --vary image_size=4,8": 2,
}
#: Runs commands one after the other as the entry point does, and reports what was imported by the end of each, whatever its exit code.
RUNNER = """
import json, sys
from finetunekit.cli import main
reports = {}
for command in sys.argv[1:]:
    code = 0
    try:
        main(prog_name="finetunekit", args=command.split())
    except SystemExit as exc:
        code = exc.code or 0
    reports[command] = {"code": code, "modules": sorted({name.partition(".")[0] for name in sys.modules})}
print("\\n" + json.dumps(reports))
"""


def report_of(code: str, *arguments: str, cwd: Path) -> Any:
    """What the last line of a process of its own says, as JSON."""
    environment = os.environ | {"FINETUNEKIT_CACHE": str(cwd / "cache"), "FINETUNEKIT_STATE": str(cwd / "state")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Command → exit code and modules. What is loaded stays so: the light ones come first, and the first that fails is to blame."""
    folder = tmp_path_factory.mktemp("commands")
    write(folder / "broken.yaml", "name: [\n")
    write(folder / "wrong.yaml", SMALL.replace("epochs: 1", "epochs: 0"))
    return report_of(RUNNER, *LIGHT, *WITH_NUMPY, cwd=folder)


@pytest.mark.parametrize(("command", "code"), LIGHT.items())
def test_listings_plans_and_config_errors_load_nothing_heavy(command: str, code: int, reports: Any) -> None:
    assert reports[command]["code"] == code
    loaded = set(reports[command]["modules"])
    assert not {*HEAVY, "numpy"} & loaded
    assert command in WITH_TABLES or "rich" not in loaded


def test_help_waits_for_no_other_package(tmp_path: Path) -> None:
    for command, report in report_of(RUNNER, *LIGHTEST, cwd=tmp_path).items():
        assert not {"pydantic", "pluggy", "rich"} & set(report["modules"]), command


@pytest.mark.parametrize(("command", "code"), WITH_NUMPY.items())
def test_errors_about_photos_and_runs_load_numpy_at_most(command: str, code: int, reports: Any) -> None:
    assert reports[command]["code"] == code
    assert not {*HEAVY} & set(reports[command]["modules"])


def test_importing_finetunekit_loads_nothing_heavy_not_even_numpy(tmp_path: Path) -> None:
    code = "import json, sys, finetunekit; print(json.dumps({'modules': sorted(sys.modules)}))"
    modules = report_of(code, cwd=tmp_path)["modules"]
    assert not {*HEAVY, "numpy", "PIL", "ruamel", "click", "rich", "pydantic", "pluggy"} & set(modules)


def test_everything_that_finetunekit_offers_is_there() -> None:
    import finetunekit

    assert all(getattr(finetunekit, name) is not None for name in finetunekit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        finetunekit.nope  # noqa: B018
