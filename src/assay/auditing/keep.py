"""Samples that live in memory, kept as a file of the audit: every column of the user's, so that all can be exported."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..engine import atomic
from ..sources.open import open_source
from ..sources.source import Source, block_rows
from ..sources.spill import KEY, spill
from ..sources.store import Memory
from ..sources.table import TableSource


def kept(source: Source, path: Path) -> Source:
    """The source as files: what lives in memory is written to `path` once."""
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


def _write(source: TableSource, table: pa.Table, path: Path) -> None:
    names = ("columns", "vocabulary", "targets", "key", "image_shape")
    described = {"choice": asdict(source.choice), **{name: getattr(source, name) for name in names}}
    with atomic(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata({KEY: json.dumps(described).encode()}),
            temporary,
            row_group_size=block_rows(source),
            compression="zstd",
        )
