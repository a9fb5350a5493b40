"""Which removals change the active set of an elastic net, so that what is read on it holds to first order only."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..curvature.dense import ROWS
from ..errors import ShapeError
from ..leverage import Leverage
from ..newton import moments


def active_set_changes(leverage: Leverage) -> Bool[Tensor, " n"]:
    """True for each sample whose removal is predicted to make a weight zero, or a zero weight non-zero.

    Predicted by the same single Newton step as the leave-one-out values, on the active set: a weight changes its sign,
    or the gradient `|G_j|` at a zero weight exceeds `N λ1`. For the other samples the leave-one-out answer is that of a
    smooth problem; for these, refit (`refit_without`). O(n P²) time. Raises `ShapeError` where the head has no L1 term.
    """
    if not leverage.l1:
        raise ShapeError("the head has no L1 term (l1 = 0), and so no active set that could change")
    parts = torch.arange(len(leverage.H)).split(ROWS)
    full = _gradient(leverage)
    return torch.cat([_changes(leverage, full, part) for part in parts])


def _gradient(leverage: Leverage) -> Float[Tensor, "K d"]:
    """`Σ w r ⊗ h + N λ2 D V`, at most N λ1 in size where a weight is zero."""
    sums = moments(leverage.family, leverage.V, leverage.H, leverage.y, leverage.w)
    return sums.gradient + leverage.curvature.penalty * leverage.V


def _changes(leverage: Leverage, full: Float[Tensor, "K d"], rows: Tensor) -> Bool[Tensor, " b"]:
    V, curvature = leverage.V, leverage.curvature
    H, w = leverage.H[rows], leverage.w[rows]
    inner = leverage.removal_residuals(rows)
    pushed = inner[:, :, None] * H[:, None, :]
    moved = V + curvature.solve(pushed)
    held = (curvature.penalty > 0).expand_as(V)
    flipped = (moved.sign() != V.sign()) & held & (V != 0)
    # Gradient at the predicted weights: what i contributed is gone, the others' curvature has moved along. With
    # (A − w S hhᵀ) x = w r ⊗ h and w r + w S x h = `inner` it is  full − inner ⊗ h + A x.
    following = (moved - V).flatten(1) @ curvature.matrix
    gradient = full - pushed + following.view_as(pushed)
    limit = curvature.total_weight * leverage.l1
    entered = (gradient.abs() > limit * (1 + 1e-9)) & held & (V == 0)
    return (flipped | entered).flatten(1).any(1) & (w > 0)
