"""What has been fetched so far, one line per event, so that the same command continues where the last one stopped."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from finetunekit import DataError, append_line, read_regular
from finetunekit_inaturalist import FetchError
from finetunekit_inaturalist.photo import Photo
from finetunekit_inaturalist.responses import Candidate
from finetunekit_inaturalist.spec import FetchSpec

JOURNAL, LOCK = "fetch.jsonl", "fetch.lock"
_MAX_BYTES = 1 << 30
_PHOTO = TypeAdapter(Photo)


@dataclass
class Journal:
    """The state of a folder.

    Attributes:
        root: The folder.
        spec: What it is made from.
        photos: Photo number → photo.
        passed_over: Photo number → why it was not taken.
        ends: Class → number of the last observation of its last whole page.
        exhausted: Classes without a further page.
        observers: Observer → split.
        sites: Place where animals are kept → split.
    """

    root: Path
    spec: FetchSpec
    photos: dict[int, Photo] = field(default_factory=dict)
    passed_over: dict[int, str] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    exhausted: set[str] = field(default_factory=set)
    observers: dict[int, str] = field(default_factory=dict)
    sites: dict[tuple[int, int], str] = field(default_factory=dict)
    _by_split: Counter[tuple[str, str]] = field(default_factory=Counter)
    _by_observer: Counter[tuple[str, int]] = field(default_factory=Counter)
    _contents: Counter[str] = field(default_factory=Counter)

    def take(self, photo: Photo) -> None:
        """Note a photo that is on disk now."""
        self._take(photo)
        self._write({"photo": asdict(photo)})

    def pass_over(self, candidate: Candidate, reason: str) -> None:
        """Note a photo that will not be asked for again."""
        self.passed_over[candidate.photo_id] = reason
        self._write({"passed_over": candidate.photo_id, "reason": reason})

    def end_page(self, label: str, end: int) -> None:
        """Note that every candidate of a page has been looked at."""
        self.ends[label] = end
        self._write({"page": label, "end": end})

    def exhaust(self, label: str) -> None:
        """Note that there is no further page for a class."""
        self.exhausted.add(label)
        self._write({"exhausted": label})

    def lose(self, photo: Photo) -> None:
        """Note that a photo is not there any more and cannot be had again."""
        self._lose(photo.candidate.photo_id)
        self._write({"lost": photo.candidate.photo_id})

    def count(self, label: str, split: str) -> int:
        """Photos of a class in a split."""
        return self._by_split[label, split]

    def count_observer(self, label: str, observer_id: int) -> int:
        """Photos of a class from one observer."""
        return self._by_observer[label, observer_id]

    def bound(self, candidate: Candidate) -> set[str]:
        """Splits of the candidate's observer and of the places around it, as far as they have one."""
        found = {self.observers.get(candidate.observer_id)}
        if candidate.site is not None:
            row, column = candidate.site
            found |= {self.sites.get((row + i, column + j)) for i in (-1, 0, 1) for j in (-1, 0, 1)}
        return {split for split in found if split is not None}

    def has_content(self, sha256: str) -> bool:
        """Whether a photo with these bytes has been taken."""
        return self._contents[sha256] > 0

    def damaged(self) -> list[Photo]:
        """Photos that are not on disk as they were written."""
        return [photo for photo in self.photos.values() if not self._is_intact(photo)]

    def _is_intact(self, photo: Photo) -> bool:
        path = self.root / photo.path
        try:
            if path.stat().st_size != photo.size_bytes:
                return False
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == photo.sha256
        except OSError:
            return False  # gone, or not readable: to be fetched again, which says so if it cannot be written

    def _take(self, photo: Photo) -> None:
        self.photos[photo.candidate.photo_id] = photo
        self.observers.setdefault(photo.candidate.observer_id, photo.split)
        if photo.candidate.site is not None:
            self.sites.setdefault(photo.candidate.site, photo.split)
        self._tally(photo, 1)

    def _lose(self, photo_id: int) -> None:
        photo = self.photos.pop(photo_id)
        self.passed_over[photo_id] = "lost"
        self._tally(photo, -1)

    def _tally(self, photo: Photo, change: int) -> None:
        self._by_split[photo.label, photo.split] += change
        self._by_observer[photo.label, photo.candidate.observer_id] += change
        self._contents[photo.sha256] += change

    def _write(self, event: dict[str, Any]) -> None:
        append_line(self.root / JOURNAL, json.dumps(event, ensure_ascii=False) + "\n")

    def _replay(self, event: dict[str, Any]) -> None:
        match event:
            case {"photo": dict() as photo}:
                self._take(_PHOTO.validate_python(photo))
            case {"passed_over": int() as photo_id, "reason": str() as reason}:
                self.passed_over[photo_id] = reason
            case {"page": str() as label, "end": int() as end}:
                self.ends[label] = end
            case {"exhausted": str() as label}:
                self.exhausted.add(label)
            case {"lost": int() as photo_id}:
                self._lose(photo_id)
            case _:
                raise ValueError("unknown event")


def open_journal(root: Path, spec: FetchSpec) -> Journal:
    """The state of a folder that is new, empty, or was made from the same specification.

    A last line that a crash cut off is dropped: its photo is looked at again.

    Raises:
        DataError: If the folder holds something else, or was made from another specification.
        FetchError: If the journal is damaged.
    """
    path = root / JOURNAL
    asked = json.loads(spec.model_dump_json())
    if not path.exists():
        if root.exists() and (not root.is_dir() or any(e.name != LOCK for e in root.iterdir())):
            raise DataError(
                f"{root}: is not empty, and was not made by `data fetch`. Choose another folder with --out."
            )
        root.mkdir(parents=True, exist_ok=True)
        append_line(path, json.dumps({"spec": asked}, ensure_ascii=False) + "\n")
        return Journal(root, spec)
    events = list(_events(path))
    if not events or events[0].get("spec") != asked:
        raise DataError(
            f"{root}: was begun with another specification. Choose another folder with --out, or delete this one."
        )
    return _replayed(Journal(root, spec), events[1:], path)


def _replayed(journal: Journal, events: list[dict[str, Any]], path: Path) -> Journal:
    for number, event in enumerate(events, start=2):
        try:
            journal._replay(event)
        except (KeyError, ValueError) as exc:
            said = str(exc).partition("\n")[0]
            raise FetchError(
                f"{path}:{number}: is damaged ({said}). Delete that line, or begin again elsewhere."
            ) from exc
    return journal


def _events(path: Path) -> Iterator[dict[str, Any]]:
    try:
        whole = read_regular(path, most_bytes=_MAX_BYTES)
    except OSError as exc:
        raise FetchError(
            f"{path}: cannot be read as a journal ({exc.strerror}). Begin again in another folder."
        ) from exc
    kept = whole[: whole.rfind(b"\n") + 1]
    if kept != whole:
        with path.open("rb+") as file:
            file.truncate(len(kept))
    for number, line in enumerate(kept.splitlines(), start=1):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise FetchError(
                f"{path}:{number}: is damaged ({exc}). Delete that line, or begin again elsewhere."
            ) from exc
        yield event if isinstance(event, dict) else {}
