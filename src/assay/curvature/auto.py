"""The cheapest inverse that is exact enough, found by trying them in the order of their cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..errors import ConvergenceError, ShapeError, SingularCurvatureError
from .arnoldi import Arnoldi
from .cg import CG
from .exact import LARGEST, Dense
from .inverse import Cost, Diagnosis, Inverse, Inverted, Sizes, Solution, check_damping
from .kfac import EKFAC
from .nystrom import Nystrom
from .objective import NetworkObjective
from .products import GaussNewton, Hessian, Operator
from .stated_error import ROWS, StatedError, stated_error


@dataclass(frozen=True)
class Tried:
    """One candidate: its expected `cost`, its measured `error` (None for one that is exact), why it was `refused`."""

    inverse: Inverse
    cost: Cost
    error: StatedError | None
    refused: str | None

    @property
    def sentence(self) -> str:
        """In words."""
        price = f"about {self.cost.flops:.1e} flops, {self.cost.bytes / 2**20:,.0f} MiB"
        said = self.refused or (self.error.sentence if self.error else "exact to its tolerance.")
        return f"{type(self.inverse).__name__} ({price}): {said}"


@dataclass(frozen=True)
class Auto:
    """Tries inverses, the cheapest first by their stated costs, until the median error is at most `rtol`.

    Errors are measured (`StatedError`); Dense and CG are exact and end the search. Candidates that need more than
    `memory` bytes are passed over. What was tried, what it cost and how exact it was stays in the result
    (`influence.choice`). Candidates default to EKFAC, Nyström of two ranks, Arnoldi, Dense and CG.
    """

    rtol: float = 0.05
    damping: float = 0.0
    memory: float = 2.0**32
    seed: int = 0
    candidates: tuple[Inverse, ...] = ()
    approximate: ClassVar[bool] = True
    natural: ClassVar[Operator] = GaussNewton

    def __post_init__(self) -> None:
        check_damping(self.damping)
        if not self.rtol > 0:
            raise ShapeError(f"rtol={self.rtol}; give a positive relative error")

    def cost(self, sizes: Sizes) -> Cost:
        return min((each.cost(sizes) for each in self._candidates(sizes.P)), key=lambda cost: cost.flops)

    def of(self, curvature: Hessian | GaussNewton) -> Chosen:
        """Raises `ConvergenceError` naming all that was tried where none is exact enough."""
        sizes = sizes_of(curvature.objective)
        priced = [(each.cost(sizes), each) for each in self._candidates(sizes.P)]
        tried: list[Tried] = []
        for cost, candidate in sorted(priced, key=lambda pair: pair[0].flops):
            found = self._try(candidate, cost, curvature, tried)
            if found is not None:
                return Chosen(candidate, found, tuple(tried), self.rtol)
        told = " ".join(each.sentence for each in tried)
        raise ConvergenceError(f"no inverse reached rtol={self.rtol}: {told}")

    def _try(
        self, candidate: Inverse, cost: Cost, curvature: Hessian | GaussNewton, tried: list[Tried]
    ) -> Inverted | None:
        if cost.bytes > self.memory or (isinstance(candidate, Dense) and curvature.objective.P > LARGEST):
            tried.append(Tried(candidate, cost, None, f"needs {cost.bytes / 2**30:.1f} GiB"))
            return None
        try:
            inverted = candidate.of(curvature)
            error = None
            if candidate.approximate:
                error = stated_error(inverted, curvature, self.damping, rows=ROWS, seed=self.seed)
        except (ShapeError, SingularCurvatureError, ConvergenceError) as cause:
            tried.append(Tried(candidate, cost, None, str(cause)))
            return None
        tried.append(Tried(candidate, cost, error, None))
        return inverted if error is None or error.median <= self.rtol else None

    def _candidates(self, P: int) -> tuple[Inverse, ...]:
        ranks = sorted({max(1, min(100, P // 4)), max(1, min(500, P // 2))})
        default: tuple[Any, ...] = (EKFAC(), *(Nystrom(rank) for rank in ranks), Arnoldi(ranks[-1]), Dense(), CG())
        candidates: tuple[Any, ...] = self.candidates or default
        return tuple(replace(each, damping=self.damping) for each in candidates)


@dataclass(frozen=True)
class Chosen(Inverted):
    """The inverse that was taken, and what was tried on the way to it, cheapest first."""

    inverse: Inverse
    inverted: Inverted
    tried: tuple[Tried, ...]
    rtol: float

    @property
    def error(self) -> StatedError | None:
        """Of the one taken; None where it is exact."""
        return self.tried[-1].error

    def solve(self, V: Float[Tensor, "m P"]) -> Solution:
        return self.inverted.solve(V)

    def quadratic(self, G: Float[Tensor, "m P"]) -> Solution:
        return self.inverted.quadratic(G)

    def for_many(self, rows: int) -> Inverted:
        return self.inverted.for_many(rows)

    def self_influence(self, objective: NetworkObjective) -> Solution | None:
        return self.inverted.self_influence(objective)

    def diagnose(self) -> Diagnosis:
        """What was picked, why, and what was not."""
        inner = self.inverted.diagnose()
        said = [each.sentence for each in self.tried]
        return Diagnosis(f"Auto: {inner.method}", (*said, *inner.sentences), inner.numbers)


def sizes_of(objective: NetworkObjective) -> Sizes:
    """n, P, and the flops of one sample's gradient: three times those that its forward pass counts."""
    batch = next(objective.reading.batches()).rows(0, 1)
    counter = FlopCounterMode(display=False)
    with objective.evaluating(), counter:
        z = objective.losses(objective.theta, batch.inputs, batch.targets)
    del z
    with objective.evaluating():
        outputs = objective.outputs(objective.theta, batch.inputs).numel() if objective.has_outputs else 1
    flops = 3.0 * max(float(counter.get_total_flops()), 2.0 * objective.P)
    return Sizes(len(objective.reading), objective.P, flops, outputs)
