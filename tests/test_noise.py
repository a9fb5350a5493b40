"""Planted label noise: as many flips as asked for, where they were asked for, and told."""

import numpy as np
import pytest

import assay
from assay.datasets.cifar10 import CLASSES, MISTAKEN
from assay.datasets.noise import flip_by_class, flip_uniformly

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 100))


def test_uniform_flips():
    flipped, where = flip_uniformly(LABELS, 0.05, seed=0)
    np.testing.assert_array_equal(np.flatnonzero(flipped != LABELS), where)
    assert len(where) == 50


def test_flips_by_class_are_of_every_class_that_is_mistaken():
    before = LABELS.copy()
    flipped, where = flip_by_class(LABELS, 0.2, MISTAKEN, seed=0)
    np.testing.assert_array_equal(LABELS, before)
    np.testing.assert_array_equal(np.flatnonzero(flipped != LABELS), where)
    assert flipped.dtype == LABELS.dtype
    for c in range(10):
        moved = flipped[where][LABELS[where] == c]
        assert len(moved) == (20 if c in MISTAKEN else 0)
        assert set(moved.tolist()) <= {MISTAKEN.get(c)}
    assert {(CLASSES[a], CLASSES[b]) for a, b in MISTAKEN.items()} == {
        ("truck", "automobile"),
        ("bird", "airplane"),
        ("deer", "horse"),
        ("cat", "dog"),
        ("dog", "cat"),
    }


def test_flips_follow_from_the_seed():
    first, same, other = (flip_by_class(LABELS, 0.1, MISTAKEN, seed=seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("share", "to", "message"),
    [
        (0.001, MISTAKEN, r"cannot flip 0\.10% of the labels of 5 classes"),
        (0.0, MISTAKEN, "ask for a share in"),
        (1.5, MISTAKEN, "ask for a share in"),
        (0.1, {}, "of 0 classes"),
        (0.1, {3: 10}, r"to maps 3 to 10; name two different classes among the labels \[0, 1,"),
        (0.1, {11: 1}, "to maps 11 to 1"),
        (0.1, {3: 3}, "to maps 3 to 3"),
    ],
)
def test_flips_that_cannot_be(share, to, message):
    with pytest.raises(assay.ShapeError, match=message):
        flip_by_class(LABELS, share, to, seed=0)
