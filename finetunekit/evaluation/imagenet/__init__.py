"""The 1000 classes of ImageNet (ILSVRC-2012) by index, with their WordNet names, what is above them and what stands beside them.

`synsets.tsv` holds WordNet 3.0's nouns around those classes: the classes themselves, everything above them, their direct hyponyms, and
the other hyponyms of whatever is directly above them. It is made by `benchmarks/imagenet_synsets.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

NUM_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Synset:
    """One meaning in WordNet 3.0.

    Attributes:
        wnid: `n` and its offset in WordNet 3.0's noun file, such as `n02123045`.
        names: Words for it, the usual one first, such as `tabby`, `tabby cat`.
        parents: `wnid` of each meaning directly above it; none for the root, `entity`.
        index: Its class in ImageNet-1k, from 0 to 999; None where it is none.
    """

    wnid: str
    names: tuple[str, ...]
    parents: tuple[str, ...]
    index: int | None


@dataclass(frozen=True, slots=True)
class ImageNetClass:
    """One class of ImageNet-1k.

    Attributes:
        index: Position among the 1000 logits.
        wnid: WordNet id, such as `n02123045`.
        names: Words for it, the usual one first.
        hypernyms: Everything above it, nearest first: `domestic cat`, `cat`, `feline`, … `entity`.
    """

    index: int
    wnid: str
    names: tuple[str, ...]
    hypernyms: tuple[Synset, ...]


@cache
def synsets() -> Mapping[str, Synset]:
    """Every meaning in the file by `wnid`, children of the root included.

    Source: WordNet 3.0, Princeton University, see NOTICE.
    """
    text = (files("finetunekit.evaluation.imagenet") / "synsets.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return MappingProxyType(
        {
            wnid: Synset(wnid, tuple(names.split("|")), tuple(parents.split()), int(index) if index else None)
            for wnid, index, parents, names in rows
        }
    )


@cache
def imagenet_classes() -> tuple[ImageNetClass, ...]:
    """The 1000 classes in the order of the logits of every network that was trained on ImageNet-1k.

    Source: the order is that of the sorted WordNet ids, as in timm (timm/data/_info/imagenet_synsets.txt, Apache-2.0).
    """
    members = sorted((synset.index, synset) for synset in synsets().values() if synset.index is not None)
    return tuple(ImageNetClass(index, s.wnid, s.names, hypernyms(s.wnid)) for index, s in members)


def hypernyms(wnid: str) -> tuple[Synset, ...]:
    """Everything above a meaning, nearest first, each once.

    Raises:
        KeyError: If the meaning is not in the file.
    """
    above: dict[str, Synset] = {}
    level = synsets()[wnid].parents
    while level:
        above |= {parent: synsets()[parent] for parent in level if parent not in above}
        level = tuple(grand for parent in level for grand in synsets()[parent].parents if grand not in above)
    return tuple(above.values())
