"""Samples as a page shows them to a person: their pictures, or their most unusual columns."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

from .auditing.result import Audit
from .inline import thumbnail

FIELDS = 8  # columns shown of a sample that is no picture
READ = 64  # samples read together: their pictures may be large

Moments = dict[str, tuple[float, float]]


def shown(audit: Audit, asked: Iterable[tuple[int, int]]) -> dict[tuple[int, int], dict[str, Any]]:
    """(row, pixels) → `png`, a data address of a picture so large, or `fields` and how many `more` there are.

    The rows are read in order, some at a time: a row group once, not once for each of its rows.
    """
    source, moments, sizes = audit.source, _moments(audit), dict[int, set[int]]()
    for row, pixels in asked:
        sizes.setdefault(row, set()).add(pixels)
    rows, found = sorted(sizes), dict[tuple[int, int], dict[str, Any]]()
    for part in (rows[k : k + READ] for k in range(0, len(rows), READ)):
        rendered = dict(zip(part, source.render(part), strict=True))
        bare = [row for row in part if rendered[row].png is None]
        values = dict(zip(bare, source.take(bare).x.tolist() if bare else [], strict=True))
        for row in part:
            png = rendered[row].png
            for pixels in sizes[row]:
                if png is None:
                    fields = {**dict(zip(source.columns, values[row], strict=True)), **rendered[row].fields}
                    found[row, pixels] = _unusual(fields, moments)
                else:
                    found[row, pixels] = {"png": thumbnail(png, pixels), "fields": {}, "more": 0}
    return found


def _unusual(fields: dict[str, Any], moments: Moments) -> dict[str, Any]:
    first = dict(sorted(fields.items(), key=partial(_ordinary, moments))[:FIELDS])
    return {"png": None, "fields": first, "more": len(fields) - len(first)}


def _moments(audit: Audit) -> Moments:
    """Column → mean and scale, as the head standardises it; a constant column is never unusual."""
    design, columns = audit.head.design, audit.source.columns
    names = [name for name, kept in zip(columns, design.kept.tolist(), strict=True) if kept]
    constant = dict.fromkeys(columns, (0.0, math.inf))
    return constant | dict(zip(names, zip(design.mean.tolist(), design.scale.tolist(), strict=True), strict=True))


def _ordinary(moments: Moments, field: tuple[str, Any]) -> float:
    """Sorting key: what is no column of the head first, then columns by their distance from the mean, largest first."""
    name, value = field
    if name not in moments or not isinstance(value, int | float):
        return -math.inf
    mean, scale = moments[name]
    return -abs(value - mean) / scale
