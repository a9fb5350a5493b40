"""Sample weights without the suspects, for passes over a source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from ..explore.trim import Suspects
from ..sources.source import Batch


@dataclass(frozen=True)
class Drawn:
    """The weights of a sample of a source; all other rows, which a fit to it has not seen, weigh nothing.

    `file` holds the `positions` of the sample, ascending, and the weights `w` there.
    """

    file: Path

    def weights(self, batch: Batch, first: int) -> Float[Tensor, " b"]:
        """Of the batch that begins at row `first`."""
        found = np.zeros(len(batch.w))
        with np.load(self.file) as arrays:
            begin, end = np.searchsorted(arrays["positions"], [first, first + len(found)])
            found[arrays["positions"][begin:end] - first] = arrays["w"][begin:end]
        return torch.from_numpy(found)


@dataclass(frozen=True)
class Weighing:
    """The weights of a source's samples, those of the suspects zero; `bins` holds each row's bin of the loss."""

    bins: Path
    suspects: Suspects

    def weights(self, batch: Batch, first: int) -> Float[Tensor, " b"]:
        """Of the batch that begins at row `first`."""
        return self.weights_at(slice(first, first + len(batch.w)), batch.y, batch.w)

    def weights_at(
        self, positions: slice | NDArray[np.int64], y: Int64[Tensor, " b"], w: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Of the rows at these positions, whose labels and weights are given."""
        held = np.load(self.bins, mmap_mode="r")[positions]
        return torch.where(self.suspects.among(torch.from_numpy(held.astype(np.int64)), y), 0.0, w)
