"""How much of the input space a box fills: cells where a column is a grid, lengths where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DISTINCT = 256  # a column of no more values is a grid

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Span:
    """What values a column takes: those of a grid with the `edges` of their cells, half-way between them, or (no
    `values`) all between two `edges`."""

    values: Floats
    edges: Floats

    @classmethod
    def of(cls, x: Floats) -> Span:
        """Of the values of a column."""
        distinct = np.unique(x)
        if len(distinct) == 1:
            return cls(distinct, np.array([distinct[0] - 0.5, distinct[0] + 0.5]))
        if len(distinct) > DISTINCT:
            return cls(np.empty(0), distinct[[0, -1]])
        middle = (distinct[1:] + distinct[:-1]) / 2
        ends = 2 * distinct[[0, -1]] - middle[[0, -1]]  # the outer cells reach as far out as in
        return cls(distinct, np.concatenate([ends[:1], middle, ends[1:]]))

    @property
    def length(self) -> float:
        return float(self.edges[-1] - self.edges[0])

    def share(self, low: float, high: float) -> float:
        """Of the column's length, what the cells of the values in [low, high] fill, or what lies between the two."""
        if len(self.values):
            inside = (self.values >= low) & (self.values <= high)
            return float(np.diff(self.edges)[inside].sum()) / self.length
        a, b = np.clip([low, high], self.edges[0], self.edges[1])
        return float(b - a) / self.length


def volume(spans: Sequence[Span], low: Sequence[float], high: Sequence[float]) -> float:
    """Of the whole space, the share that a box fills; one where every side is free."""
    return float(np.prod([span.share(a, b) for span, a, b in zip(spans, low, high, strict=True)]))


def density(X: Floats, spans: Sequence[Span], low: Floats, high: Floats) -> float:
    """Samples `X` `[n, d]` per volume in a box over those in one of twice its sides about the same middle.

    One where they lie evenly, on a grid or not; NaN where the wider box is empty.
    """
    width = np.maximum(high - low, [span.length / 100 for span in spans])
    pad = (width - (high - low)) / 2

    def per_volume(a: Floats, b: Floats) -> float:
        filled = volume(spans, a.tolist(), b.tolist())
        return float(((a <= X) & (b >= X)).all(1).sum()) / filled if filled else np.nan

    around = per_volume(low - pad - width / 2, high + pad + width / 2)
    return per_volume(low - pad, high + pad) / around if around else np.nan
