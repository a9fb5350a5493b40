"""How often a network agrees with the labels of its images, and of their mirror images, which it may not have seen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..sources.examples import Block
from .encode import Encoded

SAMPLES = 1_024


@dataclass(frozen=True)
class Agreement:
    """Shares of `samples` images, and of their mirror images, on which the trained network predicts the label."""

    images: float
    mirrored: float
    samples: int


def agreement(encoded: Encoded) -> Agreement | None:
    """Over about `SAMPLES` images, in blocks spread evenly over all.

    None where inputs are no images `[n, c, h, w]` or labels no class codes, or where only mirror images are looked at.
    """
    examples = encoded.examples
    if encoded.family == "linear" or encoded.split.mirror == "only":
        return None
    step = max(examples.batch, len(examples) * examples.batch // SAMPLES // examples.batch * examples.batch)
    right, total = torch.zeros(2), 0
    for start in range(0, len(examples), step):
        block = next(examples.blocks(start, min(start + examples.batch, len(examples))))
        found = _right(encoded, start, block)
        if found is None:
            return None
        right, total = right + found.float().sum(1), total + found.shape[1]
    images, mirrored = (right / total).tolist()
    return Agreement(images, mirrored, total)


def _right(encoded: Encoded, start: int, block: Block) -> Tensor | None:
    """Whether each image (first row) and its mirror image (second) is given its label."""
    y = torch.as_tensor(codes) if (codes := encoded.codes(start, block)) is not None else None
    if y is None or not isinstance(block.inputs, Tensor) or block.inputs.ndim != 4:
        return None
    layer = encoded.split.linear
    views = [replace(encoded.split, mirror=view).embed(block.inputs) for view in (False, "only")]
    with torch.no_grad():
        z = [layer(h.to(layer.weight)).cpu() for h in views]
    return torch.stack([(each.argmax(1) if each.shape[1] > 1 else each[:, 0] > 0) == y for each in z])
