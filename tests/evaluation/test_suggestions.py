"""What to label next: chosen by a run, shown by the review, labelled, and trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner, Result
from conftest import write_photos

from finetunekit.cli import main
from finetunekit.config.planning import prepare
from finetunekit.data.decisions import DecidedAbout, open_decisions
from finetunekit.data.listing import list_photos
from finetunekit.errors import DataError
from finetunekit.evaluation.suggestions import read_suggestions
from finetunekit.runs.folder import FinishedRun
from finetunekit.serving.guard import decide_access
from finetunekit.serving.review.app import make_review_app
from finetunekit.serving.review.opening import open_review
from finetunekit.serving.server import Server, uvicorn_server
from finetunekit.system.progress import Progress


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_photos_are_suggested_labelled_and_become_a_table_to_train_on(
    finished_run: Path, tmp_path: Path, tiny_yaml: Path
) -> None:
    unlabelled = write_photos(tmp_path / "new", seed=7) / "train"
    shutil.copy(unlabelled / "red/red-0.png", unlabelled / "copy.png")
    own = next(row for row in FinishedRun(finished_run).photos if row["split"] == "train")
    shutil.copy(FinishedRun(finished_run).photo_path(own["path"]), unlabelled / "known.png")
    (unlabelled / "broken.png").write_bytes(b"\x89PNG nothing")
    target = tmp_path / "suggestions.json"
    asked = command("data", "suggest", finished_run, unlabelled, "--count", "5", "--write", target)
    assert asked.exit_code == 0, asked.output
    assert "5 of 12 photos chosen; 2 skipped that the run has, or that are copies" in asked.output
    found = read_suggestions(target)
    assert len({photo.path for photo in found.photos}) == 5
    assert all(photo.probability >= photo.second_probability for photo in found.photos)
    with open_review(str(target), progress=Progress(is_quiet=True)) as opened:
        access = decide_access("127.0.0.1", None)
        with Server(
            lambda: uvicorn_server(lambda: make_review_app(opened, access, print), connections=8), access, 0
        ) as server:
            cards = requests.get(f"{server.url}/v1/cards/suggestions", timeout=60).json()["cards"]
            assert [card["photos"][0]["name"] for card in cards] == [photo.path for photo in found.photos]
            for number, label in ((0, "red"), (1, "blue"), (2, "violet")):
                sent = {"kind": "label", "photos": [number], "who": "Ann", "now": label}
                assert requests.post(f"{server.url}/v1/decisions", json=sent, timeout=60).status_code == 200
            assert requests.get(f"{server.url}/v1/photos/1/small", timeout=60).content[:2] == b"\xff\xd8"
    table = tmp_path / "labelled.csv"
    made = command("data", "labelled", target, "--with", finished_run, "--write", table, "--json")
    assert made.exit_code == 0, made.output
    data = json.loads(made.stdout)["data"]
    assert json.loads(made.stdout)["counts"]["violet"] == {"train": 1, "valid": 0, "test": 0}
    settings = [f"data.{key}={json.dumps(value)}" for key, value in data.items()]
    listed = list_photos(
        prepare(str(tiny_yaml), settings=settings, progress=Progress(is_quiet=True))[0], Progress(is_quiet=True)
    )
    own_photos = [row for row in FinishedRun(finished_run).photos if row["split"] != "display"]
    assert len(listed.photos) == len(own_photos) + 3
    assert {photo.split for photo in listed.photos if photo.path.is_relative_to(unlabelled)} == {"train"}
    again = command("data", "labelled", target, "--write", table)
    assert "already exists with different content" in again.output


def test_a_table_has_no_photo_that_changed_since_it_was_labelled(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos") / "train"
    decisions = tmp_path / "decisions.csv"
    with open_decisions(decisions) as file:
        for name, sha256 in (("red/red-0.png", ""), ("red/red-1.png", "0" * 64), ("gone.png", "")):
            file.add("label", [DecidedAbout(name, sha256, "")], who="Ann", now="red")
        file.add("group", [DecidedAbout("red/red-0.png", "", "")], who="Ann", now="Tom")
    table = root / "labelled.csv"
    made = command("data", "labelled", root, "--decisions", decisions, "--write", table)
    assert table.read_text(encoding="utf-8") == "file_name,label,split,group\nred/red-0.png,red,train,Tom\n", (
        made.output
    )
    assert "'red/red-1.png' has changed since it was labelled" in made.output
    assert "'gone.png' is not there any more" in made.output


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../b.png"])
def test_a_list_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    photo = {
        "path": name,
        "sha256": "",
        "label": "a",
        "probability": 1.0,
        "second": "b",
        "second_probability": 0.0,
        "entropy": 0.0,
    }
    content = {"format": "finetunekit suggestions 1", "run": "r", "folder": str(tmp_path), "classes": ["a", "b"],
               "asked": 1, "known": 0, "photos": [photo]}  # fmt: skip
    path = tmp_path / "list.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="lies outside its folder"):
        read_suggestions(path)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="is not a list that 'finetunekit data suggest' wrote"):
        read_suggestions(path)
