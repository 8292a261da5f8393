"""`data export --croissant`: metadata that mlcroissant validates and loads photos by."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import socket
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from helpers_plugins import invoke

from finetunekit.data.profile.croissant import cite_as, croissant_metadata
from finetunekit.data.profile.photo_set import PhotoSet, open_photo_set
from finetunekit.errors import ConfigError, DataError
from finetunekit.system.progress import Progress
from finetunekit.types import PhotoListing, PhotoRecord, PixelContract

QUIET = Progress(io.StringIO())


def described(root: Path, target: Path | None = None, **options: Any) -> dict[str, Any]:
    text = croissant_metadata(open_photo_set(str(root), progress=QUIET), target or root / "croissant.json", **options)
    document: dict[str, Any] = json.loads(text)
    return document


def write_attribution(root: Path) -> None:
    """Every photo by one of two people, in the columns that `data fetch` writes."""
    lines = ["path,licence,licence_url,author,observation_url,sha256"]
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        licence = ("cc-by", "https://creativecommons.org/licenses/by/4.0/")
        if number == 0:
            licence = ("cc0", "https://creativecommons.org/publicdomain/zero/1.0/")
        author = "Ann {B}" if number < 5 else "猫田"
        lines.append(f"x,{licence[0]},{licence[1]},{author},https://example.org/{number},{sha256}")
    (root / "ATTRIBUTION.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_every_file_has_its_checksum_and_every_photo_its_label_and_split(photos: Path) -> None:
    document = described(photos, published="2026-01-02", licences=["CC0-1.0"])
    files = [entry for entry in document["distribution"] if entry["@type"] == "cr:FileObject"]
    assert len(files) == 24
    for entry in files:
        content = (photos / urllib.parse.unquote(entry["contentUrl"])).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert (entry["contentSize"], entry["encodingFormat"]) == (f"{len(content)} B", "image/png")
    sets = {entry["@id"]: entry for entry in document["recordSet"]}
    for row in sets["photo-table"]["data"]:
        split, label, _ = row["photo-table/path"].split("/")
        assert (row["photo-table/split"], row["photo-table/label"]) == (split, label)
    assert [row["labels/name"] for row in sets["labels"]["data"]] == ["blue", "green", "red"]
    assert [row["splits/name"] for row in sets["splits"]["data"]] == ["train", "valid", "test"]
    assert (document["license"], document["datePublished"]) == ("CC0-1.0", "2026-01-02")
    assert document["conformsTo"] == "http://mlcommons.org/croissant/1.0"


def test_without_mlcroissant_one_line_says_what_to_install(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = invoke("data", "export", str(photos), "--croissant", str(photos / "croissant.json"))
    assert (result.exit_code, result.stderr.splitlines()) == (
        2,
        ["error: Croissant metadata needs mlcroissant. Install it: pip install 'finetunekit[croissant]'"],
    )


def test_the_same_photos_are_described_by_the_same_bytes(photos: Path) -> None:
    chosen = open_photo_set(str(photos), progress=QUIET)
    turned = PhotoSet(
        chosen.name,
        PhotoListing(chosen.listing.photos[::-1], chosen.listing.root),
        chosen.max_pixels,
        chosen.contract,
        "",
        {},
    )
    target = photos / "croissant.json"
    assert croissant_metadata(chosen, target) == croissant_metadata(turned, target)


def test_authors_and_licences_come_from_the_attribution(photos: Path) -> None:
    write_attribution(photos)
    document = described(photos)
    assert document["license"] == [
        "https://creativecommons.org/licenses/by/4.0/",
        "https://creativecommons.org/publicdomain/zero/1.0/",
    ]
    assert document["citeAs"] == (
        "@misc{photos, title = {photos}, author = {{猫田} and {Ann B}},"
        " note = {24 photos, each with its own licence: see ATTRIBUTION.csv}}"
    )
    table = next(entry for entry in document["recordSet"] if entry["@id"] == "photo-table")
    row = table["data"][0]
    assert (row["photo-table/author"], row["photo-table/source"]) == ("Ann {B}", "https://example.org/0")
    assert cite_as("x", ["", ""]) is None


def test_a_damaged_attribution_is_said(photos: Path) -> None:
    (photos / "ATTRIBUTION.csv").write_text("path,author\na,b\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"ATTRIBUTION.csv: has no column sha256, licence, licence_url, observation_url"
    ):
        described(photos)


def test_metadata_lies_where_it_reaches_the_photos(photos: Path, tmp_path: Path) -> None:
    above = described(photos, tmp_path / "croissant.json")
    assert above["distribution"][0]["contentUrl"].startswith("photos/test/")
    with pytest.raises(ConfigError, match=r"does not lie below\. Write it to .*photos.croissant\.json"):
        described(photos, tmp_path / "elsewhere" / "croissant.json")


def test_a_photo_that_is_none_or_has_changed_is_said(photos: Path) -> None:
    path = photos / "train" / "red" / "red-0.png"
    records = (PhotoRecord(path, "red", "train"),)
    recorded = PhotoSet("run", PhotoListing(records, photos), 10_000, PixelContract(), "", {path: "0" * 64})
    with pytest.raises(DataError, match=r"red-0\.png: has changed since the run"):
        croissant_metadata(recorded, photos / "croissant.json")
    path.write_bytes(b"no")
    with pytest.raises(DataError, match=r"red-0\.png: is not a photo"):
        described(photos)


def test_the_command_writes_the_file_and_asks_for_a_licence(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("data", "export", "photos", "--croissant", "croissant.json")
    assert (result.exit_code, result.stdout) == (0, "croissant.json\n")
    assert "note: no licence is known" in result.stderr
    again = invoke("data", "export", "photos", "--croissant", "croissant.json", "--licence", "CC0-1.0")
    assert "note" not in again.stderr
    assert json.loads(Path("croissant.json").read_text(encoding="utf-8"))["license"] == "CC0-1.0"
    assert invoke("data", "export", "photos").exit_code == 2
    assert invoke("data", "export", "photos", "--croissant", "x.json", "--date", "soon").exit_code == 2


@pytest.mark.filterwarnings("ignore")  # mlcroissant and what it brings warn about themselves
def test_mlcroissant_validates_it_and_loads_the_photos_without_a_network(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlcroissant

    for split in ("train", "valid", "test"):
        (photos / split / "red").rename(photos / split / "猫 [1]#2")
    odd = photos / "train" / "blue" / "a\u202fb\tline\nbreak %23 \u202e\x1b.png"
    (photos / "train" / "blue" / "blue-1.png").rename(odd)
    write_attribution(photos)
    (photos / "train" / "notes.png").write_bytes((photos / "train" / "blue" / "blue-0.png").read_bytes())
    target = tmp_path / "croissant.json"
    text = croissant_metadata(open_photo_set(str(photos), progress=QUIET), target, published="2026-01-02")
    target.write_text(text, encoding="utf-8")

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    dataset = mlcroissant.Dataset(str(target))
    issues = dataset.metadata.ctx.issues
    assert (list(issues.errors), list(issues.warnings)) == ([], [])
    records = list(dataset.records("photos"))
    assert len(records) == 24
    for record in records:
        path = photos.parent / record["photos/path"].decode()
        assert record["photos/label"].decode() == path.parent.name
        assert record["photos/split"].decode() == path.parts[-3]
        assert record["photos/image"].size == (8, 8)
        assert record["photos/sha256"].decode() == hashlib.sha256(path.read_bytes()).hexdigest()
    labels = [record["labels/name"] for record in dataset.records("labels")]
    assert labels == ["blue", "green", "猫 [1]#2"]


def test_from_drawn_photos_to_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole path of a newcomer: draw, count, look, describe."""
    monkeypatch.chdir(tmp_path)
    assert invoke("data", "draw", "felids", "--per-class", "3", "--size", "24").exit_code == 0
    stats = invoke("data", "stats", "felids")
    assert stats.stdout.splitlines()[0] == "felids: 20 photos, 4 classes, in felids"
    show = invoke("data", "show", "felids", "--out", "felids.png")
    assert show.stdout.splitlines() == ["12 of 12 train photos, chosen with seed 0; 4 classes", "felids.png"]
    export = invoke("data", "export", "felids", "--croissant", "felids/croissant.json", "--licence", "Apache-2.0")
    assert export.exit_code == 0
    document = json.loads(Path("felids/croissant.json").read_text(encoding="utf-8"))
    assert document["description"] == "20 photos of 4 classes for image classification: cat, lion, lynx, tiger."
    assert "felids: 20 photos" in invoke("data", "stats", "felids").stdout  # what was written disturbs nothing
