"""Influence of training samples on test samples, `I(i, t) = ∇ℓ(t)ᵀ H⁻¹ ∇ℓ(i)` (Koh & Liang 2017).

Positive: i supports t, removing i raises the loss at t by about `w_i I / N`. Negative: i opposes t. In nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from ..curvature.dense import ROWS
from ..errors import ShapeError
from ..families import Family
from ..leverage import Leverage


@dataclass(frozen=True)
class Influences:
    """The strongest supporters (descending, positive) and opponents (ascending, negative) of each of m samples.

    `positions` count the training rows in their order, `values` are `I(i, t)` in nats: removing i changes the loss at
    t by about `w_i I / N`. Entries beyond the training rows that support (oppose) are left out.
    """

    supporters: tuple[Ranking, ...]
    opponents: tuple[Ranking, ...]


@dataclass(frozen=True)
class Ranking:
    """Training samples with their influence, strongest first."""

    ids: pa.Array
    positions: tuple[int, ...]
    values: tuple[float, ...]


def gradients(family: Family, V: Float[Tensor, "K d"], H: Float[Tensor, "n d"], y: Tensor) -> Float[Tensor, "n K d"]:
    """`∇ℓ_i = r_i ⊗ h_i`, O(n·P) memory."""
    return family.residual(H @ V.T, y)[:, :, None] * H[:, None, :]


def influence_matrix(
    family: Family, V: Tensor, solved: Float[Tensor, "m K d"], N: float, H: Float[Tensor, "n d"], y: Tensor
) -> Float[Tensor, "n m"]:
    """`I(i, t) = N · r_iᵀ (I ⊗ h_i)ᵀ x_t` for every pair, from `x_t = A⁻¹ ∇ℓ(t)`; O(n·m + ROWS·P) memory."""
    X = solved.flatten(1).T
    parts = zip(H.split(ROWS), y.split(ROWS), strict=True)
    return N * torch.cat([gradients(family, V, *part).flatten(1) @ X for part in parts])


def check_top_k(top_k: int) -> None:
    """Raises `ShapeError` where fewer than one are asked for."""
    if top_k < 1:
        raise ShapeError(f"top_k={top_k}; ask for at least one")


class TopInfluences:
    """Keeps the `top_k` largest and smallest columns of a stream of influence matrices, in O(m·top_k) memory."""

    def __init__(self, top_k: int) -> None:
        self.top_k = top_k
        self._best: dict[bool, tuple[Tensor, Tensor]] = {}
        self._ids: dict[int, Any] = {}

    def add(self, values: Float[Tensor, "n m"], first: int, ids: pa.Array) -> None:
        """The influence of training rows first, first + 1, … on each of m samples."""
        positions = torch.arange(first, first + len(values))[:, None].expand(-1, values.shape[1])
        for largest in (True, False):
            if largest in self._best:
                old_values, old_positions = self._best[largest]
                joined, where = torch.cat([old_values, values]), torch.cat([old_positions, positions])
            else:
                joined, where = values, positions
            order = torch.sort(joined, dim=0, descending=largest, stable=True).indices[: self.top_k]
            self._best[largest] = joined.gather(0, order), where.gather(0, order)
        kept = set(torch.cat([where.flatten() for _, where in self._best.values()]).unique().tolist())
        fresh = [row for row in kept if row >= first and row < first + len(values)]
        self._ids = {row: id_ for row, id_ in self._ids.items() if row in kept}
        self._ids.update({row: ids[row - first].as_py() for row in fresh})

    def result(self, id_type: pa.DataType) -> Influences:
        return Influences(self._rankings(True, id_type), self._rankings(False, id_type))

    def _rankings(self, largest: bool, id_type: pa.DataType) -> tuple[Ranking, ...]:
        values, positions = self._best[largest]
        out: list[Ranking] = []
        for column, rows in zip(values.T, positions.T, strict=True):
            keep = column > 0 if largest else column < 0
            where = tuple(rows[keep].tolist())
            ids = pa.array([self._ids[row] for row in where], id_type)
            out.append(Ranking(ids, where, tuple(column[keep].tolist())))
        return tuple(out)


def influence_on(leverage: Leverage, features: Any, labels: Any, *, top_k: int = 20) -> Influences:
    """The training samples that most support and most oppose each of m test samples.

    `I(i, t) = N r_tᵀ (I⊗h_t)ᵀ A⁻¹ (I⊗h_i) r_i` (Koh & Liang 2017, eq. 2 with the opposite sign): solved for the m test
    gradients once, then one product over the training rows; O(m P² + n m P) time, the n × m matrix is never held.
    `features` `[m, columns]` (a frame's columns are found by name); `labels` `[m]` class names, or targets. Raises
    `SourceError`, `ShapeError`.
    """
    check_top_k(top_k)
    family, V, N = leverage.family, leverage.V, leverage.curvature.total_weight
    solved = leverage.curvature.solve(gradients(family, V, *leverage.read(features, labels)))
    top = TopInfluences(top_k)
    first = 0
    for H, y in zip(leverage.H.split(ROWS), leverage.y.split(ROWS), strict=True):
        top.add(influence_matrix(family, V, solved, N, H, y), first, leverage.ids[first : first + len(H)])
        first += len(H)
    return top.result(leverage.ids.type)


def pairwise(leverage: Leverage, rows: Sequence[int], others: Sequence[int]) -> Float[Tensor, "rows others"]:
    """`I(i, j)` between training samples at these positions; symmetric in its two arguments."""
    family, V = leverage.family, leverage.V
    index, other = torch.as_tensor(list(rows)), torch.as_tensor(list(others))
    solved = leverage.curvature.solve(gradients(family, V, leverage.H[other], leverage.y[other]))
    return influence_matrix(family, V, solved, leverage.curvature.total_weight, leverage.H[index], leverage.y[index])
