"""Write finetunekit/evaluation/imagenet/synsets.tsv from WordNet 3.0 and the list of ImageNet-1k's classes.

    apt-get download wordnet-base && dpkg-deb -x wordnet-base_*.deb wordnet
    pip download --no-deps timm && unzip timm-*.whl timm/data/_info/imagenet_synsets.txt
    python benchmarks/imagenet_synsets.py wordnet/usr/share/wordnet/data.noun timm/data/_info/imagenet_synsets.txt

Source of the format of data.noun: wordnet.princeton.edu/documentation/wndb5wn.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

TARGET = Path(__file__).parents[1] / "finetunekit" / "evaluation" / "imagenet" / "synsets.tsv"
HEAD = """\
# Nouns of WordNet 3.0 around the 1000 classes of ImageNet: WordNet id, class, ids directly above, names.
# WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. Its licence is in NOTICE.
# Written by benchmarks/imagenet_synsets.py.
"""


@dataclass(frozen=True, slots=True)
class Noun:
    """One line of data.noun."""

    names: tuple[str, ...]
    parents: tuple[str, ...]
    children: tuple[str, ...]


def read_nouns(path: Path) -> dict[str, Noun]:
    """Every noun by `n` and its offset; lines of the licence begin with a blank."""
    lines = (line for line in path.read_text(encoding="utf-8").splitlines() if line[:1].isdigit())
    return {f"n{line[:8]}": _noun(line.partition(" | ")[0].split()) for line in lines}


def _noun(fields: list[str]) -> Noun:
    count = int(fields[3], 16)
    names = tuple(name.replace("_", " ") for name in fields[4 : 4 + 2 * count : 2])
    pointers = fields[5 + 2 * count :]  # four fields each: kind, offset, part of speech, words
    by_kind = [(pointers[i], f"n{pointers[i + 1]}") for i in range(0, len(pointers) - 3, 4)]
    parents = tuple(wnid for kind, wnid in by_kind if kind in ("@", "@i"))
    return Noun(names, parents, tuple(wnid for kind, wnid in by_kind if kind == "~"))


def around(classes: Iterable[str], nouns: Mapping[str, Noun]) -> set[str]:
    """The classes, their hyponyms, the hyponyms of what is directly above them, and everything above all of these."""
    near = {wnid for c in classes for family in (c, *nouns[c].parents) for wnid in (family, *nouns[family].children)}
    kept: set[str] = set()
    waiting = list(near)
    while waiting:
        wnid = waiting.pop()
        if wnid not in kept:
            kept.add(wnid)
            waiting += nouns[wnid].parents
    return kept


def main() -> None:
    """Read both files and write the table."""
    nouns, classes = read_nouns(Path(sys.argv[1])), Path(sys.argv[2]).read_text(encoding="utf-8").split()
    index = {wnid: number for number, wnid in enumerate(classes)}
    rows = [
        f"{wnid}\t{index.get(wnid, '')}\t{' '.join(nouns[wnid].parents)}\t{'|'.join(nouns[wnid].names)}\n"
        for wnid in sorted(around(classes, nouns))
    ]
    TARGET.write_text(HEAD + "".join(rows), encoding="utf-8")
    print(f"{TARGET}: {len(rows)} nouns")


if __name__ == "__main__":
    main()
