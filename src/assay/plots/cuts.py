"""Cuts of a table (Picard et al., Fig. 3): what it says and what the model says, samples by their influence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..auditing.cuts import Cut
from ..canvas import BLUE, GREEN, GREY, INK, MUTED, VERMILLION, axes_of, calm, plain
from ..errors import ShapeError

PALETTE = (GREY, "#56b4e9", "#e69f00", BLUE, VERMILLION, GREEN, "#cc79a7", "#f0e442")  # Okabe and Ito's
DARKER = 0.6  # of each further round of the palette
AREA = 220.0  # square points of the most influential sample of a cut
UNEVEN = 10.0  # a grid whose largest step is so many times its smallest is drawn by its places
ENCOUNTER = ("rho", "theta", "psi")

Floats = NDArray[np.float64]


def cut_map(
    cut: Cut, label: str, classes: Sequence[Any], *, polar: bool = False, marked: bool = True, ax: Axes | None = None
) -> Axes:
    """The samples of a cut over its two columns: in the back the region of each class by `label` ("given_label" or
    "predicted_label"), each sample a dot whose area is its influence, held-out ones hollow, the first one ringed.

    Where the samples fill a grid, regions are its cells. `polar` draws the first column as distance and the second as
    angle [rad], as places in a plane: (x, y) = (ρ cos θ, ρ sin θ). Raises `ShapeError` for a cut without samples.
    """
    if not len(cut.rows):
        raise ShapeError(f"the cut at {cut.title} holds no sample; there is nothing to draw")
    ax = axes_of(ax)
    x, y = (cut.rows[name].to_numpy() for name in cut.vary)
    codes = np.array([list(classes).index(name) for name in cut.rows[label].to_pylist()])
    if polar:
        across, up = x * np.cos(y), x * np.sin(y)
    else:
        across, up = _placed(ax.xaxis, x), _placed(ax.yaxis, y)
    if polar:
        _regions(ax, x, y, codes, len(classes), polar=True)
    else:
        _regions(ax, across, up, codes, len(classes), polar=False)
    influence = cut.rows["cooks_distance"].to_numpy()
    area = 1.5 + AREA * influence / (influence.max() or 1.0)
    held = cut.rows["held_out"].to_numpy()
    colors = np.array([dot_color(class_color(k)) for k in range(len(classes))])[codes]
    order = area.argsort()[::-1]
    seen, hidden = order[~held[order]], order[held[order]]
    ax.scatter(
        across[seen], up[seen], s=area[seen], c=colors[seen], linewidths=0.3, edgecolors="white", label="trained on"
    )
    if len(hidden):
        hollow: dict[str, Any] = {"facecolors": "none", "edgecolors": colors[hidden], "linewidths": 0.8}
        ax.scatter(across[hidden], up[hidden], s=area[hidden] + 4, label="held out", **hollow)
    if marked:
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": INK, "linewidths": 1.4}
        ax.scatter(across[:1], up[:1], s=area[0] + 160, label="most influential", **ring)
    a, b = map(plain, cut.vary)
    ax.set(xlabel=a, ylabel=b)
    if polar:
        reach = 1.3 * _reach(x, influence)
        ax.set(xlabel=f"{a} cos {b}", ylabel=f"{a} sin {b}", aspect="equal",
               xlim=(-reach, reach), ylim=(-reach, reach))  # fmt: skip
        ax.xaxis.set_major_locator(MaxNLocator(5))
    return calm(ax, grid=None)


def cut_figure(cut: Cut, classes: Sequence[Any], *, polar: bool = False) -> Figure:
    """A cut as the table has it and as the model says, side by side; with the encounter, where it is one."""
    encounter = all(name in cut.values for name in ENCOUNTER)
    figure = Figure(figsize=(12.5 if encounter else 10.0, 4.4), layout="constrained")
    widths = [1.0, 1.0, 0.55] if encounter else [1.0, 1.0]
    axes = figure.subplots(1, len(widths), width_ratios=widths)
    for ax, label, name in zip(axes, ("given_label", "predicted_label"), ("table", "model"), strict=False):
        cut_map(cut, label, classes, polar=polar, ax=ax)
        ax.set_title(name, fontsize=11, color=INK)
    if encounter:
        draw_encounter(cut.values, ax=axes[2])
    swatches = [class_swatch(k, str(name)) for k, name in enumerate(classes)]
    figure.legend(handles=swatches, loc="outside lower center", ncols=len(classes), frameon=False, labelcolor=INK)
    share = f"{cut.influence_share:.2%} of the influence"
    figure.suptitle(f"{plain(cut.title)}: {len(cut.rows):,} samples, {share}", fontsize=11, color=INK)
    return figure


def draw_encounter(values: dict[str, float], *, ax: Axes | None = None) -> Axes:
    """Two aircraft from above (Fig. 2): own ship flying up, the intruder at distance `rho` [ft] and bearing `theta`,
    flying along `psi` [rad, counter-clockwise from own heading]; arrows grow with the speeds, told where known."""
    ax = axes_of(ax)
    rho, theta, psi = (values[name] for name in ENCOUNTER)
    own, intruder = values.get("v_own"), values.get("v_int")
    place = (-math.sin(theta), math.cos(theta))  # heading up, angles to the left
    fastest = max(own or 0.0, intruder or 0.0, 1.0)
    for at, angle, speed, color, name in (
        ((0.0, 0.0), 0.0, own, BLUE, "own ship"),
        (place, psi, intruder, VERMILLION, "intruder"),
    ):
        length = 0.25 + 0.35 * (fastest if speed is None else speed) / fastest
        end = (at[0] - length * math.sin(angle), at[1] + length * math.cos(angle))
        ax.add_patch(FancyArrowPatch(at, end, arrowstyle="-|>", mutation_scale=14, color=color, lw=1.8))
        ax.plot(*at, "o", color=color, ms=5)
        right = (name == "own ship") == (place[0] <= 0)  # away from the other
        told = name if speed is None else f"{name}\n{speed:g} ft/s"
        ax.annotate(told, at, (9 if right else -9, 0), textcoords="offset points",
                    ha="left" if right else "right", va="center", fontsize=8, color=color)  # fmt: skip
    ax.plot([0, place[0]], [0, place[1]], ":", color=MUTED, lw=1, zorder=0)
    tau = f", τ = {values['tau']:g} s" if "tau" in values else ""
    ax.set(xlim=(-1.9, 1.9), ylim=(-1.9, 1.9), aspect="equal", title=f"{rho:,.0f} ft apart{tau}")
    ax.title.set(fontsize=9, color=INK)
    ax.set_axis_off()
    return ax


def _regions(ax: Axes, x: Floats, y: Floats, codes: NDArray[np.int64], classes: int, *, polar: bool) -> None:
    """Cells of the grid that the samples fill, coloured by class; nothing where they fill none."""
    across, up = np.unique(x), np.unique(y)
    if len(across) < 2 or len(up) < 2 or len(across) * len(up) > 1.5 * len(x):
        return
    cells = np.full((len(up), len(across)), -1)
    for k in range(len(codes))[::-1]:  # of several at one point the first, most influential, is drawn
        cells[np.searchsorted(up, y[k]), np.searchsorted(across, x[k])] = codes[k]
    shades = np.array([[*to_rgb(class_color(k)), 0.32] for k in range(classes)] + [[1.0, 1.0, 1.0, 0.0]])
    a, b = np.meshgrid(_edges(across), _edges(up))
    if polar:
        a, b = a * np.cos(b), a * np.sin(b)
    mesh: Any = shades[cells]
    ax.pcolormesh(a, b, mesh, zorder=0, rasterized=True, antialiased=False, linewidth=0)


def _placed(axis: Axis, values: Floats) -> Floats:
    """Values as they are; of a grid with very uneven steps, their places in it, ticks with the values."""
    grid = np.unique(values)
    steps = np.diff(grid)
    if not 2 < len(grid) <= 200 or steps.max() < UNEVEN * steps.min():
        return values
    shown = np.unique(np.linspace(0, len(grid) - 1, 9).astype(int))
    axis.set_ticks(shown, [_number(float(grid[k])) for k in shown])
    axis.set_tick_params(labelrotation=30 if isinstance(axis, XAxis) else 0)
    return np.searchsorted(grid, values).astype(np.float64)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _reach(distance: Floats, influence: Floats) -> float:
    """The distance within which 99 % of the influence lies."""
    order = distance.argsort()
    held = influence[order].cumsum() / (influence.sum() or 1.0)
    return float(distance[order][min(int(np.searchsorted(held, 0.99)), len(order) - 1)]) or float(distance.max()) or 1.0


def _edges(values: Floats) -> Floats:
    middle = (values[1:] + values[:-1]) / 2
    return np.concatenate([values[:1], middle, values[-1:]])


def dot_color(color: tuple[float, float, float]) -> tuple[float, float, float]:
    """Of a sample on a region of this colour: darker."""
    red, green, blue = color
    return 0.72 * red, 0.72 * green, 0.72 * blue


def class_color(k: int) -> tuple[float, float, float]:
    """The k-th class's: beyond the palette its colours again, darker."""
    rounds, place = divmod(k, len(PALETTE))
    red, green, blue = to_rgb(PALETTE[place])
    return red * DARKER**rounds, green * DARKER**rounds, blue * DARKER**rounds


def class_swatch(k: int, name: str) -> Line2D:
    """The k-th class's colour beside its name, for a legend."""
    return Line2D([], [], marker="s", ls="", ms=8, color=class_color(k), label=plain(name))
