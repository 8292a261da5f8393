"""The standard reporters on finished run folders made by hand: what they say, to whom, and that they say it twice alike."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from finetunekit_builtin.reporters import (
    ArchitectureJsonOptions,
    ConfusionMatrixOptions,
    DisplayGridOptions,
    LearningCurvesOptions,
    build_architecture_json,
    build_confusion_matrix,
    build_display_grid,
    build_learning_curves,
)
from finetunekit_builtin.reporters.learning_curves import positions
from PIL import Image
from run_folders import STAND_IN, answers, epoch_row, make_pictured_run, make_run

from finetunekit import FinishedRun, RunError
from finetunekit.reports.figures import one_line, shortened
from finetunekit.reports.fonts import SCRIPT_SAMPLES, embedded_font_css, font_report, missing_letters, pick_fonts
from finetunekit.reports.text_drawing import spell_out, visual_runs

SVG = "{http://www.w3.org/2000/svg}"
BOTH = ("svg", "png")
AWKWARD = ("<&\">'", "line\nbreak", "x" * 60, "オオヤマネコ")


def texts_of(svg: bytes) -> list[str]:
    """What a reader sees in an SVG, the full names behind shortened ones included."""
    return [" ".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def described(svg: bytes) -> str:
    description = ElementTree.fromstring(svg).find(f"{SVG}desc")
    assert description is not None
    return description.text or ""


def build_all(run: FinishedRun) -> dict[str, bytes]:
    return {
        **build_learning_curves(LearningCurvesOptions(formats=BOTH), run),
        **build_confusion_matrix(ConfusionMatrixOptions(formats=BOTH), run),
        **build_display_grid(DisplayGridOptions(formats=BOTH), run),
    }


def rewrite_predictions(run: FinishedRun, change: dict[str, dict[str, str]]) -> FinishedRun:
    """The run read anew after rows of `predictions.csv` whose path is a key of `change` got new values."""
    rows = [{**row, **change.get(row["path"], {})} for row in run.predictions]
    with (run.path / "predictions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return FinishedRun(run.path)


def test_all_figures_say_that_photos_are_a_stand_in_and_only_then(tmp_path: Path) -> None:
    said = build_all(make_pictured_run(tmp_path / "drawn", stand_in=STAND_IN))
    silent = build_all(make_pictured_run(tmp_path / "real"))
    for name in ("learning_curves", "confusion_matrix", "display_grid"):
        assert STAND_IN in " ".join(texts_of(said[f"{name}.svg"]))
        assert STAND_IN in described(said[f"{name}.svg"])
        assert "stand in" not in silent[f"{name}.svg"].decode()
        with (
            Image.open(io.BytesIO(said[f"{name}.png"])) as taller,
            Image.open(io.BytesIO(silent[f"{name}.png"])) as plain,
        ):
            assert taller.height > plain.height
            assert taller.width == plain.width


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run = make_pictured_run(tmp_path, ("猫", "lion", "lynx"), stand_in=STAND_IN)
    assert build_all(run) == build_all(FinishedRun(run.path))


def test_figures_are_small_titled_and_described(tmp_path: Path) -> None:
    for name, content in build_all(make_pictured_run(tmp_path, [f"class {i}" for i in range(12)])).items():
        assert len(content) < 300_000, name
        if name.endswith(".svg"):
            root = ElementTree.fromstring(content)
            title = root.find(f"{SVG}title")
            assert root.get("role") == "img"
            assert title is not None
            assert title.text
            assert len(described(content)) > 40


def test_nothing_is_written_by_a_reporter(tmp_path: Path) -> None:
    run = make_pictured_run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    build_all(run)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_importing_the_reporters_loads_no_drawing_library() -> None:
    heavy = "{'keras', 'tensorflow', 'matplotlib', 'PIL', 'fontTools'}"
    code = f"import sys, finetunekit_builtin.reporters; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- learning curves -------------------------------------------------------------------------------------------------------------


def curves(run: FinishedRun) -> bytes:
    return build_learning_curves(LearningCurvesOptions(), run)["learning_curves.svg"]


def test_curves_name_both_denominators_and_units(tmp_path: Path) -> None:
    svg = build_learning_curves(LearningCurvesOptions(), make_pictured_run(tmp_path))["learning_curves.svg"]
    said = texts_of(svg)
    last = epoch_row(3)
    assert "training, 1584 draws an epoch" in said
    assert "validation, 360 draws of 200 photos" in said
    assert f"last epoch: {last['val_correct']} of 360 draws ({100 * int(str(last['val_correct'])) / 360:.1f} %)" in said
    assert f"last epoch: {last['val_photos_correct']} of 200 photos" in " ".join(said)
    assert {"epoch", "accuracy, %", "cross-entropy, nats"} <= set(said)


def test_stages_are_ruled_off_and_one_stage_is_not(tmp_path: Path) -> None:
    rows = [epoch_row(1, "probe"), epoch_row(2, "probe"), epoch_row(1, "fine-tune")]
    two = curves(make_pictured_run(tmp_path / "two", epochs=rows))
    one = curves(make_pictured_run(tmp_path / "one"))
    assert texts_of(two).count("probe") == texts_of(two).count("fine-tune") == 2
    assert "fine-tune" not in texts_of(one)


def test_a_solved_stage_stands_before_the_first_epoch_and_names_that_do_not_fit_stand_below(tmp_path: Path) -> None:
    name = "the last six blocks, slowly"
    rows = [epoch_row(0, "probe"), *(epoch_row(i, name) for i in range(1, 9))]
    assert positions(rows) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert positions([epoch_row(1), epoch_row(1, "probe"), epoch_row(2)]) == [1, 1.5, 2]
    said = " ".join(texts_of(curves(make_pictured_run(tmp_path / "a", epochs=rows))))
    assert said.count(name) == 2
    assert "8 epochs" in described(curves(make_pictured_run(tmp_path / "b", epochs=rows)))
    rows[0]["stage"] = "logistic regression on features"  # no room for it above its one place
    said = " ".join(texts_of(curves(make_pictured_run(tmp_path / "c", epochs=rows))))
    assert f"stage 1: logistic regression on features, 2: {name}" in said


def test_the_losses_drawn_can_be_compared(tmp_path: Path) -> None:
    """The plain cross-entropy of training, not the smoothed one that was made smaller, beside that of validation."""
    said = texts_of(curves(make_pictured_run(tmp_path)))
    last = epoch_row(3)
    assert f"last epoch: {float(str(last['log_loss'])):.4f}" in said
    assert f"last epoch: {float(str(last['loss'])):.4f}" not in said


@pytest.mark.parametrize("epochs", [1, 500])
def test_curves_of_one_epoch_and_of_many(tmp_path: Path, epochs: int) -> None:
    rows = [epoch_row(i, of=epochs) for i in range(1, epochs + 1)]
    svg = build_learning_curves(LearningCurvesOptions(), make_pictured_run(tmp_path, epochs=rows))[
        "learning_curves.svg"
    ]
    root = ElementTree.fromstring(svg)
    drawn = [path for path in root.iter(f"{SVG}path") if path.get("d", "").count("L") > 20]
    assert len(drawn) == (4 if epochs > 1 else 0)
    marks = [mark for mark in root.iter(f"{SVG}use") if "stroke-width" not in mark.get("style", "")]
    assert len(marks) == (8 if epochs == 1 else 4)  # many would hide the line; those of the legend stay
    assert str(epochs) in texts_of(svg)


def test_curves_without_validation_show_training_only(tmp_path: Path) -> None:
    rows = [{key: "" if key.startswith("val_") else value for key, value in epoch_row(i).items()} for i in (1, 2)]
    said = texts_of(
        build_learning_curves(LearningCurvesOptions(), make_pictured_run(tmp_path, epochs=rows))["learning_curves.svg"]
    )
    assert "training, 1584 draws an epoch" in said
    assert not any("validation" in text for text in said)


def test_an_empty_epoch_log_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^learning_curves: epochs\.csv has no row"):
        build_learning_curves(LearningCurvesOptions(), make_pictured_run(tmp_path, epochs=[]))


def test_a_run_that_was_only_solved_has_no_learning_curves(tmp_path: Path) -> None:
    solve, fit = {"kind": "solve"}, {"kind": "fit"}
    for stages, files in (([solve, solve], []), ([solve, fit], ["learning_curves.svg"])):
        path = make_run(tmp_path / str(len(files)), answers(), epochs=[epoch_row(1)], config={"stages": stages})
        assert list(build_learning_curves(LearningCurvesOptions(), FinishedRun(path))) == files


# ---- confusion matrix ------------------------------------------------------------------------------------------------------------


def test_confusion_rows_are_true_classes(tmp_path: Path) -> None:
    run = make_pictured_run(tmp_path, ("cat", "lion"), photos_per_class=4, wrong_every=100)
    run = rewrite_predictions(run, {"test/0/1.png": {"predicted": "lion"}})
    files = build_confusion_matrix(ConfusionMatrixOptions(), run)
    assert list(csv.reader(io.StringIO(files["confusion_matrix.csv"].decode()))) == [
        ["true \\ predicted", "cat", "lion", "photos"],
        ["cat", "3", "1", "4"],
        ["lion", "0", "4", "4"],
    ]
    said = texts_of(files["confusion_matrix.svg"])
    assert "Confusion matrix, test split: 7 of 8 photos right" in said
    assert {"75 %", "25 %", "100 %"} <= set(said)
    assert "1 of 4 cat called lion" in described(files["confusion_matrix.svg"])


def test_confusion_of_the_metrics_is_taken_as_it_is(tmp_path: Path) -> None:
    run = make_pictured_run(tmp_path, ("cat", "lion"), metrics={"test": {"confusion": [[30, 10], [0, 40]]}})
    files = build_confusion_matrix(ConfusionMatrixOptions(), run)
    assert files["confusion_matrix.csv"].decode().splitlines()[1:] == ["cat,30,10,40", "lion,0,40,40"]


@pytest.mark.parametrize("n", [2, 30, 100])
def test_confusion_names_every_class_up_to_a_hundred(tmp_path: Path, n: int) -> None:
    classes = [f"species {i:03d}" for i in range(n)]
    svg = build_confusion_matrix(ConfusionMatrixOptions(), make_pictured_run(tmp_path, classes, photos_per_class=2))[
        "confusion_matrix.svg"
    ]
    said = texts_of(svg)
    assert all(said.count(name) == 2 for name in classes)
    root = ElementTree.fromstring(svg)
    assert float(root.get("width", "nan")) < 1600
    sizes = [re.search(r"font-size: ([\d.]+)px", text.get("style", "")) for text in root.iter(f"{SVG}text")]
    assert min(float(size[1]) for size in sizes if size) >= 9
    assert len(svg) < 300_000


def test_awkward_names_stay_legible_and_whole(tmp_path: Path) -> None:
    files = build_all(make_pictured_run(tmp_path, AWKWARD, photos_per_class=4, wrong_every=3))
    for name in ("confusion_matrix.svg", "display_grid.svg"):
        said = " | ".join(texts_of(files[name]))
        assert all(one_line(awkward) in said for awkward in AWKWARD), name
    header = next(csv.reader(io.StringIO(files["confusion_matrix.csv"].decode(), newline="")))
    assert header == ["true \\ predicted", *AWKWARD, "photos"]


def test_a_split_without_labelled_photos_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no labelled photo of split 'valid'"):
        build_confusion_matrix(ConfusionMatrixOptions(split="valid"), make_pictured_run(tmp_path))


# ---- display grid ----------------------------------------------------------------------------------------------------------------


def test_grid_has_the_size_asked_for(tmp_path: Path) -> None:
    options = DisplayGridOptions(photos=6, columns=3, tile_px=100, png_scale=2)
    png = build_display_grid(options, make_pictured_run(tmp_path))["display_grid.png"]
    with Image.open(io.BytesIO(png)) as grid:
        grid.load()
        width, height = 3 * 100 + 2 * 14, 2 * 154
        assert 2 * width < grid.width < 2 * (width + 40)
        assert 2 * height < grid.height < 2 * (height + 100)
        assert grid.mode == "RGB"
        assert len(grid.getcolors(10**6) or []) > 50


def test_grid_draws_the_photos_themselves(tmp_path: Path) -> None:
    run = make_pictured_run(tmp_path, ("cat", "lion"), photos_per_class=1, wrong_every=100)
    photo = tmp_path / "images" / "test" / "0" / "0.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter: the left half comes to the top
    picture = Image.new("RGB", (64, 64), "red")
    picture.paste((0, 255, 0), (32, 0, 64, 64))
    picture.save(photo, exif=exif)
    sha256 = hashlib.sha256(photo.read_bytes()).hexdigest()
    run = rewrite_predictions(run, {"test/0/0.png": {"sha256": sha256}})
    png = build_display_grid(DisplayGridOptions(photos=2, columns=2, tile_px=100), run)["display_grid.png"]
    with Image.open(io.BytesIO(png)) as grid:
        halves = [(is_red(grid, x, 78 + 25), is_red(grid, x, 78 + 75)) for x in (16 + 50, 16 + 114 + 50)]
    assert (True, False) in halves


def is_red(picture: Image.Image, x: int, y: int) -> bool:
    red, green, _ = picture.convert("RGB").getpixel((x, y))  # type: ignore[misc]
    return bool(red > 240 and green < 20)


def test_grid_marks_right_and_wrong_by_more_than_colour(tmp_path: Path) -> None:
    run = make_pictured_run(tmp_path, ("cat", "lion"), photos_per_class=2, wrong_every=4)
    said = texts_of(build_display_grid(DisplayGridOptions(formats=("svg",)), run)["display_grid.svg"])
    assert "4 of 4 display photos, drawn with seed 3" in said
    assert "right: 3 of 4" in said
    assert said.count("true: lion") == 1
    assert said.count("90.0 %") == 4


def test_grid_without_truth_claims_nothing(tmp_path: Path) -> None:
    run = make_pictured_run(tmp_path)
    rows = {row["path"]: {"split": "display", "true": ""} for row in run.predictions}
    said = texts_of(
        build_display_grid(DisplayGridOptions(formats=("svg",)), rewrite_predictions(run, rows))["display_grid.svg"]
    )
    assert "True classes are not known." in said
    assert not any(text.startswith(("right", "true:")) for text in said)


def test_grid_says_so_where_a_photo_is_missing_changed_or_broken(tmp_path: Path) -> None:
    run = make_pictured_run(tmp_path, ("cat", "lion"), photos_per_class=2)
    folder = tmp_path / "images" / "test"
    (folder / "0" / "0.png").unlink()
    Image.new("RGB", (9, 9)).save(folder / "0" / "1.png")
    (folder / "1" / "0.png").write_bytes(b"no photo at all")
    broken = hashlib.sha256(b"no photo at all").hexdigest()
    run = rewrite_predictions(run, {"test/1/0.png": {"sha256": broken}})
    files = build_display_grid(DisplayGridOptions(formats=BOTH), run)
    said = " ".join(texts_of(files["display_grid.svg"]))
    assert "photo is not here any more" in said
    assert "file has changed since the run" in said
    assert "photo cannot be decoded" in said
    assert said.count("90.0 %") == 4
    with Image.open(io.BytesIO(files["display_grid.png"])) as grid:
        grid.load()


def test_grid_choice_follows_the_seed_and_not_the_order_of_rows(tmp_path: Path) -> None:
    run = make_pictured_run(tmp_path, photos_per_class=10)

    def chosen(seed: int, of: FinishedRun) -> list[str]:
        svg = build_display_grid(DisplayGridOptions(photos=5, seed=seed, formats=("svg",)), of)["display_grid.svg"]
        return re.findall(r"test/\d+/\d+\.png", described(svg))

    first = chosen(1, run)
    assert len(set(first)) == 5
    assert chosen(2, run) != first
    lines = (run.path / "predictions.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (run.path / "predictions.csv").write_text("".join([lines[0], *reversed(lines[1:])]), encoding="utf-8")
    assert chosen(1, FinishedRun(run.path)) == first


def test_grid_of_a_run_without_display_photos_is_one_clear_line(tmp_path: Path) -> None:
    run = make_pictured_run(tmp_path)
    run = rewrite_predictions(run, {row["path"]: {"split": "test", "true": "cat"} for row in run.predictions})
    with pytest.raises(RunError, match="no photo of split 'display'"):
        build_display_grid(DisplayGridOptions(), run)


# ---- letters ---------------------------------------------------------------------------------------------------------------------


def test_every_letter_is_drawn_in_a_font_that_has_it_or_as_its_code_point() -> None:
    for sample in (*SCRIPT_SAMPLES.values(), "\U00012000 and \U000e1234", "lion ライオン 사자"):
        for run in visual_runs(sample):
            assert run.font is not None
            assert not missing_letters(run.letters, [run.font]), sample


def test_a_letter_without_font_becomes_its_code_point() -> None:
    assert "".join(run.letters for run in visual_runs("a\U0010fffdb")) == "a U+10FFFD b"


def test_letters_are_spelled_by_sound_where_their_name_is_one() -> None:
    assert "".join(map(spell_out, "ライオン사자")) == "raionsaja"
    assert spell_out("猫").strip() == "U+732B"


def test_font_report_names_a_font_exactly_where_there_is_one() -> None:
    report = font_report()
    assert report.keys() == SCRIPT_SAMPLES.keys()
    assert report["Latin"] is not None
    for script, sample in SCRIPT_SAMPLES.items():
        assert (report[script] is None) == bool(missing_letters(sample, pick_fonts([sample])))


def test_svg_carries_only_the_letters_that_need_it() -> None:
    assert embedded_font_css(["lynx", "рысь"]) == ""
    if font_report()["Japanese"] is None:
        pytest.skip("no font with Japanese letters is installed")
    css = embedded_font_css(["虎 tiger"])
    assert "U+864e" in css
    assert len(css) < 10_000


def test_texts_are_shortened_in_their_middle() -> None:
    kept = shortened("a very long class name that ends in 17", 20)
    assert kept.startswith("a very")
    assert kept.endswith("17")
    assert len(kept) == 20
    assert shortened("オオヤマネコの写真です", 11) == "オオヤ…です"


@pytest.mark.parametrize("sentence", ["These photos are drawn by the program. " * 5, "これは描かれた写真です。" * 12])
def test_a_long_stand_in_sentence_is_shown_in_full_and_widens_no_figure(tmp_path: Path, sentence: str) -> None:
    plain = build_confusion_matrix(ConfusionMatrixOptions(), make_pictured_run(tmp_path / "plain"))
    said = build_confusion_matrix(ConfusionMatrixOptions(), make_pictured_run(tmp_path / "said", stand_in=sentence))
    wide, narrow = (ElementTree.fromstring(files["confusion_matrix.svg"]) for files in (said, plain))
    assert float(wide.get("width", "nan")) == pytest.approx(float(narrow.get("width", "nan")))
    assert sentence.replace(" ", "") in "".join(texts_of(said["confusion_matrix.svg"])).replace(" ", "")


# ---- architecture ----------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3 with NumPy 2
def test_architecture_rebuilds_the_model(tmp_path: Path) -> None:
    import keras

    run = make_pictured_run(tmp_path, stand_in=STAND_IN)
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model.save(run.path / "model.keras")
    files = build_architecture_json(ArchitectureJsonOptions(), run)
    rebuilt = keras.models.model_from_json(files["architecture.json"].decode())
    assert rebuilt.count_params() == model.count_params()
    assert [layer.name for layer in rebuilt.layers] == [layer.name for layer in model.layers]
    assert json.loads(files["architecture.json"])["class_name"] == "Sequential"


def test_summary_says_what_trains(tmp_path: Path) -> None:
    import zipfile

    run = make_pictured_run(tmp_path)
    with zipfile.ZipFile(run.path / "model.keras", "w") as archive:
        archive.writestr("config.json", '{"class_name": "Functional"}')
    table = build_architecture_json(ArchitectureJsonOptions(), run)["model_summary.txt"].decode()
    rows = {line.split(" ")[0]: line.split()[-1] for line in table.splitlines() if "(" in line}
    assert rows["vgg16/block1_conv1"] == "frozen"
    assert rows["vgg16/block5_conv1"] == "0.5"
    assert rows["logits"] == "yes"
    assert "Parameters: 275\n  trainable: 163\n  frozen:    112" in table
    assert max(map(len, table.splitlines())) <= 80


@pytest.mark.parametrize("content", [None, b"no archive", b'{"a": '])
def test_a_model_that_is_no_keras_archive_is_one_clear_line(tmp_path: Path, content: bytes | None) -> None:
    import zipfile

    run = make_pictured_run(tmp_path)
    if content == b"no archive":
        (run.path / "model.keras").write_bytes(content)
    elif content is not None:
        with zipfile.ZipFile(run.path / "model.keras", "w") as archive:
            archive.writestr("config.json", content)
    with pytest.raises(RunError, match=r"model\.keras: cannot be read as a Keras model"):
        build_architecture_json(ArchitectureJsonOptions(), run)


def test_an_architecture_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    import zipfile

    run = make_pictured_run(tmp_path)
    with zipfile.ZipFile(run.path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (2**20 + 1))
    with pytest.raises(RunError, match="larger than 1 MB"):
        build_architecture_json(ArchitectureJsonOptions(max_config_mb=1), run)
