"""The 1,797 handwritten digits that scikit-learn ships (8 × 8 pixels, 0–16), some of their labels flipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from .noise import flip_uniformly


@dataclass(frozen=True)
class Digits:
    """`features` `[1797, 64]` float32 in [0, 1], `labels` with the flips in, `truth` without, `flipped` positions."""

    features: np.ndarray
    labels: np.ndarray
    truth: np.ndarray
    flipped: np.ndarray
    image_shape = (8, 8)


def digits(flips: float = 0.05, *, seed: int = 0) -> Digits:
    """The digits with a share of their labels flipped uniformly."""
    data: Any = load_digits()
    features, truth = data.data, data.target
    labels, flipped = flip_uniformly(truth, flips, seed=seed)
    return Digits((features / 16).astype(np.float32), labels, truth, flipped)
