"""The leading eigenvectors of a curvature by Lanczos iterations, as scipy has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from ..errors import ConvergenceError, ShapeError
from .inverse import Cost, Sizes, check_damping, check_rank
from .low_rank import LowRank, measured_complement
from .products import GaussNewton, Hessian, Operator


@dataclass(frozen=True)
class Arnoldi:
    """The `rank` eigenvalues of largest magnitude with their eigenvectors, the complement measured (`LowRank`).

    Schioppa, Zablotskaia, Vilar & Sokolov 2022, "Scaling up influence functions"; they leave the complement out.
    `tol` is ARPACK's relative accuracy of eigenvalues. About 2 × rank products, one after another.
    """

    rank: int = 100
    damping: float = 0.0
    tol: float = 1e-4
    seed: int = 0
    approximate: ClassVar[bool] = True
    natural: ClassVar[Operator] = Hessian

    def __post_init__(self) -> None:
        check_damping(self.damping)
        if not 0 < self.tol < 1:
            raise ShapeError(f"tol={self.tol}; give a relative accuracy between 0 and 1")

    def cost(self, sizes: Sizes) -> Cost:
        return Cost(
            2.5 * self.rank * sizes.pass_flops + 2.0 * sizes.n * sizes.P * self.rank, 8.0 * 3 * self.rank * sizes.P
        )

    def of(self, curvature: Hessian | GaussNewton) -> LowRank:
        """Raises `ShapeError` for a rank of P or more, `ConvergenceError` where the iterations did not suffice."""
        P = curvature.objective.P
        check_rank(self.rank, P, P - 1)
        values, U, products = leading(curvature, self.rank, tol=self.tol, seed=self.seed)
        return LowRank("Arnoldi", U, values, measured_complement(curvature, U, self.seed), self.damping, products)


def leading(curvature: Hessian | GaussNewton, rank: int, *, tol: float, seed: int) -> tuple[Tensor, Tensor, int]:
    """Eigenvalues [r] of largest magnitude, descending, their eigenvectors [P, r], and how many products it took."""
    P, device = curvature.objective.P, curvature.objective.l2.device
    used = 0

    def product(v: np.ndarray) -> np.ndarray:
        nonlocal used
        used += 1
        row = torch.from_numpy(np.ascontiguousarray(v.reshape(1, -1))).to(device)
        return curvature(row)[0].cpu().numpy()

    made: Any = LinearOperator  # scipy's stubs know neither this call nor a tolerance that is no integer
    iterate: Any = eigsh
    operator = made((P, P), matvec=product, dtype=np.float64)
    start = np.random.default_rng(seed).normal(size=P)
    try:
        values, vectors = iterate(operator, k=rank, which="LM", tol=tol, v0=start)
    except ArpackNoConvergence as cause:
        raise ConvergenceError(
            f"Arnoldi found {len(cause.eigenvalues)} of {rank} eigenvalues in {used} products; ask for fewer, or raise "
            "tol="
        ) from cause
    order = np.argsort(-np.abs(values))
    found = torch.from_numpy(values[order].copy()), torch.from_numpy(np.ascontiguousarray(vectors[:, order]))
    return found[0].to(device), found[1].to(device), used
