"""From the bytes of CIFAR-10's images to what a network takes: normalised, and in training cropped and flipped."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ..errors import ShapeError

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
"""Of each channel over all pixels of CIFAR-10's 50,000 training images (Krizhevsky 2009), in [0, 1]."""


def normalise(batch: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """`(x − MEAN) / STD` of each channel as float32, channels last in memory.

    Bytes stand for x in [0, 1], floats are x. Raises `ShapeError` for other types.
    """
    if batch.dtype != torch.uint8 and not batch.is_floating_point():
        raise ShapeError(f"images are {batch.dtype}; give bytes (uint8), or floats in [0, 1]")
    unit = 255.0 if batch.dtype == torch.uint8 else 1.0
    mean, std = (torch.tensor(values, device=batch.device) for values in (MEAN, STD))
    x = batch.permute(0, 2, 3, 1).to(torch.float32)
    return ((x - unit * mean) / (unit * std)).contiguous().permute(0, 3, 1, 2)


class Normalise(nn.Module):
    """`normalise` as the first module of a network that takes images as they are."""

    def forward(self, batch: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        return normalise(batch)


def crop_and_flip(padding: int = 4) -> Callable[[Tensor, torch.Generator], Tensor]:
    """An augmentation for `train`: each image normalised, shifted by up to `padding` pixels either way, half mirrored.

    What comes in from beyond the edge is the mean colour, 0 (He et al. 2016, section 4.2). All images of a batch at
    once, bytes or floats in [0, 1] to float32, channels last; all draws are the generator's. Raises `ShapeError` for a
    negative padding.
    """
    if padding < 0:
        raise ShapeError(f"padding={padding} pixels; give 0 or more")

    def augment(batch: Shaped[Tensor, "n 3 h w"], generator: torch.Generator) -> Float[Tensor, "n 3 h w"]:
        n, _, h, w = batch.shape
        down, right = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator)
        mirrored = torch.randint(0, 2, (n, 1), generator=generator) == 1
        across = torch.arange(w)
        rows = torch.arange(h) + down
        columns = torch.where(mirrored, w - 1 - across, across) + right
        tall, wide = h + 2 * padding, w + 2 * padding
        padded = torch.zeros(n, tall, wide, 3, device=batch.device)
        padded[:, padding : padding + h, padding : padding + w] = normalise(batch).permute(0, 2, 3, 1)
        index = (torch.arange(n)[:, None] * tall + rows)[:, :, None] * wide + columns[:, None, :]
        taken = padded.view(-1, 3).index_select(0, index.flatten().to(batch.device))
        return taken.view(n, h, w, 3).permute(0, 3, 1, 2)

    return augment
