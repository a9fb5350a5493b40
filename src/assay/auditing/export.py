"""The data with what was found, as a new file: the original rows and columns, and the suggestions beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from ..engine import atomic
from ..errors import OutputError, SourceError
from ..sources.source import Source
from ..sources.table import TableSource

ADDED = (
    "suggested_label", "confidence", "kind", "is_label_issue", "label_score", "cooks_distance", "mislabeled_score",
    "under_represented_score", "boundary_score",
)  # fmt: skip


def export(source: Source, shards: Sequence[Path], info: dict[str, Any], to: str | Path, *, overwrite: bool) -> Path:
    """Streams the source's own columns and the suggestions into `to` (.parquet or .csv), shard by shard.

    Added columns that the source already has are called `assay_…`. Raises `OutputError` where `to` exists (unless
    `overwrite`) or cannot be written, `SourceError` where the data are not those that were audited.
    """
    target = Path(to)
    if target.suffix not in (".parquet", ".csv"):
        raise OutputError(f"{to} ends in {target.suffix or 'nothing'}; name a .parquet or a .csv file")
    if target.exists() and not overwrite:
        raise OutputError(f"{to} exists already; name another file, or pass overwrite=True (--overwrite)")
    if source.fingerprint() != info["source_fingerprint"]:
        raise SourceError(f"{source.where(0)}: the data are no longer those that were audited; audit them again")
    writer: Any = None  # pyarrow is untyped
    with atomic(target) as temporary:
        first = 0
        for shard in shards:
            scores = pq.read_table(shard, columns=list(ADDED))
            table = _joined(source, first, scores, safe=target.suffix == ".csv")
            make: Callable[..., Any] = pq.ParquetWriter if target.suffix == ".parquet" else pa_csv.CSVWriter
            writer = writer or make(temporary, table.schema)
            writer.write_table(table)
            first += len(scores)
        if writer is not None:
            writer.close()
    return target


def _joined(source: Source, first: int, scores: pa.Table, *, safe: bool) -> pa.Table:
    assert isinstance(source, TableSource)
    names = source.store.schema.names
    batches = list(source.store.read(names, first, first + len(scores), max(len(scores), 1)))
    table = pa.Table.from_batches(batches)
    for name in scores.schema.names:
        column = scores[name].cast(pa.string()) if name == "kind" else scores[name]
        table = table.append_column(f"assay_{name}" if name in names else name, column)
    return _for_csv(table) if safe else table


def _for_csv(table: pa.Table) -> pa.Table:
    """Lists have no place in a CSV cell; text that a spreadsheet would run as a formula gets an apostrophe."""
    for k, field in enumerate(table.schema):
        if pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type):
            raise OutputError(f"column {field.name!r} holds lists, which a CSV cannot; export to .parquet")
        if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type):
            text = [_defused(value) for value in table.column(k).cast(pa.string()).to_pylist()]
            table = table.set_column(k, field.name, pa.array(text, pa.string()))
    return table


def _defused(value: str | None) -> str | None:
    return f"'{value}" if value and value[0] in "=+-@\t\r" else value
