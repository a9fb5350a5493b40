"""What every picture has in common: colours, kinds, calm axes.

Colours are Okabe and Ito's, which colour-blind readers tell apart; a kind has a marker of its own beside its colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

INK, MUTED, LINE = "#1f2328", "#6b7280", "#d4d8de"
BLUE, GREEN, VERMILLION, GREY = "#0072b2", "#009e73", "#d55e00", "#9aa1ab"


class KindStyle(NamedTuple):
    """How a kind looks in every picture and on the page."""

    color: str
    marker: str
    glyph: str


KINDS = {
    "mislabeled": KindStyle(VERMILLION, "X", "✖"),
    "under-represented": KindStyle(BLUE, "D", "◆"),
    "boundary": KindStyle(GREEN, "^", "▲"),
    "typical": KindStyle(GREY, "o", "●"),
}


def plain(text: object) -> str:
    """A name as it is: its dollar signs are no formula."""
    return str(text).replace("$", r"\$")


def axes_of(ax: Axes | None) -> Axes:
    return Figure(figsize=(6.4, 4.0), layout="constrained").subplots() if ax is None else ax


def calm(ax: Axes, *, keep: Sequence[str] = ("left", "bottom"), grid: Literal["x", "both"] | None) -> Axes:
    """Thin grey axes, a faint grid behind the data, numbers without scientific noise."""
    for side, spine in ax.spines.items():
        spine.set_visible(side in keep)
        spine.set_color(LINE)
    ax.tick_params(colors=MUTED, labelcolor=INK, which="both")
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(True, axis=grid, color=LINE, lw=0.6, alpha=0.7)
    for axis, scale in ((ax.xaxis, ax.get_xscale()), (ax.yaxis, ax.get_yscale())):
        if scale == "log":
            axis.set_major_formatter(FuncFormatter(power))
            axis.set_minor_formatter(FuncFormatter(partial(_between, axis)))
    return ax


def _between(axis: Axis, value: float, position: int) -> str:
    """2 and 5 of each decade, where the axis spans too little for whole decades to say where one is."""
    low, high = axis.get_view_interval()
    first = f"{value:.0e}"[0]
    return power(value, position) if first in "25" and high < 30 * low else ""


def power(value: float, position: int) -> str:
    """0.01, 1, 100; 1e-6 where the zeros would have to be counted."""
    return f"{value:g}" if 1e-3 <= abs(value) < 1e4 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def per_cent(share: float, position: int = 0) -> str:
    """A share in per cent, as axes have it."""
    return f"{100 * share:.3g} %"
