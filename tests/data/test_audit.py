"""The audit on planted defects: each is found and named, and photos with nothing wrong give nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_photos import draw_photo, list_all, opened, save, write_clean
from finetunekit_builtin.felids.folder import write_drawn_photos
from finetunekit_builtin.felids.photo import draw_photo as draw_felid
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from finetunekit.data.audit import duplicates
from finetunekit.data.audit.audit import audit_listing
from finetunekit.data.audit.equal_pixels import equal_pixels
from finetunekit.data.audit.findings import AuditReport, Finding
from finetunekit.data.audit.relation import Relation
from finetunekit.data.known_photos import open_known_photos
from finetunekit.system.progress import Progress
from finetunekit.types import PhotoListing

LIMIT = 1_000_000
QUIET = Progress(is_quiet=True)


@pytest.fixture(scope="module")
def clean_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clean(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def root(clean_photos: Path, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the clean photos; their signatures are kept from test to test."""
    monkeypatch.setenv("FINETUNEKIT_CACHE", str(shared_cache))
    return Path(shutil.copytree(clean_photos, tmp_path / "photos"))


def look(root: Path, fed_px: int | None = None) -> AuditReport:
    return audit(list_all(root), fed_px)


def audit(listing: PhotoListing, fed_px: int | None = None) -> AuditReport:
    with open_known_photos(QUIET.say) as known:
        return audit_listing(listing, max_pixels=LIMIT, known=known, fed_px=fed_px, progress=QUIET)


def only(report: AuditReport, kind: str) -> Finding:
    (finding,) = [finding for finding in report.findings if finding.kind == kind]
    return finding


def paths(finding: Finding) -> list[list[str]]:
    return [[seen.path for seen in group] for group in finding.groups]


def test_a_clean_set_gives_nothing(root: Path) -> None:
    report = look(root, fed_px=96)
    assert report.findings == ()
    assert report.photos == {"train": 20, "valid": 12, "test": 12, "display": 0}
    assert report.classes["cat"] == {"train": 10, "valid": 6, "test": 6}
    assert report.sizes == {"width_px": [144, 144, 144], "height_px": [108, 108, 108]}


def test_a_second_look_decodes_and_compares_nothing_and_finds_the_same(
    root: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(opened(root / "train/cat/0.jpg"), root / "test/cat/copy.jpg", quality=40)
    first = look(root)
    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "find_candidates", pytest.fail)
        second = look(root)
    assert (first.decoded, second.decoded) == (45, 0)
    assert first.findings == second.findings != ()
    listing = list_all(root)
    turned = audit(replace(listing, photos=listing.photos[::-1]))
    assert [sorted(group) for group in paths(only(turned, "leak"))] == paths(only(first, "leak"))
    (root / "test/cat/copy.jpg").unlink()
    assert look(root).findings == ()  # other photos are compared anew


def test_what_was_done_to_a_photo_is_told_from_either_file() -> None:
    crop = Relation(False, 1, 0.0, "crop", is_covered=False, is_inverted=False)
    assert crop.words() == "turned by a quarter, a crop"
    assert crop.reversed().words() == "turned by a quarter, with more around it, as in a collage"
    assert crop.reversed().reversed() == crop
    assert replace(crop, extent="frame").reversed().words() == "turned by a quarter, without its border"


def framed(image: Image.Image) -> Image.Image:
    return ImageOps.expand(image, 30, (200, 30, 60))


def covered(image: Image.Image) -> Image.Image:
    image.paste((0, 0, 0), (60, 30, 132, 84))
    return image


def collage(image: Image.Image) -> Image.Image:
    whole = Image.new("RGB", (2 * image.width, image.height))
    whole.paste(draw_photo(910, image.size))
    whole.paste(image, (image.width, 0))
    return whole


CHANGES = {
    "exact": ("the same file", lambda image: None),
    "quality": ("the same photo, saved again", lambda image: (image, 30)),
    "smaller": ("the same photo, saved again", lambda image: (image.resize((72, 54)), 80)),
    "brighter": ("the same photo, saved again", lambda image: (ImageEnhance.Brightness(image).enhance(1.15), 85)),
    "inverted": ("inverted", lambda image: (ImageOps.invert(image), 85)),
    "mirror": ("mirrored", lambda image: (ImageOps.mirror(image), 80)),
    "flip": ("flipped upside down", lambda image: (ImageOps.flip(image), 80)),
    "quarter": ("turned by a quarter", lambda image: (image.transpose(Image.Transpose.ROTATE_90), 80)),
    "upside_down": ("turned upside down", lambda image: (image.transpose(Image.Transpose.ROTATE_180), 80)),
    "rotated": ("rotated by 12", lambda image: (image.rotate(12, Image.Resampling.BICUBIC, expand=True), 85)),
    "crop": ("a crop", lambda image: (image.crop((9, 7, 139, 104)), 85)),
    "half": ("a crop", lambda image: (image.crop((50, 20, 122, 74)), 85)),
    "mirrored_crop": ("mirrored, a crop", lambda image: (ImageOps.mirror(image.crop((0, 11, 120, 101))), 85)),
    "border": ("with a border", lambda image: (framed(image), 85)),
    "covered": ("partly covered", lambda image: (covered(image), 85)),
    "collage": ("with more around it, as in a collage", lambda image: (collage(image), 85)),
}


def test_copies_in_another_split_are_leaks_each_told_by_what_was_done_to_it(root: Path) -> None:
    for number, (change, (_, make)) in enumerate(CHANGES.items()):
        source, copy = root / "test" / "lynx" / f"{change}.jpg", root / "train/lynx" / f"copy, {change}.jpg"
        save(draw_photo(950 + number), source)
        made = make(opened(source))
        if made is None:
            shutil.copy(source, copy)
        else:
            save(made[0], copy, quality=made[1])
    leak, order = only(look(root), "leak"), sorted(CHANGES)
    assert leak.severity == "error"
    assert paths(leak) == [[f"test/lynx/{change}.jpg", f"train/lynx/copy, {change}.jpg"] for change in order]
    notes = {change: group[1].note for change, group in zip(order, leak.groups, strict=True)}
    assert {change: note for change, note in notes.items() if not note.startswith(CHANGES[change][0])} == {}
    reasons = {one.path: one.reason for one in leak.exclusions}
    assert len(reasons) == len(CHANGES)
    assert reasons["train/lynx/copy, crop.jpg"] == "leak: the photo of test/lynx/crop.jpg, which stays in test"


def test_copies_within_a_split_are_one_cluster_and_a_warning(root: Path) -> None:
    shutil.copy(root / "train/cat/1.jpg", root / "train/cat/copy 1.jpg")
    save(opened(root / "train/cat/1.jpg"), root / "train/cat/copy 2.jpg", quality=50)
    finding = only(look(root), "duplicate")
    assert finding.severity == "warning"
    assert paths(finding) == [["train/cat/1.jpg", "train/cat/copy 1.jpg", "train/cat/copy 2.jpg"]]
    assert [one.path for one in finding.exclusions] == ["train/cat/copy 1.jpg", "train/cat/copy 2.jpg"]


def test_one_photo_with_two_labels_is_an_error_and_neither_stays(root: Path) -> None:
    save(opened(root / "train/cat/2.jpg"), root / "train/lynx/other.jpg", quality=60)
    report = look(root)
    conflict = only(report, "conflict")
    assert conflict.severity == "error"
    assert {one.path for one in conflict.exclusions} == {"train/cat/2.jpg", "train/lynx/other.jpg"}
    assert [finding.kind for finding in report.findings] == ["conflict"]


def test_truncated_empty_and_foreign_files_are_named_with_their_cause(root: Path) -> None:
    whole = (root / "train/cat/0.jpg").read_bytes()
    for name, content in {
        "half.jpg": whole[: len(whole) // 2],
        "no end.jpg": whole[:-2],
        "empty.jpg": b"",
        "text.jpg": b"not a photo",
    }.items():
        (root / "train/cat" / name).write_bytes(content)
    finding = only(look(root), "unreadable")
    notes = {group[0].path.rsplit("/", 1)[1]: group[0].note for group in finding.groups}
    assert finding.severity == "error"
    assert set(notes) == {"half.jpg", "no end.jpg", "empty.jpg", "text.jpg"}
    assert "truncated" in notes["half.jpg"]
    assert "truncated" in notes["no end.jpg"]
    assert "empty" in notes["empty.jpg"]
    assert len(finding.exclusions) == 4


def test_a_png_without_its_last_chunk_is_truncated(root: Path) -> None:
    draw_photo(907).save(root / "train/cat/whole.png")
    (root / "train/cat/cut.png").write_bytes((root / "train/cat/whole.png").read_bytes()[:-12])
    report = look(root)
    assert paths(only(report, "unreadable")) == [["train/cat/cut.png"]]


def test_a_group_that_stands_in_two_splits_is_a_warning(root: Path) -> None:
    listing = list_all(root)
    animals = {"train/cat/0.jpg": "tom", "test/cat/3.jpg": "tom", "train/cat/1.jpg": "kit", "train/cat/2.jpg": "kit"}
    records = (replace(r, group=animals.get(r.path.relative_to(root).as_posix())) for r in listing.photos)
    report = audit(replace(listing, photos=tuple(records)))
    assert paths(only(report, "group")) == [["test/cat/3.jpg", "train/cat/0.jpg"]]
    assert only(report, "group").title == "1 of 2 groups have photos in more than one split"


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99, 0.999])
def test_a_photo_truncated_anywhere_is_found_and_one_with_junk_behind_it_is_not(root: Path, part: float) -> None:
    whole = (root / "valid/cat/0.jpg").read_bytes()
    (root / "valid/cat/cut.jpg").write_bytes(whole[: int(len(whole) * part)])
    other = (root / "valid/cat/1.jpg").read_bytes()
    (root / "valid/cat/1.jpg").write_bytes(other + b"\0" * 100)
    assert paths(only(look(root), "unreadable")) == [["valid/cat/cut.jpg"]]


def test_a_photo_named_as_another_format_is_a_warning(root: Path) -> None:
    draw_photo(900).save(root / "train/cat/really a.jpg", "PNG")
    finding = only(look(root), "misnamed")
    assert finding.groups[0][0].note == "named as JPEG, is PNG"
    assert finding.severity == "warning"


def test_blank_dark_bright_blurred_and_grey_photos_are_told_apart(root: Path) -> None:
    photo = draw_photo(901)
    save(Image.new("RGB", (144, 108), (90, 120, 90)), root / "train/cat/blank.jpg")
    save(Image.fromarray((np.asarray(photo) * 0.2).astype(np.uint8)), root / "train/cat/dark.jpg")
    save(Image.fromarray((np.asarray(draw_photo(902)) * 0.2 + 203).astype(np.uint8)), root / "train/cat/bright.jpg")
    save(draw_photo(903, (320, 240)).filter(ImageFilter.GaussianBlur(4)), root / "train/cat/blurred.jpg")
    save(draw_photo(904).convert("L"), root / "train/cat/grey.jpg")
    report = look(root)
    for kind in ("blank", "dark", "bright", "blurred", "grey"):
        assert paths(only(report, kind)) == [[f"train/cat/{kind}.jpg"]]
    assert [one.path for one in only(report, "blank").exclusions] == ["train/cat/blank.jpg"]


def test_blank_photos_are_no_copies_of_each_other(root: Path) -> None:
    for number in range(3):
        save(Image.new("RGB", (144, 108), (40 * number + 60,) * 3), root / "train/cat" / f"blank {number}.jpg")
    assert {finding.kind for finding in look(root).findings} == {"blank"}


def test_a_watermark_across_nearly_every_part_of_a_photo_hides_no_leak(tmp_path: Path) -> None:
    photo = Image.fromarray(draw_felid("lion", seed=0, index=33, split="train", size_px=128))
    layer = Image.new("RGBA", photo.size)
    for line in range(2):
        font, place = ImageFont.load_default(128 / 6), (3, 64 * line + 64 / 3)
        ImageDraw.Draw(layer).text(place, "SAMPLE PHOTO", fill=(255, 255, 255, 180), font=font)
    save(photo, tmp_path / "photos/test/lion/photo.jpg")
    marked = Image.alpha_composite(opened(tmp_path / "photos/test/lion/photo.jpg").convert("RGBA"), layer).convert(
        "RGB"
    )
    save(marked, tmp_path / "photos/train/lion/marked.jpg", quality=85)
    assert paths(only(look(tmp_path / "photos"), "leak")) == [["test/lion/photo.jpg", "train/lion/marked.jpg"]]


def test_equal_places_are_counted_whatever_lies_over_the_others() -> None:
    rng = np.random.default_rng(0)
    seen = rng.uniform(60, 190, (2, 64, 64)).astype(np.float32)
    wanted = np.stack([1.05 * seen[0] - 7, rng.uniform(60, 190, (64, 64))]).astype(np.float32)
    wanted[:, :, ::2] = 255  # a mark over half of both
    equal = equal_pixels(seen, wanted, np.ones_like(seen), within=3.0)
    assert equal.slope[0] == pytest.approx(1.05, abs=0.02)
    assert equal.share[1] < 0.02


def test_two_drawn_felids_whose_few_blocks_agree_by_chance_are_two_photos(tmp_path: Path) -> None:
    for label, index in ("cat", 143), ("lion", 19):
        path = tmp_path / "photos/train" / label / "drawn.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(draw_felid(label, seed=0, index=index, split="train")).save(path)
    assert {finding.kind for finding in look(tmp_path / "photos").findings} == {"layout"}


@pytest.mark.slow
def test_no_two_of_the_drawn_stand_in_photos_are_one(tmp_path: Path) -> None:
    write_drawn_photos(tmp_path / "photos", seed=0, with_display=False)
    kinds = {finding.kind for finding in look(tmp_path / "photos").findings}
    assert not kinds & {"leak", "conflict", "duplicate"}


def test_photos_smaller_than_the_input_and_very_long_ones_are_counted(root: Path) -> None:
    save(draw_photo(905, (640, 160)), root / "train/cat/long.jpg")
    report = look(root, fed_px=120)
    assert only(report, "small").severity == "note"
    assert only(look(root, fed_px=250), "small").severity == "warning"
    assert only(report, "small").title == "44 photos of 45 smaller than the 120 px they are fed at"
    assert paths(only(report, "long")) == [["train/cat/long.jpg"]]


def test_an_uneven_training_set_is_noted_and_a_very_uneven_one_warned_of(root: Path) -> None:
    for number in range(5):
        (root / f"train/lynx/{number}.jpg").unlink()
    assert only(look(root), "imbalance").severity == "note"
    for number in range(5, 8):
        (root / f"train/lynx/{number}.jpg").unlink()
    finding = only(look(root), "imbalance")
    assert finding.severity == "warning"
    assert finding.title == "cat has 10 training photos, lynx 2: 5.0 times as many"


def test_a_class_that_comes_from_one_source_is_told_from_its_files_alone(root: Path) -> None:
    for path in [*root.glob("*/cat/*.jpg")]:
        save(opened(path).resize((150, 100)), path, quality=60)
    finding = only(look(root), "properties")
    assert finding.facts["photos"] == 32, "test photos stay out of it"
    assert finding.facts["right"] == 32
    assert finding.facts["low"] > finding.facts["chance"] == 0.5


def test_a_class_missing_from_a_split_is_an_error(root: Path) -> None:
    shutil.rmtree(root / "test/cat")
    finding = only(look(root), "layout")
    assert finding.severity == "error"
    assert "class 'cat' has 10 train photos but none in test" in finding.title
