from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from finetunekit_builtin.folders import FoldersOptions, build_folders
from pydantic import ValidationError

from finetunekit import DataError, PhotoListing, Scanner, SourceContext, decode_photo
from finetunekit.data.photo_file import photo_suffixes

SIX = tuple(f"{split}/{label}/1.jpg" for split in ("train", "valid", "test") for label in ("cat", "lynx"))


def put(root: Path, *places: str) -> Path:
    """Empty files: a data source lists, it does not decode."""
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).touch()
    return root


def listed(root: Path | None, **options: float) -> PhotoListing:
    context = SourceContext(root=root, cache_dir=Path("unused"), seed=7, say=print)
    return build_folders(FoldersOptions.model_validate(options), context)


def places(listing: PhotoListing) -> list[tuple[str, str, str | None]]:
    return [(photo.path.relative_to(listing.root).as_posix(), photo.split, photo.label) for photo in listing.photos]


def test_splits_and_classes_are_folders(tmp_path: Path) -> None:
    listing = listed(put(tmp_path, *SIX, "train/cat/B.JPG", "train/cat/deep/er/a.png", "display/x.webp"))
    assert places(listing) == [
        ("train/cat/1.jpg", "train", "cat"),
        ("train/cat/B.JPG", "train", "cat"),
        ("train/cat/deep/er/a.png", "train", "cat"),
        ("train/lynx/1.jpg", "train", "lynx"),
        ("valid/cat/1.jpg", "valid", "cat"),
        ("valid/lynx/1.jpg", "valid", "lynx"),
        ("test/cat/1.jpg", "test", "cat"),
        ("test/lynx/1.jpg", "test", "lynx"),
        ("display/x.webp", "display", None),
    ]
    assert listing.notes == ()
    assert listing.stand_in is None


@pytest.mark.parametrize("name", ["val", "validation", "dev", "Valid", "VAL"])
def test_the_validation_folder_has_several_names(tmp_path: Path, name: str) -> None:
    put(tmp_path, *(place.replace("valid", name) for place in SIX))
    assert Counter(photo.split for photo in listed(tmp_path).photos) == {"train": 2, "valid": 2, "test": 2}


def test_display_photos_have_no_label_even_in_class_folders(tmp_path: Path) -> None:
    listing = listed(put(tmp_path, *SIX, "display/cat/1.jpg", "display/2.jpg"))
    assert places(listing)[-2:] == [("display/2.jpg", "display", None), ("display/cat/1.jpg", "display", None)]


def test_clutter_is_passed_over_and_counted(tmp_path: Path) -> None:
    clutter = (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/x.jpg", ".hidden/x.jpg", "._1.jpg", "@eaDir/1.jpg")
    put(tmp_path, *SIX, *clutter, *(f"train/{name}" for name in clutter), *(f"train/cat/{name}" for name in clutter))
    listing = listed(tmp_path)
    assert len(listing.photos) == 6
    assert listing.notes == ("21 hidden or system entries skipped: .DS_Store, ._1.jpg, .hidden and 4 more",)


def test_other_files_are_counted_and_the_first_three_named(tmp_path: Path) -> None:
    put(tmp_path, *SIX, "notes.txt", "train/labels.csv", "train/cat/a\nb.xmp", "test/lynx/z.pdf", "docs/ignored.md")
    assert listed(tmp_path).notes == (r"4 files are not photos: a\nb.xmp, labels.csv, notes.txt and 1 more",)
    (tmp_path / "one").mkdir()
    assert listed(put(tmp_path / "one", *SIX, "x.txt")).notes == ("1 file is not a photo: x.txt",)


def test_heic_without_a_decoder_says_what_to_install(tmp_path: Path) -> None:
    put(tmp_path, "1.heic", "inner/2.HEIF", "3.jpg")
    scanner = Scanner(photo_suffixes() - {".heic", ".heif"})
    assert [Path(path).name for path in scanner.walk(str(tmp_path), set())] == ["3.jpg"]
    assert scanner.notes() == ("2 HEIC files skipped: pip install 'finetunekit[heic]'",)


def test_heic_with_its_decoder_is_a_photo(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    put(tmp_path, *SIX, "train/cat/2.heic")
    assert "train/cat/2.heic" in [place for place, _, _ in places(listed(tmp_path))]
    pixels = np.full((16, 24, 3), (200, 30, 60), np.uint8)
    pillow_heif.from_bytes("RGB", (24, 16), pixels.tobytes()).save(tmp_path / "train/cat/2.heic", quality=-1)
    decoded = decode_photo(tmp_path / "train/cat/2.heic", max_pixels=1000)
    assert decoded.shape == (16, 24, 3)
    assert np.abs(decoded.astype(int) - pixels).max() <= 4


def test_photos_outside_class_folders_are_noted(tmp_path: Path) -> None:
    first, second = listed(put(tmp_path, *SIX, "stray.jpg", "train/a.jpg", "train/b.jpg")).notes
    assert first == f"1 photo directly in {tmp_path} is in no class and not used: stray.jpg"
    assert second == f"2 photos directly in {tmp_path / 'train'} are in no class and not used: a.jpg, b.jpg"


def test_links_are_followed_once_and_never_in_a_circle(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere", "1.jpg", "more/2.jpg")
    root = put(tmp_path / "root", *SIX)
    (root / "train/cat/linked").symlink_to(elsewhere)
    (root / "train/cat/again").symlink_to(elsewhere / "more")
    (root / "train/cat/up").symlink_to(root)
    (root / "train/cat/self").symlink_to(root / "train/cat")
    (root / "display").symlink_to(root / "test/cat")
    (root / "train/cat/gone.jpg").symlink_to(root / "nowhere.jpg")
    listing = listed(root)
    assert [place for place, split, label in places(listing) if (split, label) == ("train", "cat")] == [
        "train/cat/1.jpg",
        "train/cat/gone.jpg",
        "train/cat/again/2.jpg",
        "train/cat/linked/1.jpg",
    ]
    assert places(listing)[-1] == ("display/1.jpg", "display", None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_a_photo(tmp_path: Path) -> None:
    put(tmp_path, *SIX)
    os.mkfifo(tmp_path / "train/cat/pipe.jpg")
    assert listed(tmp_path).notes == ("1 file is not a photo: pipe.jpg",)


# ---- layouts that cannot be understood --------------------------------------------------------------------------------


def test_no_root_given() -> None:
    with pytest.raises(DataError, match=r"'folders' needs the folder.*Set data\.root"):
        listed(None)


def test_a_missing_root_is_resolved_and_the_nearest_name_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"{tmp_path}/imagse does not exist\. Did you mean {tmp_path}/images\?"):
        listed(Path("imagse"))
    with pytest.raises(DataError, match=rf"{tmp_path}/a/b does not exist\. {tmp_path} is there, 'a' is not in it"):
        listed(Path("a/b"))


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    put(tmp_path, "photo.jpg")
    with pytest.raises(DataError, match=r"photo\.jpg is a file\. Name the folder"):
        listed(tmp_path / "photo.jpg")


@pytest.mark.parametrize("second", ["val", "dev", "VALID"])
def test_two_folders_for_one_split(tmp_path: Path, second: str) -> None:
    put(tmp_path, *SIX, f"{second}/cat/1.jpg")
    if len(list(tmp_path.iterdir())) < 4:
        pytest.skip("the file system does not tell case apart")
    with pytest.raises(DataError, match="both mean the valid split"):
        listed(tmp_path)


def test_missing_splits_are_named_with_their_other_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is test/ but no train/ \(or training\)") as caught:
        listed(put(tmp_path, "test/cat/1.jpg"))
    assert "no valid/ (or val, validation, dev)" in caught.value.problems[1]


def test_a_class_beside_the_splits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="puma/ contains photos but is next to the split folders"):
        listed(put(tmp_path, *SIX, "puma/1.jpg"))


def test_every_empty_class_folder_is_named(tmp_path: Path) -> None:
    put(tmp_path, *SIX, "train/puma/readme.txt", "test/ocelot/inner/.keep")
    with pytest.raises(DataError, match="train/puma: no photos in this class folder") as caught:
        listed(tmp_path)
    assert "test/ocelot: no photos" in caught.value.problems[1]
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("place", ["", "test/"])
def test_photos_without_class_folders(tmp_path: Path, place: str) -> None:
    others = [six for six in SIX if place and not six.startswith("test")]
    with pytest.raises(DataError, match=r"2 photos but no class folders\. Put the photos of each class"):
        listed(put(tmp_path, *others, f"{place}1.jpg", f"{place}2.jpg"))


def test_an_empty_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no photos and no class folders in it"):
        listed(tmp_path)


def test_a_root_one_level_too_high(tmp_path: Path) -> None:
    put(tmp_path / "images", *SIX)
    with pytest.raises(DataError, match=r"images: holds train and valid and test folders\. Set data\.root to it"):
        listed(tmp_path)


# ---- class folders only -----------------------------------------------------------------------------------------------


def flat(root: Path, photos: int = 50) -> Path:
    return put(root, *(f"{label}/{n}.jpg" for label in ("cat", "lynx") for n in range(photos)))


def test_class_folders_are_split_in_exact_parts_of_each_class(tmp_path: Path) -> None:
    listing = listed(flat(tmp_path), valid_fraction=0.1, test_fraction=0.3)
    assert Counter((photo.split, photo.label) for photo in listing.photos) == {
        (split, label): count
        for label in ("cat", "lynx")
        for split, count in (("train", 30), ("valid", 5), ("test", 15))
    }
    assert listing.notes == (
        f"{tmp_path} has no split folders: each class was split by name (60 train, 10 valid, 30 test; split_seed 0)",
    )


def test_the_split_depends_on_names_and_split_seed_only(tmp_path: Path) -> None:
    one, two = listed(flat(tmp_path / "a")), listed(flat(tmp_path / "elsewhere"))
    assert places(one) == places(two)
    other = listed(tmp_path / "a", split_seed=1)
    assert places(other) != places(one)
    assert [place for place, _, _ in places(other)] == [place for place, _, _ in places(one)]


def test_photos_added_later_move_few(tmp_path: Path) -> None:
    before = {place: split for place, split, _ in places(listed(flat(tmp_path)))}
    put(tmp_path, "cat/new-1.jpg", "cat/new-2.jpg")
    after = {place: split for place, split, _ in places(listed(tmp_path))}
    moved = [place for place, split in before.items() if after[place] != split]
    assert len(moved) <= 4
    assert all(place.startswith("cat/") for place in moved)


@pytest.mark.parametrize(("valid", "test"), [(0.01, 0.01), (0.45, 0.5), (0.01, 0.98)])
@pytest.mark.parametrize("photos", [3, 4, 7])
def test_each_split_gets_a_photo_of_each_class(tmp_path: Path, photos: int, valid: float, test: float) -> None:
    listing = listed(flat(tmp_path, photos), valid_fraction=valid, test_fraction=test)
    assert len({(photo.split, photo.label) for photo in listing.photos}) == 6
    assert len(listing.photos) == 2 * photos


def test_classes_too_small_to_split_and_empty_ones_are_named_together(tmp_path: Path) -> None:
    put(flat(tmp_path, 3), "puma/1.jpg", "puma/2.jpg", "ocelot/x.txt")
    with pytest.raises(DataError, match="ocelot: no photos in this class folder") as caught:
        listed(tmp_path)
    assert "puma: 2 photos cannot be split" in caught.value.problems[1]


def test_display_beside_class_folders_is_no_class(tmp_path: Path) -> None:
    listing = listed(put(flat(tmp_path, 3), "display/1.jpg"))
    assert {photo.label for photo in listing.photos} == {"cat", "lynx", None}


def test_fractions_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ValidationError, match="must add up to less than 1"):
        FoldersOptions(valid_fraction=0.5, test_fraction=0.5)
