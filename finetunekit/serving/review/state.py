"""Photos, cards, and what was decided about them: what the page asks for, without HTTP."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from finetunekit.data.decisions import UNDO, VERDICTS, DecidedAbout, Decision, DecisionsFile
from finetunekit.data.known_photos import photo_sha256
from finetunekit.errors import DataError
from finetunekit.serving.review.cards import QUEUES, Card, Queue, ReviewedPhoto

MOST_AT_ONCE = 5000
_LETTERS = {"who": 80, "now": 200, "why": 500}


class Review:
    """A review that goes on; its methods may be called from several threads.

    Attributes:
        name: What is reviewed.
        photos: All of them; a photo's number is its position.
        classes: That a photo can be of.
        cards: Queue → its cards, in order.
        session: Tells a page that was opened before the server was started again, whose numbers may mean other photos now.
    """

    def __init__(
        self,
        name: str,
        photos: Sequence[ReviewedPhoto],
        classes: Sequence[str],
        cards: Sequence[Card],
        decisions: DecisionsFile,
        *,
        notes: Sequence[str] = (),
    ) -> None:
        """Go on with what was decided before.

        Args:
            name: What is reviewed.
            photos: All of them.
            classes: That a photo can be of; labels that were decided are added.
            cards: Of every queue, in order.
            decisions: Where decisions are written.
            notes: To be said above the page.
        """
        self.name, self.photos, self.notes = name, tuple(photos), tuple(notes)
        self.session = secrets.token_hex(8)
        self.cards = {queue: tuple(card for card in cards if card.queue == queue) for queue in QUEUES}
        self._classes = dict.fromkeys(classes)
        self._file, self._lock = decisions, threading.Lock()
        self._number = {photo.name: number for number, photo in enumerate(self.photos)}
        self._about: dict[int, list[Decision]] = {}
        self._lines: dict[int, list[Decision]] = {}
        self._cards_of: dict[int, list[tuple[Queue, int]]] = {}
        for queue, listed in self.cards.items():
            for place, card in enumerate(listed):
                for number in card.photos:
                    self._cards_of.setdefault(number, []).append((queue, place))
        self._done: dict[Queue, set[int]] = {queue: set() for queue in QUEUES}
        self._verdicts: Counter[str] = Counter()
        for decision in decisions.decisions:
            self._take(decision)

    @property
    def classes(self) -> list[str]:
        """That a photo can be of, in order."""
        return sorted(self._classes)

    # ---- what is asked for -------------------------------------------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """What is reviewed, and how far it is."""
        with self._lock:
            queues = [
                {"name": name, "title": title, "cards": len(self.cards[name]), "done": len(self._done[name])}
                for name, title in QUEUES.items()
                if self.cards[name]
            ]
            decided = {kind: self._verdicts[kind] for kind in VERDICTS if self._verdicts[kind]}
            return {
                "name": self.name,
                "session": self.session,
                "classes": self.classes,
                "photos": len(self.photos),
                "notes": self.notes,
                "queues": queues,
                "decided": decided,
            }

    def card_list(self, queue: Queue, start: int, count: int) -> list[dict[str, Any]]:
        """Some cards of a queue, as plain values."""
        with self._lock:
            places = range(start, min(start + count, len(self.cards[queue])))
            return [self._card(queue, place) for place in places]

    def first_open(self, queue: Queue, start: int) -> int:
        """Position of the first card from there on that nothing was decided on, around the end; where all are done, the last one."""
        with self._lock:
            count, done = len(self.cards[queue]), self._done[queue]
            places = itertools.chain(range(start, count), range(min(start, count)))
            return next((place for place in places if place not in done), max(0, min(start, count - 1)))

    def cards_with(self, queue: Queue, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Position → card of a queue, as plain values: those that any of these photos is on."""
        with self._lock:
            places = {place for number in numbers for of, place in self._cards_of.get(number, ()) if of == queue}
            return {place: self._card(queue, place) for place in sorted(places)}

    def photo_list(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Photos as plain values; numbers that there are not are passed over."""
        with self._lock:
            return [self._photo(number) for number in numbers if 0 <= number < len(self.photos)]

    def labels(self, numbers: Sequence[int]) -> dict[str, list[int]]:
        """Class → numbers of its photos among these, as decided."""
        found: dict[str, list[int]] = {}
        with self._lock:
            for number in numbers:
                found.setdefault(self._photo(number)["label"], []).append(number)
        return found

    # ---- what is decided ---------------------------------------------------------------------------------------------------------

    def decide(self, kind: str, numbers: Sequence[int], *, who: str, now: str = "", why: str = "") -> list[int]:
        """Write a decision down; it is on the disk when this returns.

        Args:
            kind: Of `VERDICTS`.
            numbers: Of the photos that it is about.
            who: Decides.
            now: The label.
            why: In words; begins with the kind of the card that it answers.

        Returns:
            Numbers of the photos that it is about, for `group` with those of the groups that are joined.

        Raises:
            DataError: If it is not a decision; nothing was written.
            RunFolderError: If it cannot be written.
        """
        if kind not in VERDICTS:
            raise DataError(f"{kind[:40]!r} is not a decision. Allowed: {', '.join(VERDICTS)}.")
        chosen = sorted({number for number in numbers if 0 <= number < len(self.photos)})
        if not chosen or len(chosen) > MOST_AT_ONCE:
            raise DataError(f"A decision is about 1 to {MOST_AT_ONCE:,} photos.")
        if kind == "group" and len(chosen) < 2:
            raise DataError("A group has at least two photos.")
        said = _checked(who=who, now=now if kind == "label" else "", why=why)
        if not said["who"]:
            raise DataError("Give a name first: every decision says whose it is.")
        checksums = {number: self._checksum(number) for number in chosen}
        with self._lock:
            if kind == "group":
                chosen, said["now"] = self._joined(chosen)
            photos = [
                DecidedAbout(photo.name, checksums.get(number) or self._checksum(number), photo.label)
                for number in chosen
                for photo in [self.photos[number]]
            ]
            before = len(self._file.decisions)
            self._file.add(kind, photos, **said)
            for decision in self._file.decisions[before:]:
                self._take(decision)
        return chosen

    def undo(self, who: str) -> list[int]:
        """Undo the last decision of this person that holds; numbers of the photos that it was about.

        Raises:
            DataError: If there is none.
            RunFolderError: If it cannot be written.
        """
        who = _checked(who=who)["who"]
        with self._lock:
            last = next((n for n in reversed(self._lines) if self._lines[n][0].who == who), None)
            if last is None:
                raise DataError("There is nothing of yours to undo.")
            about = [self._number[line.path] for line in self._lines[last] if line.path in self._number]
            self._file.undo(last, who=who)
            self._take(self._file.decisions[-1])
        return about

    # ---- inside, with the lock held ----------------------------------------------------------------------------------------------

    def _take(self, decision: Decision) -> None:
        is_undoing = decision.kind == UNDO
        if is_undoing:
            lines = self._lines.pop(int(decision.now), [])
        else:
            lines = [decision]
            self._lines.setdefault(decision.number, []).append(decision)
            if decision.kind == "label":
                self._classes.setdefault(decision.now)
        for line in lines:
            number = self._number.get(line.path)
            if number is None:
                continue  # about a photo that is not part of this review
            self._verdicts[self._verdict(number)] -= 1
            held = self._about.setdefault(number, [])
            held.remove(line) if is_undoing else held.append(line)
            self._verdicts[self._verdict(number)] += 1
            for queue, place in self._cards_of.get(number, ()):
                is_done = self._is_done(self.cards[queue][place])
                (self._done[queue].add if is_done else self._done[queue].discard)(place)

    def _is_done(self, card: Card) -> bool:
        """Whether a decision answers it, or leaves one of its photos out."""
        held = [decision for number in card.photos for decision in self._about.get(number, ())]
        return any(one.why.partition(":")[0] == card.kind for one in held) or any(
            self._verdict(number) == "leave out" for number in card.photos
        )

    def _verdict(self, number: int) -> str:
        return next((one.kind for one in reversed(self._about.get(number, ())) if one.kind != "group"), "")

    def _group(self, number: int) -> str:
        return next((one.now for one in reversed(self._about.get(number, ())) if one.kind == "group"), "")

    def _joined(self, numbers: Sequence[int]) -> tuple[list[int], str]:
        """Photos with those of the groups that they are in already, and the group's name."""
        names = [name for name in dict.fromkeys(map(self._group, numbers)) if name]
        others = {number for number in self._about if self._group(number) in names} if names else set()
        return sorted({*numbers, *others}), names[0] if names else f"group {self._file.next_number}"

    def _photo(self, number: int) -> dict[str, Any]:
        photo, held = self.photos[number], self._about.get(number, [])
        verdict = next((one for one in reversed(held) if one.kind != "group"), None)
        return {
            "number": number,
            "name": photo.shown,
            "label": verdict.now if verdict is not None and verdict.kind == "label" else photo.label,
            "listed": photo.label,
            "split": photo.split,
            "decision": verdict.kind if verdict is not None else "",
            "group": self._group(number),
            "who": held[-1].who if held else "",
        }

    def _card(self, queue: Queue, place: int) -> dict[str, Any]:
        card = self.cards[queue][place]
        return {
            "kind": card.kind,
            "severity": card.severity,
            "title": card.title,
            "advice": card.advice,
            "photos": [
                {**self._photo(number), "note": note} for number, note in zip(card.photos, card.notes, strict=True)
            ],
            "label": card.label,
            "meant": card.meant,
            "done": place in self._done[queue],
        }

    def _checksum(self, number: int) -> str:
        try:
            return photo_sha256(self.photos[number].path)
        except DataError:
            return ""  # it is gone or cannot be read: a decision about it is about its name


def _checked(**texts: str) -> dict[str, str]:
    """Texts without blanks around them.

    Raises:
        DataError: If one is too long, or has letters that do not show.
    """
    return dict(_each_checked(texts))


def _each_checked(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key, given in texts.items():
        text = given.strip()
        if len(text) > _LETTERS[key] or not text.isprintable():
            raise DataError(f"'{key}' has at most {_LETTERS[key]} letters, on one line.")
        yield key, text
