"""Leaving photos out, the gate before the first epoch, and what became of a run's photos."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from audit_photos import list_all, opened, save, write_clean
from click.testing import CliRunner, Result
from finetunekit_builtin.reporters import HtmlOptions, build_html

from finetunekit import FinishedRun, run
from finetunekit.cli import main
from finetunekit.data.audit.changes import photo_changes
from finetunekit.data.decisions import DecidedAbout, open_decisions
from finetunekit.data.exclusions import leave_out
from finetunekit.data.index import build_index, manifest_rows
from finetunekit.errors import ConfigError, DataError
from finetunekit.system.progress import Progress

LIMIT = 1_000_000
QUIET = Progress(is_quiet=True)


@pytest.fixture
def root(tmp_path: Path, own_cache: Path) -> Path:
    return write_clean(tmp_path / "photos")


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def leak(root: Path) -> None:
    save(opened(root / "test/lynx/3.jpg"), root / "train/lynx/copy.jpg", quality=70)


def test_the_list_that_fix_writes_settles_what_was_found(root: Path, tmp_path: Path) -> None:
    leak(root)
    (root / "valid/cat/broken.jpg").write_bytes(b"\xff\xd8 broken")
    listed = tmp_path / "exclude.csv"
    before = sorted(path for path in root.rglob("*"))
    first = command("data", "audit", root, "--no-network", "--fix", listed)
    assert first.exit_code == 10, first.output
    assert sorted(path for path in root.rglob("*")) == before, "nothing is moved"
    kept, left_out = leave_out(list_all(root), [listed])
    assert [(photo.path, photo.split) for photo in left_out] == [
        ("train/lynx/copy.jpg", "train"),
        ("valid/cat/broken.jpg", "valid"),
    ]
    assert left_out[0].reason == "leak: the photo of test/lynx/3.jpg, which stays in test"
    assert kept.notes == ("2 photos are left out by data.exclude",)
    assert len(kept.photos) == 44
    assert len(build_index(kept, max_pixels=LIMIT).split("train")) == 20


def test_a_list_that_names_no_photo_or_cannot_be_read_is_an_error_with_its_line(root: Path, tmp_path: Path) -> None:
    listed = tmp_path / "exclude.csv"
    listed.write_text("path,reason\ntrain/cat/0.jpg,old\ntrain/cat/none.jpg,typo\n,no name\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        leave_out(list_all(root), [listed, tmp_path / "absent.csv"])
    assert len(caught.value.problems) == 3
    assert "exclude.csv:3: no photo 'train/cat/none.jpg'" in caught.value.problems[0]
    assert "exclude.csv:4: no path" in caught.value.problems[1]
    assert "absent.csv cannot be read" in caught.value.problems[2]
    listed.write_text("name\nx\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"exclude\.csv:1: no column 'path'"):
        leave_out(list_all(root), [listed])


def test_a_photo_changed_since_it_was_listed_stays_out_and_is_noted(root: Path, tmp_path: Path) -> None:
    listed = tmp_path / "exclude.csv"
    listed.write_text(f"path,sha256\ntrain/cat/0.jpg,{'0' * 64}\n", encoding="utf-8")
    kept, left_out = leave_out(list_all(root), [listed])
    assert len(left_out) == 1
    assert "'train/cat/0.jpg' has changed since it was listed" in kept.notes[1]


def test_a_leak_stops_the_run_before_anything_is_trained(
    tiny_yaml: Path, photos: Path, tmp_path: Path, own_cache: Path
) -> None:
    shutil.copy(photos / "test/red/red-0.png", photos / "train/red/again.png")
    out = tmp_path / "runs"
    with pytest.raises(
        DataError, match=r"audit: leak: 1 photo is there as 2 files.*test/red/red-0\.png = train/red/again\.png"
    ):
        run(tiny_yaml, out=out, progress=QUIET)
    assert not out.exists()
    assert not (own_cache / "features").exists(), "nothing is computed for a run that may be refused"


def test_the_gate_lets_a_leak_pass_that_is_allowed_and_keeps_it_on_record(
    tiny_yaml: Path, photos: Path, tmp_path: Path, own_cache: Path
) -> None:
    shutil.copy(photos / "test/red/red-0.png", photos / "train/red/again.png")
    result = run(tiny_yaml, settings=["data.audit.allow=[leak]"], out=tmp_path / "runs", progress=QUIET)
    audit = json.loads((result.path / "audit.json").read_text(encoding="utf-8"))
    (found,) = [finding for finding in audit["findings"] if finding["kind"] == "leak"]
    assert found["severity"] == "note"
    assert audit["counts"]["error"] == 0


def test_a_run_leaves_out_what_its_list_names_applies_what_people_decided_and_says_so(
    tiny_yaml: Path, photos: Path, tmp_path: Path, own_cache: Path
) -> None:
    shutil.copy(photos / "test/red/red-0.png", photos / "train/red/again.png")
    listed = tmp_path / "exclude.csv"
    assert command("data", "audit", photos, "--no-network", "--fix", listed).exit_code == 10
    decisions = tmp_path / "decisions.csv"
    with open_decisions(decisions) as file:
        file.add("label", [DecidedAbout("valid/red/red-0.png", "", "red")], who="Ann", now="blue", why="it is <blue>")
        file.add("leave out", [DecidedAbout("train/red/red-1.png", "", "red")], who="Bo")
    settings = [f"data.exclude=[{json.dumps(str(listed))}]", f"data.decisions={json.dumps(str(decisions))}"]
    result = run(tiny_yaml, settings=settings, out=tmp_path / "runs", progress=QUIET)
    with (result.path / "excluded.csv").open(encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["path"] == "train/red/again.png"
    assert row["reason"].startswith("leak: the photo of test/red/red-0.png")
    assert json.loads((result.path / "run.json").read_text(encoding="utf-8"))["excluded"] == 1
    assert "again.png" not in (result.path / "photos.csv").read_text(encoding="utf-8")
    assert {"path": "valid/red/red-0.png", "label": "blue"}.items() <= next(
        row for row in FinishedRun(result.path).photos if row["split"] == "valid" and "red" in row["path"]
    ).items()
    page = build_html(HtmlOptions(), FinishedRun(result.path))["report.html"].decode()
    assert "1 photo relabelled, 1 photo left out, by Ann, Bo" in page
    assert "it is &lt;blue&gt;" in page
    changes = command("data", "changes", result.path)
    assert "red -> blue (label, Ann: it is <blue>)" in changes.output
    assert changes.output.splitlines()[-2:] == [
        "2 changes by decisions, which the run applied",
        "0 changes since the run",
    ], changes.output
    (photos / "train/red/red-0.png").unlink()
    with open_decisions(decisions) as file:
        file.undo(1, who="Bo")
    changes = command("data", "changes", result.path, "--json")
    assert [(one["kind"], one["path"]) for one in json.loads(changes.stdout)][2:] == [
        ("removed", "train/red/red-0.png"),
        ("label", "valid/red/red-0.png"),
    ]


def test_the_gate_can_be_off_and_its_kinds_are_checked(
    tiny_yaml: Path, photos: Path, tmp_path: Path, own_cache: Path
) -> None:
    shutil.copy(photos / "test/red/red-0.png", photos / "train/red/again.png")
    result = run(tiny_yaml, settings=["data.audit.gate=off"], out=tmp_path / "runs", progress=QUIET)
    assert not (result.path / "audit.json").exists()
    with pytest.raises(ConfigError, match=r"data\.audit\.allow"):
        run(tiny_yaml, settings=["data.audit.allow=[leaks]"], out=tmp_path / "runs", progress=QUIET)


def test_every_kind_of_change_is_told(root: Path, tmp_path: Path) -> None:
    manifest = [
        {k: str(v) for k, v in row.items()} for row in manifest_rows(build_index(list_all(root), max_pixels=LIMIT))
    ]
    assert photo_changes(manifest, list_all(root), max_pixels=LIMIT) == ()
    (root / "train/cat/0.jpg").unlink()
    save(opened(root / "train/cat/1.jpg"), root / "train/cat/1.jpg", quality=40)
    (root / "train/cat/2.jpg").rename(root / "train/cat/two.jpg")
    (root / "train/cat/3.jpg").rename(root / "train/lynx/cat 3.jpg")
    (root / "train/cat/4.jpg").rename(root / "valid/cat/train 4.jpg")
    (root / "train/cat/5.jpg").write_bytes(b"")
    save(opened(root / "train/cat/6.jpg"), root / "train/cat/new.jpg", quality=70)
    found = photo_changes(manifest, list_all(root), max_pixels=LIMIT)
    assert [(change.kind, change.path) for change in found] == [
        ("removed", "train/cat/0.jpg"),
        ("content", "train/cat/1.jpg"),
        ("renamed", "train/cat/2.jpg"),
        ("label", "train/cat/3.jpg"),
        ("split", "train/cat/4.jpg"),
        ("unreadable", "train/cat/5.jpg"),
        ("added", "train/cat/new.jpg"),
    ]
    assert (found[3].was, found[3].now) == ("cat", "lynx")
    assert (found[4].was, found[4].now) == ("train", "valid")


def test_the_command_prints_80_columns_json_and_exit_codes(root: Path) -> None:
    clean = command("data", "audit", root, "--no-network", "--strict")
    assert clean.exit_code == 0, clean.output
    assert "0 errors, 0 warnings, 0 notes" in clean.stdout
    shutil.copy(root / "train/cat/0.jpg", root / "train/cat" / f"{'long name ' * 9}.jpg")
    assert command("data", "audit", root, "--no-network").exit_code == 0
    warned = command("data", "audit", root, "--no-network", "--strict")
    assert warned.exit_code == 11
    assert max(len(line) for line in warned.stdout.splitlines()) <= 80
    leak(root)
    found = command("data", "audit", root, "--no-network", "--json")
    assert found.exit_code == 10
    report = json.loads(found.stdout)
    assert report["counts"] == {"error": 1, "warning": 1, "note": 0}
    assert report["findings"][0]["groups"][0][0]["path"] == "test/lynx/3.jpg"


def test_the_page_is_whole_and_shows_both_photos_with_words(root: Path, tmp_path: Path) -> None:
    leak(root)
    page = tmp_path / "audit.html"
    command("data", "audit", root, "--no-network", "--html", page)
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") == 2
    assert 'alt="Photo train/lynx/copy.jpg, labelled lynx. the same photo, saved again' in text
    assert "http://" not in text
    assert "https://" not in text


def test_a_folder_takes_no_settings_of_a_preset(root: Path) -> None:
    refused = command("data", "audit", root, "--set", "seed=1")
    assert refused.exit_code == 2
    assert refused.stderr == f"error: {root}: is not a preset, and --set and --seed change presets. Leave them out.\n"


def test_tables_and_archives_are_audited_as_a_folder_is(root: Path, tmp_path: Path) -> None:
    leak(root)
    folder = audited(root)
    photos = [path.relative_to(root) for path in sorted(root.glob("*/*/*.jpg"))]
    rows = [{"file": str(photo), "label": photo.parts[1], "split": photo.parts[0]} for photo in photos]
    tables = {
        "photos.csv": "file,label,split\n" + "".join(",".join(row.values()) + "\n" for row in rows),
        "photos.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
    }
    for name, text in tables.items():
        (root / name).write_text(text, encoding="utf-8")
        assert audited(root / name) == folder
        (root / name).rename(tmp_path / name)
        assert audited(tmp_path / name, "--option", f"photos={root}") == folder
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", root)
    assert audited(archive) == folder
    assert audited(root, "--source", "folders") == folder


def audited(*arguments: object) -> object:
    found = command("data", "audit", *arguments, "--no-network", "--json")
    assert found.exit_code == 10, found.output
    report = json.loads(found.stdout)
    return report["counts"], report["findings"]


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gone.csv",), "gone.csv: does not exist. Relative paths start at the working directory."),
        (("small-data", "--option", "a=1"), "--option: is for a folder, table or archive. A preset's options"),
        ((".", "--source", "tabel"), "--source: unknown data source 'tabel'. Did you mean 'table'?"),
        (("labels.csv", "--option", "photo=x"), "--option: photo: unknown option. Did you mean 'photos'?"),
        (("labels.csv",), "labels.csv: 1 of 1 files are missing: 1.jpg."),
        (("broken.zip",), "broken.zip: cannot be unpacked (File is not a zip file)."),
    ],
)
def test_photos_that_cannot_be_listed_are_one_line(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text("file,label\n1.jpg,cat\n", encoding="utf-8")
    (tmp_path / "broken.zip").write_bytes(b"PK")
    refused = command("data", "audit", *arguments)
    assert refused.exit_code == 2
    errors = [line for line in refused.stderr.splitlines() if not line.startswith("unpacking")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {said}")
