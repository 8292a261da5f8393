"""Data source `folders`: photos in `root/<split>/<class>/`, or in `root/<class>/` to be split here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from finetunekit import (
    DataError,
    FolderContents,
    PhotoListing,
    PhotoRecord,
    Scanner,
    SourceContext,
    counted,
    folder_id,
    some_names,
)
from finetunekit_builtin.names import plain
from finetunekit_builtin.roots import check_folder
from finetunekit_builtin.splits import FEWEST_TO_SPLIT, SCORED, SPLIT_NAMES, SplitOptions


class FoldersOptions(SplitOptions):
    """Options of `folders`; all are for a root without split folders, and ignored where it has them."""


def build_folders(options: FoldersOptions, context: SourceContext) -> PhotoListing:
    """List the photos of a folder; nothing is decoded.

    Three split folders, `train`, `valid` (or `val`, `validation`, `dev`) and `test`, each with one folder a class;
    photos may lie any number of folders deeper. `display`, if there is one, needs no class folders, and its photos get
    no label. Where there are class folders but no split folders, each class is split by the hashes of its photos'
    names: those with the smallest become the test photos, the next ones the validation photos, so that a photo added
    later moves few. At least one photo of a class goes to each split. Links to files and folders are followed once.

    Args:
        options: The fractions of that split.
        context: `root` is the folder.

    Returns:
        Photos by split, class, folder and name. `notes` counts photos outside class folders and files that are no photos.

    Raises:
        DataError: If the folder is missing or its layout cannot be understood; every empty class folder is named.
    """
    root = check_folder(context.root, "folders")
    scanner = Scanner()
    top = scanner.list_folder(str(root))
    splits = _match_splits(root, top)
    if any(split in splits for split in SCORED):
        photos, notes = _list_splits(root, top, splits, scanner)
        is_dealt = False
    else:
        photos, notes = _list_classes(root, top, options, scanner)
        is_dealt = options.split
    if "display" in splits:
        shown = _walk(scanner, root, splits["display"])
        photos += [PhotoRecord(Path(path), None, "display") for path in shown]
    return PhotoListing(tuple(photos), root, notes=(*notes, *scanner.notes()), dealt=tuple(SCORED) if is_dealt else ())


def _match_splits(root: Path, top: FolderContents) -> dict[str, str]:
    """Split → the name of its folder."""
    found: dict[str, str] = {}
    for split, names in SPLIT_NAMES.items():
        folders = [name for name in top.folders if name.lower() in names]
        if len(folders) > 1:
            both = " and ".join(f"{plain(name)}/" for name in folders)
            raise DataError(f"{plain(root)}: {both} both mean the {split} split. Keep one, or merge them.")
        if folders:
            found[split] = folders[0]
    return found


def _list_splits(
    root: Path, top: FolderContents, splits: Mapping[str, str], scanner: Scanner
) -> tuple[list[PhotoRecord], list[str]]:
    _check_top(root, top, splits, scanner)
    notes = _note_loose(root, top)
    photos: list[PhotoRecord] = []
    problems: list[str] = []
    for split in SCORED:
        folder = root / splits[split]
        contents = scanner.list_folder(str(folder))
        problems += _check_class_folders(folder, contents)
        notes += _note_loose(folder, contents) if contents.folders else []
        for label in contents.folders:
            paths = [*_walk(scanner, root, splits[split], label)]
            problems += [] if paths else [_empty_class(folder / label, scanner)]
            photos += [PhotoRecord(Path(path), label, split) for path in paths]
    if problems:
        raise DataError(problems)
    return photos, notes


def _list_classes(
    root: Path, top: FolderContents, options: FoldersOptions, scanner: Scanner
) -> tuple[list[PhotoRecord], list[str]]:
    labels = [name for name in top.folders if name.lower() not in SPLIT_NAMES["display"]]
    problems = _check_class_folders(root, FolderContents(tuple(labels), top.photos))
    problems += [line for label in labels for line in _check_not_a_level_up(root / label, scanner)]
    photos: list[PhotoRecord] = []
    for label in labels if not problems else []:
        paths = [*_walk(scanner, root, label)]
        problems += _check_splittable(root / label, len(paths), scanner, options)
        photos += _split_class(root, label, paths, options)
    if problems:
        raise DataError(problems)
    return photos, [*([_describe_split(root, photos, options)] if options.split else []), *_note_loose(root, top)]


def _check_top(root: Path, top: FolderContents, splits: Mapping[str, str], scanner: Scanner) -> None:
    """Every split is there, and no other folder holds photos: it would be a class outside the splits."""
    there = next(splits[split] for split in SCORED if split in splits)
    problems = [
        f"{plain(root)}: there is {plain(there)}/ but no {split}/ (or {', '.join(SPLIT_NAMES[split][1:])})."
        " Add it, or keep class folders only and have them split."
        for split in SCORED
        if split not in splits
    ]
    apart = Scanner(scanner.suffixes)  # what these folders hold besides photos is nobody's concern
    for name in top.folders:
        if name not in splits.values() and next(_walk(apart, root, name), None):
            problems.append(
                f"{plain(root)}: {plain(name)}/ contains photos but is next to the split folders."
                " Move it into one of them or out of this folder."
            )
    if problems:
        raise DataError(problems)


def _check_class_folders(folder: Path, contents: FolderContents) -> list[str]:
    if contents.folders:
        return []
    if contents.photos:
        return [
            f"{plain(folder)}: {counted(len(contents.photos), 'photo')} but no class folders."
            f" Put the photos of each class into a separate folder, {plain(folder.name)}/<class>/; or, if {plain(folder.name)} is one of"
            f" the classes, give the folder that holds it, {plain(folder.parent)}."
        ]
    return [f"{plain(folder)}: no photos and no class folders in it. Put photos into {plain(folder.name)}/<class>/."]


def _check_not_a_level_up(folder: Path, scanner: Scanner) -> list[str]:
    """A split folder inside what should be a class: the root is one level too high."""
    inner = [name.lower() for name in Scanner(scanner.suffixes).list_folder(str(folder)).folders]
    held = [split for split in SCORED if any(name in inner for name in SPLIT_NAMES[split])]
    return [f"{plain(folder)}: holds {' and '.join(held)} folders. Set data.root to it."] if len(held) > 1 else []


def _check_splittable(folder: Path, photos: int, scanner: Scanner, options: FoldersOptions) -> list[str]:
    if not photos:
        return [_empty_class(folder, scanner)]
    if options.split and photos < FEWEST_TO_SPLIT:
        return [
            f"{plain(folder)}: {counted(photos, 'photo')} cannot be split into train, valid and test. At least 3 are needed."
        ]
    return []


def _empty_class(folder: Path, scanner: Scanner) -> str:
    passed = "; ".join(scanner.notes())
    return f"{plain(folder)}: no photos in this class folder. Add some or remove it.{f' ({passed})' if passed else ''}"


def _walk(scanner: Scanner, root: Path, *inside: str) -> Iterator[str]:
    """Every photo in a folder below the root; links back to the folders above it are not followed."""
    above = [root.joinpath(*inside[:depth]) for depth in range(len(inside))]
    return scanner.walk(str(root.joinpath(*inside)), {folder_id(str(folder)) for folder in above})


def _split_class(root: Path, label: str, paths: list[str], options: FoldersOptions) -> list[PhotoRecord]:
    """Split one class by rank of its names' hashes: exact sizes, and one photo more moves at most one across each bound."""
    if not options.split:
        return [PhotoRecord(Path(path), label, "train") for path in paths]

    def place(path: str) -> bytes:
        name = Path(path).relative_to(root).as_posix()
        return hashlib.sha256(f"{options.split_seed}\0{name}".encode(errors="surrogateescape")).digest()

    test = max(1, min(round(len(paths) * options.test_fraction), len(paths) - 2))
    valid = max(1, min(round(len(paths) * options.valid_fraction), len(paths) - test - 1))
    ranked = sorted(paths, key=place)
    split_of = {
        path: "test" if rank < test else "valid" if rank < test + valid else "train" for rank, path in enumerate(ranked)
    }
    return [PhotoRecord(Path(path), label, split_of[path]) for path in paths]


def _describe_split(root: Path, photos: list[PhotoRecord], options: FoldersOptions) -> str:
    sizes = ", ".join(f"{sum(photo.split == split for photo in photos)} {split}" for split in SCORED)
    return (
        f"{plain(root)} has no split folders: each class was split by name ({sizes}; split_seed {options.split_seed})"
    )


def _note_loose(folder: Path, contents: FolderContents) -> list[str]:
    if not contents.photos:
        return []
    count, names = len(contents.photos), some_names(list(contents.photos))
    subject, verb = ("1 photo", "is") if count == 1 else (f"{count} photos", "are")
    return [f"{subject} directly in {plain(folder)} {verb} in no class and not used: {names}"]
