"""The directions in which an elastic net's parameters can move: everything else stays where it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Subspace:
    """Parameters `θ = T φ` with orthonormal columns T: the entries `index`, and the entries `tied` moving as `basis` φ.

    `index` are positions in the (K, d) row-major layout; what is in neither stays zero. `tied` is the bias row of a
    softmax in class columns, which is free to shift and therefore kept in contrasts (`basis` [C, C−1]).
    """

    size: int
    index: Int64[Tensor, " a"]
    tied: Int64[Tensor, " c"]
    basis: Float[Tensor, "c k"]

    @property
    def dimensions(self) -> int:
        """Q, the length of φ."""
        return len(self.index) + self.basis.shape[1]

    def down(self, X: Float[Tensor, "*n P"]) -> Float[Tensor, "*n Q"]:
        """`X T`, row by row: coordinates in the subspace."""
        return torch.cat([X[..., self.index], X[..., self.tied] @ self.basis], -1)

    def up(self, Y: Float[Tensor, "*n Q"]) -> Float[Tensor, "*n P"]:
        """`Y Tᵀ`: back among all parameters, zero outside the subspace."""
        X = torch.zeros(*Y.shape[:-1], self.size, dtype=Y.dtype)
        X[..., self.index] = Y[..., : len(self.index)]
        X[..., self.tied] = Y[..., len(self.index) :] @ self.basis.T
        return X
