from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetunekit.data.index import MANIFEST_COLUMNS, PhotoIndex, build_index, check_listing, manifest_rows
from finetunekit.errors import DataError
from finetunekit.types import PhotoListing, PhotoRecord

SPLITS = ("train", "valid", "test")
LIMIT = 1_000_000


def put(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((3, 5, 3), level, np.uint8)).save(path, "PNG")
    return path


def record(root: Path, place: str) -> PhotoRecord:
    """`split/class/name` or `display/name`, with a photo written there whose content is its own."""
    split, *rest = place.split("/")
    level = hashlib.sha256(place.encode()).digest()[0]
    return PhotoRecord(put(root / place, level), rest[0] if len(rest) > 1 else None, split)


def listing(root: Path, *places: str) -> PhotoListing:
    return PhotoListing(tuple(record(root, place) for place in places), root)


def six(root: Path) -> PhotoListing:
    return listing(root, *(f"{split}/{label}/1.png" for split in SPLITS for label in ("lynx", "cat")))


def index_of(photos: PhotoListing) -> PhotoIndex:
    return build_index(photos, max_pixels=LIMIT)


def test_labels_are_bound_by_name_and_photos_ordered_as_flow_from_directory(tmp_path: Path) -> None:
    places = ["lynx/b.png", "lynx/a/z.png", "lynx/B.png", "cat/10.png", "cat/9.png"]
    index = index_of(listing(tmp_path, *(f"{split}/{place}" for split in SPLITS for place in places)))
    assert index.classes == ("cat", "lynx")
    shown = [photo.shown for photo in index.split("test")]
    assert shown == [
        f"test/{place}" for place in ("cat/10.png", "cat/9.png", "lynx/B.png", "lynx/b.png", "lynx/a/z.png")
    ]
    assert index.labels("test").tolist() == [0, 0, 1, 1, 1]
    assert index.labels("test").dtype == np.int64


def test_order_and_labels_equal_keras(tmp_path: Path) -> None:
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    places = [
        "ä/1.png",
        "Z/2.png",
        "a/b/2.png",
        "a/10.png",
        "a/2.png",
        "a/B.png",
        "a b/1.png",
        "a-b/x y/1.png",
        "a-b/x/2.png",
    ]
    index = index_of(listing(tmp_path, *(f"{split}/{place}" for split in SPLITS for place in places)))
    flow = ImageDataGenerator().flow_from_directory(tmp_path / "train", shuffle=False)
    assert [str(photo.path) for photo in index.split("train")] == flow.filepaths
    assert index.labels("train").tolist() == flow.classes.tolist()
    assert {name: n for n, name in enumerate(index.classes)} == flow.class_indices


def test_every_photo_is_hashed_and_measured_the_right_way_up(tmp_path: Path) -> None:
    photos = six(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photos.photos[0].path
    Image.new("RGB", (5, 3)).save(turned, "PNG", exif=exif)
    by_path = {photo.path: photo for photo in index_of(photos).split("train")}
    assert by_path[turned].sha256 == hashlib.sha256(turned.read_bytes()).hexdigest()
    assert (by_path[turned].width_px, by_path[turned].height_px) == (3, 5)
    other = by_path[photos.photos[1].path]
    assert (other.width_px, other.height_px) == (5, 3)


def test_display_defaults_to_the_test_photos(tmp_path: Path) -> None:
    index = index_of(six(tmp_path))
    assert [photo.path for photo in index.split("display")] == [photo.path for photo in index.split("test")]
    assert index.labels("display").tolist() == [0, 1]


def test_display_photos_of_the_listing_are_kept_and_need_no_label(tmp_path: Path) -> None:
    photos = PhotoListing(
        (*six(tmp_path).photos, record(tmp_path, "display/b.png"), record(tmp_path, "display/a.png")), tmp_path
    )
    index = index_of(photos)
    assert [photo.shown for photo in index.split("display")] == ["display/a.png", "display/b.png"]
    assert index.labels("display").tolist() == [-1, -1]
    assert index.counts() == {
        "train": {"cat": 1, "lynx": 1},
        "valid": {"cat": 1, "lynx": 1},
        "test": {"cat": 1, "lynx": 1},
        "display": {"": 2},
    }


def test_what_the_source_says_is_carried_on(tmp_path: Path) -> None:
    photos = PhotoListing(six(tmp_path).photos, tmp_path, stand_in="drawn", notes=("one", "two"))
    index = index_of(photos)
    assert (index.root, index.stand_in, index.notes) == (tmp_path, "drawn", ("one", "two"))


def test_names_are_shown_on_one_line_and_unmistakably(tmp_path: Path) -> None:
    names = ["two\nlines.png", r"two\nlines.png", "猫.png"]
    photos = PhotoListing((*six(tmp_path).photos, *(record(tmp_path, f"train/cat/{name}") for name in names)), tmp_path)
    index = index_of(photos)
    shown = {photo.path.name: photo.shown for photo in index.photos}
    assert [shown[name] for name in names] == [
        r"train/cat/two\nlines.png",
        r"train/cat/two\\nlines.png",
        "train/cat/猫.png",
    ]
    outside = PhotoListing(photos.photos, tmp_path / "train")
    assert index_of(outside).split("test")[0].shown == (tmp_path / "test/cat/1.png").as_posix()


def test_the_content_key_names_a_split_by_photos_and_labels_only(tmp_path: Path) -> None:
    photos = six(tmp_path / "a")
    key = index_of(photos).content_key("test")
    (tmp_path / "a").rename(tmp_path / "b")
    moved = PhotoListing(
        tuple(
            PhotoRecord(tmp_path / "b" / r.path.relative_to(tmp_path / "a"), r.label, r.split) for r in photos.photos
        ),
        tmp_path / "b",
    )
    last = moved.photos[-1]
    last.path.rename(last.path.with_name("renamed.png"))
    renamed = PhotoListing(
        (*moved.photos[:-1], PhotoRecord(last.path.with_name("renamed.png"), "cat", "test")), moved.root
    )
    assert index_of(renamed).content_key("test") == key
    assert index_of(renamed).content_key("train") != key
    swapped = PhotoListing(
        (
            *renamed.photos[:4],
            *(PhotoRecord(r.path, {"cat": "lynx", "lynx": "cat"}[str(r.label)], "test") for r in renamed.photos[4:]),
        ),
        renamed.root,
    )
    assert index_of(swapped).content_key("test") != key
    put(renamed.photos[-1].path, 123)
    assert index_of(renamed).content_key("test") != key


def test_progress_counts_files_once_each(tmp_path: Path) -> None:
    photos = six(tmp_path)
    again = tuple(PhotoRecord(r.path, None, "display") for r in photos.photos)
    seen: list[tuple[int, int]] = []
    build_index(
        PhotoListing((*photos.photos, *again), tmp_path),
        max_pixels=LIMIT,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 6) for done in range(1, 7)]


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    photos = listing(
        tmp_path, "train/cat/1.png", "train/cat/2.png", "train/lynx/1.png", "train/lynx/2.png", "valid/cat/1.png",
        "valid/puma/1.png", "test/cat/1.png", "test/lynx/1.png",
    )  # fmt: skip
    (tmp_path / "test/lynx/1.png").write_bytes((tmp_path / "test/cat/1.png").read_bytes()[:50])
    (tmp_path / "train/cat/2.png").unlink()
    with pytest.raises(DataError, match="class 'lynx' has 2 train photos but none in valid") as caught:
        index_of(photos)
    problems = caught.value.problems
    assert len(problems) == 4
    assert "class 'puma' has 1 valid photo but none in train" in problems[1]
    assert "train/cat/2.png: no such file" in problems[2]
    assert "test/lynx/1.png: " in problems[3]


@pytest.mark.parametrize("missing", SPLITS)
def test_an_empty_split_is_one_problem_not_one_a_class(tmp_path: Path, missing: str) -> None:
    photos = six(tmp_path).photos
    left = PhotoListing(tuple(photo for photo in photos if photo.split != missing), tmp_path)
    assert [line.split(": ", 1)[1] for line in check_listing(left)] == [
        f"no {missing} photos. Put some into {missing}/<class>/."
    ]


def test_one_class_is_too_few(tmp_path: Path) -> None:
    (problem,) = check_listing(listing(tmp_path, *(f"{split}/cat/1.png" for split in SPLITS)))
    assert problem.endswith("train has one class only, 'cat'. At least two are needed.")


@pytest.mark.parametrize("twin", ["Lynx", "LYNX"])
def test_classes_that_differ_in_case_only_are_named_once(tmp_path: Path, twin: str) -> None:
    places = [
        "train/cat/1.png",
        "train/lynx/1.png",
        "valid/cat/1.png",
        f"valid/{twin}/1.png",
        "test/cat/1.png",
        "test/lynx/1.png",
    ]
    (problem,) = check_listing(listing(tmp_path, *places))
    assert f"classes '{twin}' and 'lynx' differ only in case" in problem


def test_classes_that_differ_in_the_encoding_of_accents_are_named(tmp_path: Path) -> None:
    composed, decomposed = "L\u00fcchs", "Lu\u0308chs"
    places = [f"{split}/{label}/1.png" for split in SPLITS for label in (composed, "cat")]
    records = [record(tmp_path, place) for place in places]
    records[2] = PhotoRecord(records[2].path, decomposed, "valid")
    (problem,) = check_listing(PhotoListing(tuple(records), tmp_path))
    assert "in the encoding of accents" in problem


def test_a_photo_without_class_and_an_unknown_split_are_refused(tmp_path: Path) -> None:
    photos = six(tmp_path).photos
    odd = (PhotoRecord(tmp_path / "x.png", None, "train"), PhotoRecord(tmp_path / "y.png", "cat", "holdout"))
    first, second = check_listing(PhotoListing((*photos, *odd), tmp_path))
    assert first.endswith("x.png: has no class. Every train photo needs one.")
    assert second.endswith("y.png: unknown split 'holdout'. Allowed: train, valid, test, display.")


def test_unreadable_photos_beyond_twenty_are_counted(tmp_path: Path) -> None:
    photos = six(tmp_path).photos
    missing = tuple(PhotoRecord(tmp_path / f"train/cat/{n:02}.png", "cat", "train") for n in range(25))
    with pytest.raises(DataError, match=r"00\.png: no such file") as caught:
        index_of(PhotoListing((*photos, *missing), tmp_path))
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1] == "and 5 more"


def test_manifest_has_one_row_a_photo_and_split(tmp_path: Path) -> None:
    photos = six(tmp_path)
    index = index_of(PhotoListing((*photos.photos, record(tmp_path, "display/a.png")), tmp_path))
    rows = manifest_rows(index)
    assert all(tuple(row) == MANIFEST_COLUMNS for row in rows)
    assert [row["split"] for row in rows] == ["train"] * 2 + ["valid"] * 2 + ["test"] * 2 + ["display"]
    assert rows[-1] == {
        "path": "display/a.png",
        "sha256": hashlib.sha256((tmp_path / "display/a.png").read_bytes()).hexdigest(),
        "label": "",
        "split": "display",
        "width_px": 5,
        "height_px": 3,
    }
