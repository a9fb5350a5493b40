"""The dense inverse: the whole matrix, decomposed. O(P) products, P² memory, P³ time; for P up to some thousands."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import AssayWarning, ShapeError, SingularCurvatureError
from .inverse import Cost, Diagnosis, Inverted, Sizes, Solution, check_damping
from .products import VECTORS, GaussNewton, Hessian, Operator

LARGEST = 20_000  # parameters beyond which the matrix is refused


@dataclass(frozen=True)
class Dense:
    """`(H + damping I)⁻¹` by the eigenvectors of the dense matrix.

    `truncate`: eigenvalues of `H + damping I` below this share of the largest are left out, so that the inverse is a
    pseudo-inverse; without it a matrix that is singular, to the precision of the products, is refused. Negative
    eigenvalues are kept, counted and said.
    """

    damping: float = 0.0
    truncate: float = 0.0
    approximate: ClassVar[bool] = False
    natural: ClassVar[Operator] = Hessian

    def __post_init__(self) -> None:
        check_damping(self.damping)
        if not 0 <= self.truncate < 1:
            raise ShapeError(f"truncate={self.truncate}; give a share of the largest eigenvalue, 0 to 1")

    def cost(self, sizes: Sizes) -> Cost:
        P = sizes.P
        return Cost(P * sizes.pass_flops + 10.0 * P**3 + 2.0 * sizes.n * P**2, 8.0 * 4 * P**2)

    def of(self, curvature: Hessian | GaussNewton) -> DenseInverse:
        """Forms the matrix; raises `ShapeError` above 20,000 parameters, `SingularCurvatureError`."""
        P = curvature.objective.P
        if P > LARGEST:
            raise ShapeError(f"{P:,} parameters make a matrix of {8 * P**2 / 2**30:,.0f} GiB; use CG() or EKFAC()")
        made = DenseInverse(self, _matrix(curvature), curvature.name, torch.finfo(curvature.objective.dtype).eps)
        made.check()
        return made


def _matrix(curvature: Hessian | GaussNewton) -> Float[Tensor, "P P"]:
    P, like = curvature.objective.P, curvature.objective.l2
    rows: list[Tensor] = []
    for start in range(0, P, VECTORS):
        block = torch.zeros(min(VECTORS, P - start), P, dtype=torch.float64, device=like.device)
        block[:, start:].diagonal().fill_(1.0)
        rows.append(curvature(block))
    H = torch.cat(rows)
    return (H + H.T) / 2


@dataclass(frozen=True)
class DenseInverse(Inverted):
    """Eigenvalues and eigenvectors of the matrix."""

    settings: Dense
    matrix: Float[Tensor, "P P"]
    name: str
    eps: float = torch.finfo(torch.float64).eps

    @cached_property
    def _eigen(self) -> tuple[Float[Tensor, " P"], Float[Tensor, "P P"]]:
        values, vectors = torch.linalg.eigh(self.matrix)
        return values, vectors

    @cached_property
    def _kept(self) -> Tensor:
        damped = self._eigen[0] + self.settings.damping
        floor = self.settings.truncate or max(self.eps, len(damped) * torch.finfo(torch.float64).eps)
        return damped.abs() > floor * damped.abs().max()

    @property
    def negative(self) -> int:
        """How many eigenvalues of the damped matrix are negative."""
        return int(((self._eigen[0] + self.settings.damping < 0) & self._kept).sum())

    def check(self) -> None:
        """Raises `SingularCurvatureError`; warns of negative eigenvalues."""
        if not self.settings.truncate and not bool(self._kept.all()):
            rank, P = int(self._kept.sum()), len(self.matrix)
            raise SingularCurvatureError(
                f"the {self.name} has rank {rank} of {P}"
                + (" to the precision of float32" if self.eps > 1e-10 else "")
                + "; give damping= or l2=, or truncate= for a pseudo-inverse",
                rank=rank,
                size=P,
            )
        if self.negative:
            warnings.warn(
                f"the {self.name} with damping {self.settings.damping:g} has {self.negative} negative eigenvalues, "
                f"down to {float(self._eigen[0][0]):.2e}: this is no minimum, and distances may be negative; train "
                "further, raise damping=, or give curvature=GaussNewton",
                AssayWarning,
                4,
            )

    @cached_property
    def _root(self) -> tuple[Float[Tensor, "P Q"], Float[Tensor, " Q"]]:
        values, vectors = self._eigen
        return vectors[:, self._kept], 1 / (values + self.settings.damping)[self._kept]

    def solve(self, V: Float[Tensor, "m P"]) -> Solution:
        Q, inverse = self._root
        x = ((V @ Q) * inverse) @ Q.T
        rest = (x @ self.matrix + self.settings.damping * x - V).norm(dim=1) / V.norm(dim=1).clamp(min=1e-300)
        return Solution.direct(x, rest)

    def quadratic(self, G: Float[Tensor, "m P"]) -> Solution:
        Q, inverse = self._root
        return Solution.direct((G @ Q).square() @ inverse)

    def diagnose(self) -> Diagnosis:
        """Rank, negative eigenvalues, the extremes."""
        values, kept = self._eigen[0], int(self._kept.sum())
        return Diagnosis(
            "Dense",
            (f"{kept} of {len(values)} eigenvalues kept, {self.negative} of them negative.",),
            {
                "rank": kept,
                "negative": self.negative,
                "smallest": float(values[0]),
                "largest": float(values[-1]),
            },
        )
