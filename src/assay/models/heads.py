"""What a network of images ends in: from pooled features to one logit a class."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

from ..errors import ShapeError

Head = Callable[[int, int], nn.Module]
"""From the width of the features and the number of classes to the layers after them."""


def plain(width: int, classes: int) -> nn.Module:
    """One linear layer."""
    return nn.Linear(width, classes)


def paper(width: int, classes: int, *, hidden: int = 128, dropout: float = 0.4) -> nn.Module:
    """`Linear → LeakyReLU → Dropout → Linear`, the head of Picard et al.

    Slope 0.3, Glorot's uniform weights and zero biases are the defaults of Keras, in which it was trained.
    """
    layers = nn.Sequential(nn.Linear(width, hidden), nn.LeakyReLU(0.3), nn.Dropout(dropout), nn.Linear(hidden, classes))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return layers


def with_head(features: nn.Module, width: int, classes: int, head: Head) -> nn.Sequential:
    """`features` (images to `[n, width]`), then `head`, with the weights of convolutions in channels-last order.

    Raises `ShapeError` for fewer than two classes.
    """
    if classes < 2:
        raise ShapeError(f"classes={classes}; a classifier has two or more")
    model = nn.Sequential(OrderedDict[str, nn.Module](features=features, head=head(width, classes)))
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def he_normal(module: nn.Module, *, fan: str = "in") -> None:
    """Draws the weights of convolutions from N(0, 2 / fan); their biases become 0 (He et al. 2015, eq. 10, 14).

    fan: "in" or "out", the connections of one output or one input; those of its own group only.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            channels = (layer.in_channels if fan == "in" else layer.out_channels) // layer.groups
            size = layer.kernel_size[0] * layer.kernel_size[1]
            nn.init.normal_(layer.weight, std=(2 / (channels * size)) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
