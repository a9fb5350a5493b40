"""The collision-avoidance table: its published check values, its symmetries, a process small enough to enumerate."""

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

import assay
from assay.datasets.hcas import HCAS, TAUS, cell, closest, policy, wrap

SMALL = HCAS(rho=(0.0, 300.0, 600.0, 1500.0, 4000.0), angles=9)


@pytest.fixture(scope="module")
def full() -> dict[int, np.ndarray]:
    return HCAS().solve(range(61))


def test_the_published_mean_and_range_of_all_values(full):
    values = np.stack(list(full.values()))
    assert values.mean() == pytest.approx(-0.242819, abs=1e-5)
    assert values.max() - values.min() == pytest.approx(17.4792, abs=1e-3)


def test_values_are_mirror_symmetric(full):
    """Q(ρ, −θ, −ψ)[COC, WL, WR, SL, SR] = Q(ρ, θ, ψ)[COC, WR, WL, SR, SL], previous advisory likewise."""
    swap = [0, 2, 1, 4, 3]
    for tau in TAUS:
        Q = full[tau].reshape(32, 41, 41, 5, 5)
        mirrored = Q[:, ::-1, ::-1][..., swap, :][..., swap]
        np.testing.assert_allclose(mirrored, Q, atol=1e-12)


def test_transitions_are_averages_of_corners():
    for previous in range(5):
        T = SMALL.transition(previous)
        np.testing.assert_allclose(T.sum(1), 1.0, atol=1e-12)
        assert T.data.min() >= 0
    states = SMALL.states
    values = np.cos(states[:, 1]) + 1e-3 * states[:, 0] * np.sin(states[:, 2])
    interpolate = RegularGridInterpolator(
        (np.array(SMALL.rho), SMALL.theta, SMALL.theta), values.reshape(5, 9, 9), method="linear"
    )
    expected = np.zeros(len(states))
    for own, p in ((1.5, 0.5), (2.0, 0.25), (1.25, 0.25)):
        for other, q in ((0.0, 0.34), (1.5, 0.33), (-1.5, 0.33)):
            rho, theta, psi = SMALL.flown(np.radians(own), np.radians(other))
            expected += p * q * interpolate(np.stack([np.minimum(rho, 4000.0), theta, psi], 1))
    np.testing.assert_allclose(SMALL.transition(1) @ values, expected, atol=1e-12)


def test_values_are_those_of_a_dense_solver():
    """Bellman's equation written out over dense arrays, state by state, for every previous advisory and action."""
    found = SMALL.solve((0, 1, 4), warm_up=3)
    T = np.stack([SMALL.transition(p).toarray() for p in range(5)])
    S = len(SMALL.states)
    U = np.zeros((S, 5))
    for sweep in range(-3, 5):
        Q = np.empty((S, 5, 5))
        for p in range(5):
            for a in range(5):
                Q[:, p, a] = SMALL.reward(p, a, max(sweep, 0)) + np.einsum("st,t->s", T[p], U[:, a])
        U = Q.max(2)
        if sweep in found:
            np.testing.assert_allclose(found[sweep], Q, atol=1e-12)


def test_rewards_by_hand():
    """Head-on at 10,000 ft, both 200 ft/s: 25 s to a collision."""
    one = HCAS(rho=(0.0, 10_000.0), angles=3)
    row = int(np.flatnonzero((one.states == [10_000.0, 0.0, np.pi]).all(1))[0])
    ahead = 0.01 * np.exp(-2.5)
    assert one.reward(0, 0, 5)[row] == pytest.approx(-ahead)
    assert one.reward(1, 0, 5)[row] == pytest.approx(-10 * ahead)
    assert one.reward(0, 1, 5)[row] == pytest.approx(-0.0005 - 0.001)  # strengthened
    assert one.reward(1, 1, 5)[row] == pytest.approx(-0.00005)
    assert one.reward(1, 2, 5)[row] == pytest.approx(-0.00005 - 0.05)  # reversed
    assert one.reward(1, 3, 5)[row] == pytest.approx(-0.00005 - 0.0002 - 0.001)
    assert one.reward(3, 1, 5)[row] == pytest.approx(-0.00005 - 0.0002)  # weakened
    assert one.reward(0, 1, 0)[row] == pytest.approx(-0.0015 - np.exp(-19))
    together = int(np.flatnonzero((one.states == [0.0, 0.0, 0.0]).all(1))[0])
    assert one.reward(1, 1, 0)[together] == pytest.approx(-1.00005)


def test_the_closest_point_of_approach():
    rho, theta, psi = np.array([1000.0, 1000.0]), np.array([0.0, 0.0]), np.array([np.pi, 0.0])
    distance, time = closest(rho, theta, psi, 200.0, 200.0)
    np.testing.assert_allclose(distance, [0.0, 1000.0], atol=1e-9)  # head-on; side by side for ever
    np.testing.assert_allclose(time, [2.5, 0.0])


def test_ties_go_to_the_first():
    assert policy(np.array([[1.0, 1.0 + 1e-10, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0, 1.0 + 1e-8]])).tolist() == [0, 4]


def test_angles_and_cells():
    np.testing.assert_allclose(wrap(np.array([0.0, 3 * np.pi, -np.pi, 4.0])), [0.0, -np.pi, -np.pi, 4.0 - 2 * np.pi])
    low, part = cell(np.array([0.0, 1.0, 3.0]), np.array([-5.0, 0.0, 0.5, 2.0, 3.0, 9.0]))
    assert low.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(part, [0.0, 0.0, 0.5, 0.5, 1.0, 1.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HCAS(rho=(0.0,)), "1 distances"),
        (lambda: HCAS(angles=1), "1 angles"),
        (lambda: HCAS(rho=(0.0, 5.0, 5.0)), "distances must rise"),
        (lambda: HCAS(v_own=-1.0), "speeds are not negative"),
        (lambda: SMALL.solve(()), r"taus=\[\]"),
        (lambda: SMALL.solve((-5,)), "stages of 0 s or more"),
    ],
)
def test_grids_that_are_none_are_refused(make, message):
    with pytest.raises(assay.ShapeError, match=message):
        make()
