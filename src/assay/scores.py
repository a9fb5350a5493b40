"""What the leverage blocks `M_i = (I_K ⊗ h_i)ᵀ A⁻¹ (I_K ⊗ h_i)` say of each sample, read chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .curvature.dense import ROWS, Curvature, unpack
from .families import Family

SOLE = 1e-9  # smallest eigenvalue of I − w S M (roughly) below which a sample alone determines a parameter


@dataclass(frozen=True)
class Scores:
    """What the blocks say of n samples. Losses in nats (half squared target units for the linear family).

    - `cooks_distance` `D_i = N r_iᵀ M_i r_i = g_iᵀ H⁻¹ g_i ≥ 0` (Picard et al., eq. 1 with z = z_test): how far the
      model moves, in the sample's own loss, if i is up-weighted; `D_i / N` is the first-order change of its loss.
    - `leverage` `w_i tr(S_i M_i)`, in [0, K]; sums to the effective number of parameters.
    - `logit_variance` `tr(M_i) / K` in contrasts: variance of the logits under the Laplace approximation.
    - `loo_logits` `z_i + M_i (I − w_i S_i M_i)⁻¹ w_i r_i`: the logits had i not been seen (one Newton step; exact for
      squared error). NaN where a sample alone determines a parameter (leverage one).
    - `loss`, `loo_loss`: `ℓ(z_i, y_i)` and `ℓ(z_i^loo, y_i)`.
    """

    cooks_distance: Float[Tensor, " n"]
    leverage: Float[Tensor, " n"]
    logit_variance: Float[Tensor, " n"]
    logits: Float[Tensor, "n K"]
    loo_logits: Float[Tensor, "n K"]
    loss: Float[Tensor, " n"]
    loo_loss: Float[Tensor, " n"]

    @property
    def left_out_logits(self) -> Float[Tensor, "n K"]:
        """`loo_logits`, the plain ones where a sample alone determines a parameter."""
        return torch.where(self.loo_logits.isnan().any(1)[:, None], self.logits, self.loo_logits)


def read_scores(
    family: Family,
    curvature: Curvature,
    V: Float[Tensor, "K d"],
    H: Float[Tensor, "n d"],
    y: Tensor,
    w: Float[Tensor, " n"],
    *,
    in_training: bool = True,
) -> Scores:
    """The scores of n samples of weights w against a head and its curvature.

    Samples that are not `in_training` have nothing to leave out: their leave-one-out values are the plain ones.

    One pass: n·P²/4 multiply-adds for the blocks, then K × K work per row, some rows at a time.
    """
    rows = zip(H.split(ROWS), y.split(ROWS), w.split(ROWS), strict=True)
    return concatenate([_read(family, curvature, V, *part, in_training=in_training) for part in rows])


def read_cooks_distance(
    family: Family, curvature: Curvature, V: Float[Tensor, "K d"], H: Float[Tensor, "n d"], y: Tensor
) -> Float[Tensor, " n"]:
    """`D_i = N r_iᵀ M_i r_i` alone, at half the cost of all scores: the blocks are not factored."""
    rows = zip(H.split(ROWS), y.split(ROWS), strict=True)
    return torch.cat([_cooks_distance(family, curvature, V, *part) for part in rows])


def _cooks_distance(family: Family, curvature: Curvature, V: Tensor, H: Tensor, y: Tensor) -> Tensor:
    r = family.residual(H @ V.T, y)
    M = curvature.blocks(H)
    if family.shared:
        return curvature.total_weight * M[:, 0] * r.square().sum(1)
    k, j = torch.triu_indices(family.K, family.K)
    return curvature.total_weight * torch.linalg.vecdot(M, r[:, k] * r[:, j] * _off_diagonal_twice(family.K))


def concatenate(parts: Sequence[Scores]) -> Scores:
    """The scores of several runs of rows as one."""
    return Scores(**{name: torch.cat([getattr(part, name) for part in parts]) for name in Scores.__dataclass_fields__})


def _read(
    family: Family, curvature: Curvature, V: Tensor, H: Tensor, y: Tensor, w: Tensor, *, in_training: bool
) -> Scores:
    z = H @ V.T
    r = family.residual(z, y)
    S = family.curvature(z)
    M = curvature.blocks(H)
    if family.shared:
        pushed, leverage, variance = M * r, w * M[:, 0] * family.K, M[:, 0]
        shift = sole_to_nan(M * r * w[:, None], 1 - w[:, None] * M)
    else:
        full, K = unpack(M, family.K), family.K
        pushed = torch.linalg.vecdot(full, r[:, None, :])
        leverage = w * torch.linalg.vecdot(S * _off_diagonal_twice(K), M)
        variance = family.spread(full)
        shift = removal_shift(full, unpack(S, K), r, w)
    loo = z + shift if in_training else z
    return Scores(
        cooks_distance=curvature.total_weight * torch.linalg.vecdot(r, pushed),
        leverage=leverage,
        logit_variance=variance,
        logits=z,
        loo_logits=loo,
        loss=family.loss(z, y),
        loo_loss=family.loss(loo, y),
    )


def unseen_logit_variance(
    family: Family, curvature: Curvature, V: Float[Tensor, "K d"], H: Float[Tensor, "n d"], w: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """The logit variance of training samples had they not been seen, from `M_{−i} = M (I − w S M)⁻¹` (Woodbury).

    What a new sample at the same place would have; `logit_variance` is less. NaN for samples of leverage one.
    """
    parts = zip(H.split(ROWS), w.split(ROWS), strict=True)
    return torch.cat([_unseen(family, curvature, V, *part) for part in parts])


def _unseen(family: Family, curvature: Curvature, V: Tensor, H: Tensor, w: Tensor) -> Float[Tensor, " n"]:
    M = curvature.blocks(H)
    if family.shared:
        return sole_to_nan(M, 1 - w[:, None] * M)[:, 0]
    L = _root(unpack(M, family.K))
    factor, sole = _downdated(L, unpack(family.curvature(H @ V.T), family.K), w)
    half = torch.linalg.solve_triangular(factor, L.mT, upper=False)
    return family.spread(half.mT @ half).masked_fill(sole, torch.nan)


def _off_diagonal_twice(K: int) -> Float[Tensor, " m"]:
    k, j = torch.triu_indices(K, K)
    return 2.0 - (k == j).double()


def sole_to_nan(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > SOLE, numerator / denominator, torch.nan)


def removal_shift(M: Float[Tensor, "n K K"], S: Float[Tensor, "n K K"], r: Tensor, w: Tensor) -> Float[Tensor, "n K"]:
    """`M (I − w S M)⁻¹ w r`, symmetrically: with `M = L Lᵀ` it is `L (I − w Lᵀ S L)⁻¹ Lᵀ w r`.

    The matrix in the middle has its eigenvalues in [0, 1]; where the smallest is zero the sample alone determines a
    parameter and the answer is NaN.
    """
    L = _root(M)
    factor, sole = _downdated(L, S, w)
    right = L.mT @ (w[:, None] * r)[..., None]
    shift = (L @ torch.cholesky_solve(right, factor))[..., 0]
    return shift.masked_fill(sole[:, None], torch.nan)


def _downdated(L: Float[Tensor, "n K K"], S: Tensor, w: Tensor) -> tuple[Float[Tensor, "n K K"], Bool[Tensor, " n"]]:
    """Cholesky factor of `I − w Lᵀ S L`, and where a sample alone determines a parameter, so that it has none."""
    middle = -w[:, None, None] * (L.mT @ S @ L)
    middle.diagonal(dim1=1, dim2=2).add_(1.0)
    factor, _ = torch.linalg.cholesky_ex(middle)
    return factor, ~(factor.diagonal(dim1=1, dim2=2).square().amin(1) > SOLE)


def _root(M: Float[Tensor, "n K K"]) -> Float[Tensor, "n K K"]:
    """Some L with `L Lᵀ = M`: Cholesky's, or by eigenvectors where M is singular (an elastic net's active set)."""
    L, info = torch.linalg.cholesky_ex(M)
    if bool(info.any()):
        bad = info > 0
        values, vectors = torch.linalg.eigh(M[bad])
        L[bad] = vectors * values.clamp(min=0).sqrt()[:, None, :]
    return L
