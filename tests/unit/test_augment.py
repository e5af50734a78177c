"""Eq. (1): field masks and history views."""

import keras
import numpy as np
import pytest

from cmclrec_tf import augment

HISTORY = np.array([[0, 0, 0, 2, 3, 4, 5, 6, 7, 8], [0] * 9 + [9], [0] * 10, range(11, 21)])


@pytest.fixture
def seed():
    return keras.random.SeedGenerator(0)


@pytest.mark.parametrize(
    ("fields", "share", "n"), [(4, 0.5, 2), (5, 0.5, 2), (30, 0.2, 6), (2, 0.5, 1)]
)
def test_field_masks_are_disjoint_and_have_the_right_size(fields, share, n, seed):
    one, two = (np.asarray(m) for m in augment.disjoint_field_masks(64, fields, share, seed))
    assert not np.any(one & two)
    assert np.all(one.sum(axis=1) == n) and np.all(two.sum(axis=1) == n)
    assert len({tuple(row) for row in one}) > 1


def test_a_single_field_is_never_masked(seed):
    one, two = augment.disjoint_field_masks(8, 1, 0.5, seed)
    assert not np.any(one) and not np.any(two)


def test_crop_keeps_a_contiguous_part_at_the_newest_end(seed):
    windows = set()
    for _ in range(20):
        out = np.asarray(augment.crop(HISTORY, seed))
        for row, source in zip(out, HISTORY, strict=True):
            part, items = row[row != 0], source[source != 0]
            assert len(part) == (max(1, int(0.6 * len(items))) if len(items) else 0)
            assert np.all(row[len(row) - len(part) :] == part)
            assert any(
                np.array_equal(items[i : i + len(part)], part)
                for i in range(len(items) - len(part) + 1)
            )
        windows.add(tuple(out[3]))
    assert len(windows) == 5  # every window of 6 of 10 items occurs


def test_reorder_shuffles_one_window(seed):
    shuffled = 0
    for _ in range(20):
        out = np.asarray(augment.reorder(HISTORY, seed))
        assert np.array_equal(np.sort(out, axis=1), np.sort(HISTORY, axis=1))
        for row, source in zip(out, HISTORY, strict=True):
            changed = np.flatnonzero(row != source)
            assert len(changed) <= int(0.3 * (source != 0).sum())
            if len(changed):
                shuffled += 1
                assert changed[-1] - changed[0] < int(0.3 * (source != 0).sum())
    assert shuffled > 0


def test_mask_hides_only_real_items(seed):
    hidden = np.asarray(augment.mask(np.repeat(HISTORY, 50, axis=0), seed))
    real = np.repeat(HISTORY, 50, axis=0) != 0
    assert not np.any(hidden & ~real)
    assert 0.2 < hidden[real].mean() < 0.4


def test_the_two_views_of_a_history_are_made_by_different_functions(seed):
    history = np.tile(np.arange(2, 42), (200, 1))
    (ids1, masked1), (ids2, masked2) = augment.history_views(history, seed)

    def function(ids, masked):
        ids, masked = np.asarray(ids), np.asarray(masked)
        cropped, hidden = (ids == 0).any(axis=1), masked.any(axis=1)
        return np.where(cropped, 0, np.where(hidden, 1, 2))

    one, two = function(ids1, masked1), function(ids2, masked2)
    assert np.all(one != two)
    assert set(one) == set(two) == {0, 1, 2}
