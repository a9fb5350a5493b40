"""The pictures of an audit: its scores, its kinds, its classes, and how it agrees with refits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from ..canvas import BLUE, INK, KINDS, MUTED, VERMILLION, axes_of, calm, per_cent

Numbers = ArrayLike | Sequence[Any]  # whatever numpy makes an array of
AREA = 900.0  # square points of the largest bubble of an influence plot
OUTLYING = 2.0  # studentised residual beyond which a sample is worth a look
DECADES = 9  # scores this far below the largest are drawn at the left edge: they say nothing of how small they are


def score_distribution(scores: Numbers, kinds: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """Distribution of Cook's distance, one strip a kind, on a logarithmic axis.

    Each strip has the height of its own fullest bin, so that a kind of few samples is seen beside one of many; its
    number of samples stands at the left. Scores that are not finite are left out, those more than nine decades below
    the largest are counted in the lowest bin.
    """
    ax = axes_of(ax)
    values, names = np.asarray(scores, dtype=np.float64), np.asarray(kinds)
    seen = np.isfinite(values)
    values, names = values[seen], names[seen]
    top = values.max(initial=1e-300)
    floor = max(values[values > 0].min(initial=top), top * 10.0**-DECADES)
    edges = np.geomspace(floor * 0.999, max(top, floor * 10) * 1.001, 49)
    shown = [kind for kind in KINDS if (names == kind).any()]
    for row, kind in enumerate(reversed(shown)):
        counts, _ = np.histogram(np.clip(values[names == kind], floor, None), edges)
        ax.stairs(
            row + 0.82 * counts / counts.max(), edges, baseline=row, fill=True, color=KINDS[kind].color, label=kind
        )
    ax.set_xscale("log")
    ax.set_ylim(-0.05, max(len(shown), 1))
    labels = [f"{kind}\n{(names == kind).sum():,}" for kind in reversed(shown)]
    ax.set_yticks(np.arange(len(shown)) + 0.35, labels)
    ax.set_xlabel("Cook's distance (log scale)")
    ax.tick_params(axis="y", length=0)
    return calm(ax, keep=("bottom",), grid="x")


def confusion_pairs(confusion: Iterable[Sequence[Any]], *, limit: int = 16, ax: Axes | None = None) -> Axes:
    """Heat map of suspects, given label (rows) → suggested label (columns), from `(given, suggested, count)` triples.

    At most `limit` classes, those with most suspects first, in the order of their names. Darker means more; the number
    stands in the cell.
    """
    ax = axes_of(ax)
    counts = {(str(given), str(suggested)): int(count) for given, suggested, count in confusion}
    names = _busiest(counts, limit)
    at = {name: i for i, name in enumerate(names)}
    grid = np.zeros((len(names), len(names)))
    for (given, suggested), count in counts.items():
        if given in at and suggested in at:
            grid[at[given], at[suggested]] = count
    shades = ListedColormap([(*to_rgb(BLUE), strength) for strength in np.linspace(0.12, 0.95, 256)])
    ax.pcolormesh(np.ma.masked_equal(grid, 0), cmap=shades, vmin=0, vmax=grid.max(initial=1))
    for i, j in np.argwhere(grid):
        deep = grid[i, j] > 0.55 * grid.max()
        ax.text(j + 0.5, i + 0.5, f"{grid[i, j]:,.0f}", ha="center", va="center", color="white" if deep else INK)
    ticks = np.arange(len(names)) + 0.5
    labels = [_short(name) for name in names]
    ax.set_yticks(ticks, labels)
    ax.set_xticks(ticks, labels)
    if max(map(len, labels), default=0) > 3:
        ax.set_xticks(ticks, labels, rotation=40, ha="right", rotation_mode="anchor")
    ax.set(xlabel="suggested label", ylabel="given label", xlim=(0, max(len(names), 1)), ylim=(max(len(names), 1), 0))
    return _plain_labels(calm(ax, grid=None))


def refit_agreement(
    predicted: Numbers, actual: Numbers, *, first_order: Numbers | None = None, ax: Axes | None = None
) -> Axes:
    """Leave-one-out change of loss as predicted from the leverage block, against real refits without the sample.

    On the diagonal the prediction is right. `first_order` (`D/N`) is drawn hollow beside it. Logarithmic where every
    change is positive.
    """
    ax = axes_of(ax)
    truth, guess = np.asarray(actual, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    plain = None if first_order is None else np.asarray(first_order, dtype=np.float64)
    drawn = np.concatenate([truth, guess] if plain is None else [truth, guess, plain])
    drawn = drawn[np.isfinite(drawn)]
    low, high = (drawn.min(), drawn.max()) if len(drawn) else (0.0, 1.0)
    if low > 0:
        ax.set(xscale="log", yscale="log")
        low, high = low / 2, high * 2
    else:
        low, high = low - 0.05 * (high - low + 1e-12), high + 0.05 * (high - low + 1e-12)
    ax.plot([low, high], [low, high], color=MUTED, lw=1, label="exact")
    if plain is not None:
        ax.plot(truth, plain, "o", mfc="none", mec=VERMILLION, ms=5, label="first order, D/N")
    ax.plot(truth, guess, "o", color=BLUE, ms=5, label="leave-one-out, one Newton step")
    ax.set(
        xlim=(low, high),
        ylim=(low, high),
        xlabel="change of loss, refitted without it",
        ylabel="change of loss, predicted",
    )
    ax.legend(frameon=False, loc="upper left", labelcolor=INK)
    return calm(ax, grid="both")


def kinds_map(
    logit_variance: Numbers, loo_margin: Numbers, kinds: Sequence[str], *, limit: int = 2000, ax: Axes | None = None
) -> Axes:
    """Logit variance (thin data above) against leave-one-out margin (label disbelieved left, boundary at zero) by kind.

    At most `limit` samples of a kind, evenly picked from the order given. Samples of leverage one (NaN) are left out.
    """
    x = np.asarray(loo_margin, dtype=np.float64)
    ax = _scatter_by_kind(x, np.asarray(logit_variance, dtype=np.float64), np.asarray(kinds), limit, axes_of(ax))
    ax.set_yscale("log")
    ax.axvline(0, color=MUTED, lw=1, zorder=0)
    ax.set(xlabel="leave-one-out margin: the given label against the best other", ylabel="logit variance (log scale)")
    return calm(ax, grid="both")


def given_against_predicted(
    given: Numbers, predicted: Numbers, kinds: Sequence[str], *, limit: int = 2000, ax: Axes | None = None
) -> Axes:
    """Regression: the leave-one-out prediction against the given target, by kind; on the diagonal they agree."""
    x, y = np.asarray(given, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    ax = _scatter_by_kind(x, y, np.asarray(kinds), limit, axes_of(ax))
    both = np.concatenate([x[np.isfinite(x)], y[np.isfinite(y)]])
    if len(both):
        ax.plot([both.min(), both.max()], [both.min(), both.max()], color=MUTED, lw=1, zorder=0, label="_agreement")
    ax.set(xlabel="given target", ylabel="leave-one-out prediction")
    return calm(ax, grid="both")


def class_bars(
    suspects: dict[str, int], rows: dict[str, int] | None = None, *, limit: int = 16, ax: Axes | None = None
) -> Axes:
    """Suspected label errors per class, most first; with `rows`, how many samples the class has and the share."""
    ax = axes_of(ax)
    ranked = sorted(suspects, key=lambda name: (-suspects[name], name))[:limit]
    counts = np.array([suspects[name] for name in ranked], dtype=np.float64)
    ax.barh(np.arange(len(ranked)), counts, height=0.66, color=VERMILLION)
    for i, name in enumerate(ranked):
        text = f"{suspects[name]:,}"
        if rows is not None and rows.get(name):
            text += f" of {rows[name]:,} ({per_cent(suspects[name] / rows[name])})"
        ax.annotate(text, (float(counts[i]), i), (4, 0), textcoords="offset points", va="center", color=INK)
    ax.set_yticks(np.arange(len(ranked)), [_short(name) for name in ranked])
    ax.set(
        xlim=(0, max(counts.max(initial=1), 1) * 1.45), ylim=(len(ranked) - 0.4, -0.6), xlabel="suspected label errors"
    )
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.tick_params(axis="y", length=0)
    return _plain_labels(calm(ax, keep=("left",), grid="x"))


def _scatter_by_kind(x: NDArray[np.float64], y: NDArray[np.float64], kinds: NDArray[Any], limit: int, ax: Axes) -> Axes:
    finite = np.isfinite(x) & np.isfinite(y)
    for kind in reversed(KINDS):
        rows = np.flatnonzero(finite & (kinds == kind))
        if len(rows):
            rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), limit)).astype(int)]
            color, marker, _ = KINDS[kind]
            size, strength = (10, 0.45) if kind == "typical" else (24, 0.85)
            dots = ax.scatter(
                x[rows], y[rows], s=size, c=color, marker=marker, alpha=strength, linewidths=0, label=kind
            )
            dots.set_rasterized(len(rows) > 500)  # a picture of the cloud, where its dots would weigh more
    ax.legend(frameon=False, labelcolor=INK, reverse=True)
    return ax


def _busiest(counts: dict[tuple[str, str], int], limit: int) -> list[str]:
    """Names of the classes with most suspects, given or suggested, sorted as numbers where all are."""
    total: dict[str, int] = {}
    for pair, count in counts.items():
        for name in pair:
            total[name] = total.get(name, 0) + count
    kept = sorted(total, key=lambda name: (-total[name], name))[:limit]
    digits = all(name.lstrip("-").isdigit() for name in kept)
    return sorted(kept, key=lambda name: (int(name) if digits else 0, name))


def _short(name: object, width: int = 18) -> str:
    text = " ".join(str(name).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def _plain_labels(ax: Axes) -> Axes:
    """Class names are the user's: `$` in them is a dollar."""
    for label in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        label.set_parse_math(False)
    return ax
