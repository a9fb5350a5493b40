"""CSV files, read once, block by block: into a Parquet file, or into memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from ..engine import atomic
from ..errors import OutputError, SourceError
from .choose import LABELS, is_numeric, is_text
from .convert import first
from .store import ORIGIN

BLOCK = 4 << 20  # bytes parsed at a time; the types of the columns are those of the first block
NUMBER = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"


def is_csv(suffix: str) -> bool:
    return suffix in (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def table_from_csv(files: Sequence[str], kept: Sequence[str]) -> pa.Table:
    """The files' rows in memory; columns `kept` (label, id) stay integers or strings, other numbers become float64."""
    schema = _schema(files[0], kept)
    table = pa.Table.from_batches(_batches(files, schema, kept), schema)
    return table.replace_schema_metadata(_origin(files))


def parquet_from_csv(files: Sequence[str], folder: Path, kept: Sequence[str]) -> Path:
    """The files' rows as one Parquet file in `folder`, named for their content: made once."""
    made_of = repr((sorted(kept), [_digest(file) for file in files]))
    stem, digest = Path(files[0]).name.partition(".")[0], hashlib.sha256(made_of.encode()).hexdigest()
    path = folder / f"{stem}-{digest[:16]}.parquet"
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error}; name another folder") from error
    schema = _schema(files[0], kept).with_metadata(_origin(files))
    texts = [field.name for field in schema if is_text(field.type)]
    with atomic(path, resumes=True) as temporary, pq.ParquetWriter(temporary, schema, use_dictionary=texts) as writer:
        for batch in _batches(files, schema, kept):
            writer.write_table(pa.Table.from_batches([batch]), row_group_size=16_384)
    return path


def _origin(files: Sequence[str]) -> dict[bytes, bytes]:
    others = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return {ORIGIN: f"{os.path.abspath(files[0])}{others}".encode()}


def _batches(files: Sequence[str], schema: pa.Schema, kept: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for file in files:
        row = 0
        for batch in _blocks(file, schema):
            for name in set(kept) & set(schema.names):
                _refuse_empty(batch.column(name), name, file, row)
            row += len(batch)
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def _refuse_empty(column: pa.Array, name: str, file: str, start: int) -> None:
    empty = pc.equal(column, "") if is_text(column.type) else column.is_null()
    if pc.any(empty).as_py():
        row = start + first(empty)
        raise SourceError(f"{file}, row {row} (line {row + 2}): column {name!r} is empty; fill it in or drop the row")


def _blocks(file: str, schema: pa.Schema | None = None) -> Iterator[pa.RecordBatch]:
    types = {field.name: field.type for field in schema} if schema is not None else None
    try:
        with pyarrow.csv.open_csv(
            file,
            read_options=pyarrow.csv.ReadOptions(block_size=BLOCK),
            parse_options=pyarrow.csv.ParseOptions(delimiter=_delimiter(file)),
            convert_options=pyarrow.csv.ConvertOptions(column_types=types, include_columns=list(types or [])),
        ) as reader:
            yield from reader
    except (pa.ArrowException, OSError) as error:
        hint = "; the types were read from the beginning of the file" if types else ""
        raise SourceError(f"{file} cannot be read as CSV: {error}{hint}; correct the file") from error


def _schema(file: str, kept: Sequence[str]) -> pa.Schema:
    """Types from the first block: numbers float64; `kept` columns bool, int64, float64 or string."""
    for block in _blocks(file):
        for field, column in zip(block.schema, block.columns, strict=True):
            if is_text(field.type) and field.name not in kept:
                _refuse_almost_numeric(file, field.name, column)
        return pa.schema([pa.field(f.name, _type(f, f.name in kept)) for f in block.schema])
    raise SourceError(f"{file} has no rows; there is nothing to audit")


def _type(field: pa.Field, kept: bool) -> pa.DataType:
    if not is_numeric(field.type):
        return pa.string()
    return field.type if kept or pa.types.is_boolean(field.type) else pa.float64()


def _refuse_almost_numeric(file: str, name: str, column: pa.Array) -> None:
    """A column of numbers with a "?" in it would otherwise be taken for text and left out without a word."""
    number = pc.match_substring_regex(column, NUMBER)
    if pc.mean(number).as_py() > 0.5:
        row = first(pc.invert(number))
        raise SourceError(
            f"{file}, row {row} (line {row + 2}): column {name!r} holds {column[row].as_py()!r}, but most of it is "
            "numbers; correct the value, drop the row, or drop the column if it is no feature"
        )


def _delimiter(file: str) -> str:
    """Tab, semicolon or comma: whichever the first line has most of."""
    with pa.input_stream(file, compression="detect") as stream:
        line = stream.read(1 << 16).split(b"\n", 1)[0]
    return max(",;\t", key=lambda mark: line.count(mark.encode()))


def _digest(file: str) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def kept_columns(label: str | Sequence[str] | None, id: str | None) -> list[str]:
    """The columns that keep their type: those named, or those that are taken when nothing is named."""
    labels = LABELS if label is None else [label] if isinstance(label, str) else label
    return [*labels, id or "id"]
