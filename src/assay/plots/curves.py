"""How many of the errors are found, and at what cost: recall against effort, and ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from numpy.typing import ArrayLike

from ..canvas import BLUE, INK, MUTED, axes_of, calm, per_cent
from ..errors import ShapeError

Numbers = ArrayLike | Sequence[Any]  # whatever numpy makes an array of


def recall_against_effort(
    effort: Numbers,
    recall: Numbers,
    *,
    share: float | None = None,
    spread: Numbers | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Expected share of the label errors found (recall) against the share of all rows inspected (effort), in per cent.

    `recall` `[points]` is the mean, or `[repeats, points]` single runs, which are drawn thin below their mean.
    `spread` `[points]` is one standard deviation, drawn as a band. With `share`, the share of rows that are wrong, the
    line of an oracle that inspects nothing but errors is drawn, `min(1, effort/share)`; chance is the diagonal.
    """
    ax = axes_of(ax)
    x, runs = np.asarray(effort, dtype=np.float64), np.atleast_2d(np.asarray(recall, dtype=np.float64))
    mean = runs.mean(axis=0)
    ends = np.array([0.0, x.max(initial=0.0)])
    if share is not None:
        corners = np.unique(np.array([0.0, min(share, ends[1]), ends[1]]))
        ax.plot(corners, np.minimum(1, corners / share), "--", color=MUTED, lw=1.2, label="oracle: nothing but errors")
    for run in runs if len(runs) > 1 else []:
        ax.plot(x, run, color=BLUE, lw=0.7, alpha=0.4, label="_single run")
    if spread is not None:
        sigma = np.asarray(spread, dtype=np.float64)
        low, high = np.clip(mean - sigma, 0, 1), np.clip(mean + sigma, 0, 1)
        ax.fill_between(x, low, high, color=BLUE, alpha=0.18, lw=0, label="± one standard deviation")
    ax.plot(x, mean, color=BLUE, lw=2.2, label="this ranking")
    ax.plot(ends, ends, ":", color=MUTED, lw=1.4, label="chance")
    ax.set(
        xlim=ends if ends[1] else (0, 1),
        ylim=(0, 1.03),
        xlabel="rows inspected, worst first",
        ylabel="label errors found",
    )
    ax.xaxis.set_major_formatter(FuncFormatter(per_cent))
    ax.yaxis.set_major_formatter(FuncFormatter(per_cent))
    ax.legend(frameon=False, loc="best", labelcolor=INK)
    return calm(ax, grid="both")


def roc_curves(truth: Numbers, scores: Numbers, *, ax: Axes | None = None) -> Axes:
    """True against false positive rate of `scores` for `truth`, the mean over runs with the runs thin below it.

    `truth` and `scores` are `[samples]`, or `[runs, samples]`; the mean is taken at equal false positive rates. The
    mean area and its standard deviation stand in the legend, chance is the diagonal. Raises `ShapeError` where a run
    has no error, or nothing but errors.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    ax = axes_of(ax)
    wrong, values = np.atleast_2d(np.asarray(truth, dtype=bool)), np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if wrong.shape != values.shape:
        raise ShapeError(f"truth has shape {wrong.shape}, scores {values.shape}; give one of each per sample")
    if bad := [run for run, row in enumerate(wrong) if row.all() or not row.any()]:
        raise ShapeError(f"run {bad[0]} has {wrong[bad[0]].sum()} errors among {wrong.shape[1]}; a ROC needs both")
    grid = np.linspace(0, 1, 201)
    curves = np.stack([np.interp(grid, *roc_curve(w, v)[:2]) for w, v in zip(wrong, values, strict=True)])
    areas = np.array([roc_auc_score(w, v) for w, v in zip(wrong, values, strict=True)])
    for curve in curves if len(curves) > 1 else []:
        ax.plot(grid, curve, color=BLUE, lw=0.7, alpha=0.4, label="_single run")
    told = f"{areas.mean():.3f}" + (f" ± {areas.std():.3f}" if len(areas) > 1 else "")
    ax.plot(grid, curves.mean(0), color=BLUE, lw=2.2, label=f"this ranking, area {told}")
    ax.plot([0, 1], [0, 1], ":", color=MUTED, lw=1.4, label="chance, area 0.5")
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="right labels flagged", ylabel="wrong labels flagged")
    ax.xaxis.set_major_formatter(FuncFormatter(per_cent))
    ax.yaxis.set_major_formatter(FuncFormatter(per_cent))
    ax.legend(frameon=False, loc="lower right", labelcolor=INK)
    return calm(ax, grid="both")
