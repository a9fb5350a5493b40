"""Leverage blocks `M_i = (I_K ⊗ h_i)ᵀ A⁻¹ (I_K ⊗ h_i)` and everything that is read from them (design, section 2).

Sign and scale, here and everywhere: `I(z, z') = ∇ℓ(z')ᵀ H⁻¹ ∇ℓ(z)`, H the Hessian of the *objective*; removing z
changes the loss at z' by about `+I/N` when I > 0 (z supports z'). Removal holds the total penalty `N λ2` fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from .curvature.dense import ROWS, Curvature, unpack
from .design import Design
from .encoder import Encoder
from .errors import ShapeError, UnknownIdError
from .families import Family
from .sources.identity import ids_of_type
from .sources.samples import read_samples
from .threads import in_threads

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
        shift = _sole_to_nan(M * r * w[:, None], 1 - w[:, None] * M)
    else:
        full, K = unpack(M, family.K), family.K
        pushed = torch.linalg.vecdot(full, r[:, None, :])
        leverage = w * torch.linalg.vecdot(S * _off_diagonal_twice(K), M)
        variance = family.spread(full)
        shift = _removal_shift(full, unpack(S, K), r, w)
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
        return _sole_to_nan(M, 1 - w[:, None] * M)[:, 0]
    L = _root(unpack(M, family.K))
    factor, sole = _downdated(L, unpack(family.curvature(H @ V.T), family.K), w)
    half = torch.linalg.solve_triangular(factor, L.mT, upper=False)
    return family.spread(half.mT @ half).masked_fill(sole, torch.nan)


def _off_diagonal_twice(K: int) -> Float[Tensor, " m"]:
    k, j = torch.triu_indices(K, K)
    return 2.0 - (k == j).double()


def _sole_to_nan(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > SOLE, numerator / denominator, torch.nan)


def _removal_shift(M: Float[Tensor, "n K K"], S: Float[Tensor, "n K K"], r: Tensor, w: Tensor) -> Float[Tensor, "n K"]:
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


@dataclass(frozen=True)
class LeaveOneOut:
    """What the model would say of each sample had it never seen it (one Newton step; exact for squared error).

    `logits` `[n, C]`, `probabilities` `[n, classes]` (no column for regression), `loss` `[n]` in nats, `change`
    = `loss` minus the loss with the sample in. `sole` marks the samples of leverage one, where these are NaN.
    """

    ids: pa.Array
    logits: Float[Tensor, "n C"]
    probabilities: Float[Tensor, "n classes"]
    loss: Float[Tensor, " n"]
    change: Float[Tensor, " n"]
    sole: Bool[Tensor, " n"]


@dataclass(frozen=True)
class Leverage:
    """A head's training set with the curvature of the objective over it: every per-sample quantity by its name.

    Made by `Head.leverage(features, labels)`. Results are float64 tensors in the order of `ids`.
    """

    family: Family
    design: Design
    V: Float[Tensor, "K d"]
    curvature: Curvature
    ids: pa.Array
    H: Float[Tensor, "n d"]
    y: Tensor
    w: Float[Tensor, " n"]
    l1: float = 0.0  # λ1 of an elastic net, whose curvature lives on its active set
    columns: tuple[str, ...] = ()  # names of the features, and of the classes in code order: how other samples are read
    vocabulary: tuple[Any, ...] | None = None
    encoder: Encoder | None = None  # what other samples go through first
    tilt: Float[Tensor, "K d"] | None = None  # of the objective, where V is a trained head that is no minimum

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.H) == len(self.y) == len(self.w):
            raise ShapeError(
                f"{len(self.H)} feature rows, {len(self.y)} labels, {len(self.w)} weights and {len(self.ids)} ids: "
                "give one of each per sample"
            )

    def read(self, features: Any, labels: Any) -> tuple[Float[Tensor, "m d"], Tensor]:
        """Other samples as rows h and labels y: `features` `[m, columns]`, `labels` class names or targets.

        Raises `SourceError`, `ShapeError`.
        """
        encoded = features if self.encoder is None else self.encoder(features)
        batch = read_samples(self.columns, self.vocabulary, encoded, labels)
        self.family.check(batch.y)
        return self.design.matrix(batch.x), batch.y

    @cached_property
    def scores(self) -> Scores:
        self.curvature.prepare()
        chunks = zip(self.H.split(ROWS), self.y.split(ROWS), self.w.split(ROWS), strict=True)

        def read(chunk: tuple[Tensor, Tensor, Tensor]) -> Scores:
            return read_scores(self.family, self.curvature, self.V, *chunk)

        return concatenate(list(in_threads(read, chunks)))

    def cooks_distance(self) -> Float[Tensor, " n"]:
        """`D_i = N r_iᵀ M_i r_i = g_iᵀ H⁻¹ g_i ≥ 0`, per unit weight (Picard et al., eq. 1 with z = z_test)."""
        return self.scores.cooks_distance

    def leverage(self) -> Float[Tensor, " n"]:
        """`w_i tr(S_i M_i)`: how much a sample pins its own fit; sums to the effective number of parameters."""
        return self.scores.leverage

    def logit_variance(self) -> Float[Tensor, " n"]:
        """`tr(M_i) / K`: variance of the logits under the Laplace approximation; high where data are thin."""
        return self.scores.logit_variance

    def leave_one_out(self) -> LeaveOneOut:
        """Logits `z_i + M_i (I − w_i S_i M_i)⁻¹ w_i r_i`, their probabilities and losses; the whole weight leaves."""
        scores = self.scores
        return LeaveOneOut(
            ids=self.ids,
            logits=self.family.expand(scores.loo_logits),
            probabilities=self.family.probabilities(scores.loo_logits),
            loss=scores.loo_loss,
            change=scores.loo_loss - scores.loss,
            sole=scores.loo_loss.isnan(),
        )

    def dfbeta(self, ids: Sequence[int | str] | None = None) -> Float[Tensor, "n K columns"]:
        """`θ − θ_{−i} = −A⁻¹ ((I − w_i S_i M_i)⁻¹ w_i r_i ⊗ h_i)`: the shift of the weights that i causes.

        In the units of the original columns, bias last (statsmodels' sign); K columns of contrasts for a softmax.
        Memory O(n·P) for the ids asked; NaN for samples of leverage one. Raises `UnknownIdError`.
        """
        return self.design.original_units(self.shifts(range(len(self.ids)) if ids is None else self.rows(ids)))

    def shifts(self, rows: Sequence[int]) -> Float[Tensor, "n K d"]:
        """`θ − θ_{−i}` on the design's own columns, for the rows at these positions."""
        index = torch.as_tensor(list(rows), dtype=torch.int64)
        return -self.curvature.solve(self.removal_residuals(index)[:, :, None] * self.H[index][:, None, :])

    def removal_residuals(self, index: Int64[Tensor, " n"]) -> Float[Tensor, "n K"]:
        """`(I − w_i S_i M_i)⁻¹ w_i r_i`: the residual that, pushed through `A⁻¹`, is the shift a removal causes.

        Equal to `w r + w S · M (I − w S M)⁻¹ w r`; NaN for samples of leverage one.
        """
        H, w = self.H[index], self.w[index]
        z = H @ self.V.T
        r = self.family.residual(z, self.y[index])
        M = self.curvature.blocks(H)
        if self.family.shared:
            return _sole_to_nan(w[:, None] * r, 1 - w[:, None] * M)
        S = unpack(self.family.curvature(z), self.family.K)
        shift = _removal_shift(unpack(M, self.family.K), S, r, w)
        return w[:, None] * (r + torch.linalg.vecdot(S, shift[:, None, :]))

    def rows(self, ids: Sequence[int | str]) -> list[int]:
        """Positions of these ids; raises `UnknownIdError` for the first that is not there."""
        found = pc.index_in(ids_of_type(ids, self.ids.type), self.ids)
        for id_, row in zip(ids, found.to_pylist(), strict=True):
            if row is None:
                raise UnknownIdError(f"id {id_!r} is not among the {len(self.ids)} samples of this leverage")
        return found.to_pylist()

    def blocks(self) -> Float[Tensor, "n K K"]:
        """The blocks `M_i` themselves, O(n K²) memory."""
        M = self.curvature.blocks(self.H)
        return (
            M[:, :, None] * torch.eye(self.family.K, dtype=M.dtype) if self.family.shared else unpack(M, self.family.K)
        )
