"""Two-dimensional cuts through an audited table: two columns swept, the rest fixed, where the influence is largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import ShapeError
from ..sources.source import Source
from .folder import Folder
from .regions import numeric_columns, parts

DISTINCT = 256  # a column of no more values is fixed at one of them, any other to one of its bins
BINS = 12
SAMPLE = 200_000  # rows from which the values of a column are told

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cut:
    """A slice of the table: `vary` names the two columns swept, `fixed` says where the others stand.

    `rows`: its samples, the most influential first: `id`, `row`, the two columns, `given_label`, `predicted_label`,
    `cooks_distance`, `held_out` (weight zero). `values` are all columns of its most influential sample.
    `influence_share` is that of all Cook's distance in the table.
    """

    vary: tuple[str, str]
    fixed: dict[str, str]
    rows: pa.Table
    values: dict[str, float]
    influence_share: float

    @property
    def title(self) -> str:
        """The fixed columns in words."""
        return ", ".join(f"{name} {place}" for name, place in self.fixed.items()) or "all"


def find_cuts(
    source: Source, folder: Folder, vary: Sequence[str], columns: Sequence[str] | None, *, top: int
) -> list[Cut]:
    """The `top` cuts that hold most influence, none a step beside another; two passes over the columns and the scores.

    Raises `ShapeError` where `vary` are not two numeric columns that vary.
    """
    if len(vary) != 2 or vary[0] == vary[1]:
        raise ShapeError(f"vary={list(vary)}; name two different columns")
    names = numeric_columns(source, None if columns is None else [*dict.fromkeys([*vary, *columns])])
    numeric_columns(source, vary)
    axes = _axes(source, folder, names)
    for name in vary:
        if axes[names.index(name)].size < 2:
            raise ShapeError(f"column {name!r} never varies; a cut sweeps two columns that do")
    fixed = [j for j, name in enumerate(names) if name not in vary]
    totals: dict[int, float] = {}
    for X, scores in parts(source, folder, names):
        keys, inverse = np.unique(_keys(X, axes, fixed), return_inverse=True)
        sums = np.bincount(inverse, weights=scores["cooks_distance"].to_numpy(), minlength=len(keys))
        for key, value in zip(keys.tolist(), sums.tolist(), strict=True):
            totals[key] = totals.get(key, 0.0) + value
    chosen = _apart(totals, axes, fixed, top)
    return _collected(source, folder, names, axes, fixed, chosen, tuple(vary), sum(totals.values()))


@dataclass(frozen=True)
class _Axis:
    """Where values of a column stand: at one of `values`, or between two `edges`."""

    values: Floats
    binned: bool

    @property
    def size(self) -> int:
        return len(self.values) - self.binned

    def place(self, x: Floats) -> NDArray[np.int64]:
        if self.binned:
            return np.clip(np.searchsorted(self.values, x, side="right") - 1, 0, self.size - 1)
        middle = (self.values[1:] + self.values[:-1]) / 2
        return np.searchsorted(middle, x, side="left").astype(np.int64)

    def spoken(self, place: int) -> str:
        if self.binned:
            return f"{self.values[place]:.4g}–{self.values[place + 1]:.4g}"
        return f"= {self.values[place]:.4g}"


def _axes(source: Source, folder: Folder, names: Sequence[str]) -> list[_Axis]:
    """Each column's values, or its bins, from rows drawn evenly."""
    share = min(1.0, SAMPLE / len(source))
    drawn = [
        X[np.random.default_rng([0, k]).random(len(X)) < share] for k, (X, _) in enumerate(parts(source, folder, names))
    ]
    sample = np.concatenate(drawn)
    axes: list[_Axis] = []
    for j in range(len(names)):
        distinct = np.unique(sample[:, j])
        if len(distinct) <= DISTINCT:
            axes.append(_Axis(distinct, binned=False))
        else:
            axes.append(_Axis(np.unique(np.quantile(sample[:, j], np.linspace(0, 1, BINS + 1))), binned=True))
    return axes


def _keys(X: Floats, axes: Sequence[_Axis], fixed: Sequence[int]) -> NDArray[np.int64]:
    """One number a row for where its fixed columns stand."""
    key = np.zeros(len(X), np.int64)
    for j in fixed:
        key = key * axes[j].size + axes[j].place(X[:, j])
    return key


def _places(key: int, axes: Sequence[_Axis], fixed: Sequence[int]) -> list[int]:
    found: list[int] = []
    for j in reversed(fixed):
        key, place = divmod(key, axes[j].size)
        found.append(place)
    return found[::-1]


def _apart(totals: dict[int, float], axes: Sequence[_Axis], fixed: Sequence[int], top: int) -> list[int]:
    """The keys with most influence, of which no two are one step of one column apart."""
    chosen: list[int] = []
    taken: list[list[int]] = []
    for key in sorted(totals, key=lambda key: (-totals[key], key)):
        places = _places(key, axes, fixed)
        steps = ([abs(a - b) for a, b in zip(places, other, strict=True)] for other in taken)
        if all(sum(step) > 1 for step in steps):
            chosen.append(key)
            taken.append(places)
        if len(chosen) == top:
            break
    return chosen


def _collected(
    source: Source,
    folder: Folder,
    names: Sequence[str],
    axes: Sequence[_Axis],
    fixed: Sequence[int],
    chosen: list[int],
    vary: tuple[str, ...],
    influence: float,
) -> list[Cut]:
    """The rows of the chosen cuts."""
    found: dict[int, list[pa.Table]] = {key: [] for key in chosen}
    wanted = np.array(chosen)
    for X, scores in parts(source, folder, names):
        keys = _keys(X, axes, fixed)
        inside = np.flatnonzero(np.isin(keys, wanted))
        if not len(inside):
            continue
        kept = scores.take(pa.array(inside))
        for j, name in enumerate(names):
            kept = kept.append_column(f"value.{name}", pa.array(X[inside, j]))
        for key in np.unique(keys[inside]).tolist():
            found[key].append(kept.filter(pa.array(keys[inside] == key)))
    cuts: list[Cut] = []
    a, b = vary
    for key, tables in found.items():
        table = pa.concat_tables(tables).sort_by([("cooks_distance", "descending"), ("row", "ascending")])
        first: dict[str, Any] = table.slice(0, 1).to_pylist()[0]
        rows = pa.table(
            {
                **{name: table[name] for name in ("id", "row", "given_label", "predicted_label", "cooks_distance")},
                a: table[f"value.{a}"],
                b: table[f"value.{b}"],
                "held_out": table["held_out"],
            }
        )
        fixed_at = {names[j]: axes[j].spoken(p) for j, p in zip(fixed, _places(key, axes, fixed), strict=True)}
        values = {name: float(first[f"value.{name}"]) for name in names}
        share = float(table["cooks_distance"].to_numpy().sum()) / (influence or 1.0)
        cuts.append(Cut((a, b), fixed_at, rows, values, share))
    return sorted(cuts, key=lambda cut: -cut.influence_share)
