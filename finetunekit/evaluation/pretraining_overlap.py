"""Which of a task's classes a backbone has seen in its pretraining: by name and by WordNet, and by what it calls the training photos."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from finetunekit.evaluation.imagenet import Synset, hypernyms, imagenet_classes, synsets
from finetunekit.system.formatting import counted
from finetunekit.types import BackboneSpec

Relation = Literal["same", "wider", "narrower", "beside", "none"]

RELATIONS: Mapping[Relation, str] = {
    "same": "yes, the same class",
    "wider": "yes, kinds of it",
    "narrower": "a wider class that contains it",
    "beside": "only neighbours of what the word may mean",
    "none": "not by name",
}
#: A word above so many of the 1000 classes says nothing about any of them: "animal" is above 398, "dog" above 118.
MOST_KINDS = 200
SHOWN_NAMES, SHOWN_LABELS, SHOWN_CLASSES = 4, 3, 6
CAUTION = (
    "A network tells classes it has seen before apart more easily than classes it never saw, so do not expect the same score on other "
    "classes. Names are matched by their words: a word can mean something else in ImageNet."
)
SHARED = "Its pretraining may even hold some of these very photos, if they were taken from the web."


@dataclass(frozen=True, slots=True)
class ClassOverlap:
    """What the pretraining knows of one class.

    Attributes:
        name: The task's class.
        relation: Closest relation found: `same`, `wider` (the task's class contains classes of the pretraining), `narrower` (one of them
            contains it), `beside` (they share what is directly above them), `none`.
        indices: Classes of ImageNet-1k it was matched with, ascending.
    """

    name: str
    relation: Relation
    indices: tuple[int, ...]

    @property
    def is_seen(self) -> bool:
        """Whether photos of this class were among those of the pretraining, by name."""
        return self.relation in ("same", "wider")


def has_seen_imagenet(spec: BackboneSpec) -> bool:
    """Whether a backbone was pretrained on ImageNet."""
    return "imagenet" in spec.pretrained_on.lower()


def match_classes(names: Sequence[str]) -> tuple[ClassOverlap, ...]:
    """Match class names with the 1000 classes of ImageNet-1k, through WordNet.

    Case, underscores, hyphens, accents, numbers in front and the plural do not matter. Where the whole name is not known its last words
    are tried: `siberian tiger` is matched as a kind of tiger. Kinds that have the name of another class of the task belong to that one:
    a lynx is a cat, but beside a class `lynx` it is not counted as `cat`.

    Args:
        names: The task's classes.

    Returns:
        One match a class, in order.
    """
    found = [_match(name) for name in names]
    taken = [frozenset(one.indices) if one.relation == "same" else frozenset[int]() for one in found]
    return tuple(
        _without(one, frozenset().union(*(taken[k] for k in range(len(found)) if k != i)))
        for i, one in enumerate(found)
    )


def overlap_record(
    names: Sequence[str],
    spec: BackboneSpec,
    labels: NDArray[np.int64] | None = None,
    answers: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """What `overlap.json` holds, in plain values.

    Args:
        names: The task's classes.
        spec: The backbone, pretrained on ImageNet.
        labels: Class of each training photo, `(photos,)`.
        answers: What the backbone's own 1000-way head calls each of them, `(photos,)`; None where there is no such head.
    """
    matched = match_classes(names)
    seen = sum(one.is_seen for one in matched)
    rows = [_row(one, _answers_of(i, labels, answers)) for i, one in enumerate(matched)]
    verb = "is" if seen == 1 else "are"
    # a neighbour of one meaning of a word says nothing of the others: a rose is a wine beside the red one, and a flower
    related = [one for one in matched if one.relation not in ("beside", "none")]
    listed = "; ".join(map(_arrow, related[:SHOWN_CLASSES]))
    more = f"; and {counted(len(related) - SHOWN_CLASSES, 'more class')}" if len(related) > SHOWN_CLASSES else ""
    words = f"{seen} of {counted(len(names), 'class')} {verb} in ImageNet-1k, on which {spec.title} was pretrained"
    return {
        "pretrained_on": spec.pretrained_on,
        "seen": seen,
        "classes": len(names),
        "words": [f"{words}: {listed}{more}." if listed else f"{words}, by name."],
        "caution": f"{CAUTION} {SHARED}" if seen else "",
        "has_head": answers is not None,
        "rows": rows,
    }


def _row(one: ClassOverlap, by_photos: str) -> dict[str, Any]:
    return {
        "class": one.name,
        "relation": RELATIONS[one.relation],
        "is_seen": one.is_seen,
        "indices": list(one.indices),
        "by_name": _names(one.indices),
        "by_photos": by_photos,
    }


def _arrow(one: ClassOverlap) -> str:
    how = " (wider)" if one.relation == "narrower" else ""
    return f"{one.name} → {_names(one.indices)}{how}"


def _names(indices: Sequence[int]) -> str:
    classes = imagenet_classes()
    shown = [classes[i].names[0] for i in indices[:SHOWN_NAMES]]
    rest = len(indices) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _answers_of(number: int, labels: NDArray[np.int64] | None, answers: NDArray[np.int64] | None) -> str:
    """`tabby 41 %, Egyptian cat 22 %, lynx 9 %`."""
    if labels is None or answers is None or not (labels == number).any():
        return ""
    said, counts = np.unique(answers[labels == number], return_counts=True)
    order = np.lexsort((said, -counts))[:SHOWN_LABELS]
    names = imagenet_classes()
    return ", ".join(f"{names[int(said[i])].names[0]} {100 * counts[i] / counts.sum():.0f} %" for i in order)


def _match(name: str) -> ClassOverlap:
    words = normalise(name).split()
    for start in range(len(words)):
        meanings = _by_name().get(" ".join(words[start:]), ())
        relation, indices = _closest(meanings)
        if relation != "none":
            is_kind_of = start > 0 and relation in ("same", "wider")
            return ClassOverlap(name, "narrower" if is_kind_of else relation, indices)
    return ClassOverlap(name, "none", ())


def _closest(meanings: Iterable[Synset]) -> tuple[Relation, tuple[int, ...]]:
    """The closest relation that any meaning has; of several with the same one, all of their classes."""
    finders: tuple[tuple[Relation, Any], ...] = (
        ("same", lambda s: {s.index} - {None}),
        ("wider", lambda s: _kinds().get(s.wnid, frozenset()) if len(_kinds().get(s.wnid, ())) <= MOST_KINDS else ()),
        ("narrower", lambda s: {above.index for above in hypernyms(s.wnid)} - {None}),
        ("beside", _neighbours),
    )
    for relation, find in finders:
        indices = sorted({index for meaning in meanings for index in find(meaning)})
        if indices:
            return relation, tuple(indices)
    return "none", ()


def _without(one: ClassOverlap, taken: frozenset[int]) -> ClassOverlap:
    if one.relation != "wider":
        return one
    kept = tuple(index for index in one.indices if index not in taken)
    return ClassOverlap(one.name, "wider", kept) if kept else one


@cache
def _by_name() -> Mapping[str, tuple[Synset, ...]]:
    found: dict[str, list[Synset]] = {}
    for synset in synsets().values():
        for name in dict.fromkeys(map(normalise, synset.names)):
            found.setdefault(name, []).append(synset)
    return {name: tuple(meanings) for name, meanings in found.items()}


@cache
def _kinds() -> Mapping[str, frozenset[int]]:
    """Classes of ImageNet-1k below each meaning."""
    found: dict[str, set[int]] = {}
    for one in imagenet_classes():
        for above in one.hypernyms:
            found.setdefault(above.wnid, set()).add(one.index)
    return {wnid: frozenset(indices) for wnid, indices in found.items()}


def _neighbours(synset: Synset) -> frozenset[int]:
    return frozenset(
        one.index for one in imagenet_classes() for parent in synsets()[one.wnid].parents if parent in synset.parents
    )


#: Plurals that no rule makes, of words that name classes of photos. Source: English.
_PLURALS = {
    **{
        "mice": "mouse",
        "geese": "goose",
        "oxen": "ox",
        "men": "man",
        "women": "woman",
        "people": "person",
        "children": "child",
    },
    **{
        "feet": "foot",
        "teeth": "tooth",
        "wolves": "wolf",
        "leaves": "leaf",
        "loaves": "loaf",
        "knives": "knife",
        "calves": "calf",
    },
    **{
        "shelves": "shelf",
        "scarves": "scarf",
        "hooves": "hoof",
        "cacti": "cactus",
        "fungi": "fungus",
        "octopi": "octopus",
    },
}


def normalise(name: str) -> str:
    """A class name as words: lower case, singular, no accents, no numbers in front, one space between."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))
    words = re.sub(r"[\W_]+", " ", re.sub(r"^[\W\d_]+", "", plain)).split()
    return " ".join([*words[:-1], _singular(words[-1])]) if words else ""


def _singular(word: str) -> str:
    if word in _PLURALS:
        return _PLURALS[word]
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and re.search(r"(s|x|z|ch|sh)es$", word):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not re.search(r"(ss|us|is)$", word):
        return word[:-1]
    return word
