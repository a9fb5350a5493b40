"""Any source as one Parquet file of ours, and back: the same batches, bit for bit."""

from __future__ import annotations

import json
import os
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..engine import atomic
from .parquet import ParquetFiles
from .source import Batch, Source, block_rows
from .table import Choice, TableSource, described, from_spec

KEY = b"assay.source"  # in the schema metadata: names, classes and image shape, as JSON


def spill(source: Source, path: str | os.PathLike[str]) -> TableSource:
    """Writes a source to one Parquet file, streamed, in row groups of about 16 MiB.

    Columns: `id` (unless ids are row positions), `features` (fixed-size lists), `label` (class names) or
    `target0`, `target1`, …, and `weight`. What comes back has the batches, fingerprint and image shape of the source.
    Raises `OutputError` where the file cannot be written; no half-written file is left.
    """
    rows = block_rows(source)
    batches = source.batches(rows)
    head = next(batches)
    table = _table(source, head)
    schema = table.schema.with_metadata({KEY: json.dumps(_described(source)).encode()})
    texts = [name for name in schema.names if name in ("id", "label")]
    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema, use_dictionary=texts) as writer:
        for batch in chain([head], batches):
            writer.write_table(_table(source, batch).cast(schema), row_group_size=rows)
    store = ParquetFiles.open([path])
    return from_spec(_described(source), store)


def _described(source: Source) -> dict[str, Any]:
    """As `described`, less the pictures, which are not copied."""
    return {**described(source, _choice(source)), "picture": None}


def spilled(store: ParquetFiles) -> TableSource | None:
    """The source that was spilled into this file, None where it is not ours."""
    described = (store.schema.metadata or {}).get(KEY)
    return from_spec(json.loads(described), store) if described and len(store.files) == 1 else None


def _choice(source: Source) -> Choice:
    labels = tuple(f"target{j}" for j in range(len(source.targets))) or ("label",)
    return Choice((), "features", labels, "id" if source.key is not None else None, "weight")


def _table(source: Source, batch: Batch) -> pa.Table:
    columns = {} if source.key is None else {"id": batch.ids}
    flat = pa.array(batch.x.contiguous().view(-1).numpy())
    columns["features"] = pa.FixedSizeListArray.from_arrays(flat, batch.x.shape[1])
    if source.vocabulary is None:
        columns |= {f"target{j}": pa.array(batch.y[:, j].numpy()) for j in range(batch.y.shape[1])}
    else:
        columns["label"] = pa.array(source.vocabulary).take(pa.array(batch.y.numpy()))
    columns["weight"] = pa.array(batch.w.numpy())
    return pa.table(columns)
