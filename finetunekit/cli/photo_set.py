"""What `data show`, `data stats` and `data export` are pointed at: a folder, table, archive, run or preset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetunekit.photo_sets.opening import PhotoSet
    from finetunekit.progress import Progress


def choose_set(argument: str, settings: Sequence[str], progress: Progress) -> PhotoSet:
    """The photos that an argument means; what the source says about them goes to stderr.

    Raises:
        ConfigError: If it means nothing, or the preset is wrong.
        DataError: If the photos cannot be listed.
    """
    from finetunekit.cli.photos import list_argument
    from finetunekit.errors import DataError
    from finetunekit.photo_sets.opening import open_photo_set, unfed_set

    path = Path(argument).expanduser()
    if path.is_file() and path.suffix not in (".yaml", ".yml"):
        if settings:
            raise DataError(f"{argument}: is no preset, and --set changes presets. Leave it out.")
        listing, max_pixels = list_argument(argument, progress)
        chosen = unfed_set(path.stem, listing, max_pixels)
    else:
        chosen = open_photo_set(argument, settings=settings, progress=progress)
    for note in chosen.listing.notes:
        progress.say(f"note: {note}")
    return chosen
