"""Leverage blocks `M_i = (I_K ⊗ h_i)ᵀ A⁻¹ (I_K ⊗ h_i)` and what is read from them (design, section 2).

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
from .scores import Scores, concatenate, read_cooks_distance, read_scores, removal_shift, sole_to_nan
from .sources.identity import ids_of_type
from .sources.samples import read_samples
from .threads import in_threads


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

    @cached_property
    def _cooks_distance(self) -> Float[Tensor, " n"]:
        """Alone, where the other scores are not there and may not be asked for."""
        if "scores" in vars(self):
            return self.scores.cooks_distance
        self.curvature.prepare()
        chunks = zip(self.H.split(ROWS), self.y.split(ROWS), strict=True)

        def read(chunk: tuple[Tensor, Tensor]) -> Tensor:
            return read_cooks_distance(self.family, self.curvature, self.V, *chunk)

        return torch.cat(list(in_threads(read, chunks)))

    def cooks_distance(self) -> Float[Tensor, " n"]:
        """`D_i = N r_iᵀ M_i r_i = g_iᵀ H⁻¹ g_i ≥ 0`, per unit weight (Picard et al., eq. 1 with z = z_test).

        Asked first it costs half of all scores, which are then read anew: where more is wanted, ask for that first.
        """
        return self._cooks_distance

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
            return sole_to_nan(w[:, None] * r, 1 - w[:, None] * M)
        S = unpack(self.family.curvature(z), self.family.K)
        shift = removal_shift(unpack(M, self.family.K), S, r, w)
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
