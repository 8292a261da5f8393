"""The presets for small data: they train on drawn photos, never end below their probe, and the bench splits photos fairly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from recipe_splits import find_photos, split_again, write_table

from finetunekit.config.plan import Plan
from finetunekit.config.planning import prepare
from finetunekit.engine.api import run
from finetunekit.errors import ConfigError
from finetunekit.runs.folder import MODEL, FinishedRun
from finetunekit.system.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)
PRESETS = ("fast", "best", "felidae4-fast", "felidae4-best", "small-data")
#: The preset's own stages on a tiny network, and without what is not being tested here.
TINY = (
    f"plugins=[{Path(__file__).parents[1] / 'tiny_plugin.py'}]",
    "backbone={name: tiny}",
    "weights.mode=random",
    "pixels.size_px=16",
)
SMALL = (*TINY, "insights.baselines=false", "reports=[]", "data.audit.gate='off'")


def planned(name: str) -> Plan:
    return prepare(name)[0]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_starts_with_a_probe_on_the_pixels_that_its_backbone_knows(name: str) -> None:
    config = planned(name).config
    first, *others = config.stages
    assert (first.kind, first.name, first.penalty) == ("solve", "probe", None)
    assert config.pixels.contract == "backbone"
    assert all(stage.cross_fit for stage in others)
    assert bool(others) == name.endswith("best")
    assert (config.pixels.fit, first.mirror, config.evaluate.flip) == ("crop", True, True)
    assert bool(config.backbones) == (not name.endswith("fast"))
    assert config.pixels.size_px == planned(name).spec.native_size_px
    assert config.pixels.crop_pct == planned(name).spec.crop_pct < 1
    assert config.expected is None


@pytest.mark.parametrize("name", ["fast", "best"])
def test_the_felid_version_of_a_preset_differs_in_its_photos_alone(name: str) -> None:
    generic, felid = (prepare(one)[0].config.model_dump(mode="json") for one in (name, f"felidae4-{name}"))
    assert {key for key in generic if generic[key] != felid[key]} == {"name", "description", "data"}
    assert felid["data"] == {**generic["data"], "root": "images", "audit": {"gate": "error", "allow": []}}


def test_small_data_needs_nothing_but_the_path() -> None:
    plan, _ = prepare("small-data", settings=["data.root=somewhere"])
    assert plan.config.data.root == "somewhere"
    assert plan.stand_in is None


@pytest.mark.parametrize("name", ["fast", "best", "small-data"])
def test_a_preset_trains_on_drawn_photos(name: str, tmp_path: Path) -> None:
    source = "{per_class_train: 6, per_class_valid: 2, per_class_test: 2, size_px: 16}"
    settings = [*SMALL, "data.source=drawn", "data.root=null", f"data.options={source}"]
    if name == "best":
        # the tiny network has fewer blocks, and learns nothing that pays
        settings += ["stages[1].epochs=1", "stages[1].freeze.n=1", "stages[1].cross_fit=null"]
    result = run(name, settings=settings, out=tmp_path, progress=QUIET)
    finished = FinishedRun(result.path)
    assert [row["stage"] for row in finished.epochs] == [stage.name for stage in planned(name).config.stages]
    assert finished.state["stages"][0]["solve"]["photos"] == 24
    assert (result.path / MODEL).is_file()


def test_best_on_class_folders_alone_never_ends_below_its_probe(tiny_yaml: Path, tmp_path: Path) -> None:
    """Its own stages at a rate that ruins the network, on the tiny one: what is saved is the probe."""
    photos = tmp_path / "flat"
    for split in ("train", "valid", "test"):
        for path in (tmp_path / "photos" / split).rglob("*.png"):
            target = photos / path.parent.name / f"{split}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    tune = planned("best").config.stages[1].model_dump(mode="json", exclude_unset=True)
    tune["optimizer"]["learning_rate"], tune["freeze"]["n"] = 5.0, 1  # the tiny network has fewer blocks
    probe = "{kind: solve, penalty: 0.01}"
    common = (f"data.root={photos}", "head={name: linear}", "train.draws_per_epoch=null", "augment=[]")
    both = [*common, f"stages=[{probe}, {json.dumps(tune)}]"]
    ruined = run(tiny_yaml, settings=both, out=tmp_path / "runs", progress=QUIET)
    alone = run(tiny_yaml, settings=[*common, f"stages=[{probe}]"], out=tmp_path / "runs", progress=QUIET)
    assert ruined.metrics["valid"] == alone.metrics["valid"]
    assert ruined.metrics["test"]["log_loss"] == alone.metrics["test"]["log_loss"]
    assert "probe is kept" in ruined.metrics["notes"][0]


# ---- the bench -------------------------------------------------------------------------------------------------------------------


def some_photos(root: Path, per_class: int) -> Path:
    for label, red in (("left", 0), ("right", 255)):
        (root / label).mkdir(parents=True)
        for number in range(per_class):
            Image.new("RGB", (8, 8), (red, number, 0)).save(root / label / f"{number:03d}.png")
    return root


def test_resplits_differ_share_no_photo_and_keep_the_test_photos_whatever_is_trained_on(tmp_path: Path) -> None:
    photos = find_photos(some_photos(tmp_path / "photos", 30))
    whole, few, other = split_again(photos, 0), split_again(photos, 0, 10), split_again(photos, 1)
    assert {name: len(rows) for name, rows in whole.items()} == {"train": 36, "valid": 12, "test": 12}
    assert {name: len(rows) for name, rows in few.items()} == {"train": 20, "valid": 6, "test": 12}
    assert few["test"] == whole["test"] != other["test"]
    for split in (whole, few):
        paths = [path for rows in split.values() for path, _ in rows]
        assert len(set(paths)) == len(paths)


def test_a_copy_of_a_photo_is_left_out(tmp_path: Path) -> None:
    root = some_photos(tmp_path / "photos", 5)
    (root / "left" / "copy.png").write_bytes((root / "left" / "000.png").read_bytes())
    assert {label: len(paths) for label, paths in find_photos(root).items()} == {"left": 5, "right": 5}
    with pytest.raises(ValueError, match="no class folders"):
        find_photos(root / "left")


def test_the_table_of_a_resplit_is_one_that_a_run_reads(tmp_path: Path) -> None:
    from finetunekit.data.listing import list_photos

    split = split_again(find_photos(some_photos(tmp_path / "photos", 10)), 0)
    table = write_table(split, tmp_path / "tables" / "one.csv")
    settings = ["data.source=table", f"data.root={table}", "data.options={allow_outside: true}"]
    listed = list_photos(prepare("small-data", settings=settings)[0], QUIET)
    found = {(photo.path, photo.label, photo.split) for photo in listed.photos}
    assert found == {(path, label, name) for name, rows in split.items() for path, label in rows}
    without = prepare("small-data", settings=[*settings[:2], "data.options={}"])[0]
    with pytest.raises(ConfigError, match="allow_outside"):
        list_photos(without, QUIET)
