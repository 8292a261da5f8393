"""A folder, table or archive of photos in the place of a preset, in every verb that takes one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import write_photos
from helpers_plugins import invoke

from finetunekit.config.own_photos import choose_preset, run_name
from finetunekit.config.planning import prepare
from finetunekit.config.preset import setting_texts
from finetunekit.data.photo_paths import find_photos, labelled_photos
from finetunekit.errors import ConfigError, DataError, UnknownComponentError

PRESETS = ("small-data", "fast", "best", "felidae4")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "birds")
    return tmp_path


def write_table(path: Path, root: Path) -> Path:
    rows = [f"{photo.relative_to(path.parent)},{photo.parent.name},{photo.parts[-3]}" for photo in root.rglob("*.png")]
    path.write_text("\n".join(["file_name,label,split", *sorted(rows), ""]), encoding="utf-8")
    return path


@pytest.mark.parametrize("argument", ["birds", "birds/", "./birds", "birds.csv", "birds.zip", "birds.tar.gz"])
def test_photos_alone_are_run_with_small_data_under_their_own_name(argument: str, folder: Path) -> None:
    write_table(folder / "birds.csv", folder / "birds")
    shutil.make_archive("birds", "zip", "birds")
    shutil.make_archive("birds", "gztar", "birds")
    asked = choose_preset(argument, PRESETS)
    plan, _ = prepare(asked.preset, settings=asked.settings)
    source = {"csv": "table", "zip": "archive", "gz": "archive"}.get(argument.rsplit(".", 1)[-1], "folders")
    assert (asked.preset, plan.config.name, plan.config.data.source) == ("small-data", "birds", source)
    assert plan.stand_in is None


def test_the_recipe_and_the_photos_can_be_named_either_way(folder: Path) -> None:
    assert choose_preset("birds", PRESETS, recipe="fast") == choose_preset("fast", PRESETS, data="birds")
    assert choose_preset(None, PRESETS, data="birds") == choose_preset("small-data", PRESETS, data="birds")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my photos (2)", "my-photos-2"),
        ("äöü", "photos"),
        ("fotos_ä", "fotos"),
        (".hidden", "hidden"),
        ("x" * 100, "x" * 80),
    ],
)
def test_a_run_is_named_after_any_folder(name: str, expected: str, folder: Path) -> None:
    (folder / name).mkdir()
    assert run_name(Path(name)) == expected
    settings = choose_preset(f"./{name}", PRESETS).settings
    plan, _ = prepare("small-data", settings=settings)
    assert (plan.config.name, plan.config.data.root) == (expected, name)


@pytest.mark.parametrize("root", ["a'b\"c\\d", "🦁 [1]", "no: yes #"])
def test_a_setting_is_read_as_it_was_given(root: str) -> None:
    (text,) = setting_texts({"data.root": root})
    assert prepare("small-data", settings=[text])[0].config.data.root == root


def test_a_folder_whose_name_is_no_text_is_one_line(folder: Path) -> None:
    (folder / "lone\udc80").mkdir()
    with pytest.raises(DataError, match="its name is not UTF-8"):
        choose_preset("./lone\udc80", PRESETS)


def test_a_folder_of_the_name_of_a_preset_needs_a_separator(folder: Path) -> None:
    (folder / "birds").rename("fast")
    asked = choose_preset("fast", PRESETS)
    assert (asked.preset, asked.settings) == ("fast", ())
    assert asked.note == "'fast' is the preset of that name; the folder is ./fast"
    assert choose_preset("./fast", PRESETS).preset == "small-data"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"argument": None}, ConfigError, "name a preset, or photos"),
        ({"argument": "bird"}, UnknownComponentError, r"unknown preset 'bird'\. Did you mean 'birds/'\?"),
        ({"argument": "quux"}, UnknownComponentError, r"no photos of that name are here\. Allowed: best"),
        ({"argument": "felidea4"}, UnknownComponentError, r"Did you mean 'felidae4'\?"),
        ({"argument": "./bird"}, DataError, r"\./bird: does not exist\. Did you mean 'birds'\?"),
        ({"argument": "bird.csv"}, DataError, r"bird\.csv: does not exist"),
        ({"argument": "birds", "data": "birds"}, ConfigError, "Name them once"),
        ({"argument": "fast", "recipe": "best"}, ConfigError, "the preset is fast already"),
        ({"argument": "birds/train/red/red-0.png"}, DataError, "neither a folder of photos nor a table or archive"),
    ],
)
def test_what_cannot_be_meant_is_said(arguments: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        choose_preset(presets=PRESETS, **arguments)  # type: ignore[arg-type]


def test_the_folder_of_a_run_is_no_folder_of_photos(finished_run: Path) -> None:
    with pytest.raises(DataError, match=r"is the folder of a run.*config\.yaml"):
        choose_preset(str(finished_run), PRESETS)


@pytest.mark.parametrize("verb", ["run", "plan", "probe", "rates", "ablate --vary train.batch_size=1,2"])
def test_every_verb_that_takes_a_preset_takes_photos(verb: str, folder: Path) -> None:
    """None gets as far as photos: the setting is wrong, and it is said of the preset that photos are run with."""
    name, *more = verb.split()
    result = invoke(name, "birds/", *more, "--set", "data.auditt=1")
    assert result.exit_code == 2
    assert "data.auditt: unknown key. Did you mean 'audit'?" in result.stderr


@pytest.mark.parametrize(
    ("word", "meant"),
    [("train", "run"), ("fit", "run"), ("birds", "run birds"), ("audit", "data audit"), ("rnu", "run")],
)
def test_a_verb_of_other_tools_suggests_ours(word: str, meant: str) -> None:
    result = invoke(word)
    assert result.exit_code == 2
    assert f"Did you mean 'finetunekit {meant}'?" in result.stderr or f"Did you mean '{meant}'?" in result.stderr


def test_labelled_photos_come_from_a_folder_a_table_or_an_archive(folder: Path) -> None:
    test = folder / "birds" / "train"
    table = write_table(folder / "test.csv", folder / "birds")
    table.write_text(
        "".join(line for line in table.read_text().splitlines(True) if not line.endswith(("test\n", "valid\n")))
    )
    shutil.make_archive("all", "zip", "birds/train")
    classes = ("blue", "green", "red")
    found = {}
    for name, path in {"folder": test, "table": table, "archive": folder / "all.zip"}.items():
        paths, labels = labelled_photos(path, classes)
        found[name] = sorted((photo.name, label) for photo, label in zip(paths, labels, strict=True))
        assert sorted(photo.name for photo in find_photos([path])) == [name for name, _ in found[name]]
    assert len(found["folder"]) == 12
    assert found["folder"] == found["table"] == found["archive"]
    with pytest.raises(
        DataError, match=r"test\.csv: 'blue' is not a class of this run \(bleu, green, red\)\. Did you mean 'bleu'"
    ):
        labelled_photos(table, ("bleu", "green", "red"))
