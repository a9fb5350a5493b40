"""A softmax head too wide for its matrix: EKFAC in closed form, from features alone.

For a head `z = V h` the per-sample gradient is `r hᵀ` and its curvature `S ⊗ h hᵀ`, `S = diag(p) − p pᵀ`, so that all
of EKFAC is matrix products and nothing is a sample times a parameter. With `Q_A`, `Q_B` the eigenvectors of
`A = (1/N) Σ w h hᵀ` and `B = (1/N) Σ w S`, `â = Q_Aᵀ h`:

    Λ = (1/N) Σ_i w_i (p_i (Q_B ∘ Q_B) − (p_i Q_B)²)ᵀ (â_i ∘ â_i)        the exact diagonal in that basis
    D_i = ((r_i Q_B)²) (1 / (Λ + D + damping)) (â_i²)ᵀ                     `g_iᵀ (·)⁻¹ g_i`

Three passes of `O(n d² + n d C + n C²)` operations in bounded memory: moments, Λ, scores (George et al. 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..errors import ShapeError, SingularCurvatureError, SourceError
from .inverse import check_damping

ROWS = 4096  # rows a product takes at a time


@dataclass(frozen=True)
class WideHead:
    """EKFAC of a trained softmax head on features that stay where they are, a memory map perhaps.

    `features` `[n, d]` (an array or memory map of any float type), `labels` `[n]` codes, `weight` `[C, d]`, `bias`
    `[C]` or None, as in `nn.Linear`. `l2` is the weight decay of the training, on all parameters. Products are in
    float32, sums in float64; memory is `O(d² + C² + d C + rows (d + C))`.

    Raises `ShapeError` where they do not go together, `SourceError` naming a row that is not finite or out of range.
    """

    features: Any
    labels: Any
    weight: Float[Tensor, "C d"]
    bias: Float[Tensor, " C"] | None = None
    l2: float = 0.0
    damping: float = 0.0
    rows: int = ROWS

    def __post_init__(self) -> None:
        check_damping(self.damping)
        if not 0 <= self.l2 < float("inf") or self.rows < 1:
            raise ShapeError(f"l2={self.l2}, rows={self.rows}; a penalty is not negative, a block has at least one row")
        n, d = self.features.shape
        C = len(self.weight)
        if self.weight.shape[1] != d or len(self.labels) != n:
            raise ShapeError(
                f"features are {n} × {d}, labels {len(self.labels)}, the weight is {C} × {self.weight.shape[1]}; they "
                "are [n, d], [n] and [C, d]"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def _V(self) -> Float[Tensor, "C k"]:
        """The weight with the bias as its last column, float32."""
        V = self.weight.detach().float()
        return V if self.bias is None else torch.cat([V, self.bias.detach().float()[:, None]], 1)

    def _blocks(self) -> Iterator[tuple[Float[Tensor, "b k"], Float[Tensor, "b C"], Int64[Tensor, " b"]]]:
        """Rows h (a 1 behind them where there is a bias), probabilities, labels."""
        C = len(self.weight)
        for start in range(0, len(self), self.rows):
            h = torch.from_numpy(np.ascontiguousarray(self.features[start : start + self.rows], dtype=np.float32))
            if self.bias is not None:
                h = torch.cat([h, h.new_ones(len(h), 1)], 1)
            y = torch.from_numpy(np.ascontiguousarray(self.labels[start : start + self.rows]).astype(np.int64))
            if len(bad := ((y < 0) | (y >= C)).nonzero()):
                raise SourceError(
                    f"row {start + int(bad[0])} has the label {int(y[bad[0]])}, but the head tells {C} classes apart"
                )
            z = h @ self._V.T
            if len(bad := (~z.isfinite().all(1)).nonzero()):
                raise SourceError(
                    f"row {start + int(bad[0])}: features or logits are not finite; drop it, or repair it"
                )
            yield h, torch.softmax(z, 1), y

    @cached_property
    def bases(self) -> tuple[Float[Tensor, "k k"], Float[Tensor, "C C"]]:
        """`Q_A` and `Q_B`, float64: one pass and two eigendecompositions."""
        k, C = self._V.shape[1], len(self._V)
        A, P, mean = (torch.zeros(shape, dtype=torch.float64) for shape in ((k, k), (C, C), (C,)))
        for h, p, _ in self._blocks():
            A += h.T @ h
            P += p.T @ p
            mean += p.sum(0)
        n = len(self)
        return torch.linalg.eigh(A / n)[1], torch.linalg.eigh((torch.diag(mean) - P) / n)[1]

    @cached_property
    def eigenvalues(self) -> Float[Tensor, "C k"]:
        """Λ: the exact diagonal of the Gauss-Newton matrix in that basis, one pass."""
        Q_a, Q_b = (Q.float() for Q in self.bases)
        total = torch.zeros(len(Q_b), len(Q_a), dtype=torch.float64)
        for h, p, _ in self._blocks():
            spread = (p @ Q_b.square() - (p @ Q_b).square()).clamp(min=0)
            total += spread.T @ (h @ Q_a).square()
        return total / len(self)

    @cached_property
    def _inverse(self) -> Float[Tensor, "C k"]:
        values = self.eigenvalues
        total = values + self.l2 + self.damping
        if not self.l2 + self.damping and float(values.min()) <= torch.finfo(torch.float32).eps * float(values.max()):
            raise SingularCurvatureError(
                f"the head's curvature is singular (smallest eigenvalue {float(values.min()):.1e}): a softmax does not "
                "change when all logits move; give l2= or damping=",
                size=total.numel(),
            )
        return (1 / total).float()

    def self_influence(self) -> Float[Tensor, " n"]:
        """Cook's distance `g_iᵀ (EKFAC + l2 + damping)⁻¹ g_i` of every row, float64, ≥ 0; one more pass."""
        Q_a, Q_b = (Q.float() for Q in self.bases)
        inverse, found = self._inverse, torch.empty(len(self), dtype=torch.float64)
        start = 0
        for h, p, y in self._blocks():
            turned = (_residual(p, y) @ Q_b).square()
            found[start : start + len(y)] = torch.linalg.vecdot(turned @ inverse, (h @ Q_a).square())
            start += len(y)
        return found

    def flops(self) -> float:
        """The matrix products of all three passes: logits three times, moments, rotations, forms."""
        n, k, C = len(self), self._V.shape[1], len(self._V)
        return 2.0 * n * (3 * k * C + (k * k + C * C) + (k * k + 2 * C * C + k * C) + (k * k + C * C + k * C))


def _residual(p: Float[Tensor, "b C"], y: Int64[Tensor, " b"]) -> Float[Tensor, "b C"]:
    """`p − e_y`, its own class from the others: `p_y − 1` cancels where the head is sure."""
    r = p.clone()
    own = torch.arange(len(y))
    r[own, y] = 0.0
    r[own, y] = -r.sum(1)
    return r
