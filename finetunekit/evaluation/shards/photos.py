"""Which photos a job is about: with labels and splits where the data source knows them, else files alone."""

from __future__ import annotations

from collections.abc import Sequence

from finetunekit.data.photo_paths import find_photos
from finetunekit.data.profile.photo_set import open_photo_set
from finetunekit.data.remote_photos import find_remote_photos
from finetunekit.data.scanning import Scanner
from finetunekit.errors import ConfigError
from finetunekit.evaluation.shards.work import ShardPhoto
from finetunekit.system.progress import Progress
from finetunekit.system.storage import is_remote
from finetunekit.system.user_dirs import expand_home


def plain_photos(argument: str, options: Sequence[str], progress: Progress) -> list[ShardPhoto]:
    """Every photo of a folder, a table, an archive or an address, or one file, as `predict` finds them; no labels.

    Raises:
        ConfigError: See `find_remote_photos`.
        DataError: If there are none.
    """
    if is_remote(argument):
        if options:
            raise ConfigError("--option: is for a table or an archive; this is an address.")
        urls, notes = find_remote_photos(argument)
        for note in notes:
            progress.say(f"note: {note}")
        return [ShardPhoto(url) for url in urls]
    found = find_photos([expand_home(argument)], options=options, say=progress.say)
    return [ShardPhoto(str(path)) for path in found]


def labelled_photos(
    argument: str, options: Sequence[str], progress: Progress, *, is_unlabelled: bool
) -> list[ShardPhoto]:
    """Photos of a folder, table, archive, run or preset, with the labels, splits and groups that a run would see.

    Args:
        argument: As `data show` takes it.
        options: `NAME=VALUE` texts for the data source.
        progress: Receives notes.
        is_unlabelled: Take every photo of a folder, a table or an archive, whatever it is called; so it is done with a folder that holds
            photos and no other folder, and with an address.

    Raises:
        ConfigError: As `open_photo_set`.
        DataError: If there are none, or their layout cannot be understood.
    """
    if is_unlabelled or is_remote(argument):
        return plain_photos(argument, options, progress)
    if not options and _is_flat(argument):
        progress.say(f"note: {argument} has no class folders: its photos have no labels and no splits")
        return plain_photos(argument, options, progress)
    listing = open_photo_set(argument, options=options, progress=progress).listing
    for note in listing.notes:
        progress.say(f"note: {note}")
    if listing.stand_in is not None:
        raise ConfigError(f"{argument}: its photos are not there, and drawn ones stand in for them. Name photos.")
    return [ShardPhoto(str(photo.path), photo.label, photo.split, photo.group) for photo in listing.photos]


def _is_flat(argument: str) -> bool:
    path = expand_home(argument)
    if not path.is_dir():
        return False
    inside = Scanner().list_folder(str(path))
    return bool(inside.photos) and not inside.folders
