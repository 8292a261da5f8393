"""Photos that show none of the classes: told by their distance to training photos, said in p-values, kept in the run folder."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from helpers_plugins import invoke

import finetunekit as ftk
from finetunekit.errors import RunFolderError
from finetunekit.evaluation.likeness import (
    MOST_KEPT,
    Traits,
    distances,
    keep_features,
    read_features,
    traits_of,
    unit_length,
    unlike_notes,
    unlike_words,
    write_features,
)
from finetunekit.runs.folder import FEATURES, FinishedRun


def _around(centre: int, photos: int, seed: int) -> Traits:
    """Features near one of 16 directions; the first two are classes, whose logits they are."""
    random = np.random.default_rng(seed)
    features = (8 * np.eye(16)[centre] + random.normal(0, 1, (photos, 16))).astype(np.float32)
    return traits_of(features, features[:, :2])


def _names(photos: int) -> list[str]:
    return [f"{i:064x}" for i in range(photos)]


def test_other_things_are_unlike_and_like_photos_seldom() -> None:
    first, second = _around(0, 60, 1), _around(1, 60, 2)
    both = (np.concatenate([a, b]) for a, b in ((first.features, second.features), (first.energies, second.energies)))
    kept = keep_features(Traits(*both), _names(120), _around(0, 200, 3), _names(200))
    assert kept.unlike_at == 0.01
    other, same = kept.p_values(_around(5, 50, 4)), kept.p_values(_around(0, 500, 5))
    assert other == pytest.approx(1 / 201)
    assert (same <= 0.01).mean() < 0.05
    assert (same <= 0.5).mean() == pytest.approx(0.5, abs=0.12)
    assert unlike_words(1 / 201) == "unlike any training photo (p = 0.005)"


def test_distance_is_the_mean_to_five_and_knows_no_length() -> None:
    angles = np.deg2rad([0, 10, 20, 30, 40, 90])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
    found = distances(vectors, np.array([[7.0, 0.0], [0.0, 0.0]], np.float32))
    assert found == pytest.approx([1 - np.cos(angles[:5]).mean(), 1.0], abs=1e-3)
    assert distances(vectors[:2], np.ones((1, 2), np.float32))[0] == pytest.approx(0.2369, abs=1e-3)
    own = distances(vectors, vectors.astype(np.float32), is_own=True)
    assert own[0] == pytest.approx(1 - np.cos(angles[1:]).mean(), abs=1e-3)
    assert distances(vectors[:1], vectors[:1].astype(np.float32), is_own=True).tolist() == [0.0]


def test_both_parts_count_in_units_of_their_spread() -> None:
    train = _around(0, 80, 1)
    kept = keep_features(train, _names(80), _around(0, 50, 2), _names(50))
    moved = Traits(train.features, train.energies + kept.spread[1])
    assert kept.unlikeness(moved) - kept.unlikeness(train) == pytest.approx(1.0)
    assert kept.spread[0] == pytest.approx(distances(kept.vectors, train.features, is_own=True).std())


def test_few_validation_photos_call_nothing_unlike_and_say_so() -> None:
    train = _around(0, 9, 1)
    kept = keep_features(train, _names(9), _around(0, 18, 2), _names(18))
    assert kept.unlike_at is None
    assert next(unlike_notes(kept)) == (
        "18 validation photos are too few to tell a photo that shows none of the classes; it takes 19."
    )
    assert keep_features(train, _names(9), _around(0, 19, 2), _names(19)).unlike_at == 0.05
    assert len(keep_features(train, _names(9), _around(0, 4, 2), _names(2) * 2).known) == 2
    assert "keeps no features" in next(unlike_notes(None))


def test_many_training_photos_are_drawn_from() -> None:
    features = np.arange(2 * (MOST_KEPT + 7), dtype=np.float32).reshape(-1, 2) + 1
    train = traits_of(features, features)
    kept = keep_features(train, _names(len(features)), train.take(np.arange(3)), _names(3))
    assert len(kept.vectors) == len(set(kept.sha256)) == MOST_KEPT
    (found,) = kept.nearest(features[int(kept.sha256[40], 16)][None], 1)
    assert found[0][1] == pytest.approx(1, abs=1e-3)


def test_a_damaged_file_is_one_line(copied_run: Path) -> None:
    run = FinishedRun(copied_run)
    kept = read_features(run)
    assert kept is not None
    write_features(copied_run, dataclasses.replace(kept, sha256=kept.sha256[1:]))
    with pytest.raises(RunFolderError, match=r"train_features\.npz: is damaged \(its arrays do not fit\)"):
        read_features(run)
    for content in (b"", b"PK\x03\x04 half a file"):
        (copied_run / FEATURES).write_bytes(content)
        with pytest.raises(RunFolderError, match=r"train_features\.npz: is damaged"):
            read_features(run)
    (copied_run / FEATURES).unlink()
    assert read_features(run) is None


def test_a_run_tells_by_what_it_kept(copied_run: Path, tmp_path: Path) -> None:
    """Its features are those that the loaded network gives again; with stricter validation photos its own test photos are strange."""
    run = ftk.load(copied_run)
    kept = run.training
    assert kept is not None
    assert (kept.vectors.dtype, kept.vectors.shape, len(kept.known)) == (np.float16, (12, 8), 6)
    train = [row for row in run.run.photos if row["split"] == "train"]
    _, traits = run._ask([run.run.photo_path(row["path"]) for row in train])
    assert traits is not None
    order = [kept.sha256.index(row["sha256"]) for row in train]
    np.testing.assert_allclose(unit_length(traits.features), kept.vectors[order], atol=1e-3)
    assert min(found[0][1] for found in kept.nearest(traits.features, 1)) == pytest.approx(1, abs=1e-3)
    assert run.run.metrics["unlike"] == {"photos": 6, "p": None, "test": {"unlike": 0, "photos": 6}}
    photo = run.run.photo_path(run.run.split_predictions("test")[0]["path"])
    assert not run.predict([photo])[0].is_unlike

    test = [run.run.photo_path(row["path"]) for row in run.run.split_predictions("test")]
    traits = run.traits(test)
    assert traits is not None
    ranked = np.argsort(kept.unlikeness(traits))
    like, unlike = test[ranked[0]], test[ranked[-1]]
    between = float(np.sort(kept.unlikeness(traits))[-2:].mean())
    write_features(copied_run, dataclasses.replace(kept, known=np.full(249, between)))
    found = ftk.load(copied_run).predict([like, unlike], abstain_unlike=True)
    assert [(p.unlike_p, p.is_unlike, p.label is None) for p in found] == [(1.0, False, False), (1 / 250, True, True)]
    table = tmp_path / "answers.csv"
    shown = invoke("predict", str(copied_run), str(like), str(unlike), "--csv", str(table), "--coverage", "0.8")
    first, second = shown.stdout.splitlines()[:2]
    assert "unlike" not in first
    assert "none of these?" in second
    assert "unlike any training photo (p = 0.004); of the classes" in second
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [(row["unlike_p"], row["is_unlike"]) for row in rows] == [("1.0", "0"), ("0.004", "1")]
    assert all(row["predicted"] for row in rows)
    values = json.loads(invoke("predict", str(copied_run), str(like), str(unlike), "--json").stdout)
    assert [value["is_unlike"] for value in values] == [False, True]


@pytest.mark.parametrize("head", ["linear", "map", "scaled", "two", "apart", "product"])
def test_features_are_what_the_last_layers_with_weights_read(head: str) -> None:
    import keras

    from finetunekit.models.forward import make_answering

    pixels = keras.Input((4, 4, 3))
    pooled, largest = keras.layers.GlobalAveragePooling2D()(pixels), keras.layers.GlobalMaxPooling2D()(pixels)
    logits = {
        "linear": lambda: keras.layers.Dense(2)(keras.layers.Dropout(0.5)(pooled)),
        "map": lambda: keras.layers.GlobalAveragePooling2D()(keras.layers.Dense(2)(pixels)),
        "scaled": lambda: keras.layers.Rescaling(2.0)(keras.layers.Dense(2)(pooled)),
        "two": lambda: keras.layers.Add()([keras.layers.Dense(2)(pooled), keras.layers.Dense(2)(pooled)]),
        "apart": lambda: keras.layers.Add()([keras.layers.Dense(2)(pooled), keras.layers.Dense(2)(largest)]),
        "product": lambda: keras.layers.Multiply()([pooled, largest]),
    }[head]()
    model = keras.Model(pixels, logits)
    photos = np.random.default_rng(0).random((5, 4, 4, 3)).astype(np.float32)
    given, features = make_answering(model, 2)(photos)
    np.testing.assert_allclose(given, model.predict(photos, verbose=0), rtol=1e-5)
    mean, greatest = photos.mean(axis=(1, 2)), photos.max(axis=(1, 2))
    if head == "product":
        assert features is None
    elif head == "apart":
        np.testing.assert_allclose(
            features, np.concatenate([unit_length(mean), unit_length(greatest)], axis=1), rtol=1e-4
        )
    else:
        np.testing.assert_allclose(features, mean, rtol=1e-5)


def test_a_photo_is_as_unlike_whichever_photos_came_with_it() -> None:
    generator = np.random.default_rng(3)
    vectors = unit_length(generator.random((37, 33))).astype(np.float16)
    features = generator.random((20, 33)).astype(np.float32)
    together = distances(vectors, features)
    assert [float(distances(vectors, row[None])[0]) for row in features] == together.tolist()
    np.testing.assert_allclose(together, 1 - np.sort(unit_length(features) @ vectors.T)[:, -5:].mean(axis=1), atol=1e-6)
