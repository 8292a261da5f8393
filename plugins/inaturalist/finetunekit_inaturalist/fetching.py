"""From a specification to a folder of photos: class by class, page by page, photo by photo."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from finetunekit import Client, Closed, Progress, Refused, Unreachable, locked, show_duration, write_whole
from finetunekit_inaturalist import FetchError
from finetunekit_inaturalist.api import ADVICE, SERVER, Api
from finetunekit_inaturalist.journal import LOCK, Journal, open_journal
from finetunekit_inaturalist.photo import Photo, Received, receive_photo
from finetunekit_inaturalist.responses import Candidate, Taxon, check_apart
from finetunekit_inaturalist.results import Fetched, summarise, write_tables
from finetunekit_inaturalist.spec import FetchSpec
from finetunekit_inaturalist.splitting import choose_split

#: So many photos in a row that cannot be had mean that something else is wrong: a proxy, a login page, a host that is down.
MOST_UNREACHABLE, MOST_REFUSED = 3, 25
SAY_EVERY = 50


def fetch(spec: FetchSpec, root: Path, *, client: Client, server: str = SERVER, progress: Progress) -> Fetched:
    """Fetch photos into `root/images/<split>/<class>/`, or go on with what an earlier call began.

    Every photo is noted when it is in its place; an interruption loses none. `ATTRIBUTION.csv` and `photos.csv` are written at the
    end, an interrupted one included.

    Args:
        spec: What is to be fetched.
        root: A folder that is new, empty, or was made from the same specification.
        client: Sends the requests.
        server: Address of the API.
        progress: Says what goes on.

    Raises:
        ConfigError: If a taxon is unknown or classes overlap.
        DataError: If the folder holds something else.
        FetchError: If there is no network, no usable answer, or a split of a class stays empty.
        RunFolderError: If another process fetches into the folder, or a file cannot be written.
    """
    api = Api(client, server)
    with locked(root, lock=LOCK, job="fetching into it"):
        journal = open_journal(root, spec)
        try:
            _Fetching(journal, api, client, progress).run()
        finally:
            progress.close()
            if journal.photos:
                write_tables(journal)
    return summarise(journal, sent=client.sent)


@dataclass
class _Fetching:
    journal: Journal
    api: Api
    client: Client
    progress: Progress
    unreachable: int = 0
    refused: int = 0
    has_left_out: bool = False
    started_s: float = field(default_factory=time.monotonic)
    fetched: int = 0

    @property
    def spec(self) -> FetchSpec:
        return self.journal.spec

    def run(self) -> None:
        for photo in self.journal.damaged():
            self._restore(photo)
        open_classes = [label for label in self.spec.classes if self._is_open(label)]
        if not open_classes:
            return
        self.progress.say(self._announcement())
        taxa = self._find_taxa()
        for label in open_classes:
            self._fill(label, taxa[label])

    def _announcement(self) -> str:
        left = self._left()
        at_least = show_duration(left * self.client.pause_s)
        had = f", {len(self.journal.photos)} there already" if self.journal.photos else ""
        return f"{left} photos to fetch{had}; one request in {self.client.pause_s:g} s, so at least {at_least}"

    def _left(self) -> int:
        return sum(
            sum(self._needed(label).values()) for label in self.spec.classes if label not in self.journal.exhausted
        )

    def _needed(self, label: str) -> dict[str, int]:
        asked = self.spec.counts.by_split().items()
        return {split: max(0, count - self.journal.count(label, split)) for split, count in asked}

    def _is_open(self, label: str) -> bool:
        return label not in self.journal.exhausted and any(self._needed(label).values())

    def _find_taxa(self) -> dict[str, Taxon]:
        taxa = {
            label: self.api.find_taxon(of.taxon, f"classes.{label}.taxon") for label, of in self.spec.classes.items()
        }
        check_apart(taxa)
        return taxa

    def _fill(self, label: str, taxon: Taxon) -> None:
        self.progress.say(f"{label}: {taxon.name} ({taxon.rank}, taxon {taxon.id})")
        self.has_left_out = False
        above = self.journal.ends.get(label, 0)
        for candidates, end in self.api.pages(taxon, self.spec.classes[label], self.spec, above):
            for candidate in candidates:
                self._consider(label, candidate)
                if not self._is_open(label):
                    return
            if not self.has_left_out:
                self.journal.end_page(label, end)
        if not self.has_left_out:
            self.journal.exhaust(label)

    def _consider(self, label: str, candidate: Candidate) -> None:
        """Take a photo if it is new, its observer has not given enough yet, and the split of observer and place needs one."""
        journal = self.journal
        if candidate.photo_id in journal.photos or candidate.photo_id in journal.passed_over:
            return
        if journal.count_observer(label, candidate.observer_id) >= self.spec.per_observer:
            return
        needed, bound = self._needed(label), journal.bound(candidate)
        split = choose_split(candidate.observer_id, needed, seed=self.spec.seed, bound=bound)
        received = self._receive(candidate) if split else None
        if split and received:
            self._store(candidate, received, label, split)

    def _receive(self, candidate: Candidate) -> Received | None:
        try:
            received = receive_photo(self.client, candidate.url, min_side_px=self.spec.min_side_px)
            if self.journal.has_content(received.sha256):
                raise Refused("is the same file as another photo")
        except Refused as exc:
            self._pass_over(candidate, str(exc))
            return None
        except Closed as exc:
            raise self._no_answer(candidate.url, exc) from exc
        except Unreachable as exc:
            self._pass_by(candidate, exc)
            return None
        self.unreachable = self.refused = 0
        return received

    def _pass_over(self, candidate: Candidate, reason: str) -> None:
        self.journal.pass_over(candidate, reason)
        self.unreachable, self.refused = 0, self.refused + 1
        self.progress.say(f"photo {candidate.photo_id} skipped: {reason}")
        if self.refused >= MOST_REFUSED:
            raise FetchError(
                f"{urlsplit(candidate.url).netloc}: {self.refused} photos in a row cannot be used, the last one {reason}."
                " Is there a proxy or a login page in between? Run the same command again to continue."
            )

    def _pass_by(self, candidate: Candidate, reason: Unreachable) -> None:
        """Unlike a photo that is passed over, this one is asked for again by the next call: its page counts as not looked at."""
        self.has_left_out = True
        self.unreachable += 1
        self.progress.say(f"photo {candidate.photo_id} left out for now: {reason}")
        if self.unreachable >= MOST_UNREACHABLE:
            raise self._no_answer(candidate.url, reason)

    def _no_answer(self, url: str, reason: Unreachable) -> FetchError:
        return FetchError(f"{urlsplit(url).netloc}: {reason}. {ADVICE}")

    def _store(self, candidate: Candidate, received: Received, label: str, split: str) -> None:
        photo = Photo(
            candidate,
            label,
            split,
            f"{candidate.photo_id}{received.suffix}",
            received.sha256,
            len(received.content),
            received.width_px,
            received.height_px,
        )
        # Noted first: a crash between the two leaves a photo that is noted and missing, which the next call fetches again,
        # and never one that is there and in no table.
        self.journal.take(photo)
        write_whole(self.journal.root / photo.path, received.content)
        self.fetched += 1
        self._tell(label)

    def _tell(self, label: str) -> None:
        """A live line on a terminal, and now and then a whole one, for whoever reads a log."""
        left = self._left()
        left_s = (time.monotonic() - self.started_s) / self.fetched * left
        line = f"{label}: {left} photos to fetch, {show_duration(left_s)} left"
        if self.fetched % SAY_EVERY == 0:
            self.progress.say(line)
        else:
            self.progress.show(line)

    def _restore(self, photo: Photo) -> None:
        """Fetch a photo again that is gone from its place or was changed there."""
        self.progress.say(f"{photo.path} is gone or changed: fetched again")
        received = self._receive_again(photo)
        if received is None or received.sha256 != photo.sha256:
            self.journal.lose(photo)
            (self.journal.root / photo.path).unlink(missing_ok=True)
            return
        write_whole(self.journal.root / photo.path, received.content)

    def _receive_again(self, photo: Photo) -> Received | None:
        url = photo.candidate.url
        try:
            return receive_photo(self.client, url, min_side_px=self.spec.min_side_px)
        except Refused:
            return None  # no longer there; the caller notes the loss, and another observation takes its place
        except Unreachable as exc:
            raise self._no_answer(url, exc) from exc
