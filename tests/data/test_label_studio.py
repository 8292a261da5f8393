"""Label Studio's JSON in its documented form: labels come in, tasks with predictions go out, and come back the same."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from conftest import write_photos

from finetunekit.cli import main
from finetunekit.data.decisions import in_force, read_decisions
from finetunekit.data.label_studio import StudioLabel, labelling_config, match_names, read_labels, tasks_of
from finetunekit.errors import DataError
from finetunekit.system.files import to_json


def annotation(*choices: str, **more: Any) -> dict[str, Any]:
    """As labelstud.io/guide/task_format shows one, of the tag `Choices`."""
    result = {
        "value": {"choices": list(choices)},
        "id": "Dx_aB91ISN",
        "from_name": "choice",
        "to_name": "image",
        "type": "choices",
        "origin": "manual",
    }
    return {
        "id": 1001,
        "result": [result] if choices else [],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2021-03-09T22:16:08.728353Z",
        "updated_at": "2021-03-09T22:16:08.746926Z",
        "lead_time": 4.288,
        "result_count": 0,
        "task": 1,
        "completed_by": 10,
        **more,
    }


def task(image: str, *annotations: dict[str, Any], number: int = 1) -> dict[str, Any]:
    return {
        "id": number,
        "created_at": "2021-03-09T21:52:49.513742Z",
        "updated_at": "2021-03-09T22:16:08.746926Z",
        "project": 83,
        "data": {"image": image},
        "annotations": list(annotations),
        "predictions": [{"model_version": "model 1", "result": [], "score": 0.5}],
    }


def written(tmp_path: Path, tasks: Any) -> Path:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


def test_of_several_annotations_the_last_that_was_not_cancelled_counts(tmp_path: Path) -> None:
    later = {"updated_at": "2022-01-01T00:00:00.000000Z"}
    email = {"completed_by": {"id": 2, "email": "ann@example.com"}}
    first = task("/data/upload/1/0a1b2c3d-a.jpg", annotation("cat"), annotation("lynx", **later, **email))
    second = task("s3://photos/b.jpg", annotation("cat"), annotation("dog", was_cancelled=True, **later), number=2)
    labels, notes = read_labels(
        written(tmp_path, [first, second, task("/c.jpg", number=3), task("/d.jpg", annotation())])
    )
    assert [(one.label, one.who, one.when) for one in labels] == [
        ("lynx", "ann@example.com", "2022-01-01T00:00:00Z"),
        ("cat", "10", "2021-03-09T22:16:08Z"),
    ]
    assert notes == ("2 tasks without a choice skipped",)


def test_the_minimal_form_is_read_too(tmp_path: Path) -> None:
    row = {"image": "/data/upload/1/a.jpg", "id": 7, "choice": "cat", "annotator": 1, "annotation_id": 3,
           "created_at": "2021-03-09T22:16:08.728353Z", "updated_at": "2021-03-09T22:16:08.746926Z", "lead_time": 4.2}  # fmt: skip
    (label,), _ = read_labels(written(tmp_path, [row, {"image": "/b.jpg", "id": 8}]))
    assert (label.label, label.image, label.who) == ("cat", "/data/upload/1/a.jpg", "1")


def test_what_is_no_export_or_has_several_choices_is_said_at_once(tmp_path: Path) -> None:
    both = [
        task("/a.jpg", annotation("cat", "dog"), number=4),
        {"id": 5, "image": "/a.jpg", "choice": {"choices": ["a", "b"]}},
    ]
    with pytest.raises(DataError) as caught:
        read_labels(written(tmp_path, both))
    assert "task 4: has 2 choices (cat, dog)" in caught.value.problems[0]
    assert "task 5: has several choices" in caught.value.problems[1]
    for content, words in (({"id": 1}, "is not a list of tasks"), ([1], "is not a list of tasks")):
        with pytest.raises(DataError, match=words):
            read_labels(written(tmp_path, content))
    (tmp_path / "broken.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(DataError, match="is not JSON"):
        read_labels(tmp_path / "broken.json")


@pytest.mark.parametrize(
    "address",
    [
        "/data/local-files/?d=photos/cats/a%20%2B1.jpg",
        "/data/upload/3/0a1b2c3d-a%20%2B1.jpg",
        "https://example.com/x/cats/a%20%2B1.jpg?signed=1",
        "s3://bucket/cats/a +1.jpg",
    ],
)
def test_photos_are_known_by_the_end_of_their_address(address: str) -> None:
    label = StudioLabel("1", address, "", "cat", "", "")
    assert match_names([label], ["cats/a +1.jpg", "dogs/b.jpg"]) == {label: "cats/a +1.jpg"}


def test_an_address_that_could_be_two_photos_or_none_is_an_error() -> None:
    labels = [StudioLabel("1", "/x/a.jpg", "", "cat", "", ""), StudioLabel("2", "/../../etc/passwd", "", "cat", "", "")]
    with pytest.raises(DataError) as caught:
        match_names(labels, ["cats/a.jpg", "dogs/a.jpg"])
    assert "could be several photos" in caught.value.problems[0]
    assert "is not a photo here" in caught.value.problems[1]


def test_what_goes_out_comes_back_letter_by_letter(tmp_path: Path) -> None:
    names = ["cats/a b&c.jpg", "cats/a+b.jpg", "x/é#?.jpg", os.fsdecode(b"caf\xe9.jpg"), "two/a.jpg", "one/a.jpg"]
    photos = [
        {"path": n, "sha256": "0" * 64, "predicted": "cat", "probability": "0.75", "label": f"l{i}"}
        for i, n in enumerate(names)
    ]
    tasks = tasks_of(photos, model="run-1", with_labels=True)
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=cats/a%20b%26c.jpg"
    assert tasks[0]["predictions"] == [
        {
            "model_version": "run-1",
            "score": 0.75,
            "result": [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["cat"]}}],
        }
    ]
    path = tmp_path / "tasks.json"
    path.write_text(to_json(tasks), encoding="utf-8")
    labels, _ = read_labels(path)
    assert [(match_names(labels, names)[one], one.label) for one in labels] == [
        (n, f"l{i}") for i, n in enumerate(names)
    ]
    for one in tasks:
        del one["data"]["name"]
    path.write_text(to_json(tasks), encoding="utf-8")
    assert list(match_names(read_labels(path)[0], names).values()) == names, "and by its address alone"


def test_the_labelling_configuration_has_the_names_that_predictions_use() -> None:
    view = ElementTree.fromstring(labelling_config(['a "quoted" <class>', "b&c"]))
    image, choices = view.find("Image"), view.find("Choices")
    assert image is not None
    assert choices is not None
    assert (image.get("name"), image.get("value"), choices.get("name"), choices.get("toName")) == (
        "image",
        "$image",
        "label",
        "image",
    )
    assert [choice.get("value") for choice in choices] == ['a "quoted" <class>', "b&c"]


def test_an_export_becomes_decisions_once(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos")
    decisions = tmp_path / "decisions.csv"
    tasks = [task("/data/upload/1/0a1b2c3d-red-0.png", annotation("blue"), number=1)]
    export = written(tmp_path, tasks)
    arguments = ["data", "label-studio", "import", str(export), str(root / "train"), "--decisions", str(decisions)]
    first = CliRunner().invoke(main, arguments)
    assert first.output.splitlines()[0] == "1 label added, 0 already there", first.output
    (line,) = in_force(read_decisions(decisions))
    assert (line.path, line.now, line.who, len(line.sha256)) == ("red/red-0.png", "blue", "Label Studio 10", 64)
    assert CliRunner().invoke(main, arguments).output.splitlines()[0] == "0 labels added, 1 already there"


def test_a_run_is_exported_with_its_answers(finished_run: Path, tmp_path: Path) -> None:
    target = tmp_path / "tasks.json"
    done = CliRunner().invoke(
        main, ["data", "label-studio", "export", str(finished_run), "--write", str(target), "--labels"]
    )
    assert done.exit_code == 0, done.output
    tasks = json.loads(target.read_text(encoding="utf-8"))
    labels, _ = read_labels(target)
    assert len(labels) == len(tasks) > 0
    assert all(one["predictions"][0]["model_version"] == finished_run.name for one in tasks)
    assert (tmp_path / "tasks.xml").read_text(encoding="utf-8") == labelling_config(("blue", "green", "red"))
