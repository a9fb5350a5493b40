"""LiSSA: the inverse as a Neumann series in the curvature of small random batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ConvergenceError, ShapeError
from .arnoldi import leading
from .inverse import (
    Cost,
    Diagnosis,
    Inverted,
    Sizes,
    Solution,
    check_damping,
    relative_residual,
    say_unconverged,
)
from .products import GaussNewton, Hessian, Operator

MOST = 10_000  # steps that are chosen without being asked for
MARGIN = 1.5  # of the scale over the top eigenvalue: a batch may be more curved than all data


@dataclass(frozen=True)
class LiSSA:
    """`x ← v + x − (H_B x + damping x)/scale` over random batches B, then `x/scale`; the mean of `repeats`.

    `scale` is 1.5 × the top eigenvalue unless given, `steps` what shrinks the first error a thousandfold, at most
    10,000. A batch is `batch` samples with replacement, seeded. The residual is measured on all data at the end, and
    `rtol` is what counts as converged. Agarwal, Bullins & Hazan 2017; Koh & Liang 2017.
    """

    damping: float = 1e-2
    batch: int = 64
    steps: int | None = None
    repeats: int = 4
    scale: float | None = None
    rtol: float = 0.1
    seed: int = 0
    strict: bool = False
    approximate: ClassVar[bool] = True
    natural: ClassVar[Operator] = Hessian

    def __post_init__(self) -> None:
        check_damping(self.damping)
        if min(self.batch, self.repeats, 1 if self.steps is None else self.steps) < 1:
            raise ShapeError(f"batch={self.batch}, steps={self.steps}, repeats={self.repeats}; each is at least one")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ShapeError(f"scale={self.scale}; give a positive number above the top eigenvalue, or None")

    def cost(self, sizes: Sizes) -> Cost:
        steps = self.steps or MOST
        return Cost(3.0 * steps * self.repeats * self.batch * sizes.gradient_flops * sizes.n, 8.0 * 3 * 32 * sizes.P)

    def of(self, curvature: Hessian | GaussNewton) -> LissaInverse:
        """Finds the scale."""
        top = float(leading(curvature, 1, tol=1e-2, seed=self.seed)[0][0].abs())
        scale = self.scale or MARGIN * (top + self.damping)
        steps = self.steps
        if steps is None:
            least = max(self.damping, float(curvature.objective.l2.min()))
            steps = MOST if not least else min(MOST, math.ceil(math.log(1000) * scale / least))
        return LissaInverse(self, curvature, top, scale, steps)


@dataclass(frozen=True)
class LissaInverse(Inverted):
    """The recursion on one operator."""

    settings: LiSSA
    curvature: Hessian | GaussNewton
    top: float
    scale: float
    steps: int

    def solve(self, V: Float[Tensor, "m P"]) -> Solution:
        """Raises `ConvergenceError` where the series diverges; warns where the mean misses `rtol`."""
        rng = np.random.default_rng(self.settings.seed)
        x = sum((self._series(V, rng) for _ in range(self.settings.repeats)), torch.zeros_like(V))
        x = x / (self.settings.repeats * self.scale)
        residual = relative_residual(self.curvature, self.settings.damping, x, V)
        done = torch.full((len(V),), self.steps)
        found = Solution(x, done, residual, residual <= self.settings.rtol)
        say_unconverged("LiSSA", found, self.settings.rtol, strict=self.settings.strict)
        return found

    def _series(self, V: Float[Tensor, "m P"], rng: np.random.Generator) -> Float[Tensor, "m P"]:
        objective, damping = self.curvature.objective, self.settings.damping
        n, x, norm = len(objective.reading), V.clone(), V.norm(dim=1)
        weight = self.settings.batch * objective.total_weight / n  # not the batch's own, whose ratio would be biased
        for step in range(self.steps):
            batch = objective.reading.at(rng.integers(0, n, self.settings.batch).tolist())
            Hx = self.curvature.on(batch, x) / weight + (objective.l2 + damping) * x
            x = V + x - Hx / self.scale
            if not bool((x.norm(dim=1) <= 10 * norm * (step + 2)).all()):
                raise ConvergenceError(
                    f"LiSSA diverges at step {step + 1}: its scale is {self.scale:.3g} and the top eigenvalue about "
                    f"{self.top:.3g}, so that batches are too curved for it; raise scale= or batch=, or use CG()"
                )
        return x

    def diagnose(self) -> Diagnosis:
        """Scale, steps, the top eigenvalue."""
        of = f"{self.settings.batch} samples, {self.settings.repeats} times"
        said = f"{self.steps} steps of {of}, scale {self.scale:.3g}."
        return Diagnosis("LiSSA", (said,), {"scale": self.scale, "top": self.top, "steps": self.steps})
