"""`finetunekit ablate`: tiny networks on drawn pixels; what is asked, what runs, what is never run again, what is said."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from chromium import browser, find_chromium
from click.testing import CliRunner
from conftest import TINY, write_photos

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.errors import ConfigError, RunError, RunFolderError
from finetunekit.experiments.ablation.layout import lay_out
from finetunekit.experiments.ablation.vary import parse_varied
from finetunekit.reports.ablation_text import ablation_lines
from finetunekit.reports.figures import CurvePoint, curve_plot, svg_file
from finetunekit.runs.test_split_ledger import read_openings
from finetunekit.statistics import tango_interval, wilson_interval
from finetunekit.system.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)
FAST = ("stages[0].epochs=1", "data.audit.gate=off")


# ---- what is asked ---------------------------------------------------------------------------------------------------------------


def test_short_keys_and_values_are_what_set_would_get() -> None:
    size, contract, depth, augment, zoom = parse_varied(
        [
            "image_size=50, 75",
            "contract=backbone,zero_to_one",
            "freeze.n=0,15",
            "augmentation=on,off",
            "augment[0].zoom_range=0.1,null",
        ]
    )
    assert [choice.settings for choice in size.choices] == [("pixels.size_px=50",), ("pixels.size_px=75",)]
    assert [choice.number for choice in size.choices] == [50, 75]
    assert contract.choices[1].settings == ('pixels.contract="zero_to_one"',)
    assert depth.choices[0].settings == ("stages[0].freeze.n=0",)
    assert [choice.settings for choice in augment.choices] == [(), ("augment=[]",)]
    assert [(choice.shown, choice.number) for choice in zoom.choices] == [("0.1", 0.1), ("null", None)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image_size", "needs the form KEY=VALUE,VALUE"),
        ("image_size=", "needs the form KEY=VALUE,VALUE"),
        ("a..b=1,2", "not a path of the form"),
        ("image_size=50,50", "50 is there twice"),
        ("augmentation=1", r"on \(the preset's own\) or off"),
        ("image_size=[1", "--vary image_size"),
    ],
)
def test_what_is_no_vary_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_varied([text])


def test_the_same_setting_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--vary pixels\.size_px: is given twice"):
        parse_varied(["image_size=8,16", "pixels.size_px=12"])


def test_one_setting_at_a_time_or_every_combination(tiny_yaml: Path) -> None:
    asked = ["image_size=12,16", "freeze.n=0,3"]
    layout = lay_out(tiny_yaml, asked)
    assert [axis.own for axis in layout.axes] == [0, 1]
    assert [choice.shown for choice in layout.axes[0].varied.choices] == ["8", "12", "16"]
    assert [choice.shown for choice in layout.axes[1].varied.choices] == ["0", "3"]
    assert [cell.at for cell in layout.cells] == [(0, 1), (1, 1), (2, 1), (0, 0)]
    assert layout.curve(1) == (3, 0)
    grid = lay_out(tiny_yaml, asked, is_grid=True)
    assert len(grid.cells) == 6
    assert grid.cells[0].at == (0, 1)
    assert len({cell.identity for cell in grid.cells}) == 6
    assert {cell.identity for cell in layout.cells} < {cell.identity for cell in grid.cells}


def test_an_option_left_at_its_default_is_known_as_the_presets_own(tiny_yaml: Path) -> None:
    layout = lay_out(tiny_yaml, ["augment[0].shear_range=0.0,0.2", "augmentation=off", "source_px=12"])
    assert layout.axes[0].own == 0
    assert [choice.shown for choice in layout.axes[1].varied.choices] == ["on", "off"]
    assert [choice.shown for choice in layout.axes[2].varied.choices] == ["12", "as is"]


def test_every_cell_is_checked_before_the_first_runs(tiny_yaml: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--vary image_size: should be greater than or equal to 8\. Received: 4"
    ) as caught:
        lay_out(tiny_yaml, ["image_size=4,16", "freeze.m=1"])
    assert "freeze: unknown key" in str(caught.value)
    with pytest.raises(ConfigError, match="nothing varies"):
        lay_out(tiny_yaml, [])
    with pytest.raises(ConfigError, match=r"Leave out train\.folds"):
        lay_out(tiny_yaml, ["image_size=8,16"], settings=["train.folds=3"])
    many = [f"{key}={','.join(map(str, range(9, 19)))}" for key in ("image_size", "view_seed", "head.units")]
    with pytest.raises(ConfigError, match="1331 cells are too many"):
        lay_out(tiny_yaml, many, is_grid=True)
    assert not (tiny_yaml.parent / "runs").exists()


def test_what_makes_no_other_cell_is_refused(tiny_yaml: Path) -> None:
    with pytest.raises(ConfigError, match="Use --seeds") as caught:
        lay_out(tiny_yaml, ["seed=1,2", "save.h5=true", "evaluate.test=true"])
    assert "changes no prediction" in caught.value.problems[1]
    assert "use --test" in caught.value.problems[2]
    with pytest.raises(ConfigError, match="are the same configuration"):
        lay_out(tiny_yaml, ["augment=[],[{name: flip}],[{name: flip, horizontal: 0.5}]"])


# ---- running -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ablated:
    """One ablation from the command line, two seeds."""

    preset: Path
    path: Path
    printed: dict[str, Any]
    test_key: str


@pytest.fixture(scope="module")
def ablated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ablated]:
    folder = tmp_path_factory.mktemp("ablated")
    photos = write_photos(folder / "photos", per_class=6)
    preset = folder / "tiny.yaml"
    preset.write_text(TINY.replace("ROOT", str(photos)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
        patch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
        fast = [part for setting in FAST for part in ("--set", setting)]
        arguments = ["ablate", str(preset), "--vary", "image_size=8,16", "--vary", "augmentation=off", *fast]
        arguments += ["--seeds", "2", "--out", str(folder / "out"), "--json", "--quiet"]
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        printed = json.loads(result.stdout)
        first = ftk.FinishedRun(folder / "out" / printed["cells"][0]["runs"][0]["folder"])
        key = first.state["test_content_key"]
        assert read_openings(key).openings == 0
        assert not (folder / "state/openings").exists()
        yield Ablated(preset, folder / "out", printed, key)


def test_cells_are_runs_in_one_folder_scored_on_validation_only(ablated: Ablated) -> None:
    cells = ablated.printed["cells"]
    assert [cell["values"] for cell in cells] == [
        {"image_size": "8", "augmentation": "on"},
        {"image_size": "16", "augmentation": "on"},
        {"image_size": "8", "augmentation": "off"},
    ]
    folders = [run["folder"] for cell in cells for run in cell["runs"]]
    assert len(set(folders)) == 6
    assert all((ablated.path / folder).is_dir() for folder in folders)
    assert any(folder.startswith("tiny-image_size-16-") for folder in folders)
    for cell in cells:
        for one in cell["runs"]:
            run = ftk.FinishedRun(ablated.path / one["folder"])
            assert {row["split"] for row in run.predictions} == {"train", "valid"}
            assert "test" not in run.metrics
            assert run.metrics["openings"] is None
            assert run.metrics["valid"]["accuracy"]["successes"] == one["valid"]["correct"]
            assert not (run.path / "model.keras").exists()
            assert not (run.path / "baselines.json").exists()
    assert ablated.printed["splits"] == ["valid"]


def test_scores_have_intervals_over_seeds_and_over_photos(ablated: Ablated) -> None:
    base, size, _ = ablated.printed["cells"]
    assert base["scores"]["valid"]["against_preset"] is None
    for cell in (base, size):
        score = cell["scores"]["valid"]
        counts = [run["valid"]["correct"] for run in cell["runs"]]
        assert score["correct"] == sum(counts) / 2
        assert score["photos"] == 9
        wilson = wilson_interval(score["correct"], 9)
        assert (score["interval"]["low"], score["interval"]["high"]) == (wilson.low, wilson.high)
        assert score["over_seeds"]["mean"] == pytest.approx(score["accuracy"])
    against = size["scores"]["valid"]["against_preset"]
    difference = size["scores"]["valid"]["correct"] - base["scores"]["valid"]["correct"]
    assert against["difference"] == pytest.approx(difference / 9)
    assert (against["gained"] - against["lost"]) / 18 == pytest.approx(against["difference"])
    assert (
        against["over_seeds"]["interval"]["low"] <= against["difference"] <= against["over_seeds"]["interval"]["high"]
    )


def test_the_folder_has_json_page_and_a_figure_a_setting(ablated: Ablated) -> None:
    assert json.loads((ablated.path / "ablation.json").read_text(encoding="utf-8"))["cells"] == ablated.printed["cells"]
    names = {Path(file).name for file in ablated.printed["files"]}
    assert names == {"ablation.json", "ablation.html", "image_size.svg", "augmentation.svg"}
    for name in ("image_size.svg", "augmentation.svg"):
        root = ElementTree.parse(ablated.path / name).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "validation accuracy, 95 % over 2 seeds" in "".join(root.itertext())
    page = (ablated.path / "ablation.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "--vary image_size=8,16" in page
    assert "No test photo was looked at" in page
    assert "--set data.audit.gate=off --set pixels.size_px=VALUE --set augment=VALUE" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed (apt-get install chromium)")
def test_the_page_fits_a_phone(ablated: Ablated) -> None:
    with browser() as chromium:
        for width_px in (1280, 390):
            chromium.open(ablated.path / "ablation.html", width_px=width_px)
            assert chromium.evaluate("document.documentElement.scrollWidth") <= width_px
        assert chromium.problems == []


def test_the_table_fits_80_columns_and_marks_the_presets_own(ablated: Ablated) -> None:
    lines = ablation_lines(ablated.printed)
    assert all(len(line) <= 80 for line in lines)
    assert lines[0] == "image_size (pixels.size_px), 9 validation photos"
    assert [line[:4] for line in lines if line.startswith(">")][:2] == [">  8", "> th"]
    text = " ".join(lines)
    assert "95 % intervals over 2 seeds" in text
    assert "2 differences were looked at, and none is corrected for that" in text
    assert "No test photo was looked at." in text


def test_finished_cells_are_never_run_again_whoever_asked_for_them(
    ablated: Ablated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    out = shutil.copytree(ablated.path, tmp_path / "moved")
    monkeypatch.setattr("finetunekit.engine.jobs.take_up", lambda *_, **__: asked.append(1))
    again = ftk.run_ablation(ablated.preset, ["augmentation=off,on"], settings=FAST, seeds=2, out=out, progress=QUIET)
    assert not asked
    cells = ablated.printed["cells"]
    assert [cell["runs"] for cell in again.scores["cells"]] == [cells[0]["runs"], cells[2]["runs"]]


def test_changed_photos_are_not_mixed_with_what_was_there(ablated: Ablated, tmp_path: Path) -> None:
    out = shutil.copytree(ablated.path, tmp_path / "moved")
    folder = ablated.printed["cells"][1]["runs"][0]["folder"]
    for name, lost, said in (
        ("predictions", "valid/red/red-0", "valid"),
        ("photos", "train/red/red-0", "valid and train"),
    ):
        file = out / folder / f"{name}.csv"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        file.write_text("".join(line for line in lines if lost not in line), encoding="utf-8")
        with pytest.raises(RunFolderError, match=f"have different {said} photos or labels"):
            ftk.run_ablation(ablated.preset, ["image_size=16"], settings=FAST, out=out, progress=QUIET)


@pytest.mark.slow
def test_what_was_stopped_is_taken_up(tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finetunekit.training.stages import Training

    out, real = tiny_yaml.parent / "out", Training.run
    calls: list[int] = []

    def stop_in_second(self: Training) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self)

    def go() -> ftk.GroupResult:
        return ftk.run_ablation(tiny_yaml, ["image_size=8,16"], settings=FAST, out=out, progress=QUIET)

    monkeypatch.setattr(Training, "run", stop_in_second)
    with pytest.raises(KeyboardInterrupt, match="the same command continues with the others"):
        go()
    assert not (out / "ablation.json").exists()
    folders = sorted(path.parent.name for path in out.glob("*/plan.json"))
    assert len(folders) == 2
    result = go()
    assert len(calls) == 3
    assert sorted(path.parent.name for path in out.glob("*/plan.json")) == folders
    score = result.scores["cells"][1]["scores"]["valid"]
    against = score["against_preset"]
    tango = tango_interval(against["gained"], against["lost"], 6)
    assert (against["interval"]["low"], against["interval"]["high"]) == (tango.low, tango.high)
    assert score["over_seeds"] is None
    assert "One seed: luck in training is not in them." in " ".join(result.summary)


def test_a_cell_that_cannot_train_is_noted_and_the_others_go_on(
    tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetunekit.engine import jobs

    real = jobs.take_up

    def diverge(folder: Path, **more: Any) -> ftk.RunResult:
        if ftk.FinishedRun(folder).config["stages"][0]["optimizer"]["learning_rate"] == 9:
            raise RunError("the loss is not finite")
        return real(folder, **more)

    monkeypatch.setattr(jobs, "take_up", diverge)
    result = ftk.run_ablation(
        tiny_yaml,
        ["stages[0].optimizer.learning_rate=9"],
        settings=FAST,
        out=tiny_yaml.parent / "out",
        progress=QUIET,
    )
    base, failed = result.scores["cells"]
    assert base["scores"] is not None
    assert failed["scores"] is None
    assert failed["failed"] == {"0": "the loss is not finite"}
    assert any(re.match(r"   9 +failed", line) for line in result.summary)
    assert "seed 0: the loss is not finite" in " ".join(result.summary)


@pytest.mark.slow
def test_with_test_every_run_opens_the_test_split(tiny_yaml: Path) -> None:
    result = ftk.run_ablation(
        tiny_yaml,
        ["image_size=16"],
        settings=FAST,
        is_test=True,
        is_grid=True,
        out=tiny_yaml.parent / "out",
        progress=QUIET,
    )
    assert result.scores["splits"] == ["valid", "test"]
    assert result.scores["openings"]["openings"] == 2
    assert {path.name for path in result.files} >= {"image_size.svg", "image_size-test.svg"}
    assert "Every run opened the test split" in " ".join(result.summary)
    assert result.scores["cells"][1]["scores"]["test"]["photos"] == 6


def test_the_folder_of_a_run_is_no_folder_of_an_ablation(tmp_path: Path, tiny_yaml: Path) -> None:
    (tmp_path / "config.yaml").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="is the folder of a run"):
        ftk.run_ablation(tiny_yaml, ["image_size=8,16"], out=tmp_path, progress=QUIET)


# ---- drawing -------------------------------------------------------------------------------------------------------------------


SVG = "{http://www.w3.org/2000/svg}"


def lines_of(plot: str) -> list[ElementTree.Element]:
    return [path for path in ElementTree.fromstring(plot).iter(f"{SVG}path") if "fill: none" in path.get("style", "")]


def points(values: list[float | None]) -> list[CurvePoint]:
    return [
        CurvePoint(f"{value:g}" if value is not None else "as they are", value, 0.8, 0.7, 0.9, i == 0)
        for i, value in enumerate(values)
    ]


def drawn_at(values: list[float | None]) -> tuple[list[float], str]:
    """Where the labels of the values stand, and the whole plot."""
    plot = svg_file(curve_plot(points(values), name="p", title="t", x_axis="x", y_axis="y")).decode()
    labels = {point.label for point in points(values)}
    texts = [text for text in ElementTree.fromstring(plot).iter(f"{SVG}text") if text.text in labels]
    return [float(text.get("x", "nan")) for text in texts], plot


def test_numbers_stand_at_their_distance_unless_their_labels_would_touch() -> None:
    linear, plot = drawn_at([50, 75, 100])
    assert linear[2] - linear[1] == pytest.approx(linear[1] - linear[0], abs=0.2)
    assert "logarithmic" not in plot
    assert "evenly" not in plot
    assert "logarithmic" in drawn_at([1e-5, 1e-4, 1e-3])[1]
    assert "evenly spaced" in drawn_at([0, 1000, 1001])[1]
    named, plot = drawn_at([75, None])
    assert len(lines_of(plot)) < len(lines_of(drawn_at([75, 100])[1]))  # what is not a number is not joined
    assert "evenly" not in plot
    assert len(named) == 2


def test_a_curve_says_its_figures_to_those_who_cannot_see_it() -> None:
    file = svg_file(curve_plot(points([50, 75]), name="p", title="Accuracy & size", x_axis="px", y_axis="right"))
    root = ElementTree.fromstring(file)
    text = "".join(root.itertext())
    assert "Accuracy & size" in text
    assert "50: 80.0 % (70.0 to 90.0); 75: 80.0 % (70.0 to 90.0)." in text
