"""Cuts through a sample of a table: which columns there are to slide, and the picture."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex

from ..auditing.cuts import Axis, axes_of, cut_at
from ..auditing.regions import numeric_columns
from ..auditing.result import Audit
from ..canvas import INK, LINE, MUTED
from ..errors import ShapeError
from ..plots import cut_figure
from ..plots.cuts import class_color, dot_color
from .once import once

DARK = {INK: "#e4e7eb", MUTED: "#a3acb8", LINE: "#30363e", "#ffffff": "#191d22"}  # as the page has them
STYLE = re.compile(rb'style="[^"]*"')
FIXED = 12  # columns that a cut fixes, at most


@once
def axes(audit: Audit) -> dict[str, Axis]:
    """The values of each numeric column, or its bins."""
    names = numeric_columns(audit.source, None)
    return dict(zip(names, axes_of(audit.source, audit.folder, names), strict=True))


def sliders(audit: Audit, row: int) -> dict[str, Any]:
    """The columns with the sample's value and where else they can stand, and two to begin with."""
    if audit.info["classes"] is None:
        raise ShapeError("cuts show classes; this audit is a regression")
    own = _values(audit, row)
    columns = [{"name": name, "value": own[name], **axis.told()} for name, axis in axes(audit).items() if axis.size > 1]
    if len(columns) < 2:
        raise ShapeError("a cut sweeps two columns that vary, and this table has not as many")
    return {"columns": columns, "x": columns[0]["name"], "y": columns[1]["name"]}


def cut_svg(audit: Audit, row: int, x: str, y: str, at: dict[str, float], dark: bool) -> bytes:
    """The cut along two columns through a sample, or where `at` puts the others; ringed is the sample if it is in it,
    else the most influential one."""
    there = axes(audit)
    if x == y or x not in there or y not in there:
        raise ShapeError(f"a cut is along two different columns of {', '.join(there)}")
    if unknown := [name for name in at if name not in there]:
        raise ShapeError(f"{unknown[0]!r} is no column of the cut")
    classes = audit.info["classes"]
    if classes is None:
        raise ShapeError("cuts show classes; this audit is a regression")
    own = _values(audit, row)
    fixed = [name for name, axis in there.items() if name not in (x, y) and axis.size > 1]
    names = (x, y, *fixed[:FIXED])
    cut = cut_at(audit.source, audit.folder, names, [there[name] for name in names], {**own, **at}, row=row)
    if cut is None:
        raise ShapeError("no sample stands where the sliders are; move one")
    ink = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "assay", **ink}):
        out = io.BytesIO()
        metadata: Any = {"Date": None, "Creator": None, "Format": None, "Type": None}
        cut_figure(cut, classes).savefig(out, format="svg", metadata=metadata)
    return _darkened(out.getvalue(), len(classes)) if dark else out.getvalue()


def _darkened(svg: bytes, classes: int) -> bytes:
    """The same drawing on a dark page: other inks, and dots lighter than their class, not darker."""
    colors = [class_color(k) for k in range(classes)]
    dots = {to_hex(dot_color((r, g, b))): to_hex((_lit(r), _lit(g), _lit(b))) for r, g, b in colors}
    inks = {f": {light}".encode(): f": {instead}".encode() for light, instead in {**dots, **DARK}.items()}
    any_ink = re.compile(b"|".join(re.escape(ink) for ink in inks))
    return STYLE.sub(lambda style: any_ink.sub(lambda ink: inks[ink[0]], style[0]), svg)


def _lit(part: float) -> float:
    return 0.4 + 0.6 * part


def _values(audit: Audit, row: int) -> dict[str, float]:
    source: Any = audit.source
    cells = source.store.take(list(axes(audit)), np.array([row])).to_pylist()[0]
    return {name: float(value) for name, value in cells.items()}
