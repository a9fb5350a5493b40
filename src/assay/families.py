"""Families: the loss of a head and its first two derivatives in the logits (design: softmax, logistic, linear).

A family is the triple (loss, residual, curvature) of a per-sample loss `ℓ(z, y)`:

| family   | loss `ℓ`             | residual `r = ∂ℓ/∂z` | curvature `S = ∂²ℓ/∂z²` |
|----------|----------------------|----------------------|-------------------------|
| softmax  | cross-entropy        | `p − e_y`            | `diag(p) − p pᵀ`        |
| logistic | binary cross-entropy | `σ(z) − y`           | `σ(z) σ(−z)`            |
| linear   | half squared error   | `z − y`              | `I`                     |

The softmax works in **contrasts**: its loss does not change when all logits move together, so in C class columns the
Hessian is singular by d directions. `B` (C × (C−1), orthonormal columns orthogonal to 1, Helmert) removes exactly
that: `V = V_c Bᵀ`, `r_c = Bᵀ r`, `S_c = Bᵀ S B`, and `gᵀ H⁺ g` in class columns equals `g_cᵀ H_c⁻¹ g_c`. An L1 penalty
acts on the class columns themselves, so an elastic net keeps all of them (`contrasts=False`: B = I).

Symmetric K × K curvatures travel *packed*: the K(K+1)/2 entries of the upper triangle, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from .errors import ShapeError
from .sources.source import Source


@runtime_checkable
class Family(Protocol):
    """What a head's loss must offer; `K` logit columns are kept, `C` are shown to people."""

    @property
    def name(self) -> str: ...
    @property
    def K(self) -> int: ...
    @property
    def C(self) -> int: ...
    @property
    def classifies(self) -> bool: ...
    @property
    def shared(self) -> bool:
        """True where `S` is the identity for every sample: one d × d curvature serves all outputs."""
        ...

    def check(self, y: Tensor) -> None:
        """Raises `ShapeError` where the labels cannot be this family's."""
        ...

    def expand(self, z: Float[Tensor, "*n K"]) -> Float[Tensor, "*n C"]: ...
    def probabilities(self, z: Float[Tensor, "*n K"]) -> Float[Tensor, "*n classes"]: ...
    def loss(self, z: Float[Tensor, "*n K"], y: Tensor) -> Float[Tensor, "*n"]: ...
    def residual(self, z: Float[Tensor, "*n K"], y: Tensor) -> Float[Tensor, "*n K"]: ...
    def curvature(self, z: Float[Tensor, "*n K"]) -> Float[Tensor, "*n m"]: ...
    def spread(self, M: Float[Tensor, "*n K K"]) -> Float[Tensor, "*n"]:
        """Mean variance of the logits from their covariance M; what moves all logits of a softmax alike is left out."""
        ...


def class_logits(family: Family, z: Float[Tensor, "*n K"]) -> Float[Tensor, "*n classes"]:
    """A logit a class: the C columns of a softmax, the two of a logistic head half its own apart from zero."""
    return family.expand(z) if family.C > 1 else torch.cat([-z, z], -1) / 2


def helmert(C: int) -> Float[Tensor, "C K"]:
    """Orthonormal contrasts: column k is (1, …, 1, −k, 0, …) / √(k(k+1)), orthogonal to 1 and to the others."""
    B = torch.zeros(C, C - 1, dtype=torch.float64)
    for k in range(1, C):
        B[:k, k - 1] = 1.0
        B[k, k - 1] = -k
        B[:, k - 1] /= (k * (k + 1)) ** 0.5
    return B


@dataclass(frozen=True)
class Softmax:
    """Cross-entropy over `classes` classes, in `contrasts` (K = C − 1) or class columns. Labels are codes 0 … C−1."""

    classes: int
    contrasts: bool = True
    name = "softmax"
    classifies = True
    shared = False

    @property
    def K(self) -> int:
        return self.classes - self.contrasts

    @property
    def C(self) -> int:
        return self.classes

    @cached_property
    def basis(self) -> Float[Tensor, "C K"]:
        return helmert(self.classes) if self.contrasts else torch.eye(self.classes, dtype=torch.float64)

    @cached_property
    def _outer(self) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " m"], Float[Tensor, "C m"]]:
        """Rows and columns of the packed triangle, and there `b_c b_cᵀ` of each class, b_c the rows of the basis."""
        k, j = torch.triu_indices(self.K, self.K)
        return k, j, self.basis[:, k] * self.basis[:, j]

    def check(self, y: Tensor) -> None:
        _check_codes(y, self.classes)

    def expand(self, z: Float[Tensor, "*n K"]) -> Float[Tensor, "*n C"]:
        return z @ self.basis.T

    def probabilities(self, z: Float[Tensor, "*n K"]) -> Float[Tensor, "*n C"]:
        return torch.softmax(self.expand(z), -1)

    def loss(self, z: Float[Tensor, "*n K"], y: Tensor) -> Float[Tensor, "*n"]:
        full = self.expand(z)
        others = full - full.gather(-1, y[..., None])
        others = others.scatter(-1, y[..., None], float("-inf"))
        return functional.softplus(torch.logsumexp(others, -1))  # log(1 + Σ e^{z_j − z_y}): exact down to 1e-300

    def residual(self, z: Float[Tensor, "*n K"], y: Tensor) -> Float[Tensor, "*n K"]:
        others = self.probabilities(z).scatter(-1, y[..., None], 0.0)
        r = others.scatter(
            -1, y[..., None], -others.sum(-1, keepdim=True)
        )  # −Σ_{j≠y} p_j, not p_y − 1: no cancellation
        return r @ self.basis

    def curvature(self, z: Float[Tensor, "*n K"]) -> Float[Tensor, "*n m"]:
        """`diag(p) − ppᵀ` in contrasts, taken about the likeliest class t so that a saturated row does not cancel.

        With `v = Σ_{c≠t} p_c b_c` and `q = Σ_{c≠t} p_c` it is
        `Σ_{c≠t} p_c b_c b_cᵀ − v (v + p_t b_t)ᵀ − p_t b_t (v − q b_t)ᵀ`, each term as small as q. O(C m) a row.
        """
        p = self.probabilities(z)
        k, j, outer = self._outer
        top = p.argmax(-1, keepdim=True)
        likeliest, others = p.gather(-1, top), p.scatter(-1, top, 0.0)
        b, v = self.basis[top[..., 0]], others @ self.basis
        S = others @ outer
        S -= v[..., k] * (v + likeliest * b)[..., j]
        S -= b[..., k] * (likeliest * (v - others.sum(-1, keepdim=True) * b))[..., j]
        return S

    def spread(self, M: Float[Tensor, "*n K K"]) -> Float[Tensor, "*n"]:
        trace = M.diagonal(dim1=-2, dim2=-1).sum(-1)
        common = 0.0 if self.contrasts else M.sum((-2, -1)) / self.classes
        return (trace - common) / (self.classes - 1)


@dataclass(frozen=True)
class Logistic:
    """Binary cross-entropy on one logit. Labels are codes 0 and 1. Its λ2 is half the two-class softmax's."""

    name = "logistic"
    classifies = True
    shared = False
    K = 1
    C = 1

    def check(self, y: Tensor) -> None:
        _check_codes(y, 2)

    def expand(self, z: Float[Tensor, "*n 1"]) -> Float[Tensor, "*n 1"]:
        return z

    def probabilities(self, z: Float[Tensor, "*n 1"]) -> Float[Tensor, "*n 2"]:
        return torch.sigmoid(torch.cat([-z, z], -1))

    def loss(self, z: Float[Tensor, "*n 1"], y: Tensor) -> Float[Tensor, "*n"]:
        return functional.softplus(_wrong(z, y))

    def residual(self, z: Float[Tensor, "*n 1"], y: Tensor) -> Float[Tensor, "*n 1"]:
        return ((1 - 2 * y) * torch.sigmoid(_wrong(z, y)))[..., None]

    def curvature(self, z: Float[Tensor, "*n 1"]) -> Float[Tensor, "*n 1"]:
        return torch.sigmoid(z) * torch.sigmoid(-z)

    def spread(self, M: Float[Tensor, "*n 1 1"]) -> Float[Tensor, "*n"]:
        return M[..., 0, 0]


@dataclass(frozen=True)
class Linear:
    """Half squared error on `outputs` outputs. Targets are float64 `[n, outputs]`; no noise variance is divided out.

    Outputs share one curvature, unless each keeps columns of its own (an elastic net's active sets).
    """

    outputs: int = 1
    shared: bool = True
    name = "linear"
    classifies = False

    @property
    def K(self) -> int:
        return self.outputs

    @property
    def C(self) -> int:
        return self.outputs

    def check(self, y: Tensor) -> None:
        if y.ndim != 2 or y.shape[1] != self.outputs or not y.is_floating_point():
            raise ShapeError(
                f"targets have shape {tuple(y.shape)} and dtype {y.dtype}; a linear head with {self.outputs} outputs "
                f"needs floats of shape [n, {self.outputs}]"
            )

    def expand(self, z: Float[Tensor, "*n K"]) -> Float[Tensor, "*n K"]:
        return z

    def probabilities(self, z: Float[Tensor, "*n K"]) -> Float[Tensor, "*n 0"]:
        return z[..., :0]

    def loss(self, z: Float[Tensor, "*n K"], y: Tensor) -> Float[Tensor, "*n"]:
        return (z - y).square().sum(-1) / 2

    def residual(self, z: Float[Tensor, "*n K"], y: Tensor) -> Float[Tensor, "*n K"]:
        return z - y

    def curvature(self, z: Float[Tensor, "*n K"]) -> Float[Tensor, "*n m"]:
        if self.shared:
            return torch.ones_like(z[..., :1])
        k, j = torch.triu_indices(self.outputs, self.outputs)
        return (k == j).to(z.dtype).expand(*z.shape[:-1], -1)

    def spread(self, M: Float[Tensor, "*n _ _"]) -> Float[Tensor, "*n"]:
        return M.diagonal(dim1=-2, dim2=-1).mean(-1)


def check_name(name: str) -> None:
    """Raises `ShapeError` where no family has this name."""
    if name not in ("softmax", "logistic", "linear"):
        raise ShapeError(f"family={name!r} is not one of 'softmax', 'logistic', 'linear'")


def make_family(name: str, size: int) -> Family:
    """The family called `name` for `size` classes (softmax, logistic) or outputs (linear)."""
    check_name(name)
    if name == "softmax":
        return Softmax(size)
    if name == "logistic" and size == 2:
        return Logistic()
    if name == "linear":
        return Linear(size)
    raise ShapeError(f'family="logistic" takes two classes, but there are {size}; use family="softmax"')


def family_of(source: Source, name: str | None) -> Family:
    """The family called `name` for this source; by default softmax for classes and linear for numeric targets."""
    if source.vocabulary is None:
        if name not in (None, "linear"):
            raise ShapeError(f'family={name!r} needs class labels, but the targets are numbers; use family="linear"')
        return make_family("linear", max(len(source.targets), 1))
    if name == "linear":
        raise ShapeError('family="linear" needs numeric targets, but the labels are classes; use family="softmax"')
    return make_family(name or "softmax", len(source.vocabulary))


def by_column(family: Family) -> Family:
    """The family with every class and every output in a column of its own, as an L1 penalty needs them."""
    if isinstance(family, Softmax):
        return replace(family, contrasts=False)
    return replace(family, shared=False) if isinstance(family, Linear) else family


def _wrong(z: Float[Tensor, "*n 1"], y: Tensor) -> Float[Tensor, "*n"]:
    """The logit of the class that is *not* y."""
    return z[..., 0] * (1 - 2 * y)


def _check_codes(y: Tensor, classes: int) -> None:
    if y.ndim != 1 or y.dtype != torch.int64:
        raise ShapeError(
            f"labels have shape {tuple(y.shape)} and dtype {y.dtype}; expected int64 class codes of shape [n]"
        )
    bad = ((y < 0) | (y >= classes)).nonzero()
    if len(bad):
        row = int(bad[0])
        raise ShapeError(
            f"labels[{row}] = {int(y[row])}, but the head has {classes} classes (0–{classes - 1}); "
            "drop the row or give the head more classes"
        )
