"""Conjugate gradients for a block of right-hand sides, preconditioned, in products with the operator alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ShapeError, SingularCurvatureError
from .inverse import (
    Cost,
    Diagnosis,
    Inverse,
    Inverted,
    Sizes,
    Solution,
    check_damping,
    concatenated,
    relative_residual,
    say_unconverged,
)
from .products import GaussNewton, Hessian, Operator

TOGETHER = 64  # right-hand sides iterated together
EXPLICIT = 4096  # parameters up to which an explicit inverse is made for more right-hand sides than parameters


@dataclass(frozen=True)
class CG:
    """`(H + damping I)⁻¹ v` by conjugate gradients (Hestenes & Stiefel 1952), to `‖r‖ ≤ rtol ‖v‖`.

    `rtol` defaults to 1e-8, and 1e-4 for a float32 model, whose products are no better. `preconditioner` is another
    inverse, such as `Jacobi()`, `Nystrom(rank)` or `KFAC()`; its own damping is replaced by this one's. `strict`
    raises where the tolerance is missed. Negative curvature is refused: the operator must be positive definite.
    """

    damping: float = 0.0
    rtol: float | None = None
    max_iterations: int = 1000
    preconditioner: Inverse | None = None
    strict: bool = False
    approximate: ClassVar[bool] = False
    natural: ClassVar[Operator] = Hessian

    def __post_init__(self) -> None:
        check_damping(self.damping)
        if self.max_iterations < 1 or (self.rtol is not None and not 0 < self.rtol < 1):
            raise ShapeError(
                f"rtol={self.rtol}, max_iterations={self.max_iterations}; give a tolerance between 0 and 1 and "
                "at least one iteration"
            )

    def cost(self, sizes: Sizes) -> Cost:
        sides = min(sizes.n, sizes.P) if sizes.P <= EXPLICIT else sizes.n
        return Cost(100.0 * sides * sizes.pass_flops, 8.0 * 5 * TOGETHER * sizes.P)

    def of(self, curvature: Hessian | GaussNewton) -> CGInverse:
        """Prepares the preconditioner, if there is one."""
        if self.preconditioner is None:
            return CGInverse(self, curvature)
        given: Any = self.preconditioner
        inner: Inverse = replace(given, damping=self.damping)
        of = curvature if inner.natural is Hessian else GaussNewton(curvature.objective)
        return CGInverse(self, curvature, inner.of(of))


@dataclass(frozen=True)
class CGInverse(Inverted):
    """Conjugate gradients on one operator."""

    settings: CG
    curvature: Hessian | GaussNewton
    preconditioner: Inverted | None = None

    @cached_property
    def rtol(self) -> float:
        """The tolerance in force."""
        if self.settings.rtol is not None:
            return self.settings.rtol
        return 1e-8 if self.curvature.objective.dtype == torch.float64 else 1e-4

    def solve(self, V: Float[Tensor, "m P"]) -> Solution:
        """Raises `SingularCurvatureError` where curvature is not positive; warns of what did not converge."""
        found = concatenated(self._block(part) for part in V.split(TOGETHER))
        say_unconverged("CG", found, self.rtol, strict=self.settings.strict)
        return found

    def for_many(self, rows: int) -> Inverted:
        """For more right-hand sides than parameters, the inverse of P unit vectors serves all of them."""
        P = self.curvature.objective.P
        if P > EXPLICIT or rows <= P:
            return self
        solved = self.solve(torch.eye(P, dtype=torch.float64, device=self.curvature.objective.l2.device))
        return Explicit(self, solved)

    def _block(self, V: Float[Tensor, "m P"]) -> Solution:
        x, r = torch.zeros_like(V), V.clone()
        z = self._precondition(r)
        p, rho = z.clone(), torch.linalg.vecdot(r, z)
        norm = V.norm(dim=1)
        used = torch.zeros(len(V), dtype=torch.int64)
        active = norm > 0
        for _ in range(self.settings.max_iterations):
            index = active.nonzero()[:, 0]
            if not len(index):
                break
            Ap = self.curvature(p[index]) + self.settings.damping * p[index]
            curved = torch.linalg.vecdot(p[index], Ap)
            self._refuse_negative(curved / p[index].square().sum(1))
            step = (rho[index] / curved)[:, None]
            x[index] += step * p[index]
            r[index] -= step * Ap
            used[index.cpu()] += 1
            z = self._precondition(r[index])
            new = torch.linalg.vecdot(r[index], z)
            p[index] = z + (new / rho[index])[:, None] * p[index]
            rho[index] = new
            active = active & (r.norm(dim=1) > self.rtol * norm)
        residual = relative_residual(self.curvature, self.settings.damping, x, V)
        return Solution(x, used, residual, residual <= 2 * self.rtol)

    def _precondition(self, r: Float[Tensor, "m P"]) -> Float[Tensor, "m P"]:
        return r if self.preconditioner is None else self.preconditioner.solve(r).value

    def _refuse_negative(self, quotient: Float[Tensor, " m"]) -> None:
        worst = float(quotient.min())
        if worst > 0:
            return
        needed = self.settings.damping - worst
        singular = f"the {self.curvature.name} with damping {self.settings.damping:g} "
        singular += f"has curvature {worst:.2e} along a direction that CG searched: "
        raise SingularCurvatureError(
            singular + f"it is {'indefinite' if worst < 0 else 'singular'}, and conjugate gradients need a positive "
            f"definite one; raise damping= above {needed:.2g}, train further, or give curvature=GaussNewton",
            size=self.curvature.objective.P,
        )

    def diagnose(self) -> Diagnosis:
        """Tolerance and preconditioner."""
        by = "no preconditioner" if self.preconditioner is None else self.preconditioner.diagnose().method
        return Diagnosis("CG", (f"Residuals to {self.rtol:.0e} of each right-hand side, {by}.",), {"rtol": self.rtol})


@dataclass(frozen=True)
class Explicit(Inverted):
    """The whole inverse, its columns solved by another method."""

    by: CGInverse
    columns: Solution

    def _solution(self, value: Tensor) -> Solution:
        m, c = len(value), self.columns
        return Solution(
            value,
            torch.full((m,), int(c.iterations.max())),
            c.residual.norm().expand(m).clone(),  # ‖Σ v_j r_j‖ ≤ ‖v‖ √Σ‖r_j‖²: a bound, not what it is
            c.converged.all().expand(m).clone(),
        )

    def solve(self, V: Float[Tensor, "m P"]) -> Solution:
        return self._solution(V @ self.columns.value)

    def quadratic(self, G: Float[Tensor, "m P"]) -> Solution:
        return self._solution(torch.linalg.vecdot(G @ self.columns.value, G))

    def diagnose(self) -> Diagnosis:
        return self.by.diagnose()
