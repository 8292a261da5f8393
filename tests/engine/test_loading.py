"""A run's network in another process and on another day: through the run's plugins, wherever they are then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import finetunekit as ftk
from finetunekit.errors import ConfigError, PluginError, RunFolderError
from finetunekit.runs.folder import MODEL, MODEL_KERAS
from finetunekit.system.progress import Progress

QUIET = Progress(is_quiet=True)
HEAD = """
from finetunekit import hookimpl, Options

def build(options, features, num_classes):
    import keras, numpy

    class Mix(keras.layers.Layer):
        def __init__(self, matrix):
            super().__init__()
            self.matrix = numpy.asarray(matrix, object)  # nothing that Keras could write
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1],))
        def call(self, x):
            return x * self.w + keras.ops.convert_to_tensor(self.matrix.astype("float32"))

    x = keras.layers.GlobalAveragePooling2D()(features.tensor)
    return keras.layers.Dense(num_classes, dtype="float32")(Mix(numpy.random.normal(size=x.shape[-1]))(x))

@hookimpl
def register_heads(register):
    register("mixed", build, Options)
"""


def probabilities(run: ftk.FinishedRun) -> np.ndarray:
    rows = run.split_predictions("test")
    return np.array([[float(row[f"p_{name}"]) for name in run.classes] for row in rows])


@pytest.mark.usefixtures("own_cache")
def test_a_head_with_a_layer_of_its_own_is_loaded_wherever_its_file_is(
    tiny_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tiny_yaml.parent / "mixed_head.py"
    plugin.write_text(HEAD)
    text = tiny_yaml.read_text().replace("plugins: [", f"plugins: [{plugin}, ")
    tiny_yaml.write_text(text.replace("{name: gap_dense, units: 8}", "{name: mixed}"))
    path = ftk.run(str(tiny_yaml), out=tiny_yaml.parent / "runs", progress=Progress()).path
    assert f"no {MODEL_KERAS}: Keras cannot write this network" in capsys.readouterr().err
    assert not (path / MODEL_KERAS).exists()
    finished = ftk.FinishedRun(path)
    photos = [finished.photo_path(row["path"]) for row in finished.split_predictions("test")]

    def check() -> None:
        np.random.seed(5)
        before = np.random.get_state()[1]
        np.testing.assert_allclose(ftk.load(path).probabilities(photos), probabilities(finished), atol=1e-6)
        assert np.array_equal(np.random.get_state()[1], before)  # whoever loads draws on as before

    check()
    plugin.write_text(HEAD.replace("x * self.w +", "x * self.w -"))  # changed since: the run's own copy counts
    check()
    plugin.rename(plugin.with_name("elsewhere.py"))
    check()
    moved = path.rename(tiny_yaml.parent / "moved")
    kept = moved / "plugins" / plugin.name
    assert json.loads((moved / "plan.json").read_text())["plugin_files"][0]["path"] == str(plugin)
    kept.write_text(HEAD.replace("x * self.w +", "x * self.w -"))
    loaded = ftk.load(moved, trust=True)  # what the trained network computes is in its file
    np.testing.assert_allclose(loaded.probabilities(photos), probabilities(finished), atol=1e-6)
    with pytest.raises(RunFolderError, match="answers otherwise than the one that was trained"):
        _ = loaded.model
    kept.write_text(HEAD.replace('"mixed"', '"blended"'))
    with pytest.raises(
        ConfigError, match=r"head 'mixed' came from plugin 'mixed_head' .*does not register it any more"
    ):
        ftk.load(moved, trust=True)
    kept.unlink()
    with pytest.raises(
        PluginError, match=r"this plugin file is missing, and so is the run's copy.*Restore one of them"
    ):
        ftk.load(moved)


def test_an_installed_plugin_that_is_gone_is_named_with_the_way_back(copied_run: Path) -> None:
    for name, change in (
        ("config.yaml", lambda text: text.replace("gap_dense", "acme_head")),
        ("plan.json", lambda text: text.replace('"gap_dense"', '"acme_head"').replace('"builtin"', '"acme"')),
    ):
        file = copied_run / name
        file.write_text(change(file.read_text()))
    plan = json.loads((copied_run / "plan.json").read_text())
    for part in plan["components"]:
        if part["kind"] == "head":
            part |= {"distribution": "acme-heads", "version": "2.5"}
    (copied_run / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(
        ConfigError,
        match=r"head 'acme_head' came from plugin 'acme' \(acme-heads 2\.5\), .*pip install acme-heads==2\.5$",
    ):
        ftk.load(copied_run)


def test_a_damaged_model_is_one_line(copied_run: Path) -> None:
    content = (copied_run / MODEL).read_bytes()
    (copied_run / MODEL).write_bytes(content[:400] + b"\xff" + content[401:])
    with pytest.raises(RunFolderError, match=r"model\.npz: cannot be read \("):
        ftk.load(copied_run)
    (copied_run / MODEL).unlink()
    with pytest.raises(RunFolderError, match=r"model\.npz: is missing"):
        ftk.load(copied_run)
