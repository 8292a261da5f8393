"""Archives of photos, unpacked so that they can do no harm: zip, tar, tar.gz, tar.bz2, tar.xz.

Nothing is written outside the target, whatever the names in an archive say; a name that tries is an error for the whole archive. What
it holds is bounded before and while it is written: number of entries, bytes in all, and how much larger than the archive they are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from finetunekit import DataError
from finetunekit_builtin.names import plain
from finetunekit_builtin.unpack_tar import unpack_tar
from finetunekit_builtin.unpack_target import Limits, Target, Unpacked
from finetunekit_builtin.unpack_zip import unpack_zip

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def unpack(archive: Path, folder: Path, limits: Limits, is_wanted: Callable[[str], bool]) -> Unpacked:
    """Unpack the wanted files of an archive into a folder of its own.

    Args:
        archive: What kind it is, its suffix says.
        folder: An empty folder. After an error it holds a part.
        limits: What it may hold.
        is_wanted: Whether a file of this name is written.

    Returns:
        What was written and what passed over.

    Raises:
        DataError: If the archive is broken or encrypted, exceeds a limit, or holds a name or link that leads out, a device, or one
            name twice.
    """
    target = Target(archive, folder, limits, is_wanted)
    try:
        if archive.name.lower().endswith(".zip"):
            unpack_zip(archive, target)
        else:
            unpack_tar(archive, target)
    except DataError:
        raise
    except Exception as exc:
        # Unpackers raise whatever a broken archive drives them into; all of it is a property of this file.
        raise _broken(archive, exc) from exc
    return target.found


def _broken(archive: Path, exc: Exception) -> DataError:
    reason = (
        (exc.strerror if isinstance(exc, OSError) else None) or " ".join(str(exc).split())[:200] or type(exc).__name__
    )
    return DataError(f"{plain(archive)}: cannot be unpacked ({plain(reason)}). Download or pack it again.")
