"""Labels judged by a head that has not seen the suspects: the trimmed likelihood.

A wrong label is told by a head that it has itself bent. Leave-one-out takes away what it did to its own prediction, not
what it and its like did to those of the others. So the head is fitted again without the samples whose labels it doubts
most, and each label is judged by that head, leave-one-out. How many are left out is not asked of the user: were labels
flipped to any other class with rate ρ, and the leave-one-out probabilities p of the given labels right, the labels
would have the likelihood

    Σ w log((1 − ρ) p + ρ (1 − p)/(C − 1))

which is concave in ρ; its maximiser is zero where the probabilities are calibrated already, few flips being then
plausible. The share ρ of largest loss is left out, twice over, the total penalty `N λ2` held fixed.

The trimmed likelihood is Neykov & Müller's ("Breakdown point and computation of trimmed likelihood estimators in
generalized linear models", 2003); that it finds more of planted flips is measured in docs/images.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..curvature.dense import Curvature
from ..elasticnet import minimise
from ..errors import ConvergenceError, SeparableError, SingularCurvatureError
from ..head import Head
from ..l2 import Rows
from ..newton import Fit, Newton, Objective
from ..scores import Scores, read_scores

ROUNDS = 2
BINS = 4_096
"""Of `s = L/(1 + L)` in [0, 1): a loss of 5 nats is told from one of 5.01."""
MOST = 0.5  # of a class's weight that may be left out
HIGHEST = 0.5  # rate of flips that is looked for
NEWTON = Newton(tolerance=1e-6, decrement=1e-10)  # a ranking needs no more
REFUSALS = (SeparableError, SingularCurvatureError, ConvergenceError)
"""What may keep the rest of the samples from having a fit of their own; labels are then judged by the head of all."""


@dataclass(frozen=True)
class Suspects:
    """The samples left out: those whose bin of the loss is at the limit of their class or above."""

    flip_rate: float
    limits: tuple[int, ...]

    def among(self, bins: Int64[Tensor, " n"], y: Int64[Tensor, " n"]) -> Bool[Tensor, " n"]:
        return bins >= torch.tensor(self.limits)[y]


@dataclass(frozen=True)
class Trimmed:
    """The head's weights and curvature without the suspects, and the weights of the samples there, theirs zero."""

    V: Float[Tensor, "K d"]
    curvature: Curvature
    w: Float[Tensor, " n"]
    flip_rate: float


def trimmed(head: Head, rows: Rows, V: Float[Tensor, "K d"], curvature: Curvature) -> Trimmed:
    """The head, fitted to rows in memory (weights V, curvature there), fitted again without the suspects among them."""
    found = Trimmed(V, curvature, rows.w, 0.0)
    for _ in range(ROUNDS):
        bins = loss_bins(read_scores(head.family, found.curvature, found.V, rows.H, rows.y, found.w))
        suspects = find_suspects(counted(bins, rows.y, rows.w, max(head.family.C, 2)))
        w = torch.where(suspects.among(bins, rows.y), 0.0, rows.w)
        left = Rows(rows.H, rows.y, w)
        again = fit_again(head.objective(left.sums(head.family), total_weight=float(w.sum())), found.V)
        if not suspects.flip_rate or again is None:
            return found
        found = Trimmed(again.V, again.curvature, w, suspects.flip_rate)
    return found


def fit_again(objective: Objective, start: Float[Tensor, "K d"]) -> Fit | None:
    """The minimiser, to what a ranking needs; None where there is none."""
    try:
        return minimise(objective, start, newton=NEWTON)
    except REFUSALS:
        return None


def loss_bins(scores: Scores) -> Int64[Tensor, " n"]:
    """The bin of each leave-one-out loss (of the plain one where a sample alone determines a parameter)."""
    return binned(torch.where(scores.loo_loss.isnan(), scores.loss, scores.loo_loss))


def binned(loss: Float[Tensor, "*n"]) -> Int64[Tensor, "*n"]:
    """The bin of a loss in nats."""
    return (loss / (1 + loss) * BINS).long().clamp(max=BINS - 1)


def counted(
    bins: Int64[Tensor, " n"], y: Int64[Tensor, " n"], w: Float[Tensor, " n"], classes: int
) -> Float[Tensor, "C bins"]:
    """The weight of each class in each bin; those of several parts add up."""
    return torch.bincount(y * BINS + bins, weights=w, minlength=classes * BINS).reshape(classes, BINS)


def find_suspects(counts: Float[Tensor, "C bins"]) -> Suspects:
    """The share ρ of largest loss, but of no class more than half."""
    total = counts.sum(0)
    rate = flip_rate(total, len(counts))
    limit = _first(total, rate * float(total.sum()))
    return Suspects(rate if limit < BINS else 0.0, tuple(max(limit, half) for half in halves(counts)))


def halves(counts: Float[Tensor, "C bins"]) -> list[int]:
    """For each class the lowest bin that has, with all above it, no more than half of its weight."""
    return [_first(weight, MOST * float(weight.sum())) for weight in counts]


def flip_rate(total: Float[Tensor, " bins"], classes: int) -> float:
    """The ρ that makes the labels likeliest; 0 where fewer flips would always be likelier."""
    s = (torch.arange(BINS, dtype=torch.float64) + 0.5) / BINS
    p = torch.exp(-s / (1 - s))
    flipped = (1 - p) / (classes - 1)
    if float(total @ (flipped / p.clamp(min=1e-300) - 1).clamp(max=1e300)) <= 0:  # the slope at zero
        return 0.0

    from scipy.optimize import minimize_scalar

    def unlikely(rho: float) -> float:
        return -float(total @ torch.log((1 - rho) * p + rho * flipped))

    found: Any = minimize_scalar(unlikely, bounds=(0.0, HIGHEST), method="bounded", options={"xatol": 1e-6})
    return float(found.x)


def _first(weight: Float[Tensor, " bins"], most: float) -> int:
    """The lowest bin that has, with all above it, no more than this weight."""
    above = weight.flip(0).cumsum(0).flip(0)
    return int((above > most * (1 + 1e-12)).sum())
