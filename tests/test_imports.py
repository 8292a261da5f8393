"""What may be imported when: listings, plans and config errors load nothing heavy, and layers import downwards only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_plugins import SMALL, write

ROOT = Path(__file__).parents[1]
HEAVY = ("tensorflow", "keras", "scipy", "sklearn", "matplotlib", "statsmodels", "pandas")
#: Verbs that look at photos or at runs may load numpy before they find what is wrong.
MAY_LOAD_NUMPY = ("data stats", "ablate")
#: Runs the command as its entry point does and reports, whatever its exit code, what was imported by then.
RUNNER = """
import json, sys
from finetunekit.cli import main
try:
    main(prog_name="finetunekit")
except SystemExit as exc:
    code = exc.code or 0
top = sorted({name.partition(".")[0] for name in sys.modules})
print("\\n" + json.dumps({"code": code, "modules": top}))
"""


def imported_by(code: str, *arguments: str, cwd: Path) -> dict[str, object]:
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
    report: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--help", 0),
        ("--version", 0),
        ("run --help", 0),
        ("predict --help", 0),
        ("evaluate --help", 0),
        ("doctor --help", 0),
        ("plan felidae4", 0),
        ("plan felidae4 --json", 0),
        ("presets list", 0),
        ("presets show felidae4", 0),
        ("plugins list", 0),
        ("weights list", 0),
        ("data --help", 0),
        ("data fetch --plan", 0),
        ("data fetch --taxon cat", 2),
        ("data stats nowhere", 2),
        ("run felidae5", 2),
        ("run no/such.yaml", 2),
        ("run felidae4 --set nope=1", 2),
        ("run felidae4 --set train.batch_size=0", 2),
        ("run felidae4 --set head.name=nope", 2),
        ("run felidae4 --set head.units=many", 2),
        ("ablate felidae4 --vary image_size=4,8", 2),
        ("run broken.yaml", 2),
        ("run wrong.yaml", 2),
    ],
)
def test_listings_plans_and_config_errors_load_nothing_heavy(arguments: str, code: int, tmp_path: Path) -> None:
    write(tmp_path / "broken.yaml", "name: [\n")
    write(tmp_path / "wrong.yaml", SMALL.replace("epochs: 1", "epochs: 0"))
    report = imported_by(RUNNER, *arguments.split(), cwd=tmp_path)
    assert report["code"] == code
    barred = {*HEAVY} if arguments.startswith(MAY_LOAD_NUMPY) else {*HEAVY, "numpy"}
    assert not barred & set(report["modules"])  # type: ignore[call-overload]


def test_importing_finetunekit_loads_nothing_heavy_not_even_numpy(tmp_path: Path) -> None:
    code = "import json, sys, finetunekit; print(json.dumps({'modules': sorted(sys.modules)}))"
    modules = imported_by(code, cwd=tmp_path)["modules"]
    assert not {*HEAVY, "numpy", "PIL", "ruamel", "click"} & set(modules)  # type: ignore[call-overload]


def test_everything_that_finetunekit_offers_is_there() -> None:
    import finetunekit

    assert all(getattr(finetunekit, name) is not None for name in finetunekit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        finetunekit.nope  # noqa: B018


def test_layers_import_downwards_only() -> None:
    """In a process of its own: import-linter closes streams that pytest captures."""
    code = "from importlinter.cli import lint_imports_command as check; check(['--no-cache'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
