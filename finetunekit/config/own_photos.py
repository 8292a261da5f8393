"""What a user means by PRESET or PHOTOS: a preset's name, a YAML file, or a folder, table or archive of photos for a preset to run on."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from finetunekit.config.preset import is_path, setting_text
from finetunekit.config.sections import DataSection
from finetunekit.errors import ConfigError, DataError, UnknownComponentError, did_you_mean
from finetunekit.system.formatting import escaped
from finetunekit.system.user_dirs import expand_home

#: The preset that photos alone are run with.
DEFAULT_PRESET = "small-data"
#: Ending of a file → the data source that lists it.
SOURCES = {
    (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"): "table",
    (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"): "archive",
}
_ENDINGS = tuple(ending for endings in SOURCES for ending in endings)
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Asked:
    """A preset, and what is set in it so that it runs on the photos that the user named.

    Attributes:
        preset: Name or path of a preset.
        settings: `a.b=VALUE` texts; those of the user go over them.
        note: What the user should know of the choice; None as a rule.
    """

    preset: str
    settings: tuple[str, ...] = ()
    note: str | None = None


def choose_preset(
    argument: str | None, presets: Collection[str], *, data: str | Path | None = None, recipe: str | None = None
) -> Asked:
    """What to run on what.

    Args:
        argument: Name or path of a preset, or photos: a folder, a table or an archive; None: `data` says it.
        presets: Names of presets.
        data: Photos for the preset that `argument` or `recipe` names.
        recipe: Name or path of the preset for the photos that `argument` or `data` names.

    Raises:
        ConfigError: If nothing is named, or the same thing twice.
        UnknownComponentError: If the argument is neither a preset nor photos.
        DataError: If the photos are not there.
    """
    if argument is None and data is None:
        raise ConfigError(
            f"name a preset, or photos: a folder with a folder for each class, a table or an archive. "
            f"Presets: {', '.join(sorted(presets))}."
        )
    if argument is not None and means_photos(argument, presets):
        if data is not None:
            raise ConfigError(f"--data {data}: the photos are {argument} already. Name them once.")
        argument, data = None, argument
    if argument is not None and recipe is not None:
        raise ConfigError(f"--recipe {recipe}: the preset is {argument} already. Name photos, or leave --recipe out.")
    preset = argument or recipe or DEFAULT_PRESET
    note = _shadow_note(preset) if argument else None
    return Asked(preset, () if data is None else photo_settings(Path(data)), note)


def means_photos(argument: str, presets: Collection[str]) -> bool:
    """Whether an argument names photos and no preset.

    A preset's name is a preset, whatever lies in the working directory; a separator makes it a path.

    Raises:
        UnknownComponentError: If it is a name of neither.
        DataError: If it is a path of neither.
    """
    if argument in presets or argument.endswith((".yaml", ".yml")):
        return False
    path = expand_home(argument)
    if os.path.lexists(path) or path.name.lower().endswith(_ENDINGS):
        return True
    if is_path(argument):
        raise DataError(f"{argument}: {_absent(path)}")
    folders = [f"{name}/" for name in _folders_here()]
    close = did_you_mean(argument, [*presets, *folders])
    if close.startswith(" Did"):
        raise UnknownComponentError(f"unknown preset '{argument}'.{close}")
    raise UnknownComponentError(
        f"unknown preset '{argument}', and no photos of that name are here.{did_you_mean(argument, presets)}"
    )


def photo_settings(path: Path) -> tuple[str, ...]:
    """What makes a preset run on these photos, under their own name.

    Raises:
        DataError: If they are not there, or are no folder, table or archive.
    """
    check_photos(path)
    root, name = photo_root(expand_home(path)), run_name(path)
    return (
        setting_text("name", name),
        setting_text("data.source", source_of(root)),
        setting_text("data.root", str(root)),
    )


def check_photos(path: Path) -> None:
    """Raise `DataError` unless there is a folder, a table or an archive, and the folder is no run's."""
    found = expand_home(path)
    if not found.exists():
        raise DataError(f"{path}: {_absent(found)}")
    if any("\ud800" <= letter <= "\udfff" for letter in str(found)):
        raise DataError(f"{escaped(str(path))}: its name is not UTF-8. Rename it: a configuration holds text.")
    if not found.is_dir() and _source_of_name(found) is None:
        raise DataError(
            f"{path}: is neither a folder of photos nor a table or archive of them ({', '.join(_ENDINGS)}). "
            "Name the folder that holds a folder for each class."
        )
    if (found / "run.json").is_file() and (found / "config.yaml").is_file():
        raise DataError(
            f"{path}: is the folder of a run. To run the same again: finetunekit run {path / 'config.yaml'}"
        )


def run_name(path: Path) -> str:
    """A name for runs on these photos: the file's or folder's own, of the letters that runs may have."""
    name = expand_home(path).resolve().name
    ending = next((end for end in sorted(_ENDINGS, key=len, reverse=True) if name.lower().endswith(end)), "")
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name[: len(name) - len(ending)] if path.is_file() else name)
    return plain.strip("._-")[:_LONGEST_NAME] or "photos"


def photo_root(path: Path) -> Path:
    """Where the photos of a path lie: the `images` of a folder that `data fetch` made, else the path."""
    inner = path / "images"
    return inner if (path / "ATTRIBUTION.csv").is_file() and inner.is_dir() else path


def source_of(path: Path) -> str:
    """The data source that lists a path: by its ending for a table or an archive, else that of folders."""
    folders: str = DataSection.model_fields["source"].default
    return (path.is_file() and _source_of_name(path)) or folders


def is_listed(path: Path) -> bool:
    """Whether a path is a table or an archive: a file whose photos a data source lists."""
    return path.is_file() and _source_of_name(path) is not None


def _source_of_name(path: Path) -> str | None:
    name = path.name.lower()
    return next((source for endings, source in SOURCES.items() if name.endswith(endings)), None)


def _shadow_note(preset: str) -> str | None:
    is_shadow = not is_path(preset) and Path(preset).is_dir()
    return f"'{preset}' is the preset of that name; the folder is ./{preset}" if is_shadow else None


def _folders_here() -> list[str]:
    with os.scandir() as entries:
        return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def _absent(path: Path) -> str:
    is_link = os.path.lexists(path)
    return (
        "is a link that leads nowhere. Mend it, or name the photos themselves."
        if is_link
        else f"does not exist.{_alike(path)}"
    )


def _alike(missing: Path) -> str:
    """What may have been meant: a name that is nearly this one, beside it."""
    try:
        beside = [entry.name for entry in os.scandir(missing.parent)]
    except OSError:
        return f" Neither does {missing.parent}."
    close = difflib.get_close_matches(missing.name, beside, n=1)
    return (
        f" Did you mean '{missing.parent / close[0]}'?" if close else " Relative paths start at the working directory."
    )
