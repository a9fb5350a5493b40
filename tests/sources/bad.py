"""A good little table to spoil, and how an audit reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from assay.sources import Source, merge, open_source, scan_shard

X = np.arange(12.0).reshape(6, 2)
Y = [0, 1, 0, 1, 0, 1]
FRAME = {"a": X[:, 0], "b": X[:, 1], "y": Y}


def audited(data: Any, **options: Any) -> Source:
    """Opens and scans, as an audit does before any long work."""
    source = open_source(data, **options)
    merge([scan_shard(source, 0, 4), scan_shard(source, 4, len(source))], source)
    return source


def having(**columns: Any) -> pa.Table:
    return pa.table({**FRAME, **columns})


def with_value(column: str, row: int, value: Any) -> pa.Table:
    values = list(FRAME[column])
    values[row] = value
    return having(**{column: values})
