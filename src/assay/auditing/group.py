"""What removing a group of an audit's samples does: to the group itself, and to each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from ..curvature.dense import Curvature
from ..head import Head
from ..influence.groups import GroupInfluence, shift_without
from ..influence.refit import refit_without
from ..influence.removal import check_left, class_weights, refuse_repeated
from ..l2 import Rows
from ..sources.source import Source

BATCH = 4_096


@dataclass(frozen=True)
class GroupEffect:
    """What removing the samples `influence.ids` together does, the total penalty held fixed.

    - `influence`: the shift of the weights, its order, the group's share of the weight and its Cook's distance.
    - `own_loss_change`: mean change of the loss of its own samples, nats (half squared target units): how much the
      group rests on itself. `others`: one row a class (one for a regression) `class`, `rows`, `loss_change`, the mean
      over the samples that stay; positive where the group supported them. Both are differences of losses at the
      shifted weights, those of the refit where there was one.
    """

    influence: GroupInfluence
    own_loss_change: float
    others: pa.Table


def group_effect(
    source: Source,
    head: Head,
    curvature: Curvature,
    ids: Sequence[Any],
    positions: Sequence[int],
    class_weight: Float[Tensor, " C"] | None,
    *,
    order: int | str,
    refit: bool,
) -> GroupEffect:
    """The effect of removing the samples at these positions; one pass over the source, and those of the refit."""
    refuse_repeated(ids)
    batch = source.take(positions)
    group = Rows(head.design.matrix(batch.x), batch.y, batch.w)
    if class_weight is not None:
        check_left(class_weight, class_weight - class_weights(head.family, group.y, group.w), head.class_names)
    none = Rows(group.H[:0], group.y[:0], group.w[:0])
    model = head.leverage_of(curvature, batch.ids[:0], none)
    influence = shift_without(model, group, batch.ids, order=order)
    if refit:
        exact = refit_without(head, source, list(ids), together=True).shift[0]
        influence = replace(influence, exact=exact)
    V = head.V + (influence.shift if influence.exact is None else influence.exact)
    own = _change(head, V, group.H, group.y)
    return GroupEffect(influence, float(own.mean()), _others(source, head, V, set(positions)))


def _change(head: Head, V: Tensor, H: Tensor, y: Tensor) -> Float[Tensor, " n"]:
    return head.family.loss(H @ V.T, y) - head.family.loss(H @ head.V.T, y)


def _others(source: Source, head: Head, V: Tensor, left_out: set[int]) -> pa.Table:
    """Mean change of loss of the samples that stay, by class."""
    classes = max(head.family.C, 2) if head.family.classifies else 1
    total, rows = torch.zeros(classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.int64)
    first = 0
    for batch in source.batches(BATCH):
        stays = torch.tensor([first + i not in left_out for i in range(len(batch.w))]) & (batch.w > 0)
        change = _change(head, V, head.design.matrix(batch.x), batch.y)[stays]
        label = batch.y[stays] if head.family.classifies else torch.zeros(len(change), dtype=torch.int64)
        total.index_add_(0, label, change)
        rows += label.bincount(minlength=classes)
        first += len(batch.w)
    names = head.class_names or ("all",)
    return pa.table({"class": list(names), "rows": rows.tolist(), "loss_change": (total / rows).tolist()})
