"""`data draw`: practice photos in folders, the same for the same numbers, and nothing of the user's in danger."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_plugins import invoke, write
from PIL import Image
from test_imports import HEAVY, RUNNER, report_of

from finetunekit.config.plan import Chosen
from finetunekit.config.planning import prepare
from finetunekit.data.export_folders import MARKER, choose_drawing, write_photos
from finetunekit.data.listing import list_photos
from finetunekit.errors import ConfigError, DataError, PluginError
from finetunekit.plugins.host import load_plugins
from finetunekit.system.progress import Progress

QUIET = Progress(is_quiet=True)
FEW = ("--per-class", "3", "--size", "16")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def contents(root: str) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}


def size_px(path: Path) -> tuple[int, int]:
    with Image.open(path) as photo:
        return photo.size


def options(*, per_class: int | None = None, size_px: int | None = None, seed: int | None = None) -> dict[str, object]:
    host = load_plugins(pytest.fail)
    return choose_drawing(host, "drawn", per_class=per_class, size_px=size_px, seed=seed).options.model_dump()


def test_it_lays_photos_out_by_split_and_class_with_a_display_folder(folder: Path) -> None:
    result = invoke("data", "draw", "felids", *FEW)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["12 train, 4 valid, 4 test, 4 display", "felids"]
    for split, count in {"train": 3, "valid": 1, "test": 1}.items():
        assert {p.name: len(list(p.iterdir())) for p in Path("felids", split).iterdir()} == dict.fromkeys(
            ("cat", "lion", "lynx", "tiger"), count
        )
    assert {size_px(path) for path in Path("felids").rglob("*.png")} == {(16, 16)}
    shown = {path.read_bytes() for path in Path("felids/display").iterdir()}
    assert shown == {path.read_bytes() for path in Path("felids/test").rglob("*.png")}
    assert [path.name for path in folder.iterdir()] == ["felids"]  # nothing beside it, and no cache


def test_the_same_numbers_draw_the_same_and_another_seed_draws_others() -> None:
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert invoke("data", "draw", name, *FEW, "--seed", seed).exit_code == 0
    assert contents("a") == contents("b")
    train = [name for name in contents("a") if name.startswith("train")]
    assert len(train) == 12
    assert all(contents("a")[name] != contents("c")[name] for name in train)


def test_the_numbers_are_those_of_the_experiment_and_the_splits_keep_their_proportion() -> None:
    assert options() == {
        "per_class_train": 150,
        "per_class_valid": 50,
        "per_class_test": 40,
        "size_px": 75,
        "draw_seed": 0,
    }
    many = options(per_class=300, size_px=224, seed=3)
    assert (many["per_class_train"], many["per_class_valid"], many["per_class_test"]) == (300, 100, 80)
    assert (many["size_px"], many["draw_seed"]) == (224, 3)
    one = options(per_class=1)
    assert (one["per_class_train"], one["per_class_valid"], one["per_class_test"]) == (1, 1, 1)


def test_what_is_drawn_can_be_trained_on() -> None:
    invoke("data", "draw", "felids", *FEW)
    plan, _ = prepare("felidae4", settings=["data.root=felids"])
    listing = list_photos(plan, QUIET)
    assert (listing.stand_in, listing.notes) == (None, ())
    assert {photo.label for photo in listing.photos if photo.split == "valid"} == {"cat", "lion", "lynx", "tiger"}


# ---- folders that are there ------------------------------------------------------------------------------------------------------


def test_a_second_call_changes_nothing() -> None:
    invoke("data", "draw", "felids", *FEW)
    times = {path: path.stat().st_mtime_ns for path in Path("felids").rglob("*")}
    again = invoke("data", "draw", "felids", *FEW)
    assert (again.exit_code, again.stdout.splitlines()[0]) == (
        0,
        "12 train, 4 valid, 4 test, 4 display (they already existed)",
    )
    assert {path: path.stat().st_mtime_ns for path in Path("felids").rglob("*")} == times


def test_an_empty_folder_and_folders_that_are_not_there_yet_are_fine() -> None:
    Path("empty").mkdir()
    for name in ("empty", "below/deeper"):
        assert invoke("data", "draw", name, *FEW).exit_code == 0
    assert contents("empty") == contents("below/deeper")


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("theirs", FEW, "error: theirs: is not empty, and what is in it was not made by this command."),
        ("a_file", FEW, "error: a_file: is a file."),
        ("a_file/below", FEW, "error: a_file/below: photos cannot be written there"),
        ("drawn", ("--per-class", "4", "--size", "16"), "error: drawn: holds photos made with other settings"),
        (
            "new",
            ("--size", "4"),
            "error: data draw: drawn: size_px: should be greater than or equal to 16. Received: 4",
        ),
        ("new", ("--per-class", "10001"), "error: data draw: drawn: per_class_train: should be less than"),
        ("new", ("--source", "drwn"), "error: data draw: unknown data source 'drwn'. Did you mean 'drawn'?"),
        ("new", ("--source", "folders"), "error: data draw: data source 'folders' draws nothing"),
    ],
)
def test_what_cannot_be_is_one_line_and_everything_stays(
    name: str, arguments: tuple[str, ...], says: str, folder: Path
) -> None:
    write(Path("theirs/cat.png"), "mine")
    write(Path("a_file"), "mine")
    invoke("data", "draw", "drawn", *FEW)
    before = contents(".")
    result = invoke("data", "draw", name, *arguments)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert (result.exit_code, result.stdout) == (2, "")
    assert line.startswith(says)
    assert contents(".") == before
    assert sorted(path.name for path in folder.iterdir()) == ["a_file", "drawn", "theirs"]


# ---- sources of others -----------------------------------------------------------------------------------------------------------

SOURCE = """
    from pathlib import Path
    from finetunekit import Options, PhotoListing, PhotoRecord, hookimpl

    class DrawOptions(Options):
        per_class_train: int = 2
        size_px: int = 8
        draw_seed: int = 0

    def build(options, context):
        if options.draw_seed == 9:
            return "photos"
        if options.draw_seed == 8:
            raise KeyboardInterrupt
        root = Path("originals")
        return PhotoListing(tuple(PhotoRecord(p, "cat", "train") for p in sorted(root.rglob("*.png"))), root)

    @hookimpl
    def register_data_sources(register):
        register("originals", build, DrawOptions)
"""


def chosen(seed: int = 0) -> Chosen:
    host = load_plugins(pytest.fail)
    host.load_file(write(Path("source.py"), SOURCE))
    return choose_drawing(host, "originals", per_class=None, size_px=None, seed=seed)


def test_photos_that_lie_elsewhere_are_copied_and_none_replaces_another_of_its_name() -> None:
    for text in ("one", "two"):
        write(Path(f"originals/{text}/photo.png"), text)
    written = write_photos(chosen(), Path("copies"), QUIET)
    assert (written.counts, written.is_new) == ({"train": 2}, True)
    copies = {name: content for name, content in contents("copies").items() if name != MARKER}
    assert copies == {"train/cat/photo.png": b"one", "train/cat/photo-2.png": b"two"}
    assert contents("originals") == {"one/photo.png": b"one", "two/photo.png": b"two"}


def test_a_source_that_fails_is_blamed_and_an_interruption_leaves_nothing(folder: Path) -> None:
    with pytest.raises(PluginError, match=r"'originals' of plugin 'source' .* must return finetunekit\.PhotoListing"):
        write_photos(chosen(seed=9), Path("copies"), QUIET)
    with pytest.raises(KeyboardInterrupt):
        write_photos(chosen(seed=8), Path("copies"), QUIET)
    assert [path.name for path in folder.iterdir()] == ["source.py"]


def test_a_source_without_photos_makes_no_folder() -> None:
    with pytest.raises(DataError, match=r"data source 'originals' lists no photo"):
        write_photos(chosen(), Path("copies"), QUIET)
    assert not Path("copies").exists()


def test_numbers_out_of_bounds_are_named_all_at_once() -> None:
    with pytest.raises(ConfigError, match=r"per_class_train: (.*\n)+.*size_px: "):
        options(per_class=10**6, size_px=5000)


def test_the_command_loads_nothing_heavy(folder: Path) -> None:
    report = report_of(RUNNER, " ".join(("data draw felids", *FEW)), cwd=folder).popitem()[1]
    assert report["code"] == 0
    assert not set(HEAVY) & set(report["modules"])
