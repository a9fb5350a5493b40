"""What the worker does with the audit: samples for people, why, neighbours, the map, regions, cuts, export."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..auditing.load import load
from ..auditing.result import Audit
from ..errors import AssayError, SourceError
from ..sources.picture import as_png
from ..sources.source import Rendered
from ..sources.table import TableSource
from . import boxes, nearest, plane
from .shards import Shards

PATIENCE, TOGETHER = 0.15, 8  # seconds of an answer with pictures; pictures that are read together


@lru_cache(1)
def audit_at(path: str) -> Audit:
    """The audit, opened once; raises `OutputError` where it names files outside its folder."""
    Shards.open(path)
    return load(path)


def picture(audit: Audit, row: int, side: int) -> bytes | None:
    """The sample as a PNG; None where it has no picture."""
    png = _rendered(audit, row).png
    return None if png is None else as_png(png, side)


def pictures(audit: Audit, rows: list[int], side: int) -> dict[int, bytes | None]:
    """The samples as PNGs by row; None where one has no picture, or none that can be read.

    Large pictures take long: after `PATIENCE` seconds the rest is left out, for whatever else waits for this process.
    """
    source = audit.source
    if not isinstance(source, TableSource):
        return dict.fromkeys(rows)
    start, found = time.monotonic(), dict[int, bytes | None]()
    for some in (rows[k : k + TOGETHER] for k in range(0, len(rows), TOGETHER)):
        for row, png in _read(source, some).items():
            if found and time.monotonic() - start > PATIENCE:
                return found
            found[row] = _readable(png, side)
    return found


def sample(audit: Audit, row: int, label_score: float) -> dict[str, Any]:
    """Its fields, each with its place among all samples, its classes by probability, and whether it has a picture.

    `missing` says why the fields are not there, where the data are gone or were never files.
    """
    try:
        rendered = _rendered(audit, row)
        places = nearest.quantiles(audit, row)
    except AssayError as cause:
        return {"fields": [], "png": False, "probabilities": [], "missing": str(cause)}
    fields = [
        {"name": name, "value": plain(value), "quantile": places.get(name)} for name, value in rendered.fields.items()
    ]
    try:
        classes = nearest.probabilities(audit, row, label_score)
    except SourceError:  # the features are computed anew, by a network that is not here
        classes = []
    return {"fields": fields, "png": rendered.png is not None, "probabilities": classes, "missing": None}


def why(audit: Audit, row: int) -> dict[str, Any]:
    """Its strongest supporters and opponents and its nearest neighbours, by row."""
    audit.check_source()
    found = audit.explain_many([audit.dataset.take([row], columns=["id"])["id"][0].as_py()])[0]
    sides = {
        name: [{"row": one["row"], "influence": one["influence"]} for one in table.to_pylist()]
        for name, table in (("supporters", found.supporters), ("opponents", found.opponents))
    }
    return {"sentence": found.sentence, **sides, "neighbours": nearest.neighbours(audit, row)}


def export(audit: Audit, to: str, format: str, overwrite: bool) -> dict[str, Any]:
    """Writes the audit with the decisions of this moment, the data checked anew; `lines` say how to use it."""
    target = load(audit.path).export(Path(to), format=format, overwrite=overwrite)
    readme = target / "README.txt"
    lines = readme.read_text(encoding="utf-8").splitlines() if format == "subset" else []
    return {"path": target.name, "rows": audit.info["rows"], "lines": lines}


def plain(value: Any) -> Any:
    """A cell as JSON has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def sliders(audit: Audit, *arguments: Any) -> dict[str, Any]:
    """See `slices`, which matplotlib comes with: not before somebody asks."""
    from . import slices

    return slices.sliders(audit, *arguments)


def cut_svg(audit: Audit, *arguments: Any) -> bytes:
    """See `slices`."""
    from . import slices

    return slices.cut_svg(audit, *arguments)


def _read(source: TableSource, rows: list[int]) -> dict[int, bytes | None]:
    """Pictures as they are, read together; one by one where that fails, so that a damaged one costs no other."""
    there = [row for row in rows if row < len(source)]
    try:
        read = source.pictures_of(there)
    except SourceError:
        if len(rows) == 1:
            return {rows[0]: None}
        return {row: png for one in rows for row, png in _read(source, [one]).items()}
    return dict.fromkeys(rows) | dict(zip(there, read, strict=True))


def _readable(png: bytes | None, side: int) -> bytes | None:
    try:
        return None if png is None else as_png(png, side)
    except SourceError:
        return None


def _rendered(audit: Audit, row: int) -> Rendered:
    if not 0 <= row < len(audit.source):
        raise SourceError(f"row {row} is not there")
    return audit.source.render([row])[0]


TASKS: dict[str, Callable[..., Any]] = {
    "picture": picture,
    "pictures": pictures,
    "sample": sample,
    "why": why,
    "plane": plane.plane,
    "placed": plane.placed,
    "at": plane.at,
    "regions": boxes.regions,
    "sliders": sliders,
    "cut_svg": cut_svg,
    "export": export,
}
