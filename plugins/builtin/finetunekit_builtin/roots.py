"""`data.root` as data sources take it: an existing folder or file, as they need; otherwise an error in one line that
says what to do."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from finetunekit import DataError
from finetunekit_builtin.names import plain


def check_folder(root: Path | None, source: str) -> Path:
    """The folder that holds the photos.

    Raises:
        DataError: If there is none; the nearest name is suggested.
    """
    found = _check_there(root, source, "the folder that holds the photos")
    if not found.is_dir():
        raise DataError(f"data.root: {plain(found.resolve())} is a file. Name the folder that holds the photos.")
    return found


def check_file(root: Path | None, source: str, what: str, suffixes: tuple[str, ...]) -> Path:
    """The file that a source reads.

    Args:
        root: `data.root`.
        source: Name of the data source.
        what: What kind of file it is, such as `table`.
        suffixes: Endings that such files have, to name one where a folder was given.

    Raises:
        DataError: If there is none, it is a folder, or it ends in none of `suffixes`.
    """
    found = _check_there(root, source, f"the {what} to read")
    if found.is_dir():
        inside = sorted(entry.name for entry in os.scandir(found) if entry.name.lower().endswith(suffixes))[:3]
        hint = f" In it: {', '.join(map(plain, inside))}." if inside else ""
        raise DataError(f"data.root: {plain(found.resolve())} is a folder. Name the {what} itself.{hint}")
    if not found.name.lower().endswith(suffixes):
        article = "an" if what[0] in "aeiou" else "a"
        raise DataError(f"data.root: {plain(found.resolve())} is not {article} {what}. Allowed: {', '.join(suffixes)}.")
    return found


def _check_there(root: Path | None, source: str, what: str) -> Path:
    if root is None:
        raise DataError(f"data.root: data source '{source}' needs {what}. Set data.root.")
    if root.exists():
        return root
    raise DataError(f"data.root: {plain(root.resolve())} does not exist.{_suggest(root.resolve())}")


def _suggest(missing: Path) -> str:
    """What may have been meant: the nearest folder that exists, and what in it is called alike."""
    above = next(folder for folder in missing.parents if folder.is_dir())
    wanted = missing.relative_to(above).parts[0]
    try:
        names = [entry.name for entry in os.scandir(above) if not entry.name.startswith(".")]
    except OSError:
        names = []  # The suggestion is a courtesy; what is wrong is said without it.
    alike = difflib.get_close_matches(wanted, names, n=1)
    if alike:
        return f" Did you mean {plain(above / alike[0])}?"
    return f" {plain(above)} is there, '{plain(wanted)}' is not in it. Relative paths start at the working directory."
