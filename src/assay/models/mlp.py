"""Multi-layer perceptrons of any widths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ..errors import ShapeError


def mlp(widths: Sequence[int], *, activation: type[nn.Module] = nn.Sigmoid, dropout: float = 0.0) -> nn.Sequential:
    """`Linear → activation (→ Dropout) → … → Linear` from `widths[0]` inputs to `widths[-1]` logits.

    Weights are drawn by torch's own rule and generator: `torch.manual_seed` first makes them the same. Raises
    `ShapeError` for fewer than two widths, or one below 1.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ShapeError(f"widths={list(widths)}; give at least the inputs and the logits, each 1 or more")
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after), activation()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))
