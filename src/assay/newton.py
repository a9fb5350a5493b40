"""The optimum of a head's objective by damped Newton, over any data that can be summed: rows in memory or shards.

F(V) = (1/N) Σ_i w_i ℓ(V h_i, y_i) + (λ2/2) ‖D V‖²
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from .curvature.dense import ROWS, Curvature, second_moments
from .errors import ConvergenceError, SeparableError, SingularCurvatureError
from .families import Family


@dataclass(frozen=True)
class Moments:
    """Sums over some rows at one V; add those of other rows to get those of all. No penalty in them."""

    loss: Tensor  # Σ w ℓ
    gradient: Float[Tensor, "K d"]  # Σ w r ⊗ h
    curvature: Float[Tensor, "m q"]  # Σ w s qᵀ, packed
    gradient_scale: Tensor  # Σ w ‖r‖ ‖h‖ at V = 0, whatever V is
    margin: Tensor  # smallest z_y − max_{j≠y} z_j over rows of positive weight

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.loss + other.loss,
            self.gradient + other.gradient,
            self.curvature + other.curvature,
            self.gradient_scale + other.gradient_scale,
            torch.minimum(self.margin, other.margin),
        )


def moments(family: Family, V: Float[Tensor, "K d"], H: Float[Tensor, "n d"], y: Tensor, w: Tensor) -> Moments:
    """The sums over these rows."""
    z = H @ V.T
    r = family.residual(z, y)
    resting = family.residual(torch.zeros_like(z), y)
    return Moments(
        loss=w @ family.loss(z, y),
        gradient=(r * w[:, None]).T @ H,
        curvature=weighted_curvature(family, z, H, w),
        gradient_scale=w @ (resting.norm(dim=1) * H.norm(dim=1)),
        margin=_smallest_margin(family, z[w > 0], y[w > 0]),
    )


def weighted_curvature(
    family: Family, z: Tensor, H: Float[Tensor, "n d"], w: Float[Tensor, " n"]
) -> Float[Tensor, "m q"]:
    """`Σ w s qᵀ`, some rows at a time."""
    rows = zip(z.split(ROWS), H.split(ROWS), w.split(ROWS), strict=True)
    return second_moments((family.curvature(part) * weights[:, None], h) for part, h, weights in rows)


def _smallest_margin(family: Family, z: Tensor, y: Tensor) -> Tensor:
    if not family.classifies or not len(y):
        return torch.tensor(float("-inf") if len(y) else float("inf"), dtype=torch.float64)
    p = family.probabilities(z)
    others = p.scatter(1, y[:, None], 0.0).amax(1)
    return (p.gather(1, y[:, None])[:, 0].log() - others.log()).min()


@dataclass(frozen=True)
class Objective:
    """The sums of the data as a function of V, with the penalties that make them the objective.

    `(1/N) Σ w ℓ + (λ2/2)‖D V‖² + (damping/2)‖V‖² − ⟨tilt, V⟩/N`; the value includes `λ1 ‖D V‖₁`, gradient and
    curvature are those of the smooth part. A trained head that is no minimum is that of its tilted objective.
    """

    family: Family
    sums: Callable[[Float[Tensor, "K d"]], Moments]
    total_weight: float
    l2: float
    penalised: Float[Tensor, " d"]  # diagonal of D
    names: tuple[str, ...] = ()
    l1: float = 0.0
    damping: float = 0.0
    tilt: Float[Tensor, "K d"] | None = None

    @cached_property
    def penalty(self) -> Float[Tensor, " d"]:
        """`N (λ2 diag(D) + damping)`, what stays the same when a sample leaves."""
        return self.total_weight * (self.l2 * self.penalised + self.damping)

    def at(self, V: Float[Tensor, "K d"]) -> Point:
        sums = self.sums(V)
        tilt = torch.zeros_like(V) if self.tilt is None else self.tilt
        absolute = self.l1 * float((self.penalised * V.abs()).sum()) if self.l1 else 0.0
        return Point(
            V=V,
            sums=sums,
            value=float(sums.loss + ((self.penalty * V / 2 - tilt) * V).sum()) / self.total_weight + absolute,
            gradient=(sums.gradient + self.penalty * V - tilt) / self.total_weight,
            curvature=Curvature(
                sums.curvature, self.penalty, self.total_weight, self.family.K, self.family.shared, self.names
            ),
        )


@dataclass(frozen=True)
class Point:
    """The objective, its gradient and its curvature at one V."""

    V: Float[Tensor, "K d"]
    sums: Moments
    value: float
    gradient: Float[Tensor, "K d"]
    curvature: Curvature

    @cached_property
    def step(self) -> Float[Tensor, "K d"]:
        """The Newton step `H⁻¹ ∇F`."""
        N = self.curvature.total_weight
        return self.curvature.solve(self.gradient[None])[0] * N

    @property
    def gradient_scale(self) -> float:
        """`Σ w ‖r‖ ‖h‖ / N` at V = 0: what the gradient's norm is measured by."""
        return float(self.sums.gradient_scale) / self.curvature.total_weight or 1.0

    @property
    def decrement(self) -> float:
        """`∇Fᵀ H⁻¹ ∇F`: twice the predicted distance of F to its minimum, in the units of the loss."""
        return float((self.gradient * self.step).sum())


@dataclass(frozen=True)
class Fit:
    """Where Newton ended: `gradient_norm = ‖∇F‖`, its scale `Σ w‖r‖‖h‖ / N` at V = 0, and the decrement `∇FᵀH⁻¹∇F`."""

    V: Float[Tensor, "K d"]
    curvature: Curvature
    value: float
    iterations: int
    gradient_norm: float
    gradient_scale: float
    decrement: float
    converged: bool


@dataclass(frozen=True)
class Newton:
    """Damped Newton. Stops when `‖∇F‖ ≤ tolerance · scale` **and** `∇FᵀH⁻¹∇F ≤ decrement`.

    The second matters: with λ2 = 1e-7 a gradient of 1e-8 of its scale can leave the weights a tenth of their size off.
    """

    tolerance: float = 1e-8
    decrement: float = 1e-16
    iterations: int = 100
    halvings: int = 40

    def minimise(
        self,
        objective: Objective,
        start: Float[Tensor, "K d"],
        *,
        scale: float | None = None,
    ) -> Fit:
        """The minimiser of `objective` from `start`; `scale` is that of the gradient where it is known already.

        Raises `SeparableError` (the optimum lies at infinity), `SingularCurvatureError`, `ConvergenceError`.
        """
        point = objective.at(start)
        scale = scale or point.gradient_scale
        for iteration in range(self.iterations):
            self._refuse_separable(objective, point, iteration)
            norm = float(point.gradient.norm())
            if norm <= self.tolerance * scale and point.decrement <= self.decrement:
                return _fit(point, iteration, norm, scale)
            following = self._advance(objective, point)
            if following is None:
                return self._stalled(point, iteration, norm, scale)
            point = following
        raise ConvergenceError(self._why(objective, point, scale))

    def _advance(self, objective: Objective, point: Point) -> Point | None:
        """The next point, the step halved until F falls enough; None where rounding hides any further fall."""
        step, decrement = point.step, point.decrement
        noise = 1e-13 * abs(point.value)
        length = 1.0
        for _ in range(self.halvings):
            trial = objective.at(point.V - length * step)
            if trial.value <= point.value - 1e-4 * length * decrement:
                return trial
            if decrement <= noise and float(trial.gradient.norm()) < float(point.gradient.norm()):
                return trial
            if decrement <= noise:
                return None
            length /= 2
        return None

    def _stalled(self, point: Point, iteration: int, norm: float, scale: float) -> Fit:
        if norm <= self.tolerance * scale:
            return _fit(point, iteration, norm, scale)
        raise ConvergenceError(
            f"Newton stalled after {iteration} steps at a gradient norm of {norm:.2e} "
            f"(wanted {self.tolerance * scale:.2e}): the curvature is too badly conditioned; "
            "raise l2 or standardize the columns"
        )

    def _refuse_separable(self, objective: Objective, point: Point, iteration: int) -> None:
        if bool(objective.penalty.any()) or not objective.family.classifies:
            return
        if float(point.sums.margin) > 0:
            raise SeparableError(
                "the classes are perfectly separated by these columns, so with l2 = 0 the optimum lies at infinity "
                f'(seen after {iteration} Newton steps: every sample has a positive margin). Give l2 > 0, or l2="auto"'
            )
        if iteration:
            try:
                _ = point.curvature.factor
            except SingularCurvatureError as singular:
                raise SeparableError(
                    "some classes are separated by these columns, so with l2 = 0 the optimum lies at infinity (after "
                    f"{iteration} Newton steps the curvature vanishes: rank {singular.rank} of {singular.size}). "
                    'Give l2 > 0, or l2="auto"'
                ) from singular

    def _why(self, objective: Objective, point: Point, scale: float) -> str:
        norm = float(point.gradient.norm())
        hint = "raise l2 or standardize the columns"
        if not bool(objective.penalty.any()):
            hint = 'with l2 = 0 the optimum may lie at infinity (quasi-separated classes): give l2 > 0, or l2="auto"'
        return (
            f"Newton did not converge in {self.iterations} steps: gradient norm {norm:.2e}, wanted "
            f"{self.tolerance * scale:.2e}; {hint}"
        )


def _fit(point: Point, iterations: int, norm: float, scale: float) -> Fit:
    return Fit(
        V=point.V,
        curvature=point.curvature,
        value=point.value,
        iterations=iterations,
        gradient_norm=norm,
        gradient_scale=scale,
        decrement=point.decrement,
        converged=True,
    )
