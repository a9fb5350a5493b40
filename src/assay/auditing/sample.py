"""A seeded sample of a source in memory: where λ2 is chosen and trust is checked."""

from __future__ import annotations

import numpy as np
import torch

from ..sources.source import Source

ROWS = 20_000
CELLS = 1 << 25  # features held at most: a quarter of a GiB in float64
LEAST = 2  # rows of every class


def sample_rows(source: Source, *, seed: int, rows: int = ROWS) -> list[int]:
    """Positions, ascending: all rows where they fit, else a uniform sample with at least two rows of every class."""
    size = min(len(source), rows, max(1_000, CELLS // len(source.columns)))
    if size == len(source):
        return list(range(size))
    chosen = np.random.default_rng(seed).choice(len(source), size, replace=False)
    chosen.sort()
    if source.vocabulary is None:
        return chosen.tolist()
    return sorted({*chosen.tolist(), *_of_rare_classes(source, chosen)})


def _of_rare_classes(source: Source, chosen: np.ndarray) -> list[int]:
    """Rows of the classes that the sample has too few of, from one pass that ends when they are found."""
    labels = source.take(chosen.tolist()).y
    missing = LEAST - torch.bincount(labels, minlength=len(source.vocabulary or ()))
    taken, found, first = set(chosen.tolist()), list[int](), 0
    for batch in source.batches(65_536):
        if not bool((missing > 0).any()):
            break
        for k in torch.isin(batch.y, (missing > 0).nonzero()[:, 0]).nonzero()[:, 0].tolist():
            label = int(batch.y[k])
            if missing[label] > 0 and first + k not in taken and batch.w[k] > 0:
                missing[label] -= 1
                found.append(first + k)
        first += len(batch.ids)
    return found
