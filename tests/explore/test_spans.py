"""How much of the space boxes fill: evenly spread samples have density one, on a grid, uneven or not, and off it."""

import numpy as np
import pytest

from assay.explore.spans import Span, density, volume

EVEN = np.linspace(-1, 1, 11)
UNEVEN = np.array([0.0, 1.0, 2.0, 4.0, 8.0, 16.0])


def grid(*axes: np.ndarray) -> np.ndarray:
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], 1)


@pytest.mark.parametrize(("low", "high"), [((-1, -1, 0.6), (1, 1, 1)), ((-0.2, 0, 0.4), (0.2, 0.6, 0.4))])
def test_a_box_on_an_even_grid_has_density_one(low, high):
    X = grid(EVEN, EVEN, EVEN)
    spans = [Span.of(x) for x in X.T]
    low, high = EVEN[np.searchsorted(EVEN, np.array(low) - 1e-9)], EVEN[np.searchsorted(EVEN, np.array(high) - 1e-9)]
    inside = ((low <= X) & (high >= X)).all(1).mean()
    assert inside / volume(spans, low.tolist(), high.tolist()) == pytest.approx(1.0)
    assert density(X, spans, low, high) == pytest.approx(1.0)


def test_a_grid_is_thin_where_its_steps_are_wide():
    X = grid(UNEVEN, EVEN)
    spans = [Span.of(x) for x in X.T]
    assert spans[0].share(0.0, 1.0) == pytest.approx(2 / 20.5)  # cells of 1, 1, 1.5, 3, 6 and 8
    assert spans[0].share(16.0, np.inf) == pytest.approx(8 / 20.5)
    assert spans[0].share(-np.inf, np.inf) == pytest.approx(1.0)
    dense, thin = density(X, spans, np.array([0.0, -1]), np.array([1.0, 1])), 1 / 6 / spans[0].share(16.0, 16.0)
    assert dense == pytest.approx(1.0)  # the wider box has nothing else in it
    assert thin == pytest.approx(20.5 / 48)


def test_samples_off_a_grid_and_a_planted_crowd():
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 1, (60_000, 3))
    spans = [Span.of(x) for x in X.T]
    low, high = np.array([0.3, 0.0, 0.8]), np.array([0.5, 0.4, 1.0])  # two sides at the edge
    assert density(X, spans, low, high) == pytest.approx(1.0, abs=0.08)
    crowd = np.concatenate([X, rng.uniform(low, high, (6_000, 3))])
    extra = 1 + 6_000 / (60_000 * 0.2 * 0.4 * 0.2)
    around = 1 + 6_000 / (60_000 * 0.4 * 0.6 * 0.3)
    assert density(crowd, spans, low, high) == pytest.approx(extra / around, rel=0.08)


def test_a_single_value_fills_its_column():
    span = Span.of(np.full(5, 3.0))
    assert span.share(3.0, 3.0) == span.share(-np.inf, 5.0) == 1.0
    assert span.share(4.0, 5.0) == 0.0
    X = np.concatenate([grid(EVEN, EVEN), np.full((121, 1), 3.0)], 1)
    spans = [Span.of(x) for x in X.T]
    corner = (np.array([EVEN[0], EVEN[0], 3.0]), np.array([EVEN[3], EVEN[3], 3.0]))
    assert density(X, spans, *corner) == pytest.approx(1.0)
