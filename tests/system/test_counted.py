"""Numbers and their nouns, and suggestions that make sense."""

from __future__ import annotations

import pytest

from finetunekit.errors import did_you_mean
from finetunekit.system.formatting import counted, show_expected


@pytest.mark.parametrize(
    ("number", "noun", "shown"),
    [
        (1, "photo", "1 photo"),
        (0, "photo", "0 photos"),
        (1584, "photo", "1,584 photos"),
        (2, "class", "2 classes"),
        (1, "class", "1 class"),
        (3, "batch", "3 batches"),
        (2, "box", "2 boxes"),
    ],
)
def test_one_is_one_and_others_are_several(number: int, noun: str, shown: str) -> None:
    assert counted(number, noun) == shown


def test_a_plural_of_ones_own() -> None:
    assert [counted(n, "photo is", "photos are") for n in (1, 2)] == ["1 photo is", "2 photos are"]


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.872, 0.979, "87 to 98 %"),
        (0.943, 1.0, "94 to 100 %"),
        (0.981, 0.991, "98.1 to 99.1 %"),
        (0.0, 0.2, "0 to 20 %"),
    ],
)
def test_what_to_expect_is_rounded_outwards(low: float, high: float, shown: str) -> None:
    assert show_expected({"low": low, "high": high}) == shown


@pytest.mark.parametrize(
    ("received", "choices", "meant"),
    [
        ("grean", ("green", "red"), "green"),
        ("rnu", ("run", "runs"), "run"),
        ("rum", ("resume", "run"), "run"),
        ("car", ("rat", "bat"), None),
        ("cat", ("car", "dog"), None),
        ("bleu", ("blue", "black"), "blue"),
        ("felidae5", ("felidae4", "small-data"), "felidae4"),
        ("cat", ("rat", "bat"), None),
        ("rose", ("robe", "red wine"), "robe"),
        ("rose", ("red wine", "rhine"), None),
    ],
)
def test_only_what_is_nearly_the_word_is_suggested(received: str, choices: tuple[str, ...], meant: str | None) -> None:
    said = did_you_mean(received, choices)
    assert said == (f" Did you mean '{meant}'?" if meant else f" Allowed: {', '.join(sorted(choices))}.")
