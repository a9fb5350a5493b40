"""Boxes of the input space that hold more influence than their share of the samples: rules an expert can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

LEAVES = 24  # of the tree whose leaves are the first boxes
STEPS = 40  # places on an axis where a side of a box may stand
WINSOR = 0.97  # influence above this quantile counts as much as there: no single sample makes a box
ALIKE = 0.5  # boxes that share so much of their samples (intersection over union) are one
ROUNDS = 40
WORTH = 0.02  # a side that adds less than this share of the excess is left out of the rule

Floats = NDArray[np.float64]
Inside = NDArray[np.bool_]


@dataclass(frozen=True)
class Box:
    """`low[j] ≤ x_j ≤ high[j]` for every column j; infinite where a column is free."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def contains(self, X: Floats) -> Inside:
        """`[n]`: which rows of `X` `[n, d]` lie inside."""
        inside: Inside = np.logical_and(np.array(self.low) <= X, np.array(self.high) >= X)
        return np.logical_and.reduce(inside, axis=1)

    def sentence(self, columns: Sequence[str]) -> str:
        """The rule in words: "tau ≤ 5 and v_own ≥ 1050"."""
        parts: list[str] = []
        for name, low, high in zip(columns, self.low, self.high, strict=True):
            a, b = spoken(low), spoken(high)
            if np.isfinite(low) and np.isfinite(high):
                parts.append(f"{name} = {a}" if low == high else f"{a} ≤ {name} ≤ {b}")
            elif np.isfinite(low) or np.isfinite(high):
                parts.append(f"{name} ≥ {a}" if np.isfinite(low) else f"{name} ≤ {b}")
        return " and ".join(parts) or "everywhere"


@dataclass(frozen=True)
class BoxSearch:
    """How boxes are sought: from a leaf of a shallow regression tree on influence, side by side, while the excess of
    influence in the box, `√n_in (mean in it − mean of all)`, grows. At most `boxes` that differ."""

    boxes: int = 8
    leaves: int = LEAVES
    least: float = 0.002  # share of the samples that a box holds, at least
    seed: int = 0

    def find(self, X: Floats, influence: Floats) -> list[Box]:
        """Boxes over `X` `[n, d]`, the one with most excess first; bounds are values that occur.

        Found one after another: the samples of those found before are left out when the next is sought.
        """
        y = np.minimum(influence, np.quantile(influence, WINSOR))
        least = max(5, int(self.least * len(X)))
        cuts = [_cuts(X[:, j]) for j in range(X.shape[1])]
        found: list[tuple[float, Box, Inside]] = []
        left = np.ones(len(X), bool)
        for _ in range(2 * self.boxes):
            start = self._start(X, y, left, least)
            if start is None:
                break
            box, inside, best = _grown(X, y, start, cuts, least)
            left &= ~(inside | start)
            if best > 0 and all(overlap(inside, other) < ALIKE for _, _, other in found):
                found.append((best, box, inside))
        ranked = sorted(found, key=lambda entry: -entry[0])[: self.boxes]
        return [_tight(box, X, inside) for _, box, inside in ranked]

    def _start(self, X: Floats, y: Floats, left: Inside, least: int) -> Inside | None:
        """The samples, of those left, in the leaf with most excess; None where no leaf has any."""
        from sklearn.tree import DecisionTreeRegressor

        if int(left.sum()) < 2 * least:
            return None
        tree = DecisionTreeRegressor(max_leaf_nodes=self.leaves, min_samples_leaf=least, random_state=self.seed)
        leaf = np.full(len(X), -1)
        leaf[left] = tree.fit(X[left], y[left]).apply(X[left])
        best = max(np.unique(leaf[left]), key=lambda number: _excess(y, leaf == number, least))
        return leaf == best if _excess(y, leaf == best, least) > 0 else None


def spoken(value: float, digits: int = 6) -> str:
    """A number to so many digits, but no digit before its point lost: 0.123457, 1700123456."""
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e15 else text


def overlap(one: Inside, other: Inside) -> float:
    """Intersection over union of two sets of samples."""
    union = int((one | other).sum())
    return float((one & other).sum() / union) if union else 0.0


def stability(
    search: BoxSearch, X: Floats, influence: Floats, boxes: Sequence[Box], *, resamples: int = 10
) -> list[float]:
    """For each box, the mean over bootstrap resamples of its best overlap with a box found there, in [0, 1]."""
    rng = np.random.default_rng(search.seed)
    found = np.zeros((resamples, len(boxes)))
    for b in range(resamples):
        rows = rng.integers(0, len(X), len(X))
        again = [box.contains(X) for box in search.find(X[rows], influence[rows])]
        for k, box in enumerate(boxes):
            inside = box.contains(X)
            found[b, k] = max((overlap(inside, other) for other in again), default=0.0)
    return [float(value) for value in found.mean(0)]


def _cuts(values: Floats) -> Floats:
    """Where a side may stand: the values themselves where they are few, else quantiles."""
    distinct = np.unique(values)
    return distinct if len(distinct) <= 2 * STEPS else np.unique(np.quantile(values, np.linspace(0, 1, STEPS + 1)))


def _excess(y: Floats, inside: Inside, least: int) -> float:
    count = int(inside.sum())
    if count < least or count == len(y):
        return -np.inf
    return float(np.sqrt(count) * (y[inside].mean() - y.mean()))


def _grown(X: Floats, y: Floats, start: Inside, cuts: Sequence[Floats], least: int) -> tuple[Box, Inside, float]:
    """Hill-climbing from the bounding box of some samples: one side at a time goes where the excess is largest."""
    low, high = X[start].min(0), X[start].max(0)
    within = [(X[:, j] >= low[j]) & (X[:, j] <= high[j]) for j in range(X.shape[1])]
    best = _excess(y, np.logical_and.reduce(within), least)
    for _ in range(ROUNDS):
        before = best
        for j in range(X.shape[1]):
            others = np.logical_and.reduce([w for k, w in enumerate(within) if k != j] or [np.ones(len(X), bool)])
            a, b, value = _best_interval(X[others, j], y[others], cuts[j], float(y.mean()), least, len(y))
            if value > best + 1e-12:
                low[j], high[j], best = a, b, value
                within[j] = (X[:, j] >= a) & (X[:, j] <= b)
        if best <= before + 1e-12:
            break
    box = _simplest(X, y, Box(tuple(low.tolist()), tuple(high.tolist())), best, least)
    inside = box.contains(X)
    return box, inside, _excess(y, inside, least)


def _simplest(X: Floats, y: Floats, box: Box, best: float, least: int) -> Box:
    """The box without the sides that hardly add to its excess: a shorter rule."""
    for j in range(X.shape[1]):
        for side in ("low", "high"):
            bounds = list(getattr(box, side))
            bounds[j] = -np.inf if side == "low" else np.inf
            wider = replace(box, **{side: tuple(bounds)})
            if _excess(y, wider.contains(X), least) >= (1 - WORTH) * best:
                box = wider
    return box


def _best_interval(
    x: Floats, y: Floats, cuts: Floats, mean: float, least: int, total: int
) -> tuple[float, float, float]:
    """The interval between two cuts with the largest excess, over the samples that the other sides let in."""
    place = np.clip(np.searchsorted(cuts, x, side="right") - 1, 0, len(cuts) - 1)
    counts = np.bincount(place, minlength=len(cuts)).astype(np.float64)
    sums = np.bincount(place, weights=y, minlength=len(cuts))
    n = np.concatenate([[0.0], counts.cumsum()])
    s = np.concatenate([[0.0], sums.cumsum()])
    inside, total_in = n[None, 1:] - n[:-1, None], s[None, 1:] - s[:-1, None]
    allowed = (inside >= least) & (inside < total) & np.triu(np.ones_like(inside, dtype=bool))
    value = np.where(allowed, (total_in - inside * mean) / np.sqrt(np.maximum(inside, 1)), -np.inf)
    a, b = np.unravel_index(int(value.argmax()), value.shape)
    upper = cuts[b + 1] if b + 1 < len(cuts) else np.inf
    taken = x[(x >= cuts[a]) & (x < upper)]
    return float(cuts[a]), float(taken.max()) if len(taken) else float(cuts[b]), float(value[a, b])


def _tight(box: Box, X: Floats, inside: Inside) -> Box:
    """Bounds at the samples inside, where a side is not free."""
    low, high = X[inside].min(0), X[inside].max(0)
    return Box(
        tuple(float(low[j]) if np.isfinite(box.low[j]) else -np.inf for j in range(len(low))),
        tuple(float(high[j]) if np.isfinite(box.high[j]) else np.inf for j in range(len(high))),
    )
