"""Names are data: what is shown is not what is opened, and every name that the file system allows comes back from a table."""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from finetunekit_builtin.folders import FoldersOptions, build_folders
from finetunekit_builtin.table import TableOptions, build_table
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.data.exclusions import exclusions_csv, leave_out
from finetunekit.data.index import build_index, check_listing, photo_name, shown_name
from finetunekit.data.photo_paths import find_photos, labelled_photos
from finetunekit.evaluation.prediction_files import prediction_csv, sort_photos
from finetunekit.evaluation.predictor import Prediction
from finetunekit.experiments.cross_validation import _folds_csv
from finetunekit.reports.pages import render
from finetunekit.runs.folder import FinishedRun
from finetunekit.system.files import from_cell, read_csv, to_cell, to_csv, to_json, write_whole
from finetunekit.system.progress import Progress

QUIET = Progress(is_quiet=True)
NAMES = [
    os.fsencode("Screenshot 2024-01-01 at 9.41.00\u202fAM.png"),
    "no\u00a0break.png".encode(),
    "\u3000wide.png".encode(),
    b" blanks .png",
    b"tab\tand\nbreaks\r\n.png",
    b"back\\slash.png",
    b"quotes'\".png",
    b"caf\xe9.png",
    b"=1+1.png",
    b"-2.png",
    b"'apostrophe.png",
    b"'=both.png",
    b"@a,b;c.png",
    "right\u202eleft.png".encode(),
    b"\x1b[31mred.png",
]


def odd_photos(root: Path) -> Path:
    """`root/<split>/<class>/`, one photo of each odd name in every one."""
    for split in ("train", "valid", "test"):
        for number, label in enumerate("ab"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for at, name in enumerate(NAMES):
                pixels = np.random.default_rng([number, at, len(split), ord(split[0])]).integers(
                    0, 255, (8, 8, 3), np.uint8
                )
                Image.fromarray(pixels).save(folder / os.fsdecode(name), "PNG")
    return root


def listed(root: Path) -> ftk.PhotoListing:
    return build_folders(FoldersOptions(), ftk.SourceContext(root, root, 0, print))


def command(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.usefixtures("own_cache")
def test_a_run_on_odd_names_shows_its_photos_and_can_be_asked_about_them(tiny_yaml: Path, tmp_path: Path) -> None:
    root = odd_photos(tmp_path / "odd")
    settings = [
        f"data.root={json.dumps(str(root))}",
        "reports=[{name: html}, {name: display_grid}, {name: model_card}]",
        "insights.gradcam_photos=0",
    ]
    result = ftk.run(tiny_yaml, settings=settings, out=tmp_path / "runs", progress=QUIET)
    run = FinishedRun(result.path)
    assert len(run.photos) == 4 * 2 * len(NAMES)  # the test photos are displayed as well
    assert all(run.photo_path(row["path"]).is_file() for row in (*run.photos, *run.predictions))
    page = (result.path / "reports/report.html").read_text(encoding="utf-8")
    assert "not here any more" not in page
    assert not {"\u202e", "\x1b"} & set(page)
    command("data", "stats", result.path)
    assert str(2 * 3 * len(NAMES)) in command("data", "split", result.path, "--out", tmp_path / "splits.csv")


@pytest.mark.usefixtures("own_cache")
def test_tables_of_photos_are_read_back_letter_by_letter(tmp_path: Path) -> None:
    root = odd_photos(tmp_path / "odd")
    listing = listed(root)
    index = build_index(listing, max_pixels=10_000)
    assert {photo.name for photo in index.photos} == {photo_name(photo.path, root) for photo in listing.photos}
    assert all(photo.shown.isprintable() for photo in index.photos)
    folds = _folds_csv(index, {photo.path: at % 3 for at, photo in enumerate(index.photos)})
    write_whole(root / "folds.csv", folds)
    back = build_table(TableOptions(test_fold=0), ftk.SourceContext(root / "folds.csv", tmp_path, 0, print))
    assert {photo.path for photo in back.photos} == {photo.path for photo in listing.photos}
    rows = [{"path": photo.name, "split": photo.split, "reason": "=odd"} for photo in index.photos]
    write_whole(tmp_path / "exclude.csv", exclusions_csv(rows))
    left, out = leave_out(listing, [tmp_path / "exclude.csv"])
    assert left.photos == ()
    assert {one.reason for one in out} == {"=odd"}


def test_lists_that_name_photos_as_reports_show_them_are_followed(tmp_path: Path) -> None:
    root = odd_photos(tmp_path / "odd")
    listing = listed(root)
    rows = [{"path": shown_name(photo_name(photo.path, root)), "split": photo.split} for photo in listing.photos]
    write_whole(tmp_path / "exclude.csv", to_csv(rows, ("path", "split")))
    assert leave_out(listing, [tmp_path / "exclude.csv"])[0].photos == ()


def test_predictions_of_photos_whose_names_are_no_utf8_are_written_and_sorted(tmp_path: Path) -> None:
    folder = odd_photos(tmp_path / "odd") / "test/a"
    predictions = [Prediction(path, "a", 0.75, 1.0, {"a": 0.75, "=b": 0.25}) for path in sorted(folder.iterdir())]
    write_whole(tmp_path / "out.csv", prediction_csv(predictions, ("a", "=b")))
    rows = read_csv((tmp_path / "out.csv").read_bytes().decode(errors="surrogateescape"))
    assert [Path(row["path"]) for row in rows] == [one.path for one in predictions]
    sort_photos(predictions, tmp_path / "sorted")
    assert {path.name for path in (tmp_path / "sorted/a").iterdir()} == {path.name for path in folder.iterdir()}


def test_names_of_255_bytes_are_sorted_and_numbered(tmp_path: Path) -> None:
    name = "ä" * 125 + ".png"
    assert len(os.fsencode(name)) == 254
    paths = [tmp_path / str(n) / name for n in range(2)]
    for level, path in enumerate(paths):
        path.parent.mkdir()
        Image.new("RGB", (4, 4), (level, 0, 0)).save(path)
    sort_photos([Prediction(path, "a", 1.0, 1.0, {"a": 1.0}) for path in paths], tmp_path / "sorted")
    assert sorted(len(path.name) for path in (tmp_path / "sorted/a").iterdir()) == [129, 130]


def test_a_class_whose_name_is_no_text_is_refused_by_whoever_looks(tmp_path: Path) -> None:
    root = tmp_path / "odd"
    for split in ("train", "valid", "test"):
        for label in ("a", os.fsdecode(b"caf\xe9")):
            (root / split / label).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(root / split / label / "1.png")
    problems = check_listing(listed(root))
    assert problems == (
        f"{root}: the class name 'caf\\udce9' is not text: its bytes are not UTF-8. Rename the folder.",
    )


# ---- other Unicode forms --------------------------------------------------------------------------------------------------------


def table_of(folder: Path, *names: str, label: str = "a") -> ftk.PhotoListing:
    rows = [{"file_name": name, "label": label if n % 2 else "b"} for n, name in enumerate(names)]
    write_whole(folder / "t.csv", to_csv(rows, ("file_name", "label")))
    return build_table(TableOptions(), ftk.SourceContext(folder / "t.csv", folder, 0, print))


def test_a_table_finds_files_whose_names_are_written_in_another_form(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Bär")
    (tmp_path / decomposed).mkdir()
    for n in range(16):
        Image.new("RGB", (8, 8)).save(tmp_path / decomposed / f"ö{n}.png")
    listing = table_of(tmp_path, *(f"Bär/ö{n}.png" for n in range(16)))
    assert len(listing.photos) == 16
    assert any("another Unicode form (NFC, NFD) than in the table: 16" in note for note in listing.notes)


def test_of_two_forms_of_one_name_the_exact_one_is_meant(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "ä.png")).write_bytes(form.encode())
    for n in range(12):
        (tmp_path / f"{n}.png").touch()
    listing = table_of(tmp_path, unicodedata.normalize("NFD", "ä.png"), *(f"{n}.png" for n in range(12)))
    assert b"NFD" in {photo.path.read_bytes() for photo in listing.photos}
    assert not any("Unicode form" in note for note in listing.notes)


@pytest.mark.parametrize("label", ["نمی\u200cخواهم", "👩\u200d🔬", "Grand\u00a0Duc", "क्\u200dष"])
def test_labels_of_living_scripts_are_labels_in_tables_as_in_folders(tmp_path: Path, label: str) -> None:
    for n in range(16):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{n}.png")
    listing = table_of(tmp_path, *(f"{n}.png" for n in range(16)), label=label)
    assert {photo.label for photo in listing.photos} == {label, "b"}


def test_labels_with_control_characters_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    (tmp_path / "2.png").touch()
    with pytest.raises(ftk.DataError, match="labels that are no plain text"):
        table_of(tmp_path, "1.png", "2.png", label="a\x1b[31m")


# ---- what people read -----------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_characters="\0")))
def test_every_text_comes_back_from_a_cell_and_none_is_a_formula(text: str) -> None:
    cell = to_cell(text)
    assert from_cell(cell) == text
    assert cell[:1] not in ("=", "@", "\t", "\r")
    assert cell[:1] not in ("+", "-") or float(cell) == float(cell)
    rows = [{"a": text, "b": "x"}]
    data = to_csv(rows, ("a", "b")).encode(errors="surrogatepass")
    assert read_csv(data.decode(errors="surrogatepass")) == rows


def test_cells_that_look_like_formulas_are_written_so_that_none_runs() -> None:
    text = to_csv([{"=label": "=HYPERLINK(1)", "n": -1.5}, {"=label": "-1", "n": 2}], ("=label", "n"))
    assert [*csv.reader(io.StringIO(text))] == [["'=label", "n"], ["'=HYPERLINK(1)", "-1.5"], ["-1", "2"]]


def test_json_for_people_steers_no_terminal_and_says_the_same() -> None:
    value = {"\u202ea\x1b": ["\x9b31m", "\ud800", "ü", "نمی\u200cخواهم"]}
    text = to_json(value)
    assert json.loads(text) == value
    assert not {"\u202e", "\x1b", "\x9b", "\ud800"} & set(text)
    assert "ü" in text
    text.encode()


def test_pages_and_markdown_show_what_would_turn_text_around() -> None:
    page = render("{{ name }}", name="\u202eevil\x1b]0;x\x07 <b>")
    assert page == r"\u202eevil\x1b]0;x\x07 &lt;b&gt;"


@pytest.mark.usefixtures("own_cache")
def test_the_section_that_data_split_prints_is_yaml(tmp_path: Path) -> None:
    root = tmp_path / "a, b: {c} #d"
    for label in "ab":
        (root / label).mkdir(parents=True)
        for n in range(5):
            Image.new("RGB", (8, 8), (n, ord(label), 0)).save(root / label / f"{n}.png")
    out = tmp_path / "x, y" / "splits.csv"
    out.parent.mkdir()
    printed = command("data", "split", root, "--out", out)
    line = next(line for line in printed.splitlines() if line.startswith("data: "))
    data = YAML(typ="safe").load(line)["data"]
    assert data == {"source": "table", "root": str(out), "options": {"photos": str(root)}}


# ---- one walk -------------------------------------------------------------------------------------------------------------------


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, "PNG")
    return path


def test_folders_to_predict_are_walked_as_folders_to_train_on(tmp_path: Path) -> None:
    wanted = [picture(tmp_path / "in/a.png"), picture(tmp_path / "in/deep/b.png"), picture(tmp_path / "far/c.png")]
    (tmp_path / "in/linked").symlink_to(tmp_path / "far", target_is_directory=True)
    (tmp_path / "in/deep/up").symlink_to(tmp_path / "in", target_is_directory=True)
    for clutter in ("@eaDir/a.png/thumb.png", ".thumbnails/a.png", ".hidden.png"):
        picture(tmp_path / "in" / clutter)
    (tmp_path / "in/x.jpg").mkdir()
    (tmp_path / "in/notes.txt").touch()
    said: list[str] = []
    found = find_photos([tmp_path / "in"], say=said.append)
    assert {path.resolve() for path in found} == set(wanted)
    assert said == [
        "note: 1 file is not a photo: notes.txt",
        "note: 3 hidden or system entries skipped: .hidden.png, .thumbnails, @eaDir",
        f"note: 1 folder skipped, read already by another path: {tmp_path / 'in/deep/up'}",
    ]


def test_a_folder_without_photos_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").mkdir()
    (tmp_path / "a.txt").touch()
    with pytest.raises(ftk.DataError, match=r"no photos in this folder\. \(1 file is not a photo: a\.txt\)"):
        find_photos([tmp_path])


def test_a_link_that_leads_nowhere_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    assert find_photos([tmp_path / "gone.png", picture(tmp_path / "a.png")]) == [
        tmp_path / "gone.png",
        tmp_path / "a.png",
    ]


def test_class_folders_in_another_form_are_those_classes(tmp_path: Path) -> None:
    classes = ("Bär", "Löwe")
    for label in classes:
        picture(tmp_path / unicodedata.normalize("NFD", label) / "1.png")
    picture(tmp_path / "loose.png")
    said: list[str] = []
    paths, labels = labelled_photos(tmp_path, classes, say=said.append)
    assert [unicodedata.normalize("NFC", path.parent.name) for path in paths] == [classes[label] for label in labels]
    assert any("another Unicode form (NFC, NFD) than in the run" in line for line in said)
    assert any("1 photos directly in" in line or "1 photo directly in" in line for line in said)
