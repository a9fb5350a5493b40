"""VGG-19 for 32 × 32 images (Simonyan & Zisserman 2015, configuration E), with batch norm."""

from __future__ import annotations

from torch import nn

from .heads import Head, he_normal, plain, with_head

STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions between two poolings."""


def vgg19(*, classes: int = 10, head: Head = plain) -> nn.Sequential:
    """Sixteen 3 × 3 convolutions, each with batch norm and ReLU, and five 2 × 2 max-poolings, down to one pixel.

    20,040,522 parameters with a plain head of 10 classes: the fully connected layers of the published network, made for
    224 × 224 pixels, are the head's to replace.
    """
    layers: list[nn.Module] = []
    before = 3
    for channels, convolutions in STAGES:
        for _ in range(convolutions):
            layers += [nn.Conv2d(before, channels, 3, 1, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            before = channels
        layers.append(nn.MaxPool2d(2))
    features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    he_normal(features)
    return with_head(features, before, classes, head)
