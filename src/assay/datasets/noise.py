"""Label noise with known truth."""

from __future__ import annotations

from collections.abc import Mapping

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


def flip_by_class(
    labels: np.ndarray, share: float, to: Mapping[int, int], *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which round(share · n_c) of each class c in `to` become `to[c]`; and the flipped positions, sorted.

    n_c is the size of class c: every class that is mistaken at all is so at the same rate, the others never (Patrini et
    al. 2017). Raises `ShapeError` where `to` names a class that no label has or its own class, or for a share outside
    [0, 1] or so small that no label flips.
    """
    classes = set(np.unique(labels).tolist())
    for c, other in to.items():
        if c == other or not {c, other} <= classes:
            raise ShapeError(f"to maps {c} to {other}; name two different classes among the labels {sorted(classes)}")
    rng = np.random.default_rng(seed)
    flipped = np.array(labels)
    for c, other in to.items():
        rows = np.flatnonzero(labels == c)
        flips = round(share * len(rows)) if 0 < share <= 1 else 0
        flipped[rng.choice(rows, flips, replace=False)] = other
    where = np.flatnonzero(flipped != labels)
    if not len(where):
        raise ShapeError(f"cannot flip {share:.2%} of the labels of {len(to)} classes; ask for a share in (0, 1]")
    return flipped, where
