"""Which classes the pretraining has seen: by name, through WordNet, and by what the pretrained head calls the photos."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from finetunekit_builtin.vgg16 import VGG16_SPEC

from finetunekit.evaluation.imagenet import imagenet_classes
from finetunekit.evaluation.pretraining_overlap import has_seen_imagenet, match_classes, normalise, overlap_record


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Tigers", "tiger"),
        ("grey_wolves", "grey wolf"),
        ("03-foxes", "fox"),
        ("Puppies", "puppy"),
        ("bus", "bus"),
        ("glass", "glass"),
        ("mice", "mouse"),
        ("café", "cafe"),
        ("猫", "猫"),
        ("42", ""),
    ],
)
def test_names_are_compared_as_words(name: str, expected: str) -> None:
    assert normalise(name) == expected


@pytest.mark.parametrize(
    ("name", "relation", "some"),
    [
        ("lynx", "same", "lynx"),
        ("LIONS", "same", "lion"),
        ("Egyptian_cat", "same", "Egyptian cat"),
        ("dog", "wider", "Chihuahua"),
        ("bear", "wider", "brown bear"),
        ("bobcat", "narrower", "lynx"),
        ("siberian tiger", "narrower", "tiger"),
        ("ocelot", "beside", "cougar"),
    ],
)
def test_wordnet_relations(name: str, relation: str, some: str) -> None:
    (found,) = match_classes([name])
    assert found.relation == relation
    assert some in {imagenet_classes()[i].names[0] for i in found.indices}
    assert found.is_seen == (relation in ("same", "wider"))


@pytest.mark.parametrize("name", ["gearbox noise", "猫", "", "animal"])
def test_a_name_that_says_nothing_matches_nothing(name: str) -> None:
    (found,) = match_classes([name])
    assert (found.relation, found.indices) == ("none", ())


def test_a_kind_belongs_to_the_class_that_has_its_name() -> None:
    cat, lynx = match_classes(["cat", "lynx"])
    assert not set(cat.indices) & set(lynx.indices)
    assert set(match_classes(["cat"])[0].indices) > set(lynx.indices)


def test_record_says_how_many_were_seen_and_as_what() -> None:
    record = overlap_record(["cat", "lion", "lynx", "tiger"], VGG16_SPEC)
    assert record["seen"] == 4
    assert record["words"][0].startswith("4 of 4 classes are in ImageNet-1k")
    assert "lynx → lynx" in record["words"][0]
    assert "cat → tabby" in record["words"][0]
    assert record["caution"]
    assert not record["has_head"]
    unseen = overlap_record(["gearbox noise", "lion"], VGG16_SPEC)
    assert unseen["words"][0].startswith("1 of 2 classes is in ImageNet-1k")
    assert overlap_record(["blip", "blop"], VGG16_SPEC)["caution"] == ""


def test_answers_of_the_pretrained_head_are_counted_for_each_class() -> None:
    labels = np.array([0, 0, 0, 0, 1])
    answers = np.array([281, 281, 281, 285, 291])
    record = overlap_record(["cat", "lion"], VGG16_SPEC, labels, answers)
    assert record["rows"][0]["by_photos"] == "tabby 75 %, Egyptian cat 25 %"
    assert record["rows"][1]["by_photos"] == "lion 100 %"


def test_only_a_backbone_that_saw_imagenet_is_asked() -> None:
    assert has_seen_imagenet(VGG16_SPEC)
    assert not has_seen_imagenet(dataclasses.replace(VGG16_SPEC, pretrained_on="LAION-2B"))
