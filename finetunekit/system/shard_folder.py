"""A folder of shards: files written whole, each with its checksum, so that a job that was cut off goes on where it was.

`manifest.json` says what was asked, which another call in the same folder has to ask again; `shards.jsonl` has a line for each whole shard.
A shard without a line, or whose file does not match its checksum, is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetunekit.errors import ConfigError, RunFolderError
from finetunekit.system.files import append_line, open_regular, read_regular, to_json, write_whole
from finetunekit.system.formatting import escaped, one_line

MANIFEST, RECORDS, LOCK = "manifest.json", "shards.jsonl", ".finetunekit-lock"
ROWS, UNREADABLE = "rows", "unreadable"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One shard that is whole.

    Attributes:
        shard: Its number, from 0.
        rows: Photos that it has a row of.
        unreadable: Photos that it has none of.
        sha256: Path in the folder → checksum of the file: its rows, and the side table of unreadable photos where there are any.
        made_on: The processor that made it.
    """

    shard: int
    rows: int
    unreadable: int
    sha256: Mapping[str, str]
    made_on: str


@dataclass(frozen=True, slots=True)
class ShardFolder:
    """A folder of shards, written by one process at a time; shards may come from others.

    Attributes:
        path: The folder; it need not be there.
    """

    path: Path

    @property
    def shown(self) -> str:
        """What messages call it."""
        return escaped(str(self.path))

    def names(self) -> list[str]:
        """What lies in it.

        Raises:
            ConfigError: If it is no folder.
        """
        if not self.path.exists():
            return []
        if not self.path.is_dir():
            raise ConfigError(f"{self.shown}: is not a folder. Choose another one.")
        return [file.name for file in self.path.iterdir()]

    def fetch(self) -> None:
        """Bring here what is known of the shards, where they are kept elsewhere."""

    def stop(self) -> None:
        """The call ends before all shards are made."""

    def manifest(self) -> dict[str, Any] | None:
        """What was asked when the folder was begun; None where nothing was begun.

        Raises:
            RunFolderError: If it cannot be read, or is none of ours.
        """
        path = self.path / MANIFEST
        if not path.is_file():
            return None
        try:
            found = json.loads(read_regular(path))
            if found["format"] != FORMAT:
                raise ValueError(f"it is of format {found['format']!r:.20}, {FORMAT} is read here")
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as exc:
            raise RunFolderError(
                f"{path}: is damaged, or no manifest of shards ({one_line(exc)}). Choose another folder."
            ) from exc
        return dict(found)

    def check(self, asked: Mapping[str, Any]) -> None:
        """Refuse a folder that holds something else.

        Args:
            asked: Plain values that have to be those of the manifest; those that only one of the two has are passed over, so that a part
                can be checked before the whole is known.

        Raises:
            ConfigError: If it was begun with other settings, or holds other files.
        """
        known, shown = self.manifest(), self.shown
        if known is None:
            if any(name != LOCK for name in self.names()):
                raise ConfigError(f"{shown}: is not empty and holds no shards. Choose a new folder.")
            return
        for key, was, now in _differences(known, json.loads(to_json({"format": FORMAT, **asked})), ""):
            raise ConfigError(
                f"{shown}: was started differently ({key}: {_short(was)} there, {_short(now)} asked). "
                "Use the same options to continue, or choose another folder."
            )

    def begin(self, asked: Mapping[str, Any]) -> None:
        """Write the manifest, or see that it says the same; what it does not say yet is added.

        Raises:
            ConfigError: As `check`.
            RunFolderError: If it cannot be written.
        """
        self.check(asked)
        known = self.manifest() or {"format": FORMAT}
        if not asked.keys() <= known.keys():
            write_whole(self.path / MANIFEST, to_json(known | dict(asked)))

    def records(self) -> dict[int, ShardRecord]:
        """Shards that were recorded, by number; nothing is said of their files.

        Raises:
            RunFolderError: If the list of them is damaged, but for a last line that was cut off.
        """
        path, found = self.path / RECORDS, {}
        if not path.is_file():
            return {}
        *lines, last = read_regular(path).split(b"\n")  # what follows the last line end was cut off
        for number, line in enumerate(lines, start=1):
            try:
                record = _record(json.loads(line))
                found[record.shard] = record
            except (ValueError, TypeError) as exc:
                raise RunFolderError(
                    f"{path}:{number}: is damaged ({one_line(exc)}). Delete the line: its shard is made again."
                ) from exc
        if last:
            write_whole(path, b"".join(line + b"\n" for line in lines))
        return found

    def whole(self, say: Callable[[str], None]) -> dict[int, ShardRecord]:
        """Shards whose files match their checksums; of the others one line each is said."""
        found = {}
        for number, record in sorted(self.records().items()):
            there = {name: self.checksum(name) if _is_inside(name) else None for name in record.sha256}
            wrong = next((name for name, sha256 in record.sha256.items() if there[name] != sha256), None)
            if wrong is None:
                found[number] = record
            else:
                why = "does not match its checksum" if there[wrong] else "is missing"
                say(f"{self.shown}/{wrong}: {why}; shard {number} is made again.")
        return found

    def content(self, name: str, *, most_bytes: int) -> bytes:
        """All of a file.

        Raises:
            OSError: If there is none, it cannot be read, or it is larger than `most_bytes`.
            RunFolderError: If its storage cannot be reached.
        """
        return read_regular(self.path / name, most_bytes=most_bytes)

    def rows_bytes(self) -> int:
        """Of the files that hold rows, where they have to come over a network; 0 where they are here."""
        return 0

    def checksum(self, name: str) -> str | None:
        """SHA-256 of a file of a shard; None where it cannot be read."""
        try:
            with open_regular(self.path / name) as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:
            return None

    def keep(self, shard: int, contents: Mapping[str, bytes]) -> dict[str, str]:
        """Write the files of a shard, each whole; its rows last, so that they are there only where everything is.

        Args:
            shard: Its number.
            contents: `rows`, and `unreadable` where there are such photos.

        Returns:
            Path in the folder → checksum.

        Raises:
            RunFolderError: If one cannot be written.
        """
        sha256 = {}
        for kind in (UNREADABLE, ROWS):
            if kind in contents:
                name = shard_file(kind, shard)
                write_whole(self.path / name, contents[kind])
                sha256[name] = hashlib.sha256(contents[kind]).hexdigest()
        return sha256

    def record(self, record: ShardRecord) -> None:
        """Note a shard whose files are in place."""
        append_line(self.path / RECORDS, json.dumps(asdict(record), sort_keys=True) + "\n")

    def finish(self, records: Mapping[int, ShardRecord]) -> None:
        """Bring the records into the order of the shards, each once, however often the job was taken up."""
        lines = (json.dumps(asdict(records[number]), sort_keys=True) + "\n" for number in sorted(records))
        write_whole(self.path / RECORDS, "".join(lines))


def _is_inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _record(values: Any) -> ShardRecord:
    """A record as it was written.

    Raises:
        ValueError: If a value is of another kind.
        TypeError: If it has other names.
    """
    record = ShardRecord(**values)
    numbers, texts = (record.shard, record.rows, record.unreadable), [record.made_on, *record.sha256]
    if not isinstance(record.sha256, dict) or not all(isinstance(one, int) and one >= 0 for one in numbers):
        raise ValueError("numbers or checksums are of another kind")
    if not all(isinstance(text, str) for text in (*texts, *record.sha256.values())):
        raise ValueError("names or checksums are no texts")
    return record


def shard_file(kind: str, shard: int) -> str:
    """`rows/part-00003.parquet`."""
    return f"{kind}/part-{shard:05d}.parquet"


def _differences(one: Any, other: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Values that both have and that differ, with their place."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys() if key else one.keys() & other.keys()):
            yield from _differences(one.get(name), other.get(name), f"{key}.{name}" if key else name)
    elif one != other:
        yield key, one, other


def _short(value: Any) -> str:
    text = escaped(str(value))
    return text if len(text) <= 40 else f"{text[:37]}…"
