"""Where rows come from: a store gives Arrow record batches of chosen columns for any range of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ORIGIN = b"assay.origin"  # in the schema metadata: the file that this table was made from


@runtime_checkable
class Store(Protocol):
    """Rows of a table in a fixed order. Dictionary and extension columns are read as the values they stand for."""

    @property
    def schema(self) -> pa.Schema: ...
    def __len__(self) -> int: ...
    def read(self, columns: Sequence[str], start: int, stop: int, size: int) -> Iterator[pa.RecordBatch]:
        """Rows [start, stop) in batches of exactly `size`; only the last may be shorter."""
        ...

    def take(self, columns: Sequence[str], rows: np.ndarray) -> pa.RecordBatch:
        """The rows asked for, in that order."""
        ...

    def limits(self, columns: Sequence[str]) -> tuple[float, float] | None:
        """Smallest and largest value of numeric columns where that is cheaply known."""
        ...

    def where(self, row: int) -> str:
        """The row in words."""
        ...

    def spec(self) -> dict[str, Any] | None: ...


@dataclass(frozen=True)
class Memory:
    """An Arrow table in memory."""

    table: pa.Table

    @property
    def schema(self) -> pa.Schema:
        return plain_schema(self.table.schema)

    def __len__(self) -> int:
        return self.table.num_rows

    def read(self, columns: Sequence[str], start: int, stop: int, size: int) -> Iterator[pa.RecordBatch]:
        chosen = self.table.select(list(columns)).slice(start, stop - start)
        yield from rebatch(chosen.to_batches(max_chunksize=size), size)

    def take(self, columns: Sequence[str], rows: np.ndarray) -> pa.RecordBatch:
        """From the batches that hold the rows alone: Arrow would join all of a chunked column first."""
        wanted, order = np.unique(rows, return_inverse=True)
        pieces = [pa.RecordBatch.from_pylist([], schema=pa.schema([self.schema.field(name) for name in columns]))]
        for k, batch in enumerate(self._batches):
            first, last = np.searchsorted(wanted, [self._starts[k], self._starts[k] + len(batch)])
            if first < last:
                inside = pa.array(wanted[first:last] - self._starts[k])
                pieces.append(plain(batch.select(list(columns)).take(inside)))
        return join(pieces).take(pa.array(order.ravel()))

    @cached_property
    def _batches(self) -> list[pa.RecordBatch]:
        return self.table.to_batches()

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum([len(batch) for batch in self._batches])]).astype(np.int64)

    def limits(self, columns: Sequence[str]) -> tuple[float, float] | None:
        return _extremes(values(self.table.column(name)) for name in columns)

    def where(self, row: int) -> str:
        origin = (self.table.schema.metadata or {}).get(ORIGIN)
        return f"{origin.decode()}, row {row}" if origin else f"row {row}"

    def spec(self) -> dict[str, Any] | None:
        return None


def rebatch(pieces: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `size` (the last may be shorter), dictionaries decoded."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for piece in pieces:
        piece = plain(piece)
        while rows + len(piece) >= size:
            cut = size - rows
            yield join([*held, piece.slice(0, cut)])
            held, rows, piece = [], 0, piece.slice(cut)
        if len(piece):
            held.append(piece)
            rows += len(piece)
    if held:
        yield join(held)


def join(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """One record batch of all these rows."""
    return batches[0] if len(batches) == 1 else _one(pa.Table.from_batches(batches))


def plain(rows: Any) -> Any:
    """A table or record batch whose dictionary and extension columns hold the values themselves."""
    if all(plain_type(field.type) == field.type for field in rows.schema):
        return rows
    columns = [_plain_column(column) for column in rows.columns]
    return type(rows).from_arrays(columns, schema=plain_schema(rows.schema))


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema that `plain` gives."""
    return pa.schema([field.with_type(plain_type(field.type)) for field in schema], metadata=schema.metadata)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values a dictionary or extension type stands for; views, which few functions take, are copied."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    return pa.string() if pa.types.is_string_view(kind) else kind


def values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A list column's elements, any other column as it is."""
    return pc.list_flatten(column) if is_list(column.type) else column


def is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _plain_column(column: Any) -> Any:
    if isinstance(column, pa.ChunkedArray):
        kind = plain_type(column.type)
        return pa.chunked_array([_plain_column(chunk) for chunk in column.chunks], type=kind)
    if isinstance(column, pa.DictionaryArray):
        return _plain_column(column.dictionary).take(column.indices)
    if isinstance(column, pa.ExtensionArray):
        return _plain_column(column.storage)
    return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column


def _one(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _extremes(columns: Iterable[pa.ChunkedArray]) -> tuple[float, float] | None:
    found = [pc.min_max(column).as_py() for column in columns]
    if any(pair["min"] is None for pair in found):
        return None
    return float(min(pair["min"] for pair in found)), float(max(pair["max"] for pair in found))
