"""The group of k samples whose removal changes most, found greedily (Basu et al. 2020, section 5, without relaxation).

For a target t with `s = A⁻¹ ∇ℓ(t)` the second-order change of its loss when U leaves is a sum over U and its pairs,

    Δ(U) = Σ_i a_i + Σ_ij b_ij,    a_i = w_i r_iᵀ (s h_i),    b_ij = w_i w_j (S_i s h_i)ᵀ M_ij r_j,

so the sample that adds most to a group is known from one product over the rows: `a_i + b_ii + Σ_{j∈U} (b_ij + b_ji)`.
Without a target the group's own Cook's distance `N G_Uᵀ A⁻¹ G_U`, a sum over pairs too, takes the place of Δ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from ..curvature.dense import unpack
from ..errors import ShapeError
from ..leverage import Leverage
from .pairs import gradients
from .removal import class_weights

DIRECTIONS = ("support", "oppose")


@dataclass(frozen=True)
class InfluentialGroup:
    """Samples in the order in which they were taken, the effect of the group so far after each, and their positions.

    `effect` `[k]`: in nats, predicted to second order (first without the pairwise term): the change of the targets'
    mean loss when the first 1, 2, … of them leave; without targets their Cook's distance.
    """

    ids: pa.Array
    positions: tuple[int, ...]
    effect: Float[Tensor, " k"]


def most_influential_group(
    leverage: Leverage,
    size: int,
    *,
    on: tuple[Any, Any] | None = None,
    direction: str = "support",
    pairwise: bool = True,
) -> InfluentialGroup:
    """A group of `size` samples whose removal is predicted to change most, one sample after the other.

    `on = (features, labels)`: samples whose mean loss is to rise most (`direction="support"`: the group holds it down)
    or to fall most ("oppose"). Without it the group with the largest Cook's distance, whatever it moves. Without
    `pairwise` samples are taken by their own effect alone. The last sample of a class is never taken. O(k (P² + n P))
    time, O(n K) memory. `group_influence(leverage, found.ids, refit=True)` checks what is found.

    Raises `ShapeError` where the size is not one that can leave, or the direction is unknown.
    """
    free = _removable(leverage)
    if not 1 <= size <= free:
        raise ShapeError(f"size={size}; of {len(leverage.ids)} samples 1 to {free} can leave")
    if direction not in DIRECTIONS:
        raise ShapeError(f'direction={direction!r} is neither "support" nor "oppose"')
    sign = -1 if direction == "oppose" else 1
    effects: _Effects = _OnOthers(leverage, *leverage.read(*on), sign=sign) if on else _Own(leverage)
    gain = effects.alone(pairwise=pairwise)
    taken: list[int] = []
    total: list[float] = []
    allowed = leverage.w > 0
    for _ in range(size):
        allowed &= ~_last_of_class(leverage, taken)
        best = int(gain.masked_fill(~allowed, -torch.inf).argmax())
        total.append(float(gain[best]) + (total[-1] if total else 0.0))
        taken.append(best)
        allowed[best] = False
        if pairwise:
            gain = gain + effects.with_sample(best)
    found = torch.tensor(total, dtype=torch.float64) * effects.sign
    return InfluentialGroup(leverage.ids.take(pa.array(taken)), tuple(taken), found)


class _Effects(Protocol):
    sign: int

    def alone(self, *, pairwise: bool) -> Float[Tensor, " n"]:
        """What each sample would add to an empty group."""
        ...

    def with_sample(self, j: int) -> Float[Tensor, " n"]:
        """What each would add more once j is in."""
        ...


class _Own:
    """Cook's distance of the group: `N Σ_ij w_i w_j ∇ℓ_iᵀ A⁻¹ ∇ℓ_j`."""

    sign = 1

    def __init__(self, leverage: Leverage) -> None:
        self.leverage = leverage
        self.r = leverage.w[:, None] * leverage.family.residual(leverage.H @ leverage.V.T, leverage.y)

    def alone(self, *, pairwise: bool) -> Float[Tensor, " n"]:
        del pairwise  # a sample's own pair is its Cook's distance
        return self.leverage.w.square() * self.leverage.cooks_distance()

    def with_sample(self, j: int) -> Float[Tensor, " n"]:
        x = _solved(self.leverage, self.r[j], j)
        return 2 * self.leverage.curvature.total_weight * torch.linalg.vecdot(self.r, self.leverage.H @ x.T)


class _OnOthers:
    """Change of the mean loss of targets, times `sign`."""

    def __init__(self, leverage: Leverage, H: Float[Tensor, "m d"], y: Tensor, *, sign: int) -> None:
        self.leverage, self.sign = leverage, sign
        family, w = leverage.family, leverage.w
        z = leverage.H @ leverage.V.T
        target = gradients(family, leverage.V, H, y).mean(0)
        s = sign * leverage.curvature.solve(target[None])[0]
        pushed = leverage.H @ s.T
        if not family.shared:
            pushed = torch.linalg.vecdot(unpack(family.curvature(z), family.K), pushed[:, None, :])
        self.r = w[:, None] * family.residual(z, leverage.y)
        self.curved = w[:, None] * pushed  # w S (s h)
        self.first = torch.linalg.vecdot(self.r, leverage.H @ s.T)

    def alone(self, *, pairwise: bool) -> Float[Tensor, " n"]:
        if not pairwise:
            return self.first
        own = torch.linalg.vecdot(self.leverage.blocks(), self.r[:, None])
        return self.first + torch.linalg.vecdot(self.curved, own)

    def with_sample(self, j: int) -> Float[Tensor, " n"]:
        H = self.leverage.H
        x, u = _solved(self.leverage, self.r[j], j), _solved(self.leverage, self.curved[j], j)
        return torch.linalg.vecdot(self.curved, H @ x.T) + torch.linalg.vecdot(self.r, H @ u.T)


def _solved(leverage: Leverage, r: Float[Tensor, " K"], j: int) -> Float[Tensor, "K d"]:
    """`A⁻¹ (r ⊗ h_j)`."""
    return leverage.curvature.solve((r[:, None] * leverage.H[j])[None])[0]


def _removable(leverage: Leverage) -> int:
    """How many samples can leave: all of weight but one of each class."""
    weighted = leverage.w > 0
    kept = len(leverage.y[weighted].unique()) if leverage.family.classifies else 1
    return int(weighted.sum()) - kept


def _last_of_class(leverage: Leverage, taken: list[int]) -> Tensor:
    """Which samples hold all the weight that is left of their class."""
    if not leverage.family.classifies:
        return torch.zeros(len(leverage.y), dtype=torch.bool)
    left = leverage.w.clone()
    left[taken] = 0.0
    return left >= class_weights(leverage.family, leverage.y, left)[leverage.y] * (1 - 1e-12)
