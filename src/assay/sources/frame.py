"""pandas, polars and Arrow objects: whatever offers an Arrow C stream becomes a table in memory."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ..errors import SourceError
from . import arrays
from .convert import some
from .store import plain

FREE = ("label", "y", "target", "__label__")  # names for a label that came beside its frame


def is_frame(data: Any) -> bool:
    """A data frame, an Arrow table, batch or stream."""
    return isinstance(data, pa.Table | pa.RecordBatch) or hasattr(data, "__arrow_c_stream__")


def table_from(data: Any) -> pa.Table:
    """The object as an Arrow table; raises `SourceError` where a column has no single type."""
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    try:
        return plain(data if isinstance(data, pa.Table) else pa.table(data))
    except (pa.ArrowException, TypeError, ValueError) as error:
        said = "; ".join(str(part) for part in error.args)
        raise SourceError(
            f"the {type(data).__module__.partition('.')[0]} frame cannot be read: {said}; "
            "a column must be of one type, e.g. frame['y'] = frame['y'].astype(str)"
        ) from error


def with_labels(frame: Any, labels: Any, ids: Any = None, weights: Any = None) -> tuple[pa.Table, dict[str, Any]]:
    """A frame of features with labels (ids, weights) given beside it, and the names these got in one table."""
    table = table_from(frame)
    if not table.num_columns:
        raise SourceError("the frame of features has no columns")
    extra = arrays.label_columns(labels, _free(table.column_names, FREE))
    names: dict[str, Any] = {"label": list(extra)}
    for role, given in (("id", ids), ("weight", weights)):
        if given is not None:
            names[role] = _free(table.column_names, (role, f"__{role}__"))
            extra[names[role]] = arrays.column(given, f"{role}s")
    columns = dict(zip(table.column_names, table.columns, strict=True))
    if len(columns) < table.num_columns:
        raise SourceError(f"column names repeat: {some(table.column_names)}; rename them so that each is there once")
    return arrays.same_length({**columns, **extra}), names


def _free(taken: list[str], names: tuple[str, ...]) -> str:
    return next(name for name in names if name not in taken)
