"""What is added to the loss of a training: elastic net on the last layers of a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ShapeError


@dataclass(frozen=True)
class ElasticNet:
    """`l1 ‖W‖₁ + (l2/2) ‖W‖²` over the weights W (not the biases) of the last `layers` `nn.Linear`.

    Keras' `L1L2(a, b)` has no ½: it is `ElasticNet(a, 2 * b)`.
    """

    l1: float = 0.0
    l2: float = 0.0
    layers: int = 1

    def __call__(self, model: nn.Module) -> Tensor:
        linear = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
        if not 1 <= self.layers <= len(linear):
            raise ShapeError(f"layers={self.layers}, but the model has {len(linear)} nn.Linear; give 1 to that many")
        W = torch.cat([weight.flatten() for weight in linear[-self.layers :]])
        return self.l1 * W.abs().sum() + self.l2 / 2 * W.square().sum()
