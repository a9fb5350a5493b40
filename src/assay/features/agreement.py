"""How often a network agrees with the labels of its images, and of their mirror images, which it may not have seen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..sources.examples import Examples
from .encode import Encoded

SAMPLES = 1_024


@dataclass(frozen=True)
class Agreement:
    """Shares of `samples` images, and of their mirror images, on which the trained network predicts the label; `error`
    is the standard error of the difference, of pairs."""

    images: float
    mirrored: float
    error: float
    samples: int


def agreement(encoded: Encoded) -> Agreement | None:
    """Over `SAMPLES` images, evenly spaced among all, or over all of fewer.

    None where inputs are no images `[n, c, h, w]`, labels no class codes, where samples are held out (weight zero),
    which tell it better, and where mirror images are all that is looked at, or mean something else (`mirror=None`).
    """
    examples, mirror = encoded.examples, encoded.split.mirror
    if encoded.family == "linear" or mirror in ("only", None) or not isinstance(examples, Examples):
        return None
    if examples.weights is not None and bool((examples.weights == 0).any()):
        return None
    n = len(examples)
    chosen = np.arange(min(n, SAMPLES)) * n // min(n, SAMPLES)
    few = replace(examples, rows=examples.rows[chosen], ids=examples.ids.take(pa.array(chosen)), weights=None)
    pairs = list(_right(replace(encoded, examples=few, class_weight=None)))
    if not pairs:
        return None
    right = torch.cat(pairs, 1).double()
    images, mirrored = right.mean(1).tolist()
    error = float((right[0] - right[1]).std(correction=0)) / math.sqrt(len(chosen))
    return Agreement(images, mirrored, error, len(chosen))


def _right(encoded: Encoded) -> Iterator[Tensor]:
    """Whether each image (first row) and its mirror image (second) is given its label, a block at a time."""
    layer, first = encoded.split.linear, 0
    for block in encoded.examples.blocks():
        codes = encoded.codes(first, block)
        if codes is None or not isinstance(block.inputs, Tensor) or block.inputs.ndim != 4:
            return
        views = [replace(encoded.split, mirror=view).embed(block.inputs) for view in (False, "only")]
        with torch.no_grad():
            z = [layer(h.to(layer.weight)).cpu() for h in views]
        y = torch.as_tensor(codes)
        yield torch.stack([(each.argmax(1) if each.shape[1] > 1 else each[:, 0] > 0) == y for each in z])
        first += len(y)
