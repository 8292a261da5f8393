"""Plugins that misbehave: they are named, the run goes on where it can, and its folder says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import finetunekit as ftk
from finetunekit.errors import PluginError
from finetunekit.plugins.guard import call_with_timeout, guarded, noting_calls, watched_variables
from finetunekit.runs.folder import CALLING, FORMAT, PREDICTIONS, STATE
from finetunekit.runs.run_record import RunRecord
from finetunekit.system.files import to_json
from finetunekit.system.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")

LISTENER = """
import os, random, sys
from finetunekit import hookimpl
@hookimpl
def before_run(plan, run_path):
    import keras, numpy
    print("a line on stdout")
    keras.config.set_dtype_policy("mixed_float16")
    keras.config.set_floatx("float64")
    numpy.random.seed(1), random.seed(1)
    os.chdir("/")
    os.environ.update(TF_ENABLE_ONEDNN_OPTS="0", FINETUNEKIT_CACHE="/nowhere", SOMEONES_OWN="1")
    del os.environ["PATH"]
    try:
        plan.config.seed = 5
    except Exception:
        pass
@hookimpl
def after_epoch(row, run_path):
    row.clear()
    sys.exit("enough")
@hookimpl
def after_run(metrics, run_path):
    metrics.clear()
    raise KeyError("metrics")
"""


def with_plugin(tiny_yaml: Path, name: str, text: str) -> None:
    plugin = tiny_yaml.parent / f"{name}.py"
    plugin.write_text(text)
    tiny_yaml.write_text(tiny_yaml.read_text().replace("plugins: [", f"plugins: [{plugin}, "))


def test_a_listener_that_changes_everything_changes_no_bit(tiny_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tiny_yaml.parent / "runs"
    plain = ftk.run(str(tiny_yaml), out=out, progress=Progress(is_quiet=True))
    with_plugin(tiny_yaml, "meddler", LISTENER)
    before, variables = os.getcwd(), watched_variables()
    capsys.readouterr()
    result = ftk.run(str(tiny_yaml), out=out, progress=Progress())
    said = capsys.readouterr()
    assert (os.getcwd(), watched_variables()) == (before, variables)
    assert os.environ.pop("SOMEONES_OWN") == "1"
    assert said.out == ""
    names = ("FINETUNEKIT_CACHE", "PATH", "TF_ENABLE_ONEDNN_OPTS")
    whats = (
        "the working folder",
        "Keras' dtype_policy",
        "Keras' floatx",
        *(f"the environment variable {n}" for n in names),
    )
    for what in whats:
        assert f"plugin 'meddler' ({tiny_yaml.parent / 'meddler.py'}) changed {what}" in said.err
    assert "failed in after_epoch: SystemExit: enough" in said.err
    assert "failed in after_run: KeyError" in said.err
    assert result.metrics["classes"] == ["blue", "green", "red"]
    for name in (PREDICTIONS,):
        assert (plain.path / name).read_bytes() == (result.path / name).read_bytes()


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("return images[:, :4], labels", "pads"),
        ("return images, labels[:, :2]", "pads"),
        ("return None", "pads"),
        ("raise ValueError('no')", "pads"),
    ],
)
def test_an_augmentation_of_the_wrong_shape_is_blamed(tiny_yaml: Path, body: str, match: str) -> None:
    with_plugin(
        tiny_yaml,
        "pads",
        "from finetunekit import Augmentation, hookimpl, Options\n"
        f"def change(images, labels, keys):\n    {body}\n"
        "@hookimpl\ndef register_augmentations(register):\n"
        "    register('pads', lambda options: (Augmentation(apply=change),), Options)\n",
    )
    with pytest.raises(PluginError, match=match):
        ftk.run(
            str(tiny_yaml),
            settings=["augment=[{name: pads}]"],
            out=tiny_yaml.parent / "runs",
            progress=Progress(is_quiet=True),
        )


def test_a_freezing_policy_and_a_source_of_the_wrong_kind_are_blamed(tiny_yaml: Path) -> None:
    with_plugin(
        tiny_yaml,
        "wrong",
        "from finetunekit import hookimpl, Options\n"
        "@hookimpl\ndef register_freezing_policies(register):\n    register('list', lambda o, layers: [1], Options)\n"
        "@hookimpl\ndef register_data_sources(register):\n    register('none', lambda o, context: None, Options)\n",
    )
    quiet, out = Progress(is_quiet=True), tiny_yaml.parent / "runs"
    with pytest.raises(PluginError, match=r"freezing policy 'list' of plugin 'wrong'.*mapping"):
        ftk.run(str(tiny_yaml), settings=["stages[0].freeze={name: list}"], out=out, progress=quiet)
    with pytest.raises(PluginError, match=r"data source 'none' of plugin 'wrong'.*PhotoListing"):
        ftk.run(str(tiny_yaml), settings=["data.source=none"], out=out, progress=quiet)


def test_a_plugin_that_ends_the_process_leaves_its_name_to_whoever_resumes(tmp_path: Path) -> None:
    record, said = RunRecord(tmp_path, {"format": FORMAT, "status": "running"}), list[str]()
    (tmp_path / STATE).write_text(to_json(record.state))
    with noting_calls(record.calling):
        with guarded("head 'a'"):
            with guarded("layer 'b'"):
                assert (tmp_path / CALLING).read_text() == "layer 'b'"
            left = (tmp_path / CALLING).read_text()
        assert not (tmp_path / CALLING).exists()
    (tmp_path / CALLING).write_text(left)  # as os._exit leaves it
    RunRecord.reopen(tmp_path, said.append)
    assert said == ["note: the process that wrote this run ended without a word, inside head 'a'."]
    assert not (tmp_path / CALLING).exists()


def test_an_answer_in_time_is_passed_on_with_its_error() -> None:
    assert call_with_timeout(5, "x", lambda: np.int64(3)) == 3
    with pytest.raises(ZeroDivisionError, match="division"):
        call_with_timeout(5, "x", lambda: 1 // 0)


def test_loading_the_libraries_changes_no_variable_that_is_put_back() -> None:
    code = (
        "from finetunekit.plugins.guard import watched_variables\n"
        "before = watched_variables()\n"
        "import keras, tensorflow\n"
        "assert watched_variables() == before, (before, watched_variables())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
