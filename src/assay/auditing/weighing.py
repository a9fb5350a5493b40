"""Sample weights without the suspects, for passes over a source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..explore.trim import Suspects
from ..sources.source import Batch


@dataclass(frozen=True)
class Weighing:
    """The weights of a source's samples, those of the suspects zero; `bins` holds each row's bin of the loss."""

    bins: Path
    suspects: Suspects

    def weights(self, batch: Batch, first: int) -> Float[Tensor, " b"]:
        """Of the batch that begins at row `first`."""
        held = np.load(self.bins, mmap_mode="r")[first : first + len(batch.w)]
        suspected = self.suspects.among(torch.from_numpy(held.astype(np.int64)), batch.y)
        return torch.where(suspected, 0.0, batch.w)
