"""What every inverse of a curvature offers: `solve`, `quadratic`, `diagnose`, and what it answers with.

Hyper-parameters are frozen dataclasses (`CG(damping=1e-3)`); `of(curvature)` makes the inverse of one operator.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..errors import AssayWarning, ConvergenceError, ShapeError
from .objective import NetworkObjective
from .products import Curvature, GaussNewton, Hessian, Operator


@dataclass(frozen=True)
class Solution:
    """`value` `[m, P]` (`(H + damping I)⁻¹ v` of each v) or `[m]` (`gᵀ(H + damping I)⁻¹g`), and how well it is solved.

    `iterations` [m]; `residual` [m] `‖(H + damping I)x − v‖ / ‖v‖`, NaN where it was not measured; `converged` [m],
    true for what has no iteration.
    """

    value: Tensor
    iterations: Int64[Tensor, " m"]
    residual: Float[Tensor, " m"]
    converged: Bool[Tensor, " m"]

    @classmethod
    def direct(cls, value: Tensor, residual: Tensor | None = None) -> Solution:
        """Of a method without iterations."""
        m = len(value)
        unknown = torch.full((m,), torch.nan, dtype=torch.float64)
        return cls(
            value, torch.zeros(m, dtype=torch.int64), unknown if residual is None else residual.cpu(),
            torch.ones(m, dtype=torch.bool),
        )  # fmt: skip

    def with_value(self, value: Tensor) -> Solution:
        """Another value, as well solved."""
        return Solution(value, self.iterations, self.residual, self.converged)


def concatenated(parts: Iterable[Solution]) -> Solution:
    """Several solutions as one."""
    found = list(parts)
    return Solution(*(torch.cat([getattr(part, name) for part in found]) for name in Solution.__dataclass_fields__))


@dataclass(frozen=True)
class Diagnosis:
    """An inverse in words and numbers: what it is, what it leaves out, what it found in the curvature."""

    method: str
    sentences: tuple[str, ...]
    numbers: dict[str, float | int] = field(default_factory=dict)


class Inverted:
    """The inverse of one operator, `(H + damping I)⁻¹`. Vectors are float64 rows."""

    def solve(self, V: Float[Tensor, "m P"]) -> Solution:
        """`(H + damping I)⁻¹ v` of each row."""
        raise NotImplementedError

    def diagnose(self) -> Diagnosis:
        """What was found."""
        raise NotImplementedError

    def quadratic(self, G: Float[Tensor, "m P"]) -> Solution:
        """`gᵀ (H + damping I)⁻¹ g` of each row."""
        found = self.solve(G)
        return found.with_value(torch.linalg.vecdot(found.value, G))

    def for_many(self, rows: int) -> Inverted:
        """The same for so many right-hand sides, made explicit where that is less work."""
        del rows
        return self

    def self_influence(self, objective: NetworkObjective) -> Solution | None:
        """`quadratic` of every sample's gradient without forming them, for methods that can; else None."""
        del objective
        return None


@dataclass(frozen=True)
class Sizes:
    """What the cost of an inverse depends on: n samples, P parameters, flops of one sample's gradient, C outputs."""

    n: int
    P: int
    gradient_flops: float
    outputs: int = 1

    @property
    def pass_flops(self) -> float:
        """One product with one vector: about three gradients of every sample."""
        return 3.0 * self.n * self.gradient_flops


@dataclass(frozen=True)
class Cost:
    """Floating-point operations and bytes, of preparing and of the self-influence of all samples, roughly."""

    flops: float
    bytes: float


@runtime_checkable
class Inverse(Protocol):
    """The hyper-parameters of an inverse; `approximate` ones have their error measured, `natural` is their operator."""

    approximate: ClassVar[bool]
    natural: ClassVar[Operator]

    @property
    def damping(self) -> float: ...
    def of(self, curvature: Hessian | GaussNewton) -> Inverted: ...
    def cost(self, sizes: Sizes) -> Cost: ...


def check_damping(damping: float) -> None:
    """Raises `ShapeError` for a damping that is negative or not finite."""
    if not 0 <= damping < float("inf"):
        raise ShapeError(f"damping={damping}; give a finite number that is not negative")


def check_rank(rank: int, P: int, largest: int) -> None:
    """Raises `ShapeError` for a rank that P parameters do not have."""
    if not 1 <= rank <= largest:
        raise ShapeError(f"rank={rank}, but there are {P} parameters; give 1 to {largest}")


def say_unconverged(method: str, found: Solution, wanted: float, *, strict: bool) -> None:
    """Warns with the numbers where right-hand sides missed their tolerance; `strict` raises `ConvergenceError`."""
    missed = int((~found.converged).sum())
    if not missed:
        return
    message = (
        f"{method} left {missed} of {len(found.converged)} right-hand sides unsolved after "
        f"{int(found.iterations.max())} iterations: residual {float(found.residual.max()):.1e}, wanted {wanted:.1e}; "
        "allow more iterations, precondition, or raise damping="
    )
    if strict:
        raise ConvergenceError(message)
    warnings.warn(message, AssayWarning, 3)


def relative_residual(apply: Curvature, damping: float, x: Tensor, V: Tensor) -> Float[Tensor, " m"]:
    """`‖(H + damping I)x − v‖ / ‖v‖` of each row; 0 for v = 0."""
    norm = V.norm(dim=1)
    return ((apply(x) + damping * x - V).norm(dim=1) / norm.clamp(min=1e-300)).masked_fill(norm == 0, 0.0).cpu()
