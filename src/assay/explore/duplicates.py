"""Near-duplicates: samples so close that each hides the other from leave-one-out, found and scored as a group.

Leave one of two copies of a wrong label out, and the other still teaches it. Left out together they speak.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..errors import ShapeError
from ..influence.groups import leave_groups_out
from ..leverage import Leverage

WITHIN = 0.35
MOST = 64  # samples that are left out together
ROWS = 200_000  # samples among which all pairs can be compared in minutes


@dataclass(frozen=True)
class NearDuplicates:
    """Groups of near-duplicates among n samples, and what the head says of each member without its whole group.

    - `group` `[n]`: the number of a sample's group, from 0, or −1 where it has no near-duplicate.
    - `radius`: the distance, in the units of the standardised columns, within which two samples count as one.
    - `loo_logits` `[n, K]`: logits with the group left out (the sample alone where it has none); NaN where that alone
      determines a parameter. `loo_loss` `[n]`, in nats: the loss there.
    - `loss_shown` `[n]`: leave-one-out loss of the sample by itself; where `loo_loss` is much larger, others hid it.
    """

    group: Int64[Tensor, " n"]
    radius: float
    loo_logits: Float[Tensor, "n K"]
    loo_loss: Float[Tensor, " n"]
    loss_shown: Float[Tensor, " n"]

    @property
    def members(self) -> list[list[int]]:
        """Positions in each group."""
        order = self.group.argsort(stable=True)
        counts = self.group[self.group >= 0].bincount().tolist()
        return [part.tolist() for part in order[int((self.group < 0).sum()) :].split(counts)]


def near_duplicates(leverage: Leverage, *, within: float = WITHIN) -> NearDuplicates:
    """Finds samples closer than `within` times the typical distance to the nearest neighbour, and scores the groups.

    Distances are Euclidean on the design's columns (standardised, where the head was); the typical one is the median
    over distinct samples. Chains of near-duplicates are one group, of at most `MOST` samples: of larger ones each
    sample is left out with its `MOST` − 1 nearest. O(n² d) time where there are many columns, O(n) memory.
    """
    if not 0 <= within < 1:
        raise ShapeError(f"within={within!r}; give a share of the typical distance to the nearest neighbour, in [0, 1)")
    columns = len(leverage.design.mean)
    X = leverage.H[:, :columns].numpy()
    group, radius = _grouped(X, within)
    scores = leverage.scores
    logits, loss = scores.loo_logits.clone(), scores.loo_loss.clone()
    found = NearDuplicates(torch.from_numpy(group), radius, logits, loss, scores.loo_loss)
    for members in found.members:
        for together, asked in _left_out(X, members):
            index = torch.tensor(asked)
            logits[index] = leave_groups_out(leverage, [together])[0][: len(asked)]
            loss[index] = leverage.family.loss(logits[index], leverage.y[index])
    return found


def _left_out(X: np.ndarray, members: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Groups to leave out, and which of them (their first) are asked for."""
    from sklearn.neighbors import NearestNeighbors

    if len(members) <= MOST:
        return [(list(members), list(members))]
    rows = np.array(members)
    nearest = NearestNeighbors(n_neighbors=MOST).fit(X[rows]).kneighbors(X[rows], return_distance=False)
    return [
        ([own, *(i for i in rows[near].tolist() if i != own)][:MOST], [own])
        for own, near in zip(members, nearest, strict=True)
    ]


def _grouped(X: np.ndarray, within: float) -> tuple[np.ndarray, float]:
    """The group of each row, and the radius. Exact copies are counted once before neighbours are sought."""
    from scipy.sparse.csgraph import connected_components
    from sklearn.neighbors import NearestNeighbors, radius_neighbors_graph

    distinct, copy_of = np.unique(X, axis=0, return_inverse=True)
    label, radius = np.arange(len(distinct)), 0.0
    if len(distinct) > 1:
        nearest, _ = NearestNeighbors(n_neighbors=2).fit(distinct).kneighbors(distinct)
        radius = within * float(np.median(nearest[:, 1]))
        close = nearest[:, 1] <= radius
        if close.any():
            graph = radius_neighbors_graph(distinct[close], radius)
            _, label[close] = connected_components(graph, directed=False)
            label[~close] = np.arange((~close).sum()) + len(distinct)
    _, first, inverse, size = np.unique(label[copy_of], return_index=True, return_inverse=True, return_counts=True)
    kept = size > 1
    order = np.argsort(np.where(kept, first, len(X)), kind="stable")
    number = np.full(len(size), -1)
    number[order[: kept.sum()]] = np.arange(kept.sum())
    return number[inverse].astype(np.int64), radius
