"""EfficientNet-B0 (Tan & Le 2019, table 1), with a stem that can spare small images the first halving."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ShapeError
from .heads import Head, he_normal, plain, with_head

STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Expansion, kernel, stride of the first block, channels, blocks."""


def _convolution(
    before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, act: bool = True
) -> nn.Sequential:
    """A convolution, batch norm with the published ε = 1e-3, SiLU.

    Of each batch a tenth goes into the running statistics, not the published hundredth: epochs here have few batches.
    """
    layers = [
        nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after, eps=1e-3),
    ]
    return nn.Sequential(*layers, nn.SiLU(inplace=True)) if act else nn.Sequential(*layers)


class Squeeze(nn.Module):
    """`x · sigmoid(W₂ silu(W₁ mean(x)))`, a factor for each channel (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.factor = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.SiLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return x * self.factor(x)


class StochasticDepth(nn.Module):
    """In training, all of an image's branch becomes 0 with this probability, and what is left grows by `1 / (1 − p)`.

    Huang et al. 2016.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        if not self.training or self.p == 0:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.p
        return x * (kept / (1 - self.p)).to(x.dtype)


class Inverted(nn.Module):
    """Expand, convolve each channel, squeeze and excite, project (MBConv); a shortcut where the shape stays."""

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int, drop: float) -> None:
        super().__init__()
        wide = before * expansion
        self.shortcut = stride == 1 and before == after
        self.body = nn.Sequential(
            *([_convolution(before, wide)] if expansion > 1 else []),
            _convolution(wide, wide, kernel, stride, groups=wide),
            Squeeze(wide, max(1, before // 4)),
            _convolution(wide, after, act=False),
        )
        self.drop = StochasticDepth(drop)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k p q"]:
        return x + self.drop(self.body(x)) if self.shortcut else self.body(x)


def efficientnet_b0(
    *, stem_stride: int = 2, dropout: float = 0.2, drop: float = 0.2, classes: int = 10, head: Head = plain
) -> nn.Sequential:
    """4,007,548 parameters before the head; a stem of stride 1 keeps 32 × 32 images at twice the side throughout.

    dropout: of the features before the head. drop: of whole branches (`StochasticDepth`), growing in equal steps from 0
    at the first block to this after the last. Raises `ShapeError` for another stride.
    """
    if stem_stride not in (1, 2):
        raise ShapeError(f"stem_stride={stem_stride}; it is 1 or 2")
    blocks: list[nn.Module] = []
    total, before = sum(stage[-1] for stage in STAGES), 32
    for expansion, kernel, stride, channels, repeats in STAGES:
        for k in range(repeats):
            share = drop * len(blocks) / total
            blocks.append(Inverted(before, channels, expansion, kernel, stride if k == 0 else 1, share))
            before = channels
    features = nn.Sequential(
        _convolution(3, 32, 3, stem_stride),
        *blocks,
        _convolution(before, 1280),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
    )
    he_normal(features, fan="out")
    return with_head(features, 1280, classes, head)
