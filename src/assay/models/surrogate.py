"""A small network that stands for a look-up table: columns as they are, normalised inside, one logit a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ShapeError
from .mlp import mlp


class Normalised(nn.Module):
    """`(x − mean) / scale`, both kept with the weights; `columns` are the names, where they are known.

    An audit of a table through a network that has these compares them with the table's own, and the values with the
    range they come from: another order of columns, or values far beyond the range (another unit), are refused.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, mean: Float[Tensor, " d"], scale: Float[Tensor, " d"], columns: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.columns = None if columns is None else tuple(columns)
        if not bool((scale > 0).all()):
            raise ShapeError(f"column {int((scale <= 0).nonzero()[0])} never varies; leave it out")
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return (x - self.mean) / self.scale


def surrogate(
    ranges: Sequence[tuple[float, float]],
    classes: int,
    *,
    width: int = 64,
    depth: int = 6,
    columns: Sequence[str] | None = None,
) -> nn.Sequential:
    """`depth` hidden ReLU layers of `width`; columns, whose least and largest values are `ranges`, come as they are.

    Raises `ShapeError` where a column never varies.
    """
    low = torch.tensor([a for a, _ in ranges], dtype=torch.float32)
    high = torch.tensor([b for _, b in ranges], dtype=torch.float32)
    normalised = Normalised((low + high) / 2, (high - low) / 2, columns)
    return nn.Sequential(normalised, *mlp([len(ranges), *[width] * depth, classes], activation=nn.ReLU))
