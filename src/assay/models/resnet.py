"""Residual networks for 32 × 32 images (He et al. 2016, section 4.2)."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ShapeError
from .heads import Head, he_normal, plain, with_head


class Residual(nn.Module):
    """`relu(s(x) + bn(conv(relu(bn(conv(x))))))` with 3 × 3 convolutions, the first of them strided.

    The shortcut s leaves every `stride`-th pixel and fills the further channels with zeros (option A): no parameters.
    """

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.further = stride, after - before
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k p q"]:
        shortcut = x
        if self.stride > 1 or self.further:
            shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.further))
        return functional.relu(self.body(x) + shortcut)


def resnet(depth: int = 20, *, width: int = 16, classes: int = 10, head: Head = plain) -> nn.Sequential:
    """6m + 2 layers: a convolution, m blocks on each of `width`, 2 and 4 times as many channels, the mean, the head.

    269,722 parameters with depth 20 and a plain head of 10 classes. Raises `ShapeError` for another depth.
    """
    if depth < 8 or depth % 6 != 2 or width < 1:
        raise ShapeError(f"depth={depth}, width={width}; the depth is 8, 14, 20, … (6m + 2), the width 1 or more")
    blocks = (depth - 2) // 6
    channels = [width, *[width] * blocks, *[2 * width] * blocks, *[4 * width] * blocks]
    features = nn.Sequential(
        nn.Conv2d(3, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        *(Residual(before, after, 1 if before == after else 2) for before, after in pairwise(channels)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    he_normal(features)
    return with_head(features, 4 * width, classes, head)
