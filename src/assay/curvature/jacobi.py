"""The inverse of the diagonal alone: a preconditioner, and the cheapest of all approximations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.func import grad

from ..errors import ShapeError
from ..sources.examples import Inputs
from .gradients import each_sample, gradient_bytes
from .inverse import Cost, Diagnosis, Inverted, Sizes, Solution, check_damping
from .objective import NetworkObjective
from .output_loss import OnModel
from .products import GaussNewton, Hessian, Operator
from .random_signs import combined
from .reading import Batch, mapped


@dataclass(frozen=True)
class Jacobi:
    """`(diag(G) + damping)⁻¹`, the diagonal of the Gauss-Newton matrix from `draws` random signs a sample.

    `diag(JᵀSJ) = E[(JᵀBε)²]` with `S = B Bᵀ` and signs ε: never negative, unbiased (Bekas, Kokiopoulou & Saad 2007).
    """

    damping: float = 0.0
    draws: int = 1
    seed: int = 0
    approximate: ClassVar[bool] = True
    natural: ClassVar[Operator] = GaussNewton

    def __post_init__(self) -> None:
        check_damping(self.damping)
        if self.draws < 1:
            raise ShapeError(f"draws={self.draws}; give at least one")

    def cost(self, sizes: Sizes) -> Cost:
        return Cost(sizes.n * sizes.gradient_flops * (1.0 + self.draws), 8.0 * sizes.P)

    def of(self, curvature: Hessian | GaussNewton) -> DiagonalInverse:
        """One pass over the data for each draw; raises `ShapeError` for a loss without outputs."""
        objective = curvature.objective
        GaussNewton(objective)  # says why not
        total = objective.l2 + self.damping
        scale = objective.total_weight * self.draws
        for draw in range(self.draws):
            for found in objective.over(gradient_bytes(objective), lambda b, d=draw: self._squares(objective, b, d)):
                total = total + found / scale
        return DiagonalInverse(total)

    def _squares(self, objective: NetworkObjective, batch: Batch, draw: int) -> Float[Tensor, " P"]:
        loss = objective.loss
        assert not isinstance(loss, OnModel)
        z = objective.outputs(objective.theta, batch.inputs)
        u = combined(loss.roots(z, batch.targets), batch.first, self.seed + draw)

        def one(theta: dict[str, Tensor], inputs: Inputs, direction: Tensor) -> Tensor:
            alone = mapped(inputs, lambda x: x[None])
            return objective.outputs(theta, alone).flatten() @ direction

        rows = each_sample(objective, grad(one), Batch(batch.inputs, u, batch.weights, batch.first))
        found = batch.weights @ objective.parameters.join(rows).double().square()
        objective.refuse_nonfinite(batch, found)
        return found


@dataclass(frozen=True)
class DiagonalInverse(Inverted):
    """`1 / diagonal`, of entries below 1e-12 of the largest as if they were that."""

    diagonal: Float[Tensor, " P"]

    def solve(self, V: Float[Tensor, "m P"]) -> Solution:
        floor = self.diagonal.max() * 1e-12
        return Solution.direct(V / self.diagonal.clamp(min=float(floor)))

    def diagnose(self) -> Diagnosis:
        return Diagnosis("Jacobi", ("Only the diagonal of the Gauss-Newton matrix.",), {})
