"""The eigenbasis of a layer's Kronecker factors, and gradients seen in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .layers import Layer
from .sums import Sums


@dataclass(frozen=True)
class Basis:
    """Eigenvectors and eigenvalues of a layer's two factors."""

    Q_a: Float[Tensor, "c c"]
    Q_b: Float[Tensor, "o o"]
    values_a: Float[Tensor, " c"]
    values_b: Float[Tensor, " o"]


def basis_of(sums: Sums, k: int, N: float) -> Basis:
    """Of `A = Σ a aᵀ / Σ T` and `B = Σ g gᵀ / N`; `t` is `Σ w T`, so that T need not be one number."""
    values_a, Q_a = torch.linalg.eigh(sums[f"a{k}"] / sums[f"t{k}"])
    values_b, Q_b = torch.linalg.eigh(sums[f"b{k}"] / N)
    return Basis(Q_a, Q_b, values_a, values_b)


def moment(x: Float[Tensor, "b T c"], w: Float[Tensor, " b"]) -> Float[Tensor, "c c"]:
    """`Σ_i w_i Σ_t x xᵀ`."""
    flat = (x * w.sqrt()[:, None, None]).flatten(0, 1)
    return (flat.T @ flat).double()


@dataclass(frozen=True)
class Turned:
    """`Q_Bᵀ (Σ_t g aᵀ) Q_A` of each sample, for several g of the same a.

    `first`: a and g are turned place by place, else the sums are; with many places that is less work.
    """

    layer: Layer
    Q_a: Float[Tensor, "c c"]
    Q_b: Float[Tensor, "o o"]
    a: Float[Tensor, "b T _"]
    first: bool

    @classmethod
    def of(cls, layer: Layer, basis: Basis, a: Float[Tensor, "b T _"], times: int) -> Turned:
        """For so many g."""
        Q_a, Q_b = basis.Q_a.to(a.dtype), basis.Q_b.to(a.dtype)
        first = layer.factored and a.shape[1] <= times * layer.out
        return cls(layer, Q_a, Q_b, a @ Q_a if first else a, first)

    def __call__(self, g: Float[Tensor, "b T _"]) -> Float[Tensor, "b o c"]:
        if self.first:
            return self.layer.gradients(g @ self.Q_b, self.a)
        return self.Q_b.T @ (self.layer.gradients(g, self.a) @ self.Q_a)

    def squares(self, g: Float[Tensor, "b T _"], w: Float[Tensor, " b"]) -> Float[Tensor, "o c"]:
        """`Σ_i w_i (·)²`, entry by entry; with a single place no outer product is formed."""
        if self.first and g.shape[1] == 1:
            return (((g[:, 0] @ self.Q_b).square() * w[:, None]).T @ self.a[:, 0].square()).double()
        return torch.einsum("boc,b->oc", self(g).square(), w).double()

    def forms(self, g: Float[Tensor, "b T _"], inverse: Float[Tensor, "o c"]) -> Float[Tensor, " b"]:
        """`Σ_oc (·)²_oc inverse_oc` of each sample."""
        if self.first and g.shape[1] == 1:
            return torch.linalg.vecdot((g[:, 0] @ self.Q_b).square() @ inverse, self.a[:, 0].square())
        return torch.einsum("boc,oc->b", self(g).square(), inverse)
