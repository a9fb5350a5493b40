"""What a group of samples does to the model: the shift its removal causes, to three orders and exactly.

With `G_U = Σ_U w r ⊗ h`, `H_U = Σ_U w S ⊗ hhᵀ` and the total penalty `N λ2` held fixed, the shift `θ_{−U} − θ` is

    first    x₁ = A⁻¹ G_U              Koh et al. 2019
    second   x₂ = x₁ + A⁻¹ H_U x₁      Basu et al. 2020
    Newton   x_N = (A − H_U)⁻¹ G_U     one full step; exact for squared error

the first two being the beginning of the series of the third in `A⁻¹H_U`, so all are on one scale.

Koh, Ang, Teo & Liang, "On the accuracy of influence functions for measuring group effects", NeurIPS 2019. Basu, You &
Feizi, "On second-order group influence functions for black-box predictions", ICML 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from ..curvature.dense import Curvature, unpack
from ..elasticnet import minimise
from ..errors import ShapeError, UnknownIdError
from ..families import Family
from ..l2 import Rows
from ..leverage import Leverage
from ..newton import Moments, Objective, moments
from ..scores import SOLE
from .removal import check_left, class_weights, refuse_repeated

ORDERS = (1, 2, "newton")


@dataclass(frozen=True)
class GroupInfluence:
    """The effect of removing the samples `ids` together, the total penalty `N λ2` held fixed.

    - `shift` `[K, d]`: predicted `θ_{−U} − θ`, on the design's own columns (`original_units()` for the user's).
    - `order`: 1, 2 or "newton". `exact` `[K, d]`: the same by a refit, None unless one was asked for.
    - `share`: the group's part of the total weight, `p = Σ_U w / N`.
    - `cooks_distance`: `N G_Uᵀ A⁻¹ G_U ≥ 0`; for a single sample of weight one its Cook's distance.

    **Basu et al.'s own factors** come from re-normalising by the n (1 − p) samples that remain, the mean loss and not
    its sum being the objective: their first-order shift is `x₁ / (1 − p)`, their second-order one
    `((1 − 2p) x₁ + (x₂ − x₁)) / (1 − p)²`.
    """

    ids: pa.Array
    order: int | str
    shift: Float[Tensor, "K d"]
    exact: Float[Tensor, "K d"] | None
    share: float
    cooks_distance: float
    model: Leverage

    def loss_change(self, features: Any, labels: Any) -> Float[Tensor, " m"]:
        """`∇ℓ(t)ᵀ x` for m samples: the change of their losses to first order in the shift, in nats.

        Positive: the group supports t, without it the loss there rises. `labels` are class names, or targets. Raises
        `SourceError`, `ShapeError`.
        """
        H, y = self.model.read(features, labels)
        r = self.model.family.residual(H @ self.model.V.T, y)
        return torch.linalg.vecdot(r, H @ self.shift.T)

    def loss_without(self, features: Any, labels: Any) -> Float[Tensor, " m"]:
        """`ℓ(t)` under the weights `θ + shift` (those of the refit where there was one), in nats."""
        H, y = self.model.read(features, labels)
        shift = self.shift if self.exact is None else self.exact
        return self.model.family.loss(H @ (self.model.V + shift).T, y)

    def original_units(self) -> Float[Tensor, "K columns"]:
        """The shift of the weights of the original columns, bias last; K columns of contrasts for a softmax."""
        return self.model.design.original_units(self.shift)


def group_influence(
    leverage: Leverage, ids: Sequence[Any], *, order: int | str = 2, refit: bool = False
) -> GroupInfluence:
    """The shift `θ_{−U} − θ` that removing these samples together causes, and through it the change of any loss.

    `order` is 1, 2 or "newton" (see the module); with `refit` the head is also fitted again without them (`exact`), by
    Newton over all rows. Time O(|U| P + P²), and O(|U| P²/2 + P³) for "newton". Raises `UnknownIdError` for no ids or
    unknown ones, `ShapeError` where ids repeat, the order is another, or a class would be left without samples,
    `SingularCurvatureError` where the rest does not determine the parameters.
    """
    rows = distinct_rows(leverage, ids)
    refuse_empty_class(leverage, rows)
    index = torch.tensor(rows)
    group = Rows(leverage.H[index], leverage.y[index], leverage.w[index])
    found = shift_without(leverage, group, leverage.ids.take(pa.array(rows)), order=order)
    return replace(found, exact=_refit(leverage, group) - leverage.V) if refit else found


def shift_without(model: Leverage, group: Rows, ids: pa.Array, *, order: int | str) -> GroupInfluence:
    """The same for the rows of a group, wherever they came from: of `model` only head and curvature are used."""
    if order not in ORDERS:
        raise ShapeError(f'order={order!r} is not one of 1, 2, "newton"')
    family, V, curvature = model.family, model.V, model.curvature
    sums = moments(family, V, group.H, group.y, group.w)
    first = curvature.solve(sums.gradient[None])[0]
    if order == "newton":
        shift = without(curvature, sums).solve(sums.gradient[None])[0]
    else:
        shift = first if order == 1 else first + curvature.solve(_curved(family, V, group, first)[None])[0]
    return GroupInfluence(
        ids=ids,
        order=order,
        shift=shift,
        exact=None,
        share=float(group.w.sum()) / curvature.total_weight,
        cooks_distance=curvature.total_weight * float((sums.gradient * first).sum()),
        model=model,
    )


def without(curvature: Curvature, sums: Moments) -> Curvature:
    """`A − H_U`: the curvature of the rows that stay, the total penalty unchanged."""
    return replace(curvature, packed=curvature.packed - sums.curvature)


def _curved(family: Family, V: Tensor, group: Rows, x: Float[Tensor, "K d"]) -> Float[Tensor, "K d"]:
    """`H_U x = Σ_U w S (x h) ⊗ h`, without forming H_U."""
    z, pushed = group.H @ V.T, group.H @ x.T
    if not family.shared:
        pushed = torch.linalg.vecdot(unpack(family.curvature(z), family.K), pushed[:, None, :])
    return (pushed * group.w[:, None]).T @ group.H


def _refit(leverage: Leverage, group: Rows) -> Float[Tensor, "K d"]:
    family, curvature = leverage.family, leverage.curvature
    every = Rows(leverage.H, leverage.y, leverage.w).sums(family)

    def sums(V: Tensor) -> Moments:
        return every(V) + moments(family, V, group.H, group.y, -group.w)

    N, largest = curvature.total_weight, float(curvature.penalty.max())
    penalised = curvature.penalty / (largest or 1.0)
    objective = Objective(
        family, sums, N, largest / N, penalised, curvature.names, leverage.l1, tilt=leverage.tilt
    )  # fmt: skip
    return minimise(objective, leverage.V).V


def distinct_rows(leverage: Leverage, ids: Sequence[Any]) -> list[int]:
    """Positions of the ids of a group; raises `UnknownIdError` for none or an unknown one, `ShapeError` for a twin."""
    if not len(ids):
        raise UnknownIdError("no ids given: a group has at least one sample")
    rows = leverage.rows(ids)
    refuse_repeated(ids)
    return rows


def refuse_empty_class(leverage: Leverage, rows: Sequence[int]) -> None:
    """Raises `ShapeError` where a class has no weight left without these rows."""
    if leverage.family.classifies:
        index = torch.as_tensor(list(rows))
        weight = class_weights(leverage.family, leverage.y, leverage.w)
        check_left(weight, weight - class_weights(leverage.family, leverage.y[index], leverage.w[index]))


def leave_groups_out(leverage: Leverage, groups: Sequence[Sequence[int]]) -> list[Float[Tensor, "g K"]]:
    """The logits of every member of each group had the whole group not been seen (one Newton step).

    As of one sample, with the blocks of the members stacked: `z_U + M_UU (I − W S_U M_UU)⁻¹ W r_U`,
    `M_UU = (I_K ⊗ H_U)ᵀ A⁻¹ (I_K ⊗ H_U)`. NaN where a group alone determines a parameter. `groups` are positions;
    O(g P² + (gK)³) time a group.
    """
    return [_leave_out(leverage, torch.as_tensor(list(group))) for group in groups]


def _leave_out(leverage: Leverage, index: Tensor) -> Float[Tensor, "g K"]:
    family, H, w = leverage.family, leverage.H[index], leverage.w[index]
    g, K = len(index), family.K
    z = H @ leverage.V.T
    r = family.residual(z, leverage.y[index])
    columns = torch.eye(K, dtype=H.dtype)[None, :, :, None] * H[:, None, None, :]  # e_k ⊗ h_i: [g, K, K, d]
    solved = leverage.curvature.solve(columns.reshape(g * K, K, -1))
    M = torch.einsum("pkd,gd->pgk", solved, H).reshape(g * K, g * K)
    packed = family.curvature(z) if not family.shared else None
    S = torch.eye(K, dtype=H.dtype).expand(g, K, K) if packed is None else unpack(packed, K)
    weighted = torch.block_diag(*(w[:, None, None] * S))
    middle = torch.eye(g * K, dtype=H.dtype) - weighted @ M
    if float(torch.linalg.svdvals(middle).min()) <= SOLE:
        return torch.full_like(z, torch.nan)
    inner = torch.linalg.solve(middle, (w[:, None] * r).reshape(-1))
    return z + (M @ inner).reshape(g, K)
