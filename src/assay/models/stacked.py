"""Several networks of one architecture as one module: trained side by side, each on its own data, at the cost of few.

Every step is element by element or a batched product, so each network goes exactly the way it would go alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from ..errors import ShapeError


class Stacked(nn.Module):
    """S networks as one: inputs `[S, n, …]` give outputs `[S, n, …]`, slice s through network s alone.

    `parameters()` are the networks' own with S in front, so any element-wise optimiser trains them together. Buffers
    and dropout are refused: they would have to be drawn for each network.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        if any(True for _ in models[0].buffers()) or any(isinstance(m, nn.Dropout) for m in models[0].modules()):
            raise ShapeError("networks with buffers (batch norm) or dropout cannot be trained side by side")
        parameters, _ = stack_module_state(list(models))
        self.names = tuple(parameters)
        self.stacked = nn.ParameterList([nn.Parameter(p.detach()) for p in parameters.values()])
        self.example = (copy.deepcopy(models[0]).to("meta"),)  # in a tuple: its parameters are not this module's

    def __len__(self) -> int:
        return len(self.stacked[0])

    def forward(self, inputs: Float[Tensor, "S n ..."]) -> Float[Tensor, "S n ..."]:
        def one(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(self.example[0], parameters, (x,))

        return torch.vmap(one)(dict(zip(self.names, self.stacked, strict=True)), inputs)

    def state_of(self, s: int) -> dict[str, Tensor]:
        """A copy of the weights of network s, as its `load_state_dict` takes them."""
        return {name: p.detach()[s].clone() for name, p in zip(self.names, self.stacked, strict=True)}
