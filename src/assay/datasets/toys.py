"""Two-dimensional problems whose decision boundary is known, after the toy problems of Picard et al. (Fig. 1, Fig. 4).

Points are uniform over a square; the label is the sign of a decision function, and the distance of every point to the
true boundary is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from ..errors import ShapeError

Decision = Callable[[np.ndarray], np.ndarray]
"""A function of points [n, 2], positive on one side of the boundary and negative on the other."""

HALF = math.sqrt(2 * math.pi) / 2  # half the side of the square that a unit circle splits into equal areas
GAP = math.pi / 5  # half the angle of the sector that is down-sampled
KEPT = 0.1  # share of that sector's points which stay
BAND = 0.15  # distance to the boundary within which labels are noisy
NOISE = 0.3  # share of them that are flipped


@dataclass(frozen=True)
class Toy:
    """`points` [n, 2] float64 and `labels` [n] int64 (0, 1), flips in; `truth` without them.

    `distance` [n] to the true boundary, never negative. `flipped`: positions of the flipped labels. `region` [n]: in
    the down-sampled sector, or in the noisy band. `decision` is positive where the truth is 1; `extent` is half the
    side of the square.
    """

    name: str
    points: np.ndarray
    labels: np.ndarray
    truth: np.ndarray
    distance: np.ndarray
    flipped: np.ndarray
    region: np.ndarray
    decision: Decision
    extent: float

    def __len__(self) -> int:
        return len(self.points)

    def subset(self, rows: np.ndarray) -> Toy:
        """The samples at these positions, in that order."""
        rows = np.asarray(rows)
        flipped = np.flatnonzero(np.isin(rows, self.flipped))
        taken = {name: getattr(self, name)[rows] for name in ("points", "labels", "truth", "distance", "region")}
        return Toy(self.name, **taken, flipped=flipped, decision=self.decision, extent=self.extent)


def unit_circle(n: int, *, seed: int) -> Toy:
    """1 inside the unit circle, 0 outside, over a square of twice its area."""
    return _circle("unit circle", _square(n, HALF, np.random.default_rng(seed)))


def downsampled_circle(n: int, *, seed: int) -> Toy:
    """The unit circle with nine tenths of the points in a sector of 72° about the first axis left out (`region`)."""
    rng = np.random.default_rng(seed)
    kept: list[np.ndarray] = []
    while sum(map(len, kept)) < n:
        points = _square(n, HALF, rng)
        kept.append(points[~_in_gap(points) | (rng.random(n) < KEPT)])
    points = np.concatenate(kept)[:n]
    return _circle("down-sampled circle", points, region=_in_gap(points))


def noisy_circle(n: int, *, seed: int) -> Toy:
    """The unit circle with three tenths of the labels within 0.15 of it (`region`) flipped."""
    rng = np.random.default_rng(seed)
    points = _square(n, HALF, rng)
    band = np.abs(_inside_circle(points)) <= BAND
    return _circle("noisy band", points, region=band, flipped=np.flatnonzero(band & (rng.random(n) < NOISE)))


def line_sine(n: int, *, seed: int) -> Toy:
    """1 above the first axis, where it is negative, and above a sine of period 0.8 where it is positive."""
    points = _square(n, HALF, np.random.default_rng(seed))
    return _toy("line and sine", points, _above_sine, _distance_to_sine(points), HALF)


def two_sided_square(n: int, *, seed: int) -> Toy:
    """1 right of the second axis; one label is flipped, that of the sample closest to (0.5, 0)."""
    points = _square(n, 1.0, np.random.default_rng(seed))
    flipped = np.array([np.linalg.norm(points - [0.5, 0.0], axis=1).argmin()])
    return _toy("two-sided square", points, _right, np.abs(points[:, 0]), 1.0, flipped=flipped)


def _toy(
    name: str,
    points: np.ndarray,
    decision: Decision,
    distance: np.ndarray,
    extent: float,
    *,
    region: np.ndarray | None = None,
    flipped: np.ndarray | None = None,
) -> Toy:
    truth = (decision(points) > 0).astype(np.int64)
    flipped = np.empty(0, np.int64) if flipped is None else flipped
    labels = truth.copy()
    labels[flipped] = 1 - labels[flipped]
    region = np.zeros(len(points), bool) if region is None else region
    return Toy(name, points, labels, truth, distance, flipped, region, decision, extent)


def _circle(
    name: str, points: np.ndarray, *, region: np.ndarray | None = None, flipped: np.ndarray | None = None
) -> Toy:
    distance = np.abs(_inside_circle(points))
    return _toy(name, points, _inside_circle, distance, HALF, region=region, flipped=flipped)


def _square(n: int, half: float, rng: np.random.Generator) -> np.ndarray:
    if n < 2:
        raise ShapeError(f"n={n}; a problem of two classes needs at least two points")
    return rng.uniform(-half, half, (n, 2))


def _inside_circle(points: np.ndarray) -> np.ndarray:
    return 1 - np.linalg.norm(points, axis=1)


def _in_gap(points: np.ndarray) -> np.ndarray:
    return np.abs(np.arctan2(points[:, 1], points[:, 0])) < GAP


def _right(points: np.ndarray) -> np.ndarray:
    return points[:, 0]


def _sine(x: np.ndarray) -> np.ndarray:
    """The height of the boundary: zero, then a sine of period 0.8 and height 0.5."""
    return np.where(x < 0, 0.0, 0.5 * np.sin(2 * math.pi / 0.8 * x))


def _above_sine(points: np.ndarray) -> np.ndarray:
    return points[:, 1] - _sine(points[:, 0])


def _distance_to_sine(points: np.ndarray) -> np.ndarray:
    """To the nearest of 400,001 points of the boundary, no further than 2e-5 apart: at most 1e-5 too far."""
    x = np.linspace(-HALF - 0.5, HALF + 0.5, 400_001)
    return KDTree(np.stack([x, _sine(x)], 1)).query(points)[0]
