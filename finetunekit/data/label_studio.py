"""Label Studio's JSON, both ways: annotated tasks as decisions, photos with predictions as tasks.

Source: "Label Studio JSON format of annotated tasks" and "Import pre-annotated data", labelstud.io/guide/task_format and
labelstud.io/guide/predictions; choices as the tag `Choices` writes them. JSON_MIN is read as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from finetunekit.data.parallel import bounded
from finetunekit.errors import DataError
from finetunekit.system.files import read_regular
from finetunekit.system.formatting import counted, escaped, one_line

#: Names in the labelling configuration, which predictions have to repeat.
IMAGE, CHOICE = "image", "label"
#: Where Label Studio serves files of the folder LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.
LOCAL_FILES = "/data/local-files/?d="
#: What an upload puts before the name of its file.
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")


@dataclass(frozen=True, slots=True)
class StudioLabel:
    """What somebody chose for a photo.

    Attributes:
        task: Its id, as text.
        image: Address of the photo in the task.
        name: Of the photo where `tasks_json` wrote it; else empty.
        label: The choice.
        who: Chose it, as far as the file says.
        when: As the file says, in UTC; empty where it does not.
    """

    task: str
    image: str
    name: str
    label: str
    who: str
    when: str


def read_labels(path: Path) -> tuple[tuple[StudioLabel, ...], tuple[str, ...]]:
    """The choices in an export of Label Studio, one a task: of several annotations the one that was changed last.

    Returns:
        Them; and notes on tasks without one.

    Raises:
        DataError: Every problem at once: no export, a task with several choices.
    """
    try:
        tasks = json.loads(read_regular(path))
    except OSError as exc:
        raise DataError(f"{escaped(str(path))}: cannot be read ({one_line(exc)}).") from exc
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{escaped(str(path))}: is not JSON ({one_line(exc)}).") from exc
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(f"{escaped(str(path))}: is not a list of tasks. Export as JSON or JSON-MIN.")
    labels, problems, skipped = [], [], 0
    for place, task in enumerate(tasks, 1):
        try:
            label = _label(task)
        except ValueError as exc:
            problems.append(f"{escaped(str(path))}: task {escaped(str(task.get('id', place)))}: {exc}")
            continue
        skipped += label is None
        labels += [label] if label is not None else []
    if problems:
        raise DataError(bounded(problems))
    return tuple(labels), (f"{counted(skipped, 'task')} without a choice skipped",) if skipped else ()


def _label(task: Mapping[str, Any]) -> StudioLabel | None:
    if "data" not in task:
        return _minimal(task)
    data = task["data"] if isinstance(task["data"], dict) else {}
    done = [one for one in _dicts(task.get("annotations", ())) if not one.get("was_cancelled") and _choices(one)]
    if not done:
        return None
    last = max(done, key=lambda one: str(one.get("updated_at") or one.get("created_at") or ""))
    choices = _choices(last)
    if len(choices) > 1:
        raise ValueError(
            f"has {len(choices)} choices ({escaped(', '.join(choices))[:80]}). A photo has one label here."
        )
    when = str(last.get("updated_at") or last.get("created_at") or "")
    return StudioLabel(
        str(task.get("id", "")), _image(data), _text(data, "name"), choices[0], _who(last), _seconds(when)
    )


def _minimal(task: Mapping[str, Any]) -> StudioLabel | None:
    """A task of JSON-MIN: its data and the choice side by side; which key is the choice, its value or its name says."""
    known = {IMAGE, "id", "name", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "sha256"}
    chosen = (
        task.get(CHOICE)
        or task.get("choice")
        or next(
            (
                value
                for key, value in task.items()
                if key not in known and isinstance(value, str) and not _is_address(value)
            ),
            None,
        )
    )
    if isinstance(chosen, dict):
        raise ValueError("has several choices. A photo has one label here.")
    if not isinstance(chosen, str) or not chosen.strip():
        return None
    when = str(task.get("updated_at") or task.get("created_at") or "")
    who = str(task.get("annotator", ""))
    return StudioLabel(str(task.get("id", "")), _image(task), _text(task, "name"), chosen, who, _seconds(when))


def _choices(annotation: Mapping[str, Any]) -> list[str]:
    values = [one.get("value") for one in _dicts(annotation.get("result", ())) if one.get("type") == "choices"]
    chosen = [value.get("choices") for value in values if isinstance(value, dict)]
    return [str(choice) for choices in chosen if isinstance(choices, list) for choice in choices]


def _image(data: Mapping[str, Any]) -> str:
    """Address of the photo: under the name `image`, else the only value that looks like one."""
    if isinstance(data.get(IMAGE), str):
        return str(data[IMAGE])
    addresses = [value for value in data.values() if isinstance(value, str) and _is_address(value)]
    return addresses[0] if len(addresses) == 1 else ""


def _is_address(text: str) -> bool:
    return bool(re.match(r"(\w+:/)?/|data:", text))


def _who(annotation: Mapping[str, Any]) -> str:
    by = annotation.get("completed_by", "")
    if isinstance(by, dict):
        return str(by.get("email") or by.get("id") or "")
    return str(annotation.get("created_username") or by)


def _seconds(when: str) -> str:
    """`2021-03-09T22:16:08.746926Z` → `2021-03-09T22:16:08Z`; what is not such a time is left out."""
    found = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z$", when)
    return f"{found[1]}Z" if found else ""


def _dicts(values: Any) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, (list, tuple)) else []


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def match_names(labels: Sequence[StudioLabel], names: Iterable[str]) -> dict[StudioLabel, str]:
    """Which photo each label is about.

    By the name that `tasks_json` wrote; else by the end of the task's address, as far as it is the end of one name only; an upload's own
    letters before the name are passed over. No address is opened.

    Raises:
        DataError: For labels whose photo is not there, or could be several.
    """
    known = list(names)
    by_end: dict[str, list[str]] = {}
    for name in known:
        parts = name.split("/")
        for start in range(len(parts)):
            by_end.setdefault("/".join(parts[start:]), []).append(name)
    exact, found, problems = set(known), {}, []
    for label in labels:
        if label.name in exact:
            found[label] = label.name
            continue
        meant = next((by_end[end] for end in _ends(label.image) if end in by_end), [])
        if len(meant) == 1:
            found[label] = meant[0]
        else:
            why = "could be several photos" if meant else "is not a photo here"
            problems.append(
                f"task {escaped(label.task)}: '{escaped(label.image)[:120]}' {why}. Name the folder that its photos lie in."
            )
    if problems:
        raise DataError(bounded(problems))
    return found


def _ends(address: str) -> Iterator[str]:
    """What a photo may be called, the longest first."""
    parts = urlsplit(address)
    path = unquote(parts.query[2:] if parts.query.startswith("d=") else parts.path, errors="surrogateescape")
    pieces = [piece for piece in path.split("/") if piece]
    for start in range(len(pieces)):
        yield "/".join(pieces[start:])
    if pieces and _UPLOAD.match(pieces[-1]):
        yield _UPLOAD.sub("", pieces[-1])


def tasks_of(
    photos: Sequence[Mapping[str, Any]], *, prefix: str = LOCAL_FILES, model: str = "", with_labels: bool = False
) -> list[dict[str, Any]]:
    """Photos as tasks with predictions.

    Args:
        photos: Each with `path`, `sha256`, `predicted` and `probability`; and `label`, where it has one.
        prefix: What comes before a photo's path in its address.
        model: Name of the run.
        with_labels: Whether labels come along as annotations.
    """
    tasks = []
    for photo in photos:
        address = prefix + quote(str(photo["path"]), errors="surrogateescape")
        task: dict[str, Any] = {"data": {IMAGE: address, "name": photo["path"], "sha256": photo["sha256"]}}
        if photo.get("predicted"):
            result = _result(str(photo["predicted"]))
            task["predictions"] = [{"model_version": model, "score": float(photo["probability"]), "result": [result]}]
        if with_labels and photo.get("label"):
            task["annotations"] = [{"result": [_result(str(photo["label"]))]}]
        tasks.append(task)
    return tasks


def _result(label: str) -> dict[str, Any]:
    return {"from_name": CHOICE, "to_name": IMAGE, "type": "choices", "value": {"choices": [label]}}


def labelling_config(classes: Sequence[str]) -> str:
    """The labelling configuration that such tasks need."""
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in classes)
    return (
        f'<View>\n  <Image name="{IMAGE}" value="${IMAGE}"/>\n'
        f'  <Choices name="{CHOICE}" toName="{IMAGE}" choice="single">\n{choices}  </Choices>\n</View>\n'
    )
