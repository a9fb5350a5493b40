"""The data with what was found, as a new file: the original rows and columns, and the suggestions beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from ..engine import atomic
from ..errors import OutputError
from ..sources.choose import is_text
from ..sources.source import Source
from ..sources.table import TableSource

ADDED = (
    "suggested_label", "confidence", "kind", "is_label_issue", "label_score", "cooks_distance", "mislabeled_score",
    "under_represented_score", "boundary_score",
)  # fmt: skip


def check_target(to: str | Path, source: Source, *, overwrite: bool) -> None:
    """Raises `OutputError` where `to` is no .parquet or .csv, is the audited data, or exists (unless `overwrite`)."""
    target = Path(to)
    if target.suffix not in (".parquet", ".csv"):
        raise OutputError(f"{to} ends in {target.suffix or 'nothing'}; name a .parquet or a .csv file")
    if target.exists() and any(target.samefile(file) for file in _files(source) if file.exists()):
        raise OutputError(f"{to} holds the audited data, which are never changed; name another file")
    if target.exists() and not overwrite:
        raise OutputError(f"{to} exists already; name another file, or pass overwrite=True (--overwrite)")


def _files(source: Source) -> list[Path]:
    """The files that the samples are read from, and those that they were made from."""
    store = (source.spec() or {"store": {}})["store"]
    files = store.get("files", [store.get("path", "")])
    origin = source.where(0).rpartition(", row ")[0].partition(" and ")[0]
    return [Path(file) for file in (*(files.values() if isinstance(files, dict) else files), origin)]


def export(source: Source, shards: Sequence[Path], to: str | Path) -> Path:
    """Streams the source's own columns and the suggestions into `to` (.parquet or .csv), shard by shard.

    Added columns that the source already has are called `assay_…`. Raises `OutputError` where it cannot be written.
    """
    target = Path(to)
    with atomic(target) as temporary:
        tables = _tables(source, shards, safe=target.suffix == ".csv")
        first = next(tables)
        make: Callable[..., Any] = pa_csv.CSVWriter if target.suffix == ".csv" else pq.ParquetWriter
        with make(temporary, first.schema) as writer:
            for table in chain([first], tables):
                writer.write_table(table)
    return target


def _tables(source: Source, shards: Sequence[Path], *, safe: bool) -> Iterator[pa.Table]:
    first = 0
    for shard in shards:
        scores = pq.read_table(shard, columns=list(ADDED))
        table = _joined(source, first, scores)
        yield _for_csv(table) if safe else table
        first += len(scores)


def _joined(source: Source, first: int, scores: pa.Table) -> pa.Table:
    assert isinstance(source, TableSource)
    names = source.store.schema.names
    batches = list(source.store.read(names, first, first + len(scores), max(len(scores), 1)))
    table = pa.Table.from_batches(batches)
    for name in scores.schema.names:
        column = scores[name].cast(pa.string()) if name == "kind" else scores[name]
        table = table.append_column(f"assay_{name}" if name in names else name, column)
    return table


def _for_csv(table: pa.Table) -> pa.Table:
    """Lists have no place in a CSV cell; text that a spreadsheet would run as a formula gets an apostrophe."""
    for k, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            raise OutputError(f"column {field.name!r} holds lists, which a CSV cannot; export to .parquet")
        if is_text(field.type):
            text = [_defused(value) for value in table.column(k).to_pylist()]
            table = table.set_column(k, field.name, pa.array(text, pa.string()))
    return table.rename_columns([_defused(name) or "" for name in table.schema.names])


def _defused(value: str | None) -> str | None:
    return f"'{value}" if value and value[0] in "=+-@\t\r" and not _NUMBER.fullmatch(value) else value


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
