from __future__ import annotations

from finetunekit.evaluation.imagenet import NUM_CLASSES, hypernyms, imagenet_classes, synsets


def test_a_thousand_classes_in_the_order_of_their_ids() -> None:
    classes = imagenet_classes()
    assert [c.index for c in classes] == list(range(NUM_CLASSES))
    assert [c.wnid for c in classes] == sorted(c.wnid for c in classes)
    known = {
        0: "tench",
        281: "tabby",
        285: "Egyptian cat",
        287: "lynx",
        291: "lion",
        292: "tiger",
        985: "daisy",
        999: "toilet tissue",
    }
    assert {index: classes[index].names[0] for index in known} == known


def test_every_class_goes_up_to_the_root_nearest_first() -> None:
    for c in imagenet_classes():
        above = [synset.wnid for synset in c.hypernyms]
        assert len(set(above)) == len(above)
        assert "entity" in {synset.names[0] for synset in c.hypernyms}
        assert above[: len(synsets()[c.wnid].parents)] == list(synsets()[c.wnid].parents)
    names = [synset.names[0] for synset in imagenet_classes()[281].hypernyms]
    assert names[:2] == ["domestic cat", "cat"]


def test_neighbours_of_classes_are_there_too() -> None:
    by_name = {name: synset for synset in synsets().values() for name in synset.names}
    ocelot = by_name["ocelot"]
    assert ocelot.index is None
    beside = {s.names[0] for s in synsets().values() if s.index is not None and set(s.parents) & set(ocelot.parents)}
    assert {"lynx", "cougar"} <= beside
    assert all(parent in synsets() for synset in synsets().values() for parent in synset.parents)
    assert hypernyms("n00001740") == ()
