"""The toy problems: labels, distances, regions and flips are what they are said to be."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import assay
from assay.datasets import toys

MAKERS = [toys.unit_circle, toys.downsampled_circle, toys.noisy_circle, toys.line_sine, toys.two_sided_square]


@pytest.mark.parametrize("make", MAKERS)
def test_truth_flips_and_seeds(make):
    toy = make(400, seed=3)
    again, other = make(400, seed=3), make(400, seed=4)
    assert len(toy) == 400
    assert np.array_equal(toy.points, again.points)
    assert not np.array_equal(toy.points, other.points)
    assert np.array_equal(toy.truth, (toy.decision(toy.points) > 0).astype(int))
    assert np.array_equal(np.flatnonzero(toy.labels != toy.truth), toy.flipped)
    assert np.abs(toy.points).max() <= toy.extent
    assert (toy.distance >= 0).all()
    assert 0.3 < toy.truth.mean() < 0.7


@pytest.mark.parametrize("make", MAKERS)
def test_a_step_of_the_distance_crosses_the_boundary_and_none_shorter_does(make):
    toy = make(60, seed=0)
    angles = np.linspace(0, 2 * np.pi, 721)
    ring = np.stack([np.cos(angles), np.sin(angles)], 1)
    for point, side, distance in zip(toy.points, toy.truth, toy.distance, strict=True):
        near, far = (toy.decision(point + reach * distance * ring) > 0 for reach in (0.99, 1.01))
        assert (near == side).all()
        if distance > 1e-3:
            assert (far != side).any()


def test_the_distance_to_the_sine_is_within_what_it_says():
    toy = toys.line_sine(50, seed=1)
    for point, distance in zip(toy.points, toy.distance, strict=True):
        starts = np.linspace(-2, 2, 400)

        def squared(t, point=point):
            return (t - point[0]) ** 2 + (float(toys._sine(np.array(t))) - point[1]) ** 2

        best = starts[np.argmin([squared(t) for t in starts])]
        exact = minimize_scalar(squared, bounds=(best - 0.02, best + 0.02), method="bounded", options={"xatol": 1e-12})
        assert distance == pytest.approx(exact.fun**0.5, abs=1e-5)


def test_regions():
    gap = toys.downsampled_circle(4000, seed=0)
    whole = toys.unit_circle(4000, seed=0)
    inside = np.abs(np.arctan2(whole.points[:, 1], whole.points[:, 0])) < toys.GAP
    assert gap.region.mean() == pytest.approx(toys.KEPT * inside.mean() / (1 - 0.9 * inside.mean()), rel=0.3)
    noisy = toys.noisy_circle(4000, seed=0)
    assert np.array_equal(noisy.region, noisy.distance <= toys.BAND)
    assert noisy.region[noisy.flipped].all()
    assert len(noisy.flipped) == pytest.approx(toys.NOISE * noisy.region.sum(), rel=0.15)
    square = toys.two_sided_square(300, seed=0)
    assert len(square.flipped) == 1
    assert np.linalg.norm(square.points[square.flipped[0]] - [0.5, 0]) < 0.2


def test_a_subset_keeps_what_belongs_together():
    toy = toys.noisy_circle(200, seed=0)
    rows = np.random.default_rng(0).permutation(200)[:90]
    part = toy.subset(rows)
    assert np.array_equal(part.points, toy.points[rows])
    assert np.array_equal(np.flatnonzero(part.labels != part.truth), part.flipped)
    assert np.array_equal(part.distance, toy.distance[rows])


def test_too_few_points_are_refused():
    with pytest.raises(assay.ShapeError, match="n=1"):
        toys.unit_circle(1, seed=0)
