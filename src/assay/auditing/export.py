"""The data with what was found, as a new file: the original rows and columns, suggestions and decisions beside."""

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
from .decided import Decided, stretches

ADDED = (
    "suggested_label", "confidence", "kind", "is_label_issue", "label_score", "cooks_distance", "mislabeled_score",
    "under_represented_score", "boundary_score",
)  # fmt: skip


def export(source: Source, shards: Sequence[Path], to: str | Path, decided: Decided | None = None) -> Path:
    """Streams the source's own columns, the suggestions and what was `decided` into `to` (.parquet or .csv).

    Added columns that the source already has are called `assay_…`. Raises `OutputError` where it cannot be written.
    """
    target = Path(to)
    with atomic(target) as temporary:
        tables = _tables(source, shards, decided, safe=target.suffix == ".csv")
        first = next(tables)
        make: Callable[..., Any] = pa_csv.CSVWriter if target.suffix == ".csv" else pq.ParquetWriter
        with make(temporary, first.schema) as writer:
            for table in chain([first], tables):
                writer.write_table(table)
    return target


def write_table(table: pa.Table, to: str | Path) -> None:
    """Writes scores to a .parquet or .csv that `check_target` allowed."""
    target = Path(to)
    with atomic(target) as temporary:
        if target.suffix == ".csv":
            pa_csv.write_csv(for_csv(_plain(table)), temporary)
        else:
            pq.write_table(table, temporary)


def _plain(table: pa.Table) -> pa.Table:
    """The kinds as text, which a CSV has no dictionary for."""
    if "kind" not in table.schema.names:
        return table
    k = table.schema.get_field_index("kind")
    return table.set_column(k, "kind", table["kind"].cast(pa.string()))


def _tables(source: Source, shards: Sequence[Path], decided: Decided | None, *, safe: bool) -> Iterator[pa.Table]:
    for first, scores in stretches(shards, ["given_label", *ADDED], decided, source):
        table = _joined(source, first, scores.drop_columns(["given_label"]))
        yield for_csv(table) if safe else table


def _joined(source: Source, first: int, scores: pa.Table) -> pa.Table:
    assert isinstance(source, TableSource)
    names = source.store.schema.names
    batches = list(source.store.read(names, first, first + len(scores), max(len(scores), 1)))
    table = pa.Table.from_batches(batches)
    for name in scores.schema.names:
        column = scores[name].cast(pa.string()) if name == "kind" else scores[name]
        table = table.append_column(_free(name, names), column)
    return table


def _free(name: str, taken: Sequence[str]) -> str:
    """The name, with `assay_` before it as often as the source has it: an export may be audited and exported again."""
    return _free(f"assay_{name}", taken) if name in taken else name


def for_csv(table: pa.Table) -> pa.Table:
    """Lists have no place in a CSV cell; text that a spreadsheet would run as a formula gets an apostrophe."""
    for k, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            raise OutputError(f"column {field.name!r} holds lists, which a CSV cannot; export to .parquet")
        if is_text(field.type):
            text = [defused(value) for value in table.column(k).to_pylist()]
            table = table.set_column(k, field.name, pa.array(text, pa.string()))
    return table.rename_columns([defused(name) or "" for name in table.schema.names])


def defused(value: str | None) -> str | None:
    """Text that a spreadsheet would run as a formula gets an apostrophe; numbers and all else stay as they are."""
    return f"'{value}" if value and value[0] in "=+-@\t\r" and not _NUMBER.fullmatch(value) else value


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
