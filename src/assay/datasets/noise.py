"""Label noise with known truth."""

from __future__ import annotations

import numpy as np

from ..errors import ShapeError


def flip_uniformly(labels: np.ndarray, share: float, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels with round(share · n) of them replaced by another class, drawn evenly; and the flipped positions, sorted.

    Raises `ShapeError` for fewer than two classes, or a share outside [0, 1] or so small that no label flips.
    """
    classes, codes = np.unique(labels, return_inverse=True)
    flips = round(share * len(labels)) if 0 < share <= 1 else 0
    if len(classes) < 2 or not flips:
        raise ShapeError(
            f"cannot flip {share:.2%} of {len(labels)} labels of {len(classes)} classes; ask for a share in (0, 1]"
        )
    rng = np.random.default_rng(seed)
    where = np.sort(rng.choice(len(labels), flips, replace=False))
    codes[where] = (codes[where] + rng.integers(1, len(classes), flips)) % len(classes)
    return classes[codes], where
