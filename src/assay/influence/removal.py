"""What cannot be removed: a sample twice, or all of a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..errors import ShapeError
from ..families import Family


def refuse_repeated(ids: Sequence[Any]) -> None:
    """Raises `ShapeError` for the first id that is there twice."""
    seen: set[Any] = set()
    for id_ in ids:
        if id_ in seen:
            raise ShapeError(f"id {id_!r} is in the group twice; a sample is removed once, name each once")
        seen.add(id_)


def class_weights(family: Family, y: Int64[Tensor, " n"], w: Float[Tensor, " n"]) -> Float[Tensor, " C"]:
    """The total weight of each class."""
    return torch.zeros(max(family.C, 2), dtype=torch.float64).index_add(0, y, w)


def check_left(
    weight: Float[Tensor, " C"], left: Float[Tensor, " C"], names: Sequence[Any] = (), *, subject: str = "these samples"
) -> None:
    """Raises `ShapeError` naming the first class of some `weight` of which nothing is `left`."""
    empty = ((left <= 1e-12 * weight) & (weight > 0)).nonzero()[:, 0].tolist()
    if empty:
        name = names[empty[0]] if names else empty[0]
        raise ShapeError(f"without {subject} class {name!r} has none left, and the head has no optimum; keep one")
