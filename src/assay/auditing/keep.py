"""Samples as files that an audit can read again and again: what lives in memory is kept, what reads badly is copied."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..engine import atomic
from ..sources.choose import is_text
from ..sources.open import open_source
from ..sources.parquet import ParquetFiles
from ..sources.source import Source, block_rows
from ..sources.spill import KEY, spill
from ..sources.store import ORIGIN, Memory
from ..sources.table import TableSource, described

GROUPS = 4  # shards that a row group may hold before it is copied


def kept(source: Source, path: Path) -> Source:
    """The source as files: what lives in memory is written to `path` once, and so are the columns beside features that
    are computed anew on every pass."""
    if _is_recomputed(source):
        assert isinstance(source, TableSource)
        if not path.exists():
            _write_columns(source, path)
        return source
    if source.spec() is not None:
        return source
    if path.exists():
        return open_source(path)
    path.parent.mkdir(exist_ok=True)
    if not isinstance(source, TableSource) or not isinstance(source.store, Memory):
        return spill(source, path)
    try:
        _write(source, source.store.table, path)
    except pa.ArrowException:  # a column without a role, of a type that Parquet does not know
        return spill(source, path)
    return open_source(path)


def spec_of(source: Source, path: Path) -> dict[str, Any]:
    """How to open a source that `kept` made with this path."""
    spec = source.spec()
    if spec is None:
        raise AssertionError(f"{type(source).__name__} was not kept")
    if _is_recomputed(source):
        return {**spec, "store": {**spec["store"], "files": [str(path.absolute())]}}
    return spec


def _is_recomputed(source: Source) -> bool:
    spec = source.spec()
    return spec is not None and spec["store"]["kind"] == "recomputed"


def _write_columns(source: TableSource, path: Path) -> None:
    """All columns of the store but the features."""
    names = [name for name in source.store.schema.names if name != source.choice.embedding]
    path.parent.mkdir(exist_ok=True)
    rows = 1 << 17
    schema = pa.schema([source.store.schema.field(name) for name in names])
    with atomic(path, resumes=True) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for batch in source.store.read(names, 0, len(source), rows):
            writer.write_batch(batch.cast(schema), row_group_size=rows)


def regrouped(source: Source, folder: Path, rows: int) -> Source:
    """The source, or a copy for this run in row groups of `rows` where its own hold more than `GROUPS` times as many.

    A row is decoded from the beginning of its row group: of groups of a million rows, as other tools write them, every
    shard would decode half a million, and every thread hold a page of each column.
    """
    if not has_large_groups(source, rows):
        return source
    assert isinstance(source, TableSource)
    assert isinstance(source.store, ParquetFiles)
    store = source.store
    folder.mkdir(parents=True, exist_ok=True)
    used = source.choice.used()
    copies = [folder / f"{i:05d}.parquet" for i in range(len(store.files))]
    for file, copy in zip(store.files, copies, strict=True):
        if not copy.exists():
            _copy(ParquetFiles.open([file]), used, copy, rows)
    return replace(source, store=replace(ParquetFiles.open(copies), origins=store.files))


def has_large_groups(source: Source, rows: int) -> bool:
    """Whether a row group of its Parquet files holds more than `GROUPS` shards of `rows`."""
    store = source.store if isinstance(source, TableSource) else None
    return isinstance(store, ParquetFiles) and store.largest_group() > GROUPS * rows


def _copy(store: ParquetFiles, columns: list[str], path: Path, rows: int) -> None:
    fields = [store.schema.field(name) for name in columns]
    schema = pa.schema(fields, store.schema.metadata)
    texts = [field.name for field in fields if is_text(field.type)]
    with atomic(path, resumes=True) as temporary, pq.ParquetWriter(temporary, schema, use_dictionary=texts) as writer:
        for batch in store.read(columns, 0, len(store), rows):
            writer.write_batch(batch.cast(schema), row_group_size=rows)


def _write(source: TableSource, table: pa.Table, path: Path) -> None:
    metadata = {KEY: json.dumps(described(source, source.choice)).encode(), ORIGIN: _origin(source).encode()}
    with atomic(path, resumes=True) as temporary:
        pq.write_table(
            table.replace_schema_metadata(metadata),
            temporary,
            row_group_size=block_rows(source),
            compression="zstd",
        )


def _origin(source: Source) -> str:
    """What errors call the place of the rows: nothing, where the caller handed them over in memory."""
    return source.where(0).rpartition("row 0")[0].removesuffix(", ")
