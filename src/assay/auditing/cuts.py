"""Two-dimensional cuts through an audited table: two columns swept, the rest fixed, where the influence is largest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import ShapeError
from ..explore.boxes import spoken
from ..explore.spans import DISTINCT
from ..sources.convert import some
from ..sources.source import Source
from .folder import Folder
from .regions import among, drawn, numeric_columns, parts, trained_parts

BINS = 12  # of a column of more than DISTINCT values; one of fewer is fixed at one of them
PLACES = 1 << 62  # where fixed columns may stand together, at most
LEAST = 2  # rows of a cut in the mean, at least
SAMPLE = 200_000  # rows from which the values of a column are told

ORDER = [("held_out", "ascending"), ("cooks_distance", "descending"), ("row", "ascending")]  # of a cut's rows

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cut:
    """A slice of the table: `vary` names the two columns swept, `fixed` says where the others stand.

    `rows`: its samples, those trained on before those held out, each the most influential first: the two columns, `id`,
    `row`, `given_label`, `predicted_label`, `cooks_distance`, `held_out` (weight zero). `values` are all columns of the
    first.
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
    """The `top` cuts that hold most influence, none a step beside another; three passes over the columns and the
    scores. Held-out samples (weight zero) are among a cut's rows, their influence is not in its share.

    Raises `ShapeError` where `vary` are not two numeric columns that vary, or where so many columns are fixed that a
    cut would hold next to nothing; `SourceError` as `parts` does.
    """
    if isinstance(vary, str) or len(vary) != 2 or vary[0] == vary[1]:
        raise ShapeError(f"vary={list(vary)}; name two different columns")
    names = tuple(dict.fromkeys([*numeric_columns(source, vary), *numeric_columns(source, columns or None)]))
    axes = axes_of(source, folder, names)
    for name in vary:
        if axes[names.index(name)].size < 2:
            raise ShapeError(f"column {name!r} never varies; a cut sweeps two columns that do")
    fixed = [j for j, name in enumerate(names) if name not in vary]
    if math.prod(axes[j].size for j in fixed) > PLACES:
        raise ShapeError(_too_many(len(fixed), "less than one row", names, vary))
    totals: dict[int, float] = {}
    for X, scores in trained_parts(source, folder, names):
        keys, inverse = np.unique(_keys(X, axes, fixed), return_inverse=True)
        sums = np.bincount(inverse, weights=scores["cooks_distance"].to_numpy(), minlength=len(keys))
        for key, value in zip(keys.tolist(), sums.tolist(), strict=True):
            totals[key] = totals.get(key, 0.0) + value
    if len(totals) * LEAST > len(source):
        told = f"{len(source) / len(totals):.1f} of {len(source):,} rows in the mean"
        raise ShapeError(_too_many(len(fixed), told, names, vary))
    chosen = _apart(totals, axes, fixed, top)
    return _collected(source, folder, names, axes, fixed, chosen, tuple(vary), sum(totals.values()))


def _too_many(fixed: int, rows: str, names: Sequence[str], vary: Sequence[str]) -> str:
    others = [name for name in names if name not in vary]
    return (
        f"a cut that fixes {fixed} columns would hold {rows}; name the few that are to be fixed with columns= "
        f"(--columns), of {some(others)}"
    )


def cut_at(
    source: Source, folder: Folder, names: Sequence[str], axes: Sequence[Axis], values: dict[str, float], *, row: int
) -> Cut | None:
    """The cut along the first two of `names` that fixes the others where `values` stand, the sample in `row` first of
    its rows if it is among them; two passes. None where no sample stands there; raises `ShapeError` as `find_cuts`."""
    fixed = list(range(2, len(names)))
    if math.prod(axes[j].size for j in fixed) > PLACES:
        raise ShapeError(_too_many(len(fixed), "less than one row", names, names[:2]))
    key = int(_keys(np.array([[values[name] for name in names]]), axes, fixed)[0])
    influence = sum(float(scores["cooks_distance"].to_numpy().sum()) for _, scores in trained_parts(source, folder, ()))
    a, b = names[:2]
    found = _collected(source, folder, names, axes, fixed, [key], (a, b), influence)
    if not found:
        return None
    own = pc.equal(found[0].rows["row"], row)
    rows = pa.concat_tables([found[0].rows.filter(own), found[0].rows.filter(pc.invert(own))])
    return replace(found[0], rows=rows)


@dataclass(frozen=True)
class Axis:
    """Where values of a column stand: at one of `values`, or between two `edges`."""

    values: Floats
    binned: bool

    @property
    def size(self) -> int:
        return len(self.values) - self.binned

    def told(self) -> dict[str, Any]:
        """Its `values`, or the `range` that its bins fill."""
        ends = [float(self.values[0]), float(self.values[-1])]
        return {"values": None if self.binned else self.values.tolist(), "range": ends}

    def place(self, x: Floats) -> NDArray[np.int64]:
        if self.binned:
            return np.clip(np.searchsorted(self.values, x, side="right") - 1, 0, self.size - 1)
        middle = (self.values[1:] + self.values[:-1]) / 2
        return np.searchsorted(middle, x, side="left").astype(np.int64)

    def spoken(self, place: int) -> str:
        if self.binned:
            return f"{self._told(place)}–{self._told(place + 1)}"
        return f"= {self._told(place)}"

    def _told(self, place: int) -> str:
        return spoken(float(self.values[place]), self._digits)

    @cached_property
    def _digits(self) -> int:
        """As few as tell its values apart."""
        enough = (p for p in range(4, 17) if len({f"{v:.{p}g}" for v in self.values}) == len(self.values))
        return next(enough, 17)


def axes_of(source: Source, folder: Folder, names: Sequence[str]) -> list[Axis]:
    """Each column's values, or its bins, from rows drawn evenly."""
    sampled = drawn(len(source), SAMPLE, 0)
    sample = np.concatenate([X[among(sampled, scores)] for X, scores in parts(source, folder, names)])
    axes: list[Axis] = []
    for j in range(len(names)):
        distinct = np.unique(sample[:, j])
        if len(distinct) <= DISTINCT:
            axes.append(Axis(distinct, binned=False))
        else:
            axes.append(Axis(np.unique(np.quantile(sample[:, j], np.linspace(0, 1, BINS + 1))), binned=True))
    return axes


def _keys(X: Floats, axes: Sequence[Axis], fixed: Sequence[int]) -> NDArray[np.int64]:
    """One number a row for where its fixed columns stand."""
    key = np.zeros(len(X), np.int64)
    for j in fixed:
        key = key * axes[j].size + axes[j].place(X[:, j])
    return key


def _places(key: int, axes: Sequence[Axis], fixed: Sequence[int]) -> list[int]:
    found: list[int] = []
    for j in reversed(fixed):
        key, place = divmod(key, axes[j].size)
        found.append(place)
    return found[::-1]


def _apart(totals: dict[int, float], axes: Sequence[Axis], fixed: Sequence[int], top: int) -> list[int]:
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
    axes: Sequence[Axis],
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
        if not tables:
            continue
        table = pa.concat_tables(tables).sort_by(ORDER)
        first: dict[str, Any] = table.slice(0, 1).to_pylist()[0]
        own = ("id", "row", "given_label", "predicted_label", "cooks_distance", "held_out")
        arrays = [table[f"value.{a}"], table[f"value.{b}"], *(table[name] for name in own)]
        rows = pa.Table.from_arrays(arrays, [a, b, *own])
        fixed_at = {names[j]: axes[j].spoken(p) for j, p in zip(fixed, _places(key, axes, fixed), strict=True)}
        values = {name: float(first[f"value.{name}"]) for name in names}
        share = float(table.filter(pc.invert(table["held_out"]))["cooks_distance"].to_numpy().sum()) / (
            influence or 1.0
        )
        cuts.append(Cut((a, b), fixed_at, rows, values, share))
    return sorted(cuts, key=lambda cut: -cut.influence_share)
