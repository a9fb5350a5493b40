"""Boxes of influence: those that were planted are found, and their rules say what they hold."""

import numpy as np
import pytest

import assay
from assay.explore.boxes import Box, BoxSearch, overlap, stability


def planted(seed: int, n: int = 6000):
    """Points of a cube: a box whose labels are noisy, and a thinly sampled island with a class of its own."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(0, 1, (n, 3))
    X = X[~island(X) | (rng.random(n) < 0.15)]
    y = (X[:, 2] + 0.15 * np.sin(6 * X[:, 1]) > 0.5).astype(int)
    y = np.where(island(X), 2, y)
    flipped = noisy(X) & (rng.random(len(X)) < 0.4)
    return X, np.where(flipped, (y + 1) % 2, y)


def island(X: np.ndarray) -> np.ndarray:
    return (X[:, 0] > 0.65) & (X[:, 0] < 0.9) & (X[:, 1] > 0.6)


def noisy(X: np.ndarray) -> np.ndarray:
    return (X[:, 0] < 0.35) & (X[:, 2] > 0.55) & (X[:, 2] < 0.9)


def bumps(X: np.ndarray) -> np.ndarray:
    """A grid of Gaussian bumps: features that are local."""
    line = np.linspace(0, 1, 4)
    centres = np.stack(np.meshgrid(line, line, line), -1).reshape(-1, 3)
    return np.exp(-((X[:, None] - centres) ** 2).sum(2) / 0.18)


@pytest.mark.parametrize("seed", range(10))
def test_planted_boxes_are_found(seed):
    X, y = planted(seed)
    influence = assay.Head.fit(bumps(X), y, l2=1e-4).leverage(bumps(X), y).cooks_distance().numpy()
    boxes = BoxSearch().find(X, influence)
    everywhere = np.random.default_rng(99).uniform(0, 1, (40_000, 3))  # volumes, not samples, are compared
    for truth in (island, noisy):
        assert max(overlap(box.contains(everywhere), truth(everywhere)) for box in boxes) >= 0.6


def test_a_rule_holds_what_its_sentence_says():
    X, _ = planted(0)
    influence = np.where(noisy(X), 5.0, 1.0) * np.random.default_rng(0).exponential(size=len(X))
    box = BoxSearch(boxes=1).find(X, influence)[0]
    inside = box.contains(X)
    assert overlap(inside, noisy(X)) > 0.9
    assert np.isinf(box.low[1])
    assert np.isinf(box.high[1])
    for j in (0, 2):
        assert X[inside, j].min() >= box.low[j]
        assert X[inside, j].max() <= box.high[j]
    assert "b" not in box.sentence("abc")


def test_sentences():
    inf = np.inf
    assert (
        Box((-inf, 1.0, 2.0, 3.0), (5.0, inf, 4.0, 3.0)).sentence("abcd") == "a ≤ 5 and b ≥ 1 and 2 ≤ c ≤ 4 and d = 3"
    )
    assert Box((-inf,), (inf,)).sentence("a") == "everywhere"


def test_even_influence_has_hardly_a_box_and_an_unstable_one():
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 1, (3000, 3))
    search = BoxSearch(boxes=3)
    random, real = rng.exponential(size=3000), np.where(noisy(X), 4.0, 1.0) * rng.exponential(size=3000)
    even = stability(search, X, random, search.find(X, random), resamples=5)
    planted_first = stability(search, X, real, search.find(X, real)[:1], resamples=5)
    assert planted_first[0] > 0.8 > max(even, default=0.0)
