"""Parquet files as one table, read by row range with memory bounded by their pages, not by their row groups."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import SourceError
from .store import ORIGIN, join, plain, plain_schema, rebatch

BUFFER = 64 << 10  # bytes read ahead in a column
ROWS = (1024, 16_384)  # fewest and most rows decoded at a time


@dataclass(frozen=True)
class ParquetFiles:
    """Files of one schema, in order; `ends[i]` is the number of rows up to and with file i.

    Reading row r decodes its row group from the beginning (about 0.1 s per million rows of 64 floats), never another
    one, and holds one page and one dictionary a column.
    """

    files: tuple[str, ...]
    ends: tuple[int, ...]
    schema: pa.Schema
    origins: tuple[str, ...] = ()  # the files that errors name, where these are copies

    @classmethod
    def open(cls, paths: Sequence[str | os.PathLike[str]]) -> ParquetFiles:
        """Reads the footers; raises `SourceError` for a missing or unreadable file and for schemas that differ."""
        files = tuple(os.path.abspath(path) for path in paths)
        counts: list[int] = []
        schema: pa.Schema | None = None
        for file in files:
            with opened(file) as parquet:
                counts.append(parquet.metadata.num_rows)
                found = plain_schema(parquet.schema_arrow)
            schema = found if schema is None else schema
            _check_same(schema, found, files[0], file)
        return cls(files, tuple(accumulate(counts)), schema if schema is not None else pa.schema([]))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def read(self, columns: Sequence[str], start: int, stop: int, size: int) -> Iterator[pa.RecordBatch]:
        yield from rebatch(self._pieces(columns, start, stop, size), size)

    def take(self, columns: Sequence[str], rows: np.ndarray) -> pa.RecordBatch:
        wanted, order = np.unique(rows, return_inverse=True)
        pieces = [self._empty(columns)]
        for i, file in enumerate(self.files):
            first, last = np.searchsorted(wanted, [self._begin(i), self.ends[i]])
            if first < last:
                pieces += _take(file, columns, wanted[first:last] - self._begin(i))
        return join(pieces).take(pa.array(order.ravel()))

    def limits(self, columns: Sequence[str]) -> tuple[float, float] | None:
        lows: list[float] = []
        highs: list[float] = []
        for file in self.files:
            with opened(file) as parquet:
                for statistics in _statistics(parquet.metadata, set(columns)):
                    if statistics is None or not statistics.has_min_max:
                        return None
                    lows.append(float(statistics.min))
                    highs.append(float(statistics.max))
        return (min(lows), max(highs)) if lows else None

    def where(self, row: int) -> str:
        i = min(int(np.searchsorted(self.ends, row, side="right")), len(self.files) - 1)
        origin = (self.schema.metadata or {}).get(ORIGIN)
        place = (self.origins or self.files)[i] if origin is None else origin.decode()
        return f"{place}, row {row - self._begin(i)}" if place else f"row {row}"

    def largest_group(self) -> int:
        """Rows of the largest row group."""
        sizes: list[int] = []
        for file in self.files:
            with opened(file) as parquet:
                sizes.append(int(np.diff(_groups(parquet)).max(initial=0)))
        return max(sizes, default=0)

    def spec(self) -> dict[str, Any]:
        return {"kind": "parquet", "files": list(self.files)}

    def _begin(self, i: int) -> int:
        return self.ends[i - 1] if i else 0

    def _empty(self, columns: Sequence[str]) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([], schema=pa.schema([self.schema.field(name) for name in columns]))

    def _pieces(self, columns: Sequence[str], start: int, stop: int, size: int) -> Iterator[pa.RecordBatch]:
        for i, file in enumerate(self.files):
            begin, end = max(start, self._begin(i)), min(stop, self.ends[i])
            if begin < end:
                yield from _range(file, columns, begin - self._begin(i), end - self._begin(i), size)


@contextmanager
def opened(file: str) -> Generator[pq.ParquetFile]:
    """The open file; whatever Arrow finds wrong with it, now or while it is read, is a `SourceError`."""
    if not Path(file).is_file():
        raise SourceError(f"{file} does not exist; give the path of a Parquet file, a folder of them or a glob")
    try:
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER) as parquet:
            yield parquet
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{file} cannot be read as Parquet: {error}; is it complete?") from error


def find(path: str | os.PathLike[str]) -> list[str]:
    """The Parquet files of a folder, ordered by name; hidden ones and those starting with _ left out."""
    folder = Path(path)
    found = [p for p in folder.rglob("*") if p.suffix in {".parquet", ".pq"} and p.is_file()]
    kept = [p for p in found if not any(part[0] in "._" for part in p.relative_to(folder).parts)]
    if not kept:
        raise SourceError(f"the folder {path} holds no .parquet or .pq file")
    return [str(p) for p in sorted(kept)]


def _groups(parquet: pq.ParquetFile) -> np.ndarray:
    """First row of each row group, and the end of the last."""
    metadata = parquet.metadata
    return np.cumsum([0, *(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))])


def _range(file: str, columns: Sequence[str], start: int, stop: int, size: int) -> Iterator[pa.RecordBatch]:
    with opened(file) as parquet:
        bounds = _groups(parquet)
        groups = [i for i in range(len(bounds) - 1) if bounds[i] < stop and bounds[i + 1] > start]
        row = int(bounds[groups[0]])
        rows = min(max(size, ROWS[0]), ROWS[1])
        for piece in parquet.iter_batches(batch_size=rows, row_groups=groups, columns=list(columns)):
            begin, end = max(start - row, 0), min(stop - row, len(piece))
            row += len(piece)
            if begin < end:
                yield piece.slice(begin, end - begin).select(list(columns))
            if row >= stop:
                return


def _take(file: str, columns: Sequence[str], rows: np.ndarray) -> Iterator[pa.RecordBatch]:
    """Sorted rows of one file; only the row groups that hold one are read, each up to the last one wanted."""
    with opened(file) as parquet:
        bounds = _groups(parquet)
    for begin, end in pairwise(bounds.tolist()):
        wanted = rows[np.searchsorted(rows, begin) : np.searchsorted(rows, end)]
        if not len(wanted):
            continue
        row = int(wanted[0])
        for piece in _range(file, columns, row, int(wanted[-1]) + 1, ROWS[1]):
            here = wanted[(wanted >= row) & (wanted < row + len(piece))] - row
            row += len(piece)
            if len(here):
                yield plain(piece).take(pa.array(here))


def _statistics(metadata: pq.FileMetaData, columns: set[str]) -> Iterator[Any]:
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        for j in range(group.num_columns):
            leaf = group.column(j)
            path = leaf.path_in_schema
            if path in columns or path.partition(".")[0] in columns:
                yield leaf.statistics


def _check_same(schema: pa.Schema, other: pa.Schema, file: str, other_file: str) -> None:
    expected = dict(zip(schema.names, schema.types, strict=True))
    found = dict(zip(other.names, other.types, strict=True))
    for name in expected:
        if name not in found:
            raise SourceError(f"{other_file} has no column {name!r}, but {file} has; give files of one schema")
        if found[name] != expected[name]:
            raise SourceError(
                f"column {name!r} is {found[name]} in {other_file}, but {expected[name]} in {file}; cast one of them"
            )
