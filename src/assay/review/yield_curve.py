"""How many finds the next samples of a queue will bring, from the decisions made so far.

A find is a sample for which looking was worth it: relabelled, dropped, or to collect more like it. The model:

    logit P(find) = a + b x + e,    a ~ N(a₀, 2²),  log b ~ N(0, 0.7²),  e ~ N(0, 0.7²)

For a queue of label errors x is the L in nats of `mislabeled_score`, the leave-one-out loss where no class is mistaken
for another more than others are. With flips at a rate ρ among C classes, the odds that a sample is one are
ρ / ((C − 1)(1 − ρ)) · exp(L) where the model is calibrated: hence b about 1, and a₀ = −3. For the other queues x is the
log-odds of the score and a₀ = −1. `e`, shared by the samples to come, says that they may differ from those seen. The
posterior of (a, b) is summed over a grid, the samples reviewed in bins of x; finds among the next samples are drawn
from it. Isotonic rates or a beta-binomial on bins of the score, which know nothing of what lies below the last sample
seen, held the truth in their 90 % interval in 68 % of the same simulations: finds end as at a cliff.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ENOUGH = 30  # reviewed samples before anything is said
NEXT = 100
LEVEL = 0.9
FEW = 5  # finds among the next 100, at the most likely to come, below which one may stop
BINS = 64
DRAWS = 2_000
SPREAD = 0.7  # of log b, and of e
POINTS = 200  # of the curve, at most

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Expected:
    """Finds among `samples` more: their mean, and the bounds of a central interval of `LEVEL`."""

    samples: int
    expected: float
    low: int
    high: int


@dataclass(frozen=True)
class Scale:
    """What x is for a queue's column, and the prior mean of a."""

    column: str
    start: float

    def x(self, scores: Floats) -> Floats:
        """Of `mislabeled_score` s = L / (1 + L) the loss L, of another score its log-odds; bounded."""
        s = np.clip(scores, 1e-6, 1 - 1e-6)
        return np.clip(s / (1 - s), 0, 30) if self.column == "mislabeled_score" else np.log(s / (1 - s))


def scale_of(score: str) -> Scale:
    """How finds are modelled in a queue ranked by this score; in that of Cook's distance by the label's loss."""
    if score in ("mislabeled_score", "cooks_distance"):
        return Scale("mislabeled_score", -3.0)
    return Scale(score, -1.0)


def expected_finds(x: Floats, found: Flags, coming: Floats, start: float, *, seed: int = 0) -> Expected:
    """Finds among samples at `coming`, after those at `x` of which some were finds."""
    a, log_b = np.meshgrid(start + np.linspace(-8, 8, 49), SPREAD * np.linspace(-3, 3, 25), indexing="ij")
    b = np.exp(log_b)
    middle, seen, finds = _binned(x, found)
    z = a[..., None] + b[..., None] * middle
    log_posterior = -0.5 * (((a - start) / 2) ** 2 + (log_b / SPREAD) ** 2)
    log_posterior += (finds * z - seen * np.logaddexp(0, z)).sum(-1)
    weight = np.exp(log_posterior - log_posterior.max()).ravel()
    rng = np.random.default_rng(seed)
    drawn = rng.choice(weight.size, DRAWS, p=weight / weight.sum())
    shift = a.ravel()[drawn] + SPREAD * rng.standard_normal(DRAWS)
    p = 1 / (1 + np.exp(-(shift[:, None] + b.ravel()[drawn][:, None] * coming)))
    total = (rng.random(p.shape) < p).sum(1)
    bounds = np.quantile(total, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="closest_observation")
    return Expected(len(coming), float(p.sum(1).mean()), int(bounds[0]), int(bounds[1]))


def curve(scores: Floats, rows: NDArray[np.int64], found: Flags) -> list[dict[str, int]]:
    """Finds among the first so many reviewed, by rank; at most `POINTS` of them."""
    order = np.lexsort((rows, -scores))
    finds = np.cumsum(found[order])
    shown = np.unique(np.linspace(0, len(finds) - 1, POINTS).round().astype(int)) if len(finds) else []
    return [{"reviewed": int(k) + 1, "finds": int(finds[k])} for k in shown]


def advice(reviewed: int, expected: Expected | None) -> tuple[bool, str]:
    """Whether to stop, and why."""
    if reviewed < ENOUGH:
        return False, f"Not enough reviewed to say: {reviewed} of {ENOUGH}."
    if expected is None or not expected.samples:
        return True, "Nothing is left in this queue."
    told = f"{expected.low} to {expected.high} finds among the next {expected.samples}"
    if expected.high <= FEW:
        return True, f"You may stop: {told} ({LEVEL:.0%} interval)."
    return False, f"Go on: about {expected.expected:.0f}, {told} ({LEVEL:.0%} interval)."


def _binned(x: Floats, found: Flags) -> tuple[Floats, Floats, Floats]:
    """Middles of bins of x that hold any, how many they hold, how many of those are finds."""
    edges = np.linspace(x.min(), x.max() + 1e-9, BINS + 1)
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, BINS - 1)
    weights: list[Floats] = [np.ones(len(x)), found.astype(np.float64), x]
    seen, finds, sums = (np.bincount(place, w, BINS).astype(np.float64) for w in weights)
    held = seen > 0
    return sums[held] / seen[held], seen[held], finds[held]
