"""What `data show`, `data stats` and `data export` are pointed at: a folder, table, archive, run or preset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetunekit.data.profile.photo_set import PhotoSet
    from finetunekit.system.progress import Progress


def choose_set(
    argument: str,
    progress: Progress,
    *,
    settings: Sequence[str] = (),
    source: str | None = None,
    options: Sequence[str] = (),
) -> PhotoSet:
    """The photos that an argument means; what the source says about them goes to stderr.

    Raises:
        ConfigError: If it means nothing, or the preset is wrong.
        DataError: If the photos cannot be listed.
    """
    from finetunekit.data.profile.photo_set import open_photo_set

    chosen = open_photo_set(argument, settings=settings, source=source, options=options, progress=progress)
    for note in chosen.listing.notes:
        progress.say(f"note: {note}")
    return chosen
