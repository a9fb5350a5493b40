"""A notional horizontal collision-avoidance table: the best advisory in each encounter of two aircraft, solved anew.

A Markov decision process over (ρ, θ, ψ) for one pair of speeds and the previous advisory, with the time τ to loss of
vertical separation as its stage; formulation, constants and rewards of HorizontalCAS (Julian & Kochenderfer, Stanford
Intelligent Systems Laboratory, 2019). It is not ACAS Xu, whose table is not public.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..errors import ShapeError

ADVISORIES = ("COC", "WL", "WR", "SL", "SR")
"""Clear of conflict; weak and strong turns, left and right."""

RHO = (
    0.0, 25.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 400.0, 500.0, 510.0, 750.0, 1000.0, 1500.0, 2000.0, 3000.0,
    4000.0, 5000.0, 7000.0, 9000.0, 11000.0, 13000.0, 15000.0, 17000.0, 19000.0, 21000.0, 25000.0, 30000.0, 35000.0,
    40000.0, 48000.0, 56000.0,
)  # fmt: skip
TAUS = (0, 5, 10, 15, 20, 30, 40, 60)
TURNS = {  # °/s and its probability, flown while the advisory stands
    0: ((0.0, 0.34), (1.5, 0.33), (-1.5, 0.33)),
    1: ((1.5, 0.5), (2.0, 0.25), (1.25, 0.25)),
    2: ((-1.5, 0.5), (-1.25, 0.25), (-2.0, 0.25)),
    3: ((3.0, 0.5), (4.0, 0.25), (2.0, 0.25)),
    4: ((-3.0, 0.5), (-2.0, 0.25), (-4.0, 0.25)),
}
WARM_UP = 99  # sweeps at τ = 0 before the table begins
TIE = 1e-9  # advisories whose values differ by less are mirror images; the first is taken


@dataclass(frozen=True)
class HCAS:
    """The process for aircraft that fly `v_own` and `v_int` ft/s, on a grid of ρ [ft], and of θ and ψ [rad], even steps
    over [−π, π], both ends included."""

    v_own: float = 200.0
    v_int: float = 200.0
    rho: tuple[float, ...] = RHO
    angles: int = 41

    def __post_init__(self) -> None:
        if len(self.rho) < 2 or self.angles < 2:
            raise ShapeError(f"{len(self.rho)} distances and {self.angles} angles; an axis has at least two points")
        if any(b <= a for a, b in zip(self.rho[:-1], self.rho[1:], strict=True)) or self.rho[0] < 0:
            raise ShapeError("distances must rise from zero or more")
        if self.v_own < 0 or self.v_int < 0:
            raise ShapeError(f"v_own={self.v_own}, v_int={self.v_int}; speeds are not negative")

    @cached_property
    def theta(self) -> NDArray[np.float64]:
        """The values of θ, and of ψ."""
        return np.linspace(-np.pi, np.pi, self.angles)

    @cached_property
    def states(self) -> NDArray[np.float64]:
        """`[S, 3]`: ρ, θ, ψ of each state, ψ fastest."""
        grid = np.meshgrid(np.array(self.rho), self.theta, self.theta, indexing="ij")
        return np.stack([axis.ravel() for axis in grid], 1)

    def transition(self, previous: int) -> sparse.csr_array:
        """`[S, S]`: where one second takes each state, own turn that of the previous advisory, the intruder's as COC.

        Both fly straight, then turn; nine joint outcomes, each spread over the corners of its cell (multilinear).
        """
        S = len(self.states)
        total = sparse.csr_array((S, S))
        for own, p in TURNS[previous]:
            for other, q in TURNS[0]:
                total = total + p * q * self._interpolation(*self.flown(np.radians(own), np.radians(other)))
        return sparse.csr_array(total)

    def flown(self, own: float, other: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """ρ, θ, ψ after one second, with turns of `own` and `other` [rad]."""
        rho, theta, psi = self.states.T
        x = rho * np.cos(theta) + self.v_int * np.cos(psi) - self.v_own
        y = rho * np.sin(theta) + self.v_int * np.sin(psi)
        return np.hypot(x, y), wrap(np.arctan2(y, x) - own), wrap(psi + other - own)

    def _interpolation(
        self, rho: NDArray[np.float64], theta: NDArray[np.float64], psi: NDArray[np.float64]
    ) -> sparse.csr_array:
        """Rows of eight weights that sum to one, on the corners of each point's cell; ρ is clamped to the grid."""
        sides = [cell(np.array(self.rho), rho), cell(self.theta, theta), cell(self.theta, psi)]
        S, n = len(self.states), self.angles
        rows, columns, weights = [], [], []
        for corner in np.ndindex(2, 2, 2):
            index = [low + up for (low, _), up in zip(sides, corner, strict=True)]
            share = [part if up else 1 - part for (_, part), up in zip(sides, corner, strict=True)]
            rows.append(np.arange(S))
            columns.append((index[0] * n + index[1]) * n + index[2])
            weights.append(share[0] * share[1] * share[2])
        return sparse.csr_array(
            (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(S, S)
        )

    def reward(self, previous: int, action: int, tau: int) -> NDArray[np.float64]:
        """`[S]`: what choosing this advisory costs (never positive)."""
        rho, theta, psi = self.states.T
        reward = np.zeros(len(rho))
        if tau == 0:
            reward -= np.where(rho <= 500, 1.0, np.exp(-(rho - 500) / 500))
        calm = 1.0 if previous == 0 else 0.1
        if action == 0:
            d, t = closest(rho, theta, psi, self.v_own, self.v_int)
            return reward - 0.01 * np.exp(-d / 500) * np.exp(-t / 10) / calm
        reward -= 0.0005 * calm + (0.002 * calm if action > 2 else 0.0)
        if previous and previous % 2 != action % 2:
            return reward - 0.05
        return reward - (0.001 if action > previous else 0.0002 if action < previous else 0.0)

    def solve(
        self, taus: Sequence[int] = TAUS, *, warm_up: int = WARM_UP, advance: Callable[[], None] = lambda: None
    ) -> dict[int, NDArray[np.float64]]:
        """`Q` `[S, 5 previous, 5 actions]` at each τ: `Q_τ = R + Σ T_p(s'|s) U(s', a)`, `U = max_a Q_{τ−1}`.

        Values maximised, not discounted; `advance` is called after every sweep.
        """
        if not taus or min(taus) < 0:
            raise ShapeError(f"taus={list(taus)}; give stages of 0 s or more")
        T = [self.transition(previous) for previous in range(5)]
        U = np.zeros((len(self.states), 5))
        kept: dict[int, NDArray[np.float64]] = {}
        resting, standing = self._rewards(0), self._rewards(1)
        for sweep in range(-warm_up, max(taus) + 1):
            R = resting if sweep <= 0 else standing
            Q = np.stack([R[:, previous] + T[previous] @ U for previous in range(5)], 1)
            U = Q.max(2)
            if sweep in taus:
                kept[sweep] = Q
            advance()
        return kept

    def _rewards(self, tau: int) -> NDArray[np.float64]:
        """`[S, previous, action]`; beyond τ = 0 they are the same at every stage."""
        each = [[self.reward(previous, action, tau) for action in range(5)] for previous in range(5)]
        return np.moveaxis(np.array(each), 2, 0)


def policy(Q: NDArray[np.float64]) -> NDArray[np.int64]:
    """The advisory of the largest value (last axis), the first of those that tie within 1e-9."""
    return (Q.max(-1, keepdims=True) - TIE <= Q).argmax(-1)


def closest(
    rho: NDArray[np.float64], theta: NDArray[np.float64], psi: NDArray[np.float64], v_own: float, v_int: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance [ft] at the closest point of approach and time to it [s], flying straight; now, where they part."""
    D = np.stack([v_int * np.cos(psi) - v_own, v_int * np.sin(psi)], 1)
    p = np.stack([rho * np.cos(theta), rho * np.sin(theta)], 1)
    speed = (D**2).sum(1)
    moving = speed > 1e-12
    t = np.where(moving, -(p * D).sum(1) / np.where(moving, speed, 1.0), 0.0)
    approach = t > 0
    t = np.where(approach, t, 0.0)
    return np.where(approach, np.linalg.norm(p + D * t[:, None], axis=1), rho), t


def wrap(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """In [−π, π)."""
    return np.mod(angle + np.pi, 2 * np.pi) - np.pi


def cell(grid: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The grid point below each value, and how far it is to the next, in [0, 1]; outside values are at the edge."""
    inside = np.clip(values, grid[0], grid[-1])
    low = np.clip(np.searchsorted(grid, inside, side="right") - 1, 0, len(grid) - 2)
    return low, (inside - grid[low]) / (grid[low + 1] - grid[low])
