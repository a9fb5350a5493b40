"""Two-dimensional samples with their influence, as transparency (Picard et al., Fig. 1) or as size (Fig. 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from numpy.typing import ArrayLike, NDArray

from ..canvas import BLUE, INK, LINE, MUTED, VERMILLION, axes_of, calm
from ..errors import ShapeError

Numbers = ArrayLike | Sequence[Any]
SIDES = ((BLUE, "o"), (VERMILLION, "^"))  # how the two classes look
FAINT = 0.06  # opacity of a point without influence
AREA = 260.0  # square points of the whole influence, and of a point that has all of it
LEAST = 5.0  # square points of one that has none


def influence_as_transparency(
    points: Numbers,
    labels: Numbers,
    influence: Numbers,
    *,
    decision: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
    quantile: float = 0.99,
    power: float = 0.25,
    ax: Axes | None = None,
) -> Axes:
    """Points `[n, 2]` of two classes, the more opaque the more influential; those above `quantile` are fully so.

    Opacity goes with the influence to the `power`: its fourth root, for influence spans many decades (1 is in
    proportion).
    `decision`, a function of points that is positive on one side, draws the true boundary.
    """
    ax, x, y, values = _given(ax, points, labels, influence)
    top = float(np.quantile(values, quantile)) or 1.0
    opacity = FAINT + (1 - FAINT) * np.clip(values / top, 0, 1) ** power
    order = values.argsort(kind="stable")
    for code, (color, marker) in enumerate(SIDES):
        rows = order[y[order] == code]
        shades = [to_rgba(color, alpha) for alpha in opacity[rows]]
        ax.scatter(x[rows, 0], x[rows, 1], s=14, c=shades, marker=marker, linewidths=0, label=f"class {code}")
    return _framed(ax, x, decision)


def influence_as_size(
    points: Numbers,
    labels: Numbers,
    influence: Numbers,
    *,
    marked: Sequence[int] = (),
    decision: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Points `[n, 2]` of two classes, their area the share of all influence they have; `marked` ones are ringed."""
    ax, x, y, values = _given(ax, points, labels, influence)
    area = LEAST + AREA * values / (values.sum() or 1.0)
    order = (-values).argsort(kind="stable")
    for code, (color, marker) in enumerate(SIDES):
        rows = order[y[order] == code]
        ax.scatter(
            x[rows, 0],
            x[rows, 1],
            s=area[rows],
            c=color,
            marker=marker,
            alpha=0.55,
            linewidths=0,
            label=f"class {code}",
        )
    rows = np.asarray(marked, dtype=np.int64)
    if len(rows):
        ax.scatter(
            x[rows, 0],
            x[rows, 1],
            s=area[rows] + 90,
            facecolors="none",
            edgecolors=INK,
            linewidths=1.1,
            label="marked",
        )
    return _framed(ax, x, decision)


def _given(
    ax: Axes | None, points: Numbers, labels: Numbers, influence: Numbers
) -> tuple[Axes, NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    x, y = np.asarray(points, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    values = np.asarray(influence, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != 2 or not len(x) == len(y) == len(values):
        raise ShapeError(
            f"points have shape {x.shape}, labels {y.shape}, influence {values.shape}; give [n, 2], [n] and [n]"
        )
    if set(np.unique(y)) - {0, 1}:
        raise ShapeError(f"labels are {sorted(set(y.tolist()))[:5]}; two classes are drawn, 0 and 1")
    return axes_of(ax), x, y, values


def _framed(ax: Axes, x: NDArray[np.float64], decision: Callable[..., NDArray[np.float64]] | None) -> Axes:
    """Square, without ticks, the true boundary drawn."""
    low, high = x.min(0), x.max(0)
    margin = 0.04 * float((high - low).max())
    if decision is not None:
        grid = [np.linspace(a - margin, b + margin, 300) for a, b in zip(low, high, strict=True)]
        across, up = np.meshgrid(*grid)
        height = decision(np.stack([across.ravel(), up.ravel()], 1)).reshape(across.shape)
        ax.contour(across, up, height, levels=[0.0], colors=MUTED, linewidths=1, linestyles="--", zorder=0)
    ax.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin), aspect="equal")
    ax.set_xticks([])
    ax.set_yticks([])
    calm(ax, keep=("left", "bottom", "right", "top"), grid=None)
    for spine in ax.spines.values():
        spine.set_color(LINE)
    return ax
