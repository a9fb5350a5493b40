"""The optimum of an elastic net, `F(V) + λ1 ‖D V‖₁`, by proximal Newton; its curvature lives on the active set.

Each step minimises the quadratic model of the smooth part plus the L1 term. The free bias is eliminated by its Schur
complement, scikit-learn's coordinate descent finds which weights are non-zero, and these are then solved for exactly,
so that steps end like Newton's own and weights that are zero are exactly zero.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .curvature.dense import Curvature
from .curvature.subspace import Subspace
from .errors import ConvergenceError
from .families import Family, Softmax, helmert
from .newton import Fit, Newton, Objective, Point


def minimise(
    objective: Objective, start: Float[Tensor, "K d"], *, newton: Newton | None = None, scale: float | None = None
) -> Fit:
    """The minimiser of the objective, by Newton or, with an L1 term, by proximal Newton; raises as `Newton` does."""
    newton = newton or Newton()
    if not objective.l1:
        return newton.minimise(objective, start, scale=scale)
    return ProximalNewton(newton).minimise(objective, start, scale=scale)


def active_subspace(family: Family, V: Float[Tensor, "K d"], penalised: Float[Tensor, " d"]) -> Subspace:
    """Where an elastic net at V can move: its non-zero weights and the rows without a penalty (a softmax's bias in
    contrasts, which is what its loss can tell apart)."""
    held = penalised.expand_as(V) > 0
    return _subspace(family, held, held & (V != 0))


def _subspace(family: Family, held: Bool[Tensor, "K d"], moving: Bool[Tensor, "K d"]) -> Subspace:
    """The entries `moving` and those not `held` by a penalty."""
    loose = (~held).flatten().nonzero()[:, 0]
    if isinstance(family, Softmax) and len(loose):
        basis = helmert(family.C)
    else:
        basis = torch.eye(len(loose), dtype=torch.float64)
    return Subspace(held.numel(), moving.flatten().nonzero()[:, 0], loose, basis)


@dataclass(frozen=True)
class ProximalNewton:
    """Newton's settings, for a smooth part with an L1 term. Stops when the least subgradient is `≤ tolerance · scale`
    and the fall that the model still promises is `≤ decrement` of the loss."""

    newton: Newton = field(default_factory=Newton)

    def minimise(self, objective: Objective, start: Float[Tensor, "K d"], *, scale: float | None = None) -> Fit:
        """The minimiser from `start`; raises `ConvergenceError`."""
        settings, family = self.newton, objective.family
        held = objective.penalised.expand_as(start) > 0
        everything = _subspace(family, held, held)
        V = start
        if isinstance(family, Softmax):  # a shift of all biases changes nothing: none is taken along
            V = torch.where(held, V, V - V.mean(0))
        point = objective.at(V)
        scale = scale or point.gradient_scale
        norm = float("inf")
        for iteration in range(settings.iterations):
            model = _Model.of(objective, point, everything)
            target = model.minimum()
            norm = float(_least_subgradient(objective, point, everything).norm())
            if norm <= settings.tolerance * scale and model.fall(target) <= max(settings.decrement, _noise(point)):
                return _fit(objective, point, iteration, norm, scale, model.fall(target))
            following = self._advance(objective, point, model, target)
            if following is None:
                break
            point = following
        if norm <= settings.tolerance * scale:
            return _fit(objective, point, settings.iterations, norm, scale, 0.0)
        raise ConvergenceError(
            f"the elastic net did not converge: subgradient norm {norm:.2e}, wanted {settings.tolerance * scale:.2e}; "
            "raise l2 or standardize the columns"
        )

    def _advance(self, objective: Objective, point: Point, model: _Model, target: Tensor) -> Point | None:
        """The next point, the step halved until F falls enough; None where rounding hides any further fall."""
        fall, length = model.fall(target), 1.0
        for _ in range(self.newton.halvings):
            trial = objective.at(point.V + length * (target - point.V))
            if trial.value <= point.value - 1e-4 * length * fall or (length == 1 and fall <= _noise(point)):
                return trial
            length /= 2
        return None


def _noise(point: Point) -> float:
    """How little the objective can fall before rounding hides it."""
    return 1e-13 * abs(point.value)


@dataclass(frozen=True)
class _Model:
    """`ĝᵀ(p − p₀) + ½ (p − p₀)ᵀ Ŝ (p − p₀) + N λ1 ‖p‖₁` in the penalised weights p, the bias minimised out."""

    objective: Objective
    V: Float[Tensor, "K d"]
    space: Subspace
    A: Float[Tensor, "Q Q"]
    G: Float[Tensor, " Q"]

    @classmethod
    def of(cls, objective: Objective, point: Point, space: Subspace) -> _Model:
        A = space.down(space.down(point.curvature.matrix).mT)
        return cls(objective, point.V, space, A, space.down(point.gradient.flatten()) * objective.total_weight)

    @property
    def l1(self) -> float:
        return self.objective.total_weight * self.objective.l1

    def minimum(self) -> Float[Tensor, "K d"]:
        """The weights at the model's minimum."""
        m = len(self.space.index)
        Rpp, Rpb, Rbb = self.A[:m, :m], self.A[:m, m:], self.A[m:, m:]
        back = torch.linalg.solve(Rbb, torch.cat([Rpb.mT, self.G[m:, None]], 1))
        S, g = Rpp - Rpb @ back[:, :m], self.G[:m] - Rpb @ back[:, m]
        before = self.space.down(self.V.flatten())
        p = _lasso(S, S @ before[:m] - g, self.l1, before[:m])
        b = before[m:] - back[:, m] - back[:, :m] @ (p - before[:m])
        return self.space.up(torch.cat([p, b])).view_as(self.V)

    def fall(self, target: Float[Tensor, "K d"]) -> float:
        """`−(∇Fᵀ δ + λ1 (‖p + δ‖₁ − ‖p‖₁)) ≥ δᵀ H δ`: what going to `target` promises, in units of the loss."""
        step = self.space.down((target - self.V).flatten())
        D = self.objective.penalised > 0
        change = float(target[:, D].abs().sum() - self.V[:, D].abs().sum())
        return -(float(self.G @ step) + self.l1 * change) / self.objective.total_weight


def _lasso(S: Float[Tensor, "m m"], q: Float[Tensor, " m"], l1: float, start: Float[Tensor, " m"]) -> Tensor:
    """The minimiser of `½ pᵀ S p − qᵀ p + l1 ‖p‖₁`, S positive definite."""
    if not bool((q.abs() > l1).any()):
        return torch.zeros_like(q)
    factor = torch.linalg.cholesky(S)
    y = torch.linalg.solve_triangular(factor, q[:, None], upper=False)[:, 0]
    p = start
    for tolerance in (1e-4, 1e-7, 1e-10, 1e-13):
        p = _coordinate_descent(factor, y, S, q, l1, p, tolerance)
        exact = _solve_active(S, q, l1, p)
        if exact is not None:
            return exact
    return p


def _coordinate_descent(
    factor: Tensor, y: Tensor, S: Tensor, q: Tensor, l1: float, start: Tensor, tolerance: float
) -> Float[Tensor, " m"]:
    """scikit-learn's, on the Gram matrix; what it leaves over is for the exact solution on the active set."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lasso_path

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        path: Any = lasso_path  # its annotations deny what its documentation offers
        found = path(
            np.asfortranarray(factor.T.numpy()), y.numpy(), alphas=[l1 / len(q)], precompute=S.numpy(), Xy=q.numpy(),
            coef_init=start.numpy(), tol=tolerance, max_iter=1000,
        )  # fmt: skip
    return torch.from_numpy(np.ascontiguousarray(found[1][:, 0]))


def _solve_active(S: Tensor, q: Tensor, l1: float, p: Tensor) -> Tensor | None:
    """The exact minimiser where p has its non-zeros and their signs; None where it has not."""
    active, sign = p != 0, p.sign()
    exact = torch.zeros_like(p)
    if bool(active.any()):
        inner = S[active][:, active]
        exact[active] = torch.cholesky_solve((q - l1 * sign)[active, None], torch.linalg.cholesky(inner))[:, 0]
    slack = (q - S @ exact)[~active].abs()
    fits = torch.equal(exact.sign()[active], sign[active]) and not bool((slack > l1 * (1 + 1e-12)).any())
    return exact if fits else None


def _least_subgradient(objective: Objective, point: Point, space: Subspace) -> Float[Tensor, " Q"]:
    """The smallest element of the subdifferential, in the coordinates that can move."""
    m = len(space.index)
    g, p = space.down(point.gradient.flatten()), space.down(point.V.flatten())[:m]
    inside = g[:m].sign() * (g[:m].abs() - objective.l1).clamp(min=0)
    pulled = torch.where(p == 0, inside, g[:m] + objective.l1 * p.sign())
    return torch.cat([pulled, g[m:]])


def _fit(objective: Objective, point: Point, iterations: int, norm: float, scale: float, fall: float) -> Fit:
    free = active_subspace(objective.family, point.V, objective.penalised)
    curvature: Curvature = replace(point.curvature, free=free)
    return Fit(point.V, curvature, point.value, iterations, norm, scale, max(fall, 0.0), converged=True)
