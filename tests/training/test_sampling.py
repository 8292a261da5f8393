from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finetunekit.errors import RunError
from finetunekit.training.sampling import (
    EpochDraws,
    bank_keys,
    bank_views,
    count_visits,
    draw_epoch,
    validation_weights,
    views_drawn,
)


def _draw(**changes: Any) -> EpochDraws:
    asked = {"photos": 600, "draws": 1584, "batch_size": 32, "seed": 1, "view_seed": 2, "epoch": 0}
    return draw_epoch(**{**asked, **changes})


def _batch_sizes(draws: EpochDraws) -> list[int]:
    return [batch.stop - batch.start for batch in draws.batches()]


def test_the_experiment_draws_1584_photos_in_50_batches() -> None:
    draws = _draw()
    one_pass = [32] * 18 + [24]
    assert _batch_sizes(draws) == one_pass + one_pass + [32] * 12
    assert len(draws.batch_ends) == 50
    assert draws.photo.shape == draws.key.shape == (1584,)


def test_the_experiment_validates_on_360_draws() -> None:
    assert _batch_sizes(_draw(photos=200, draws=360)) == [32] * 6 + [8] + [32] * 5
    weights = validation_weights(photos=200, draws=360, seed=1, epoch=0)
    assert weights.sum() == 360
    assert sorted(np.unique(weights, return_counts=True)[1]) == [40, 160]
    assert set(weights) == {1, 2}


@pytest.mark.parametrize("epoch", [0, 7])
def test_each_pass_is_a_permutation_and_fresh(epoch: int) -> None:
    photo = _draw(epoch=epoch).photo
    first, second, rest = photo[:600], photo[600:1200], photo[1200:]
    np.testing.assert_array_equal(np.sort(first), np.arange(600))
    np.testing.assert_array_equal(np.sort(second), np.arange(600))
    assert len(np.unique(rest)) == len(rest) == 384
    # Two unrelated permutations agree at one place on average.
    assert (first == second).sum() < 10


def test_epochs_and_seeds_draw_other_orders_and_keys() -> None:
    draws = [_draw(), _draw(epoch=1), _draw(seed=5)]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (draws[i].photo == draws[j].photo).mean() < 0.02
    assert len(np.unique(np.concatenate([draws[0].key, draws[1].key]))) == 2 * 1584
    np.testing.assert_array_equal(draws[0].key, draws[2].key)  # keys belong to view_seed,
    np.testing.assert_array_equal(draws[0].photo, _draw(view_seed=9).photo)  # the order to seed
    assert not np.isin(_draw(view_seed=9).key, draws[0].key).any()


def test_every_position_of_a_pass_can_hold_every_photo() -> None:
    at_first = np.array([_draw(photos=5, draws=None, epoch=epoch).photo for epoch in range(2000)])
    counts = np.apply_along_axis(np.bincount, 0, at_first, minlength=5)
    # 25 cells of a binomial(2000, 1/5): 4.5 standard deviations of 17.9 around 400.
    assert np.abs(counts - 400).max() < 80


def test_an_epoch_is_the_same_alone_and_after_others() -> None:
    in_sequence = [_draw(epoch=epoch) for epoch in range(4)]
    np.testing.assert_array_equal(_draw(epoch=3).photo, in_sequence[3].photo)
    np.testing.assert_array_equal(_draw(epoch=3).key, in_sequence[3].key)


def test_batches_resume_inside_an_epoch() -> None:
    draws = _draw()
    assert list(draws.batches(first=19)) == list(draws.batches())[19:]
    assert next(draws.batches(first=19)).start == 600


@pytest.mark.parametrize(
    ("photos", "draws", "sizes"),
    [
        pytest.param(5, None, [5], id="fewer photos than a batch"),
        pytest.param(5, 12, [5, 5, 2], id="several short passes"),
        pytest.param(100, 40, [32, 8], id="fewer draws than photos"),
        pytest.param(64, None, [32, 32], id="whole batches"),
        pytest.param(64, 128, [32] * 4, id="whole passes"),
        pytest.param(1, 3, [1, 1, 1], id="one photo"),
    ],
)
def test_batches_never_span_passes(photos: int, draws: int | None, sizes: list[int]) -> None:
    drawn = _draw(photos=photos, draws=draws)
    assert _batch_sizes(drawn) == sizes
    assert len(drawn.photo) == sum(sizes)
    for start in range(0, len(drawn.photo), photos):
        within = drawn.photo[start : start + photos]
        assert len(np.unique(within)) == len(within)


def test_validation_weighs_each_photo_once_by_default_and_varies_by_epoch() -> None:
    np.testing.assert_array_equal(validation_weights(photos=7, draws=None, seed=0, epoch=0), np.ones(7))
    weights = [validation_weights(photos=200, draws=360, seed=0, epoch=epoch) for epoch in (0, 1)]
    assert (weights[0] != weights[1]).any()


@pytest.mark.parametrize(("photos", "draws"), [(600, 1584), (10, 4), (10, None)])
def test_views_are_used_without_replacement_until_all_were_used(photos: int, draws: int | None) -> None:
    views = 4
    used: list[list[int]] = [[] for _ in range(photos)]
    for epoch in range(12):
        asked: dict[str, Any] = {"photos": photos, "draws": draws, "seed": 1, "epoch": epoch}
        for photo, view in zip(_draw(**asked).photo, bank_views(views=views, **asked), strict=True):
            used[photo].append(int(view))
    for sequence in used:
        for start in range(0, len(sequence) - views + 1, views):
            assert sorted(sequence[start : start + views]) == [0, 1, 2, 3]
    rounds = {tuple(sequence[start : start + views]) for sequence in used for start in (0, views)}
    assert len(rounds) > (20 if photos == 600 else 3)  # reshuffled, and not alike for all photos


def test_views_come_as_they_are_numbered_so_that_a_short_run_needs_no_more_of_them() -> None:
    asked: dict[str, Any] = {"photos": 600, "draws": 1584, "seed": 1}
    needed = views_drawn(views=64, epochs=3, **asked)
    assert needed == 9  # two whole passes an epoch, and the third's part
    epochs = [bank_views(views=64, epoch=epoch, **asked) for epoch in range(3)]
    assert max(view.max() for view in epochs) == needed - 1
    for epoch, view in enumerate(epochs):
        np.testing.assert_array_equal(bank_views(views=needed, epoch=epoch, **asked), view)
    assert views_drawn(views=64, epochs=50, **asked) == 64
    assert views_drawn(photos=600, draws=None, views=64, seed=1, epochs=5) == 5
    with pytest.raises(RunError, match=r"epochs: 0 is too few"):
        views_drawn(views=64, epochs=0, **asked)


def test_visits_count_all_draws_before_and_may_be_handed_in() -> None:
    drawn = np.concatenate([_draw(epoch=epoch).photo for epoch in range(6)])
    visits = count_visits(photos=600, draws=1584, seed=1, epoch=6)
    np.testing.assert_array_equal(visits, np.bincount(drawn, minlength=600))
    asked: dict[str, Any] = {"photos": 600, "draws": 1584, "views": 8, "seed": 1, "epoch": 6}
    np.testing.assert_array_equal(bank_views(**asked, visits=visits), bank_views(**asked))


def test_bank_keys_depend_on_photo_and_view_number_only() -> None:
    keys = bank_keys(3, 5, 4)
    assert keys.shape == (5, 4)
    assert len(np.unique(keys)) == 20
    np.testing.assert_array_equal(bank_keys(3, 9, 8)[:5, :4], keys)
    assert not np.isin(bank_keys(4, 5, 4), keys).any()


def test_a_photo_added_leaves_the_views_of_identified_photos_alone() -> None:
    ids = np.array([2**62 + 11, -5, 99], np.int64)
    before = bank_keys(3, 3, 2, ids)
    after = bank_keys(3, 4, 2, np.insert(ids, 1, 1234))
    np.testing.assert_array_equal(after[[0, 2, 3]], before)
    with pytest.raises(RunError, match=r"photo_ids: expected 4 identities, one a photo, received the shape \(3,\)"):
        bank_keys(3, 4, 2, ids)


@pytest.mark.parametrize("name", ["photos", "draws", "batch_size"])
def test_nothing_to_draw_is_refused(name: str) -> None:
    with pytest.raises(RunError, match=f"{name}: 0 is too few to draw from"):
        _draw(**{name: 0})
