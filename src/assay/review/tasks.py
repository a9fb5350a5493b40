"""What the worker does with the audit: samples for people, why, neighbours, the map, regions, cuts, export."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ..auditing.load import load
from ..auditing.result import Audit
from ..errors import SourceError
from .picture import as_png
from .shards import Shards


@lru_cache(1)
def audit_at(path: str) -> Audit:
    """The audit, opened once; raises `OutputError` where it names files outside its folder."""
    Shards.open(path)
    return load(path)


def picture(audit: Audit, row: int, side: int) -> bytes | None:
    """The sample as a PNG; None where it has no picture."""
    png = _rendered(audit, row).png
    return None if png is None else as_png(png, side)


def sample(audit: Audit, row: int) -> dict[str, Any]:
    """Its fields, and whether it has a picture."""
    rendered = _rendered(audit, row)
    fields = [{"name": name, "value": plain(value), "quantile": None} for name, value in rendered.fields.items()]
    return {"fields": fields, "png": rendered.png is not None}


def why(audit: Audit, row: int) -> dict[str, Any]:
    """Its strongest supporters and opponents and its nearest neighbours, by row."""
    audit.check_source()
    found = audit.explain_many([audit.dataset.take([row], columns=["id"])["id"][0].as_py()])[0]
    sides = {
        name: [{"row": one["row"], "influence": one["influence"]} for one in table.to_pylist()]
        for name, table in (("supporters", found.supporters), ("opponents", found.opponents))
    }
    return {"sentence": found.sentence, **sides, "neighbours": []}


def plain(value: Any) -> Any:
    """A cell as JSON has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _rendered(audit: Audit, row: int) -> Any:
    if not 0 <= row < len(audit.source):
        raise SourceError(f"row {row} is not there")
    return audit.source.render(row)


TASKS: dict[str, Callable[..., Any]] = {"picture": picture, "sample": sample, "why": why}
