"""The influence plot of a regression: leverage against studentised residual, Cook's distance as area."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from ..canvas import GREY, INK, MUTED, VERMILLION, axes_of, calm
from ..classical import Classical
from ..errors import ShapeError

AREA = 900.0  # square points of the largest bubble
OUTLYING = 2.0  # studentised residual beyond which a sample is worth a look


def influence_plot(
    found: Classical, *, names: Sequence[Any] | None = None, most: int = 5, ax: Axes | None = None
) -> Axes:
    """Draws leverage against the externally studentised residual, the area of a bubble its Cook's distance.

    Lines at ±2 and at leverage 2p/n (Belsley, Kuh & Welsch 1980) bound what is worth a look; the `most` samples with
    the largest Cook's distance are named by their ids, or by `names`. Samples of leverage one have no residual and are
    not drawn. Raises `ShapeError` for several outputs.
    """
    if found.residuals.ndim > 1:
        raise ShapeError(f"{found.residuals.shape[1]} outputs; an influence plot shows one, fit a head to it")
    ax = axes_of(ax)
    h, t, distance = (v.numpy() for v in (found.leverage, found.externally_studentised, found.cooks_distance))
    drawn = ~np.isnan(t)
    limit = 2 * found.parameters / found.samples
    notable = drawn & ((np.abs(t) > OUTLYING) | (h > limit))
    scale = AREA / np.nanmax(distance)
    for which, colour, alpha in ((drawn & ~notable, GREY, 0.4), (notable, VERMILLION, 0.6)):
        ax.scatter(h[which], t[which], s=6 + scale * distance[which], color=colour, alpha=alpha, linewidths=0)
    for y in (-OUTLYING, OUTLYING):
        ax.axhline(y, color=MUTED, linewidth=0.8, linestyle=(0, (4, 4)), zorder=0)
    ax.axvline(limit, color=MUTED, linewidth=0.8, linestyle=(0, (4, 4)), zorder=0)
    ax.annotate("2p/n", (limit, 0.0), xycoords=("data", "axes fraction"), xytext=(3, 3), textcoords="offset points",
                color=MUTED, fontsize=8)  # fmt: skip
    labels = found.ids.to_pylist() if names is None else list(names)
    for i in np.argsort(-np.nan_to_num(distance))[:most]:
        offset = (0, (scale * distance[i] / np.pi) ** 0.5 + 3)
        name = ax.annotate(str(labels[i]), (h[i], t[i]), xytext=offset, textcoords="offset points", ha="center",
                           va="bottom", color=INK, fontsize=8)  # fmt: skip
        name.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    ax.set_xlabel("leverage")
    ax.set_ylabel("externally studentised residual")
    ax.margins(0.08, 0.14)
    return calm(ax, grid=None)
