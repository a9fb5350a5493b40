"""The map: all samples in the plane of the embedding's two largest principal components."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..auditing.regions import drawn
from ..auditing.result import Audit
from ..sources.source import block_rows
from .nearest import state_of
from .once import once

AXES_FROM = 20_000  # rows, drawn evenly, that the components are found from
POINTS = 50_000  # samples drawn as points, at most; beyond it their density is
KEPT = 200_000  # samples, drawn evenly, that are the density then, and that a click can find
SIDE = 512  # pixels of the picture of density

Floats = NDArray[np.float32]


@once
def plane(audit: Audit) -> dict[str, Any]:
    """Coordinates `x`, `y` of `row`, the share of the variance on each axis, and for many samples a picture.

    One pass to find the axes, one to go through all samples; at most `KEPT` coordinates are held in memory.
    """
    axes, middle, explained = _axes(audit)
    n = len(audit.source)
    chosen = drawn(n, POINTS if n <= POINTS else KEPT, 0)
    kept: list[Floats] = []
    for first, places in _projected(audit, axes, middle):
        a, b = np.searchsorted(chosen, [first, first + len(places)])
        kept.append(places[chosen[a:b] - first])
    x, y = np.concatenate(kept).T
    found = {"x": x, "y": y, "row": chosen, "explained": explained, "png": None, "limits": None}
    if n <= POINTS:
        return found
    limits = _limits(np.stack([x, y], 1))
    return {**found, "limits": limits, "png": _picture(np.histogram2d(y, x, SIDE, limits[::-1])[0])}


def placed(audit: Audit, rows: list[int]) -> list[list[float]]:
    """The coordinates of some samples."""
    axes, middle, _ = _axes(audit)
    head, _ = state_of(audit)
    H = head.design.matrix(audit.source.take(rows).x).double().numpy()
    return ((H - middle) @ axes).tolist()


def at(audit: Audit, x: float, y: float) -> int:
    """The sample nearest to a place, of those whose coordinates are kept."""
    found = plane(audit)
    return int(found["row"][np.argmin((found["x"] - x) ** 2 + (found["y"] - y) ** 2)])


@once
def _axes(audit: Audit) -> tuple[NDArray[np.float64], NDArray[np.float64], list[float]]:
    """Two principal components `[d, 2]`, the mean `[d]`, and the shares of the variance; signs are fixed."""
    head, _ = state_of(audit)
    source = audit.source
    rows = drawn(len(source), AXES_FROM, 0)
    total, crossed, count = 0.0, 0.0, 0
    first = 0
    for batch in source.batches(block_rows(source)):
        a, b = np.searchsorted(rows, [first, first + len(batch.x)])
        H = head.design.matrix(batch.x[torch.as_tensor(rows[a:b] - first)]).double()
        total, crossed, count = total + H.sum(0), crossed + H.T @ H, count + len(H)
        first += len(batch.x)
    mean = torch.as_tensor(total) / count
    values, vectors = torch.linalg.eigh(torch.as_tensor(crossed) / count - torch.outer(mean, mean))
    axes = vectors[:, [-1, -2]] if vectors.shape[1] > 1 else torch.cat([vectors, torch.zeros_like(vectors)], 1)
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    shares = (values.clamp(min=0) / values.clamp(min=0).sum().clamp(min=1e-300)).tolist()
    return axes.numpy(), mean.numpy(), [*shares[-1:], *(shares[-2:-1] or [0.0])]


def _projected(audit: Audit, axes: NDArray[np.float64], middle: NDArray[np.float64]) -> Any:
    head, _ = state_of(audit)
    first = 0
    for batch in audit.source.batches(block_rows(audit.source)):
        H = head.design.matrix(batch.x).double().numpy()
        yield first, ((H - middle) @ axes).astype(np.float32)
        first += len(H)


def _limits(places: Floats) -> list[list[float]]:
    """Where most of the samples lie, with room about it."""
    low, high = np.quantile(places, [0.001, 0.999], axis=0)
    room = 0.15 * (high - low) + 1e-9
    return [[float(low[j] - room[j]), float(high[j] + room[j])] for j in (0, 1)]


def _picture(grid: NDArray[np.float64]) -> bytes:
    """How many samples lie in each cell, as opacity on the scale of its logarithm, the top row first."""
    shade = np.log1p(grid[::-1]) / max(np.log1p(grid.max()), 1e-9)
    pixels = np.zeros((*grid.shape, 4), np.uint8)
    pixels[..., :3] = 110
    pixels[..., 3] = np.round(235 * shade)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
