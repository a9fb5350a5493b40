"""An operator known on a few eigenvectors, and its complement by one number: `H ≈ U Λ Uᵀ + λ_c (I − U Uᵀ)`."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..errors import SingularCurvatureError
from .gradients import sampled_gradients
from .inverse import Diagnosis, Inverted, Solution
from .products import GaussNewton, Hessian

SAMPLE = 32  # gradients from which the complement is measured


@dataclass(frozen=True)
class LowRank(Inverted):
    """`U (Λ + damping)⁻¹ Uᵀ + (λ_c + damping)⁻¹ (I − U Uᵀ)`.

    Leaving the complement out makes scores too small, taking its curvature as zero too large; `complement` λ_c is its
    Rayleigh quotient on what a seeded sample of gradients has there. `residual` is not that of a solve but the share
    `‖v − U Uᵀ v‖ / ‖v‖` of a right-hand side that lies outside.
    """

    method: str
    U: Float[Tensor, "P r"]
    values: Float[Tensor, " r"]
    complement: float
    damping: float
    products: int

    def __post_init__(self) -> None:
        worst = min([*(self.values + self.damping).tolist(), self.complement + self.damping])
        if worst <= 0:
            raise SingularCurvatureError(
                f"{self.method}: an eigenvalue with damping is {worst:.2e}, not positive; raise damping= above "
                f"{self.damping - worst:.2g}, or give curvature=GaussNewton",
                size=len(self.U),
            )

    def solve(self, V: Float[Tensor, "m P"]) -> Solution:
        inside = V @ self.U
        rest = 1 / (self.complement + self.damping)
        x = (inside * (1 / (self.values + self.damping) - rest)) @ self.U.T + V * rest
        return Solution.direct(x, self._outside(inside, V))

    def quadratic(self, G: Float[Tensor, "m P"]) -> Solution:
        inside = G @ self.U
        rest = 1 / (self.complement + self.damping)
        value = inside.square() @ (1 / (self.values + self.damping) - rest) + G.square().sum(1) * rest
        return Solution.direct(value, self._outside(inside, G))

    def _outside(self, inside: Float[Tensor, "m r"], V: Float[Tensor, "m P"]) -> Float[Tensor, " m"]:
        whole = V.square().sum(1).clamp(min=1e-300)
        return (1 - inside.square().sum(1) / whole).clamp(min=0).sqrt()

    def diagnose(self) -> Diagnosis:
        """Rank, the last eigenvalue kept, the complement."""
        last = float(self.values.abs().min())
        said = [f"{len(self.values)} eigenvectors of {len(self.U)}, the complement taken as {self.complement:.2e}."]
        if self.damping < last:
            said.append(f"Damping {self.damping:g} is below the last eigenvalue kept, {last:.2e}: raise either.")
        numbers = {"rank": len(self.values), "last": last, "complement": self.complement, "products": self.products}
        return Diagnosis(self.method, tuple(said), numbers)


def measured_complement(curvature: Hessian | GaussNewton, U: Float[Tensor, "P r"], seed: int) -> float:
    """`Σ g_⊥ᵀ H g_⊥ / Σ ‖g_⊥‖²` over the parts of a seeded sample of gradients outside of U; one product."""
    objective = curvature.objective
    G = sampled_gradients(objective, SAMPLE, seed)
    rest = G - (G @ U) @ U.T
    size = float(rest.square().sum())
    if size <= 1e-24 * float(G.square().sum()):
        return 0.0 if not float(objective.l2.min()) else float(objective.l2.min())
    return max(float((curvature(rest) * rest).sum()) / size, 0.0)
