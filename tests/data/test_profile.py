"""Looking at photos before training: statistics and contact sheets."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import write_photos
from helpers_docs import blocks
from helpers_plugins import invoke
from PIL import Image

from finetunekit.data.index import MANIFEST_COLUMNS, build_index, manifest_rows
from finetunekit.data.known_photos import measure_photos
from finetunekit.data.measure import COLOURLESS, ORIENTATION, Traits, measure_header
from finetunekit.data.profile.croissant import croissant_metadata
from finetunekit.data.profile.photo_set import PhotoSet, open_photo_set
from finetunekit.data.profile.summary_statistics import channel_statistics, measure_set
from finetunekit.errors import ConfigError, DataError
from finetunekit.models.preprocessing import as_input
from finetunekit.reports.contact_sheet import choose_photos, make_sheet
from finetunekit.reports.contact_sheet_page import sheet_page
from finetunekit.reports.contact_sheet_png import MAX_HEIGHT_PX, sheet_png, wrapped
from finetunekit.reports.dataset_statistics_text import statistics_lines
from finetunekit.runs.folder import FORMAT
from finetunekit.system.files import to_csv
from finetunekit.system.progress import Progress
from finetunekit.system.terminal import terminal_width
from finetunekit.types import PhotoListing, PhotoRecord, PixelContract

QUIET = Progress(io.StringIO())
VGG16 = PixelContract(order="bgr", mean=(103.939, 116.779, 123.68))
ODD = PixelContract(order="rgb", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def photo_set(root: Path) -> PhotoSet:
    return open_photo_set(str(root), progress=QUIET)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]
    return path


def noise(height_px: int, width_px: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def measure(path: Path) -> Traits:
    return measure_photos([path], max_pixels=10_000).photos[path].traits


# ---- measuring -------------------------------------------------------------------------------------------------------------------


def test_a_photo_is_measured_the_right_way_up(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # stored lying on its side
    path = save(tmp_path / "turned.jpg", noise(20, 40), exif=exif)
    for found in (measure(path), measure_header(path, max_pixels=10_000)):
        assert (found["width_px"], found["height_px"], found["orientation"]) == (20, 40, 6)
        assert (found["format"], found["mode"], found["size_bytes"]) == (b"JPEG", b"RGB", path.stat().st_size)


def test_a_photo_without_colour_is_known_after_compression_too(tmp_path: Path) -> None:
    grey = np.repeat(noise(32, 32)[:, :, :1], 3, axis=2)
    stained = grey.copy()
    stained[:8, :8] = (200, 30, 30)
    for name, pixels, is_grey in (("a.jpg", grey, True), ("b.jpg", stained, False), ("c.jpg", grey[:, :, 0], True)):
        assert (measure(save(tmp_path / name, pixels))["colour"] <= COLOURLESS) == is_grey, name


@pytest.mark.parametrize("contract", [PixelContract(), VGG16, ODD])
def test_channels_are_those_that_the_network_would_be_fed(tmp_path: Path, contract: PixelContract) -> None:
    photos = [noise(16, 16, seed) // (seed + 1) for seed in range(3)]
    paths = [save(tmp_path / f"{i}.png", pixels) for i, pixels in enumerate(photos)]
    found = channel_statistics([measure(p) for p in paths], contract)
    fed = as_input(np.stack(photos), contract).astype(np.float64)
    np.testing.assert_allclose(found.mean, fed.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found.std, fed.std(axis=(0, 1, 2)), rtol=1e-5)
    assert found.photos == 3


def test_every_photo_weighs_the_same(tmp_path: Path) -> None:
    small = save(tmp_path / "small.png", np.full((2, 2, 3), 0, np.uint8))
    large = save(tmp_path / "large.png", np.full((50, 50, 3), 200, np.uint8))
    found = [measure(path) for path in (small, large)]
    assert channel_statistics(found, PixelContract()).mean == (100, 100, 100)


# ---- statistics ------------------------------------------------------------------------------------------------------------------


def test_a_folder_is_counted_by_class_and_split(photos: Path) -> None:
    found = measure_set(photo_set(photos))
    assert found.counts == {"train": 12, "valid": 6, "test": 6}
    assert found.classes["red"].counts == {"train": 4, "valid": 2, "test": 2}
    assert found.quantiles["width_px"] == dict.fromkeys(("min", "p05", "median", "p95", "max"), 8.0)
    assert (found.formats, found.modes, found.orientations, found.grey) == ({"PNG": 24}, {"RGB": 24}, {}, 0)
    assert found.channels["train"].photos == 12
    red = measure_set(photo_set(photos)).classes["red"]
    assert (red.photos, red.median_width_px, red.formats) == (8, 8.0, {"PNG": 8})


def test_photos_that_cannot_be_read_are_named_and_the_others_counted(photos: Path) -> None:
    (photos / "train" / "red" / "broken.jpg").write_bytes(b"\xff\xd8 not a photo")
    result = invoke("data", "stats", str(photos))
    assert result.exit_code == 0
    assert "cannot be read: 1" in result.stdout
    assert "broken.jpg: is not a photo" in result.stdout
    assert "24 photos, 3 classes" in result.stdout


def test_a_photo_of_two_splits_counts_in_both_and_display_in_none(tmp_path: Path, photos: Path) -> None:
    path = photos / "train" / "red" / "red-0.png"
    records = tuple(PhotoRecord(path, "red", split) for split in ("train", "test", "display"))
    chosen = PhotoSet("x", PhotoListing(records, photos), 10_000, PixelContract(), "levels", {})
    assert measure_set(chosen).counts == {"train": 1, "test": 1}
    nothing = PhotoSet("x", PhotoListing(records[2:], photos), 10_000, PixelContract(), "levels", {})
    with pytest.raises(DataError, match="holds no photos"):
        measure_set(nothing)


def test_the_table_fits_80_columns_and_numbers_are_below_each_other(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    (photos / "train" / "red").rename(photos / "train" / "猫ライオン")
    for split in ("valid", "test"):
        (photos / split / "red").rename(photos / split / "猫ライオン")
    lines = list(statistics_lines(measure_set(photo_set(photos))))
    assert max(map(terminal_width, lines)) <= 80
    rows = [line for line in lines if re.match(r"(blue|green|猫ライオン|all) ", line)]
    assert len(rows) == 4
    assert len({terminal_width(row[: row.index("  8 x 8")]) for row in rows[:3]}) == 1
    assert "channels, RGB / 255; every photo weighs the same:" in lines


def test_json_has_the_same_figures(photos: Path) -> None:
    result = invoke("data", "stats", str(photos), "--headers", "--json")
    found = json.loads(result.stdout)
    assert (found["photos"], found["grey"], found["channels"]) == (24, None, {})
    assert found["classes"]["blue"]["counts"] == {"train": 4, "valid": 2, "test": 2}


def test_a_presets_photos_are_told_in_the_units_of_its_network(photos: Path) -> None:
    asked = ["--set", f"data.root={photos}"]
    fractions = json.loads(invoke("data", "stats", "felidae4", *asked, "--json").stdout)
    fed = json.loads(invoke("data", "stats", "felidae4", *asked, "--set", "pixels.contract=backbone", "--json").stdout)
    assert (fractions["order"], fed["order"]) == ("rgb", "bgr")
    red, green, blue = (255 * mean for mean in fractions["channels"]["train"]["mean"])
    assert fed["channels"]["train"]["mean"] == pytest.approx([blue - 103.939, green - 116.779, red - 123.68])
    assert fed["contract"] == "as VGG16 is fed"


# ---- which photos ----------------------------------------------------------------------------------------------------------------


def test_a_folder_of_a_presets_name_needs_a_separator_and_takes_no_settings(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos.rename(tmp_path / "felidae4")
    assert photo_set(Path("felidae4")).listing.stand_in is not None
    assert open_photo_set("./felidae4", progress=QUIET).listing.stand_in is None
    with pytest.raises(DataError, match="felidae4: is not a preset, and --set changes presets"):
        open_photo_set("./felidae4", settings=["seed=1"], progress=QUIET)
    with pytest.raises(ConfigError, match="nowhere"):
        open_photo_set("nowhere", progress=QUIET)


def test_a_folder_that_was_fetched_stands_for_its_images(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    photos.rename(tmp_path / "set" / "images")
    (tmp_path / "set" / "ATTRIBUTION.csv").write_text("path\n", encoding="utf-8")
    assert photo_set(tmp_path / "set").listing.root == tmp_path / "set" / "images"


def test_a_table_of_photos_needs_no_preset_either(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        f"{path.relative_to(tmp_path)},{path.parent.name},{path.parts[-3]}" for path in sorted(photos.rglob("*.png"))
    ]
    Path("birds.csv").write_text("\n".join(["file_name,label,split", *rows, ""]), encoding="utf-8")
    assert invoke("data", "stats", "birds.csv").stdout.startswith("birds: 24 photos, 3 classes, in ")
    refused = invoke("data", "stats", "birds.csv", "--set", "seed=1")
    assert (refused.exit_code, "birds.csv: is not a preset" in refused.stderr) == (2, True)


def test_a_table_written_away_from_its_photos_is_opened_by_saying_where_they_are(photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "elsewhere" / "splits.csv"
    table.parent.mkdir()
    assert invoke("data", "split", str(photos), "--out", str(table)).exit_code == 0
    lost = invoke("data", "stats", str(table))
    assert (lost.exit_code, "--option photos=DIR" in lost.stderr) == (2, True)
    found = invoke("data", "stats", str(table), "--option", f"photos={photos}", "--headers")
    assert found.exit_code == 0, found.stderr
    sheet = tmp_path / "sheet.html"
    shown = invoke("data", "show", str(table), "--option", f"photos={photos}", "--out", str(sheet))
    assert (shown.exit_code, sheet.is_file()) == (0, True)


def test_a_run_stands_for_the_photos_it_used_fed_as_it_fed_them(photos: Path, tmp_path: Path) -> None:
    index = build_index(photo_set(photos).listing, max_pixels=10_000)
    run = tmp_path / "run"
    run.mkdir()
    state = {"format": FORMAT, "photo_root": str(photos), "stand_in": None, "pixels": dataclasses.asdict(VGG16)}
    (run / "config.yaml").write_text("name: x\n", encoding="utf-8")
    (run / "plan.json").write_text(json.dumps({"config": {"data": {"max_photo_pixels": 10_000}}}), encoding="utf-8")
    (run / "run.json").write_text(json.dumps(state), encoding="utf-8")
    (run / "photos.csv").write_text(to_csv(manifest_rows(index), MANIFEST_COLUMNS), encoding="utf-8")
    chosen = photo_set(run)
    assert measure_set(chosen).counts == {"train": 12, "valid": 6, "test": 6}
    assert (chosen.contract, chosen.name) == (VGG16, "run")
    document = json.loads(croissant_metadata(chosen, photos / "croissant.json"))
    assert len([entry for entry in document["distribution"] if entry["@type"] == "cr:FileObject"]) == 24
    save(photos / "train" / "red" / "red-0.png", noise(8, 8))
    with pytest.raises(DataError, match=r"red-0\.png: has changed since the run"):
        croissant_metadata(chosen, photos / "croissant.json")


# ---- contact sheets --------------------------------------------------------------------------------------------------------------


def test_a_sheet_shows_each_class_and_leaves_the_test_split_closed(photos: Path) -> None:
    sheet = make_sheet(photo_set(photos), per_class=3)
    assert [(row.label, len(row.tiles), row.photos) for row in sheet.rows] == [
        ("blue", 3, 4),
        ("green", 3, 4),
        ("red", 3, 4),
    ]
    assert all(tile.shown.startswith("train/") for row in sheet.rows for tile in row.tiles)
    assert sheet.subtitle == "9 of 12 train photos, chosen with seed 0"
    assert all(tile.picture and tile.picture.size == (144, 144) for row in sheet.rows for tile in row.tiles)


def test_the_seed_chooses_and_a_new_photo_moves_one_at_most() -> None:
    records = [PhotoRecord(Path(f"/r/{i:03d}.png"), "a", "train") for i in range(60)]
    chosen = choose_photos(records, 10, 0, Path("/r"))
    assert chosen == choose_photos(records[::-1], 10, 0, Path("/r"))
    assert chosen != choose_photos(records, 10, 1, Path("/r"))
    more = choose_photos([*records, PhotoRecord(Path("/r/new.png"), "a", "train")], 10, 0, Path("/r"))
    assert len(set(chosen) - set(more)) <= 1


def test_the_same_photos_make_the_same_bytes(photos: Path) -> None:
    sheets = [make_sheet(photo_set(photos), per_class=2) for _ in range(2)]
    assert sheet_png(sheets[0]) == sheet_png(sheets[1])
    assert sheet_page(sheets[0]) == sheet_page(sheets[1])


def test_a_png_shows_the_photos_and_names_of_any_script(photos: Path) -> None:
    for split in ("train", "valid", "test"):
        (photos / split / "red").rename(photos / split / "猫 рысь")
    sheet = make_sheet(photo_set(photos), per_class=4)
    with Image.open(io.BytesIO(sheet_png(sheet, columns=2))) as drawn:
        pixels = np.asarray(drawn)
    assert drawn.mode == "RGB"
    for row in sheet.rows:
        picture = row.tiles[0].picture
        assert picture is not None
        assert _holds(pixels, np.asarray(picture))


def _holds(canvas: np.ndarray, picture: np.ndarray) -> bool:
    """Whether a picture is on the canvas to the pixel."""
    height, width, _ = picture.shape
    first = np.argwhere((canvas[: 1 - height or None, : 1 - width or None] == picture[0, 0]).all(axis=2))
    return any((canvas[y : y + height, x : x + width] == picture).all() for y, x in first)


def test_a_photo_that_cannot_be_decoded_has_its_reason_in_its_place(photos: Path) -> None:
    (photos / "train" / "red" / "red-0.png").write_bytes(b"no")
    sheet = make_sheet(photo_set(photos))
    (tile,) = [tile for row in sheet.rows for tile in row.tiles if tile.picture is None]
    assert (tile.shown, tile.problem) == ("train/red/red-0.png", "is not a photo in a format that is read here")
    assert "is not a photo in a format that is read here" in sheet_page(sheet).decode()
    assert sheet_png(sheet).startswith(b"\x89PNG")
    assert wrapped(tile.problem, 11, 132) == ("is not a photo in a", "format that is read here")


def test_a_page_needs_nothing_else_and_takes_no_markup_from_names(photos: Path) -> None:
    for split in ("train", "valid", "test"):
        (photos / split / "red").rename(photos / split / "<script>alert(1)<&")
    page = sheet_page(make_sheet(photo_set(photos))).decode()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;&amp;" in page
    assert set(re.findall(r'(?:src|href)="(\w+:|#)', page)) == {"data:", "#"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--class", "rde"], "--class rde: no such class in train. Did you mean 'red'?"),
        (["--split", "display"], "--split display: no photos there."),
        (["--out", "sheet.gif"], "a sheet is .html or .png. Received: '.gif'"),
    ],
)
def test_a_mistaken_show_is_one_line(photos: Path, arguments: list[str], message: str) -> None:
    result = invoke("data", "show", str(photos), *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_sheet_that_nobody_could_look_at_is_refused(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetunekit.reports.contact_sheet.MAX_TILES", 5)
    with pytest.raises(ConfigError, match="12 photos are too many for one sheet"):
        make_sheet(photo_set(photos))
    monkeypatch.undo()
    assert MAX_HEIGHT_PX > 10_000
    monkeypatch.setattr("finetunekit.reports.contact_sheet_png.MAX_HEIGHT_PX", 300)
    with pytest.raises(ConfigError, match=r"px is too high .* Write \.html"):
        sheet_png(make_sheet(photo_set(photos)))


def test_show_writes_the_file_it_names(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = invoke("data", "show", "photos")
    assert page.stdout == "12 of 12 train photos, chosen with seed 0; 3 classes\nphotos-photos.html\n"
    png = invoke("data", "show", "photos", "--out", "deep/sheet.png", "--per-class", "1", "--class", "red")
    assert png.stdout.splitlines()[-1] == "deep/sheet.png"
    with Image.open("deep/sheet.png") as drawn:
        assert drawn.size[0] >= 480


def test_photos_are_not_opened_to_be_listed(tmp_path: Path) -> None:
    write_photos(tmp_path / "a")
    for path in (tmp_path / "a").rglob("*.png"):
        path.write_bytes(b"no")
    assert len(photo_set(tmp_path / "a").listing.photos) == 24


def test_the_page_shows_what_its_commands_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File sizes aside, which follow the zlib that Pillow was built with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNEKIT_OFFLINE", "1")
    ran = 0
    for command, shown in blocks("fetch.md"):
        result = invoke(*shlex.split(command))
        printed = [_without_sizes(line) for line in (result.stderr + result.stdout).splitlines()]
        assert [line for line in map(_without_sizes, shown) if line != "..." and line not in printed] == [], command
        ran += 1
    assert ran == 6


def _without_sizes(line: str) -> str:
    return " ".join(re.sub(r"\b\d+\.\d\b", "#", line).split())
