"""The exact answer: the head refitted without some samples, the total penalty `N λ2` held fixed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float
from torch import Tensor

from ..curvature.dense import Curvature, unpack
from ..elasticnet import minimise
from ..errors import ShapeError, UnknownIdError
from ..families import Family
from ..head import Head
from ..newton import Moments, moments
from ..sources.identity import ids_of_type
from ..sources.open import open_source
from ..sources.samples import matched
from ..sources.source import Source
from .removal import check_left, class_weights, refuse_repeated

CHUNK = 4_096
"""Rows of the source read at a time."""


@dataclass(frozen=True)
class Refits:
    """Heads refitted without samples. One refit an id, or one for all of them.

    - `V` `[m, K, d]`: the refitted weights, on the design's own columns; `shift` = `V − V_full`, that is `θ_{−i} − θ`.
    - `loss`, `loss_without` `[k]`: each removed sample's loss under the full head and under the head without it, in
      nats; `loss_change` is their difference, whose first-order form is `D_i / N`.
    - `iterations` `[m]`: gradient passes each took. All have converged: a refit that cannot raises `ConvergenceError`.
    """

    ids: pa.Array
    V: Float[Tensor, "m K d"]
    shift: Float[Tensor, "m K d"]
    loss: Float[Tensor, " k"]
    loss_without: Float[Tensor, " k"]
    iterations: tuple[int, ...]

    @property
    def loss_change(self) -> Float[Tensor, " k"]:
        return self.loss_without - self.loss


Removed = tuple[Tensor, Tensor, Tensor]
DesignRows = Callable[[], Iterator[Removed]]
"""(H, y, w) of chunk after chunk, as often as asked."""


def refit_without(
    head: Head, source: Any, ids: Sequence[Any], *, together: bool = False, iterations: int = 60
) -> Refits:
    """Refits `head` on `source` without each of `ids` (or, `together`, without all of them at once).

    `source` holds the samples the head was fitted to: a `Source` of the head's own columns, or whatever `open_source`
    takes by itself, such as `(X, y)`, whose X goes through the head's encoder; columns of tables are found by name.

    Warm-started Newton with the curvature of the full head, less the removed sample's own part at the full head
    (Woodbury, K × K), so each step costs one gradient pass for all refits together: O(n d K m) a step, linear
    convergence at a rate of about 1/N. A refit that does not contract is finished by full Newton. Raises
    `UnknownIdError`, and `ShapeError` where a class would be left without samples, or the source is not the head's.
    """
    if head.encoder is not None and not isinstance(source, Source):
        if not isinstance(source, tuple):
            raise ShapeError(f"the head takes what {head.encoder.name} makes of the features; give (X, y)")
        source = (head.encoder(source[0]), *source[1:])
    opened = open_source(source, regression=head.vocabulary is None, vocabulary=head.vocabulary)
    source = matched(opened, head.columns, head.vocabulary)
    if together:
        refuse_repeated(ids)
    positions = _positions(source, ids)
    batch = source.take(positions)
    removed = (head.design.matrix(batch.x), batch.y, head.weighed(batch.y, batch.w))

    def rows() -> Iterator[Removed]:
        for part in source.batches(CHUNK):
            yield head.design.matrix(part.x), part.y, head.weighed(part.y, part.w)

    _refuse_empty_class(head, rows(), removed, together=together)
    V, steps = refit_group(head, rows, removed) if together else refit_rows(head, rows, removed, iterations=iterations)
    z = torch.einsum("nd,nkd->nk", removed[0], V.expand(len(positions), *head.V.shape))
    loss = head.family.loss(removed[0] @ head.V.T, removed[1])
    return Refits(pa.array(ids), V, V - head.V, loss, head.family.loss(z, removed[1]), steps)


def _positions(source: Source, ids: Sequence[Any]) -> list[int]:
    if not len(ids):
        raise UnknownIdError("no ids given: name at least one sample to leave out")
    found: dict[int, int] = {}
    first = 0
    for batch in source.batches(65_536):
        where = pc.index_in(ids_of_type(ids, batch.ids.type), batch.ids)
        for k, row in enumerate(where.to_pylist()):
            if row is not None:
                found[k] = first + row
        first += len(batch.ids)
    for k, id_ in enumerate(ids):
        if k not in found:
            raise UnknownIdError(f"id {id_!r} is not among the {len(source)} samples of the source")
    return [found[k] for k in range(len(ids))]


def _refuse_empty_class(head: Head, rows: Iterable[Removed], removed: Removed, *, together: bool) -> None:
    if not head.family.classifies:
        return
    weight = reduce(add, (class_weights(head.family, y, w) for _, y, w in rows))
    _, y, w = removed
    if together:
        check_left(weight, weight - class_weights(head.family, y, w), head.class_names)
        return
    for label, one in zip(y.tolist(), w.tolist(), strict=True):
        left = weight.clone()
        left[label] -= one
        check_left(weight, left, head.class_names)


def refit_group(head: Head, rows: DesignRows, removed: Removed) -> tuple[Float[Tensor, "1 K d"], tuple[int, ...]]:
    """Full Newton on the data less the removed rows (each sum minus their part); `N λ2` as it was."""
    H, y, w = removed

    def sums(V: Tensor) -> Moments:
        return _total(head.family, V, rows) + moments(head.family, V, H, y, -w)

    fit = minimise(head.objective(sums), head.V, scale=head.gradient_scale)
    return fit.V[None], (fit.iterations,)


def refit_rows(
    head: Head, rows: DesignRows, removed: Removed, *, iterations: int = 60
) -> tuple[Float[Tensor, "m K d"], tuple[int, ...]]:
    """The weights without each removed row: all at once, each with its own down-dated factor of the curvature.

    An elastic net, whose active set may change, is refitted row by row.
    """
    if head.l1:
        alone = [refit_group(head, rows, (H[None], y[None], w[None])) for H, y, w in zip(*removed, strict=True)]
        return torch.cat([V for V, _ in alone]), tuple(steps[0] for _, steps in alone)
    curvature = head.curvature_from(_total(head.family, head.V, rows).curvature)
    solve = _Downdated(head.family, curvature, head.V, removed)
    V = head.V.expand(len(removed[0]), *head.V.shape).clone()
    steps, running = [0] * len(V), torch.arange(len(V))
    for _ in range(iterations):
        G = _gradients_without(head, rows, removed, V[running], running)
        step = solve(G, running)
        V[running] -= step
        for k in running.tolist():
            steps[k] += 1
        running = running[~((G * step).flatten(1).sum(1).abs() <= 1e-18 * head.total_weight)]
        if not len(running):
            break
    for k in running.tolist():
        alone, more = refit_group(head, rows, (removed[0][k : k + 1], removed[1][k : k + 1], removed[2][k : k + 1]))
        V[k], steps[k] = alone[0], steps[k] + more[0]
    return V, tuple(steps)


def _total(family: Family, V: Tensor, rows: DesignRows) -> Moments:
    return reduce(add, (moments(family, V, *part) for part in rows()))


def _gradients_without(
    head: Head, rows: DesignRows, removed: Removed, V: Float[Tensor, "m K d"], which: Tensor
) -> Float[Tensor, "m K d"]:
    """`N ∇F_{−i}` of every refit at its own weights: `Σ_{j≠i} w_j r_j ⊗ h_j + N (λ2 D + damping) V − tilt`."""
    family = head.family
    G = head.penalty * V
    if head.tilt is not None:
        G -= head.tilt
    for H, y, w in rows():
        z = torch.einsum("nd,mkd->mnk", H, V)
        r = family.residual(z, y.expand(len(V), *y.shape)) * w[:, None]
        G += torch.einsum("mnk,nd->mkd", r, H)
    H, y, w = (part[which] for part in removed)
    own = family.residual(torch.einsum("md,mkd->mk", H, V), y) * w[:, None]
    return G - own[:, :, None] * H[:, None, :]


class _Downdated:
    """`(A − w S ⊗ hhᵀ)⁻¹ G` for each removed sample, from the inverse of A by Woodbury's formula."""

    def __init__(self, family: Family, curvature: Curvature, V: Tensor, removed: Removed) -> None:
        H, _, w = removed
        self.curvature, self.H = curvature, H
        if family.shared:
            self.S = w[:, None, None] * torch.eye(family.K, dtype=torch.float64)
            M = curvature.blocks(H)[:, :, None] * torch.eye(family.K, dtype=torch.float64)
        else:
            self.S = w[:, None, None] * unpack(family.curvature(H @ V.T), family.K)
            M = unpack(curvature.blocks(H), family.K)
        self.capacitance = torch.eye(family.K, dtype=torch.float64) - self.S @ M

    def __call__(self, G: Float[Tensor, "m K d"], which: Tensor) -> Float[Tensor, "m K d"]:
        H, S = self.H[which], self.S[which]
        x = self.curvature.solve(G)
        seen = torch.einsum("mkd,md->mk", x, H)
        back = torch.linalg.solve(self.capacitance[which], torch.einsum("mij,mj->mi", S, seen))
        return x + self.curvature.solve(back[:, :, None] * H[:, None, :])
