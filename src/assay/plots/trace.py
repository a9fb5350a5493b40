"""Influence through training: shares of chosen samples as lines, and the points at each step as small multiples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import ArrayLike

from ..canvas import BLUE, GREEN, INK, MUTED, VERMILLION, axes_of, calm, per_cent
from ..errors import ShapeError
from ..explore.trace import Trace
from .points import influence_as_size

Numbers = ArrayLike | Sequence[Any]
LINES = (VERMILLION, BLUE, GREEN, "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P")


def trace_shares(trace: Trace, groups: dict[str, Sequence[Any]], *, ax: Axes | None = None) -> Axes:
    """Share of the whole influence that each named group of ids has at each step, on a logarithmic time axis."""
    ax = axes_of(ax)
    steps = trace.steps["step"].to_numpy()
    for k, (name, ids) in enumerate(groups.items()):
        share = trace.share(list(ids)).sum(1)
        ax.plot(steps, share, color=LINES[k % 6], marker=MARKERS[k % 6], ms=4.5, lw=1.8, label=name)
    if len(steps) > 1 and steps[0] > 0:
        ax.set_xscale("log")
    ax.set(xlabel="step", ylabel="share of the influence", ylim=(0, 1.03))
    ax.legend(frameon=False, labelcolor=INK)
    calm(ax, grid="both")
    ax.set_xticks(steps, [f"{step:,}" for step in steps], rotation=30, ha="right")
    ax.xaxis.set_minor_formatter(FuncFormatter(lambda value, position: ""))
    ax.yaxis.set_major_formatter(FuncFormatter(per_cent))
    return ax


def trace_multiples(
    trace: Trace,
    points: Numbers,
    labels: Numbers,
    *,
    marked: Sequence[int] = (),
    axes: Sequence[Axes] | None = None,
    **drawn: Any,
) -> list[Axes]:
    """The samples `points` `[n, 2]` at each step of a trace, sized by their share of its influence (Fig. 4).

    One of `axes` a step, or those of a new figure. `marked`: positions to ring; `drawn` goes to `influence_as_size`.
    Raises `ShapeError` for another number of axes.
    """
    steps = trace.steps["step"].to_pylist()
    if axes is None:
        figure = Figure(figsize=(2.5 * len(steps), 2.9), layout="constrained")
        axes = list(figure.subplots(1, len(steps), squeeze=False)[0])
    if len(axes) != len(steps):
        raise ShapeError(f"{len(axes)} axes for {len(steps)} steps; give one a step")
    for ax, step, influence in zip(axes, steps, trace.column(), strict=True):
        influence_as_size(points, labels, influence, marked=marked, ax=ax, **drawn)
        ax.set_title(f"step {step:,}", fontsize=10, color=MUTED)
    return list(axes)
