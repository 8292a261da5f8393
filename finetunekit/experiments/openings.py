"""Openings of test photos by several runs together, beside those that each run notes for its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.config.plan import Plan
from finetunekit.errors import RunFolderError

if TYPE_CHECKING:
    from finetunekit.data.index import IndexedPhoto, PhotoIndex


def note_opening(
    plan: Plan, index: PhotoIndex, photos: Iterable[IndexedPhoto], path: Path, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """Note in the user's ledger that labels of these photos met predictions of these runs.

    Args:
        plan: The configuration that the runs vary.
        index: Every photo that they are about.
        photos: Those whose labels were looked at.
        path: Folder of the runs.
        say: Is told where the opening cannot be noted.

    Returns:
        The openings of these photos so far; None where they cannot be recorded.
    """
    from finetunekit.data.index import content_key
    from finetunekit.runs.test_split_ledger import config_key, record_opening

    values = plan.to_dict()
    everything = content_key((photo.sha256, photo.label or "") for photo in index.photos)
    key = config_key(values["config"], components=values["components"], photo_keys=[everything])
    try:
        test = content_key((photo.sha256, photo.label or "") for photo in photos)
        return asdict(record_opening(test, key, name=plan.config.name, run_path=path))
    except RunFolderError as exc:
        say(f"warning: this opening of the test split is not counted: {exc}")
        return None
