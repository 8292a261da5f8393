"""Photos on storage that is reached by an address, such as `s3://bucket/folder`, through fsspec."""

from __future__ import annotations

from finetunekit.data.photo_file import photo_suffixes
from finetunekit.data.scanning import is_clutter
from finetunekit.errors import DataError
from finetunekit.system.formatting import counted, escaped, one_line
from finetunekit.system.storage import find_storage


def find_remote_photos(url: str) -> tuple[list[str], list[str]]:
    """Addresses of the photos below an address, or of the one that it is, by name.

    Args:
        url: Of a folder or a file.

    Returns:
        The photos, and a line on what was passed over.

    Raises:
        ConfigError: If what reaches such storage is not installed, or a password stands in the address.
        DataError: If it cannot be listed, or holds no photo.
    """
    storage, path = find_storage(url)
    try:
        found = sorted(storage.find(path))
    except Exception as exc:
        # whatever the client of a storage raises; all of it is said of this address
        raise DataError(f"{escaped(url)}: cannot be listed ({one_line(exc)}).") from exc
    asked, below = url.rstrip("/"), len(path.rstrip("/"))  # photos are called as the user called what holds them
    named = [name for name in found if not any(map(is_clutter, name[below:].strip("/").split("/")))]
    suffixes = tuple(photo_suffixes())
    photos = [asked + name[below:] for name in named if name.lower().endswith(suffixes)]
    if not photos:
        raise DataError(f"{escaped(url)}: no photos there. Check the address, and what may read it.")
    left = len(found) - len(photos)
    return photos, [f"{counted(left, 'file is not a photo', 'files are not photos')}"] if left else []


def read_remote_photo(url: str, *, most_bytes: int) -> bytes:
    """The bytes of a photo's file, and at most one more than `most_bytes`.

    Raises:
        ConfigError: If what reaches such storage is not installed.
        DataError: If it cannot be read.
    """
    storage, path = find_storage(url)
    try:
        return bytes(storage.cat_file(path, start=0, end=most_bytes + 1))
    except FileNotFoundError as exc:
        raise DataError(f"{escaped(url)}: no such file. Check the address.") from exc
    except Exception as exc:
        # as above
        raise DataError(f"{escaped(url)}: cannot be read ({one_line(exc)}).") from exc
