"""The Nyström approximation of a curvature from one block of products with random directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ShapeError, SingularCurvatureError
from .inverse import Cost, Sizes, check_damping, check_rank
from .low_rank import LowRank, measured_complement
from .products import GaussNewton, Hessian, Operator


@dataclass(frozen=True)
class Nystrom:
    """`H ≈ Y (ΩᵀY)⁻¹ Yᵀ`, `Y = H Ω` with `rank + oversample` random directions, the best `rank` eigenvectors kept.

    The operator must be positive semi-definite; one pass of products. Tropp, Yurtsever, Udell & Cevher 2017, "Fixed-
    rank approximation of a positive-semidefinite matrix from streaming data", algorithm 3; its complement is measured
    (`LowRank`).
    """

    rank: int = 100
    damping: float = 0.0
    oversample: int = 10
    seed: int = 0
    approximate: ClassVar[bool] = True
    natural: ClassVar[Operator] = GaussNewton

    def __post_init__(self) -> None:
        check_damping(self.damping)
        if self.oversample < 0:
            raise ShapeError(f"oversample={self.oversample}; give 0 or more")

    def cost(self, sizes: Sizes) -> Cost:
        k = self.rank + self.oversample
        return Cost(k * sizes.pass_flops + 2.0 * sizes.n * sizes.P * self.rank, 8.0 * 4 * k * sizes.P)

    def of(self, curvature: Hessian | GaussNewton) -> LowRank:
        """Raises `ShapeError` for a rank above P, `SingularCurvatureError` for an indefinite operator."""
        P, device = curvature.objective.P, curvature.objective.l2.device
        check_rank(self.rank, P, P)
        width = min(P, self.rank + self.oversample)
        draw = torch.randn(P, width, dtype=torch.float64, generator=torch.Generator().manual_seed(self.seed))
        omega = torch.linalg.qr(draw.to(device)).Q
        Y = curvature(omega.T.contiguous()).T
        U, values = self._eigen(omega, Y, torch.finfo(curvature.objective.dtype).eps)
        U, values = U[:, : self.rank], values[: self.rank]
        return LowRank("Nystrom", U, values, measured_complement(curvature, U, self.seed), self.damping, width)

    def _eigen(
        self, omega: Float[Tensor, "P k"], Y: Float[Tensor, "P k"], eps: float
    ) -> tuple[Float[Tensor, "P k"], Float[Tensor, " k"]]:
        shift = len(omega) ** 0.5 * eps * float(torch.linalg.matrix_norm(Y, 2))
        core = omega.T @ Y + shift * torch.eye(Y.shape[1], dtype=Y.dtype, device=Y.device)
        factor, info = torch.linalg.cholesky_ex((core + core.T) / 2)
        if int(info):
            least = float(torch.linalg.eigvalsh((core + core.T) / 2)[0])
            raise SingularCurvatureError(
                f"Nystrom needs a positive semi-definite operator, and found curvature {least:.2e}; give "
                "curvature=GaussNewton, or Arnoldi()",
                size=len(omega),
            )
        B = torch.linalg.solve_triangular(factor, (Y + shift * omega).T, upper=False).T
        U, sigma, _ = torch.linalg.svd(B, full_matrices=False)
        return U, (sigma.square() - shift).clamp(min=0)
