"""λ2 by leave-one-out: the penalty under which samples are predicted best by a head that has not seen them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from numbers import Real
from operator import add

import torch
from jaxtyping import Float
from torch import Tensor

from .curvature.dense import Curvature
from .elasticnet import minimise
from .errors import AssayWarning, ConvergenceError, SeparableError, ShapeError, SingularCurvatureError
from .families import Family
from .newton import Moments, Newton, Objective, moments
from .scores import read_scores
from .threads import in_threads

CHUNK = 4_096  # rows a thread sums at a time


@dataclass(frozen=True)
class Rows:
    """Training rows in memory: design matrix, labels, weights."""

    H: Float[Tensor, "n d"]
    y: Tensor
    w: Float[Tensor, " n"]

    def split(self) -> list[Rows]:
        return [Rows(*part) for part in zip(self.H.split(CHUNK), self.y.split(CHUNK), self.w.split(CHUNK), strict=True)]

    def sums(self, family: Family) -> Callable[[Tensor], Moments]:
        """The data's part of the objective as a function of V."""

        def at(V: Tensor) -> Moments:
            return reduce(add, in_threads(lambda part: moments(family, V, part.H, part.y, part.w), self.split()))

        return at


@dataclass(frozen=True)
class L2Path:
    """`l2` is the best of `grid`; `loo_loss`: the mean leave-one-out loss at each, in units of the loss."""

    l2: float
    grid: tuple[float, ...]
    loo_loss: tuple[float, ...]


@dataclass(frozen=True)
class LeaveOneOutPath:
    """Minimises the approximate leave-one-out loss along a path of λ2 = 10^(upper), …, 10^(lower), warm-started.

    `per_decade` points a decade. The path stops early once the loss has been above its best for `patience` points,
    or the curvature becomes singular. Samples of leverage one have no leave-one-out value: they count as `inf`.
    """

    upper: float = 1.0
    lower: float = -8.0
    per_decade: int = 2
    patience: int = 3

    def choose(
        self,
        family: Family,
        rows: Rows,
        penalised: Float[Tensor, " d"],
        *,
        l1: float = 0.0,
        advance: Callable[[], None] = lambda: None,
    ) -> L2Path:
        """The path for these rows; raises `ConvergenceError` where no point of it can be fitted."""
        newton = Newton(tolerance=1e-6, decrement=1e-9)
        V = torch.zeros(family.K, rows.H.shape[1], dtype=torch.float64)
        sums, total = rows.sums(family), float(rows.w.sum())
        grid: list[float] = []
        losses: list[float] = []
        for l2 in self.points():
            try:
                fit = minimise(Objective(family, sums, total, l2, penalised, l1=l1), V, newton=newton)
                loss = _mean_loo_loss(family, rows, fit.curvature, fit.V)
            except (SingularCurvatureError, SeparableError, ConvergenceError):
                break
            V = fit.V
            grid.append(l2)
            losses.append(loss)
            advance()
            if len(losses) - 1 - losses.index(min(losses)) >= self.patience:
                break
        if not grid:
            raise ConvergenceError('l2="auto": the head could not be fitted at any penalty; standardize the columns')
        best = losses.index(min(losses))
        if best in (0, len(self.points()) - 1):
            edge, beyond = (
                ("heaviest", "the features may tell nothing of the labels")
                if best == 0
                else ("lightest", "the labels follow from the features all but exactly")
            )
            warnings.warn(
                f'l2="auto" chose {grid[best]:g}, the {edge} penalty it tries: {beyond}, or another would be better '
                "still; pass l2= to choose it yourself",
                AssayWarning,
                4,
            )
        return L2Path(grid[best], tuple(grid), tuple(losses))

    def points(self) -> list[float]:
        count = round((self.upper - self.lower) * self.per_decade)
        return [10 ** (self.upper - k / self.per_decade) for k in range(count + 1)]


def _mean_loo_loss(family: Family, rows: Rows, curvature: Curvature, V: Tensor) -> float:
    def part_loss(part: Rows) -> float:
        loss = read_scores(family, curvature, V, part.H, part.y, part.w).loo_loss
        return float(part.w @ loss.nan_to_num(nan=torch.inf))

    curvature.prepare()
    return sum(in_threads(part_loss, rows.split())) / float(rows.w.sum())


def checked_l1(l1: float, l2: float | str) -> float:
    """λ1 as a number ≥ 0 beside a λ2 > 0, or `ShapeError`."""
    if not (isinstance(l1, Real) and 0 <= l1 < float("inf")):
        raise ShapeError(f"l1={l1!r} is not a finite number ≥ 0")
    if l1 and l2 == 0:
        raise ShapeError(f"l1={l1:g} needs l2 > 0: with l2 = 0 the optimum is not unique, and has no curvature")
    return l1


def checked_l2(l2: float | str) -> float:
    """λ2 as a number ≥ 0, or `ShapeError`."""
    value = float(l2) if isinstance(l2, Real) else -1.0
    if not 0 <= value < float("inf"):
        raise ShapeError(f'l2={l2!r} is neither "auto" nor a finite number ≥ 0')
    return value


def checked_damping(damping: float) -> float:
    """A damping as a number ≥ 0, or `ShapeError`."""
    value = float(damping) if isinstance(damping, Real) else -1.0
    if not 0 <= value < float("inf"):
        raise ShapeError(f"damping={damping!r} is not a finite number ≥ 0")
    return value
