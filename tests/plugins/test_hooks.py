"""Every hook has a contract, an entry in the docs, and a test here that uses a real plugin: tests/samples/every_hook.py."""

from __future__ import annotations

import inspect
import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers_plugins import install
from PIL import Image

import finetunekit as ftk
from finetunekit.engine.track import track
from finetunekit.plugins import hookspecs
from finetunekit.plugins.host import COLLECT_HOOKS, NOTIFY_HOOKS, load_plugins
from finetunekit.runs.folder import FinishedRun
from finetunekit.system.progress import Progress

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "samples" / "every_hook.py"


def hooks() -> dict[str, Any]:
    """Every hook of the specification, by name."""
    return {name: spec for name, spec in vars(hookspecs).items() if hasattr(spec, f"{hookspecs.PROJECT}_spec")}


class Ran(NamedTuple):
    path: Path
    said: str
    heard: list[dict[str, Any]]

    def of(self, hook: str) -> list[dict[str, Any]]:
        return [call for call in self.heard if call["hook"] == hook]

    def json(self, name: str) -> Any:
        return json.loads((self.path / name).read_text(encoding="utf-8"))


def make_photos(folder: Path) -> None:
    """24 photos of 8×8 pixels in three classes, told apart by colour."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("valid", 2), ("test", 2)):
        for channel, label in enumerate(("blue", "green", "red")):
            for number in range(count):
                pixels = random.integers(0, 60, (8, 8, 3), dtype=np.uint8)
                pixels[..., 2 - channel] += 190
                Image.fromarray(pixels).save(folder / f"{split}-{label}-{number}.png")


def run(folder: Path) -> Ran:
    """Run the sample preset; `heard` and the files are those of the run folder."""
    said = io.StringIO()
    track = f"track[0].file={folder / 'tracked.jsonl'}"
    ftk.run("every_hook", settings=[track], out=folder / "runs", progress=Progress(said))
    (path,) = (folder / "runs").iterdir()
    heard = (path / "heard.jsonl").read_text(encoding="utf-8").splitlines()
    return Ran(path, said.getvalue(), [json.loads(line) for line in heard])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with photos, where the plugin is installed beside two whose listeners fail."""
    folder = tmp_path_factory.mktemp("world")
    make_photos(folder / "photos")
    site = install(folder / "site", "every_hook", SAMPLE.read_text(encoding="utf-8"), distribution="acme-every")
    shutil.copy(SAMPLE.with_suffix(".yaml"), site)
    for name in ("aa_deaf", "zz_deaf"):
        listeners = "".join(
            f"@hookimpl\ndef {hook}(run_path):\n    raise ValueError('{name} is deaf')\n\n" for hook in NOTIFY_HOOKS
        )
        install(site, name, f"from finetunekit import hookimpl\n\n{listeners}", distribution=name.replace("_", "-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.chdir(folder)
        patch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
        patch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
        yield folder


@pytest.fixture(scope="module")
def ran(world: Path) -> Ran:
    (world / "good").mkdir()
    return run(world / "good")


# ---- the specification -----------------------------------------------------------------------------------------------------------


def test_the_hooks_are_those_that_the_host_calls() -> None:
    assert set(hooks()) == {*COLLECT_HOOKS.values(), "register_presets", *NOTIFY_HOOKS}


@pytest.mark.parametrize("name", hooks())
def test_each_hook_has_a_docstring_an_entry_in_the_docs_and_a_test(name: str) -> None:
    document = (ROOT / "docs" / "plugins" / "hooks.md").read_text(encoding="utf-8")
    spec = hooks()[name]
    assert len(inspect.getdoc(spec) or "") > 40
    parameters = ", ".join(inspect.signature(spec).parameters)
    entry = document.split(f"\n### {name}\n", 1)[1].split("\n### ", 1)[0]
    assert re.search(rf"def {name}\(", entry)
    assert all(f"{parameter}:" in entry for parameter in parameters.split(", "))
    assert " ".join((inspect.getdoc(spec) or "").split())[:60] in " ".join(entry.split())
    assert callable(globals().get(f"test_hook_{name}")), f"write test_hook_{name}"


def test_no_test_is_for_a_hook_that_is_gone() -> None:
    tested = {name.removeprefix("test_hook_") for name in globals() if name.startswith("test_hook_")}
    assert tested == set(hooks())


def test_the_sample_plugin_answers_every_hook() -> None:
    source = SAMPLE.read_text(encoding="utf-8")
    assert set(re.findall(r"@hookimpl\ndef (\w+)\(", source)) == set(hooks())


# ---- collect ---------------------------------------------------------------------------------------------------------------------


def component(ran: Ran, kind: str) -> Mapping[str, Any]:
    found: list[Mapping[str, Any]] = [c for c in ran.json("plan.json")["components"] if c["kind"] == kind]
    assert found[0]["distribution"] == "acme-every"
    return found[0]


def test_hook_register_backbones(ran: Ran) -> None:
    assert component(ran, "backbone")["options"] == {"filters": 4}
    assert ran.json("run.json")["pixels"]["scale"] == pytest.approx(1 / 255)


def test_hook_register_heads(ran: Ran) -> None:
    assert component(ran, "head")["name"] == "linear_here"
    assert ran.json("metrics.json")["classes"] == ["blue", "green", "red"]


def test_hook_register_freezing_policies(ran: Ran) -> None:
    assert component(ran, "freezing policy")["name"] == "half_rate"
    stages = ran.json("run.json")["stages"]
    assert [set(stage["decision"].values()) for stage in stages] == [{0.5}, {0.5}]
    conv = [rate for path, rate in stages[0]["trained_variables"].items() if "conv" in path]
    assert conv == [0.5, 0.5]


def test_hook_register_augmentations(ran: Ran, world: Path) -> None:
    assert component(ran, "augmentation")["name"] == "darken"
    losses = []
    alone = ("export={to: []}", "reports=[]", "track=[]")
    for name, settings in (("again", alone), ("plain", (*alone, "augment=[]"))):
        ftk.run("every_hook", settings=settings, out=world / name, progress=Progress(io.StringIO()))
        losses.append(first_loss(*(world / name).iterdir()))
    assert losses[0] == first_loss(ran.path)
    assert losses[1] != first_loss(ran.path)


def first_loss(path: Path) -> str:
    header, row = (path / "epochs.csv").read_text(encoding="utf-8").splitlines()[:2]
    return dict(zip(header.split(","), row.split(","), strict=True))["loss"]


def test_hook_register_data_sources(ran: Ran) -> None:
    assert component(ran, "data source")["name"] == "flat_folder"
    assert "note: 24 photos in one folder" in ran.said
    assert ran.json("metrics.json")["test"]["accuracy"]["photos"] == 6


def test_hook_register_reporters(ran: Ran) -> None:
    accuracy = ran.json("metrics.json")["test"]["accuracy"]
    assert (ran.path / "reports" / "accuracy.txt").read_text(encoding="utf-8") == f"{accuracy['successes']}/6"


def test_hook_register_trackers(ran: Ran) -> None:
    assert component(ran, "tracker")["name"] == "lines"
    track(ran.path)  # whatever a slow machine did not get sent in time
    calls = [
        json.loads(line) for line in (ran.path.parents[1] / "tracked.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert calls[0] == {"call": "start", "epochs": 2, "preset": "every_hook"}
    assert [(call["step"], str(call["loss"])) for call in calls if call["call"] == "epoch"] == [
        (int(row["epoch"]), row["loss"]) for row in FinishedRun(ran.path).epochs
    ]
    assert calls[-1]["call"] == "finish"
    assert calls[-1]["photos"] == 6
    assert {"metrics.json", "predictions.csv", "reports/accuracy.txt"} <= set(calls[-1]["files"])


def test_hook_register_executors(ran: Ran) -> None:
    assert "backwards: every_hook" in ran.said.splitlines()
    assert ran.json("run.json")["status"] == "finished"
    assert "executor" not in (ran.path / "config.yaml").read_text(encoding="utf-8")  # no part of what a run is
    assert "backwards" not in (ran.path / "plan.json").read_text(encoding="utf-8")


def test_hook_register_exporters(ran: Ran) -> None:
    assert component(ran, "exporter")["name"] == "folder_here"
    certificate = ran.json("exports/folder_here/certificate.json")
    assert certificate["network"]["same_first_answer"] == {
        "photos": 12,
        "of": 12,
        "interval": certificate["network"]["same_first_answer"]["interval"],
    }
    assert certificate["network"]["largest_difference"] < 1e-6
    assert certificate["model"]["operations"] == {"everything": 1}


def test_hook_register_presets(world: Path) -> None:
    host = load_plugins(lambda line: None)
    path, origin = host.presets["every_hook"]
    assert path.name == "every_hook.yaml"
    assert str(origin) == "acme-every 2.5"


# ---- notify ----------------------------------------------------------------------------------------------------------------------


def test_hook_before_run(ran: Ran) -> None:
    assert ran.of("before_run") == [{"hook": "before_run", "name": "every_hook", "has_config": True}]
    assert ran.heard[0]["hook"] == "before_run"


def test_hook_after_epoch(ran: Ran) -> None:
    calls = ran.of("after_epoch")
    assert [call["epoch"] for call in calls] == [1, 2, 3]
    assert [call["logged"] for call in calls] == [1, 2, 3]
    header = (ran.path / "epochs.csv").read_text(encoding="utf-8").split("\n", 1)[0].strip()
    assert calls[0]["columns"] == header.split(",")


def test_hook_after_stage(ran: Ran) -> None:
    assert [(call["stage"], call["epochs"]) for call in ran.of("after_stage")] == [("first", [1, 2]), ("second", [3])]


def test_hook_after_run(ran: Ran) -> None:
    (call,) = ran.of("after_run")
    assert call["photos"] == 6
    assert call["report"].endswith("/6")
    assert ran.heard[-1] == call


def test_a_listener_that_fails_is_named_and_keeps_nobody_from_hearing(ran: Ran) -> None:
    warned = [line for line in ran.said.splitlines() if line.startswith("warning: ")]
    for hook, times in (("before_run", 1), ("after_epoch", 3), ("after_stage", 2), ("after_run", 1)):
        for name in ("aa_deaf", "zz_deaf"):
            line = (
                f"warning: plugin '{name}' ({name.replace('_', '-')} 2.5) failed in {hook}: ValueError: {name} is deaf"
            )
            assert warned.count(line) == times
        assert len(ran.of(hook)) == times
