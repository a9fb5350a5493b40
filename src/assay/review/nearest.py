"""What is like a sample: its nearest neighbours in the embedding, and where its values lie among all."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..auditing.passes import load_state
from ..auditing.regions import numeric_columns
from ..auditing.result import Audit
from ..curvature.dense import Curvature
from ..errors import ShapeError
from ..head import Head
from ..scores import read_scores
from ..sources.source import block_rows
from ..sources.table import TableSource
from .once import once

NEIGHBOURS = 8
BLOCKS, BLOCK = 32, 512  # evenly placed stretches of rows among which a value's place is told
COLUMNS = 512  # of which that is told, at most


@once
def state_of(audit: Audit) -> tuple[Head, Curvature]:
    """The head and its curvature, read once."""
    head, curvature = load_state(audit.folder.head, audit.folder.curvature)
    curvature.prepare()
    return head, curvature


def neighbours(audit: Audit, row: int) -> list[dict[str, Any]]:
    """The nearest samples, by Euclidean distance in the columns the head sees (standardised where it does that)."""
    head, _ = state_of(audit)
    source = audit.source
    own = head.design.matrix(source.take([row]).x)
    best: list[tuple[float, int]] = []
    first = 0
    for batch in source.batches(block_rows(source)):
        H = head.design.matrix(batch.x)
        squares = (H - own).square().sum(1)
        if first <= row < first + len(squares):
            squares[row - first] = torch.inf
        near = squares.topk(min(NEIGHBOURS, len(squares)), largest=False)
        found = zip(near.values.tolist(), near.indices.tolist(), strict=True)
        best = sorted([*best, *((value, first + k) for value, k in found if value < float("inf"))])[:NEIGHBOURS]
        first += len(squares)
    return [{"row": k, "distance": value**0.5} for value, k in best]


@once
def _judge(audit: Audit) -> tuple[Head, Curvature]:
    """The head that labels were judged by: the trimmed one where there is one."""
    folder = audit.folder
    if not folder.trimmed_head.exists():
        return state_of(audit)
    head, curvature = load_state(folder.trimmed_head, folder.trimmed_curvature)
    curvature.prepare()
    return head, curvature


def probabilities(audit: Audit, row: int, label_score: float) -> list[dict[str, Any]]:
    """Each class with its probability were the sample left out, the most probable first; [] for a regression.

    A sample that the trimmed head did not see has nothing to leave out: its weight there is zero. Whether it saw it is
    told by `label_score`, the probability that the audit found for the given label.
    """
    head, curvature = _judge(audit)
    if head.vocabulary is None:
        return []
    batch = audit.source.take([row])
    H = head.design.matrix(batch.x)
    found: list[Any] = []
    for w in (batch.w, torch.zeros_like(batch.w)):
        scores = read_scores(head.family, curvature, head.V, H, batch.y, w)
        logits = torch.where(scores.loo_logits.isnan(), scores.logits, scores.loo_logits)
        found.append(head.family.probabilities(logits)[0].tolist())
    p = min(found, key=lambda one: abs(one[int(batch.y[0])] - label_score))
    ranked = sorted(zip(head.vocabulary, p, strict=True), key=lambda pair: -pair[1])
    return [{"label": str(label), "p": value} for label, value in ranked]


def quantiles(audit: Audit, row: int) -> dict[str, float]:
    """For each numeric column of a table, the share of samples below its value (ties count half), from some rows."""
    names, sample = _sample(audit)
    if not names:
        return {}
    source: Any = audit.source
    cells = source.store.take(list(names), np.array([row])).to_pylist()[0]
    found: dict[str, float] = {}
    for name, values in zip(names, sample.T, strict=True):
        if (value := cells[name]) is not None and len(values):
            a, b = (
                np.searchsorted(values, float(value), side="left"),
                np.searchsorted(values, float(value), side="right"),
            )
            found[name] = float((a + b) / 2 / len(values))
    return found


@once
def _sample(audit: Audit) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Numeric columns, and some rows of each, sorted."""
    source = audit.source
    if not isinstance(source, TableSource) or source.image_shape or source.picture:
        return (), np.empty((0, 0))
    try:
        names = numeric_columns(source, None)[:COLUMNS]
    except ShapeError:
        return (), np.empty((0, 0))
    starts = np.unique(np.linspace(0, max(len(source) - BLOCK, 0), BLOCKS).astype(int)).tolist()
    parts = [
        np.stack([np.asarray(batch.column(name).to_numpy(zero_copy_only=False), np.float64) for name in names], 1)
        for start in starts
        for batch in source.store.read(list(names), start, min(start + BLOCK, len(source)), BLOCK)
    ]
    return names, np.sort(np.concatenate(parts), axis=0)
