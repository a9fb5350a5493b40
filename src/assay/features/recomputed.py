"""Features that are kept nowhere: every pass runs the network again."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from ..errors import ShapeError
from ..sources.store import join, rebatch
from .encode import Encoded

_RUNNING = threading.Lock()  # a network watched by hooks runs one block at a time


class Recomputed:
    """The record batches of `encoded` as a store; only the blocks asked for are computed, whole ones."""

    def __init__(self, encoded: Encoded) -> None:
        self.encoded = encoded

    def __reduce__(self) -> NoReturn:
        raise ShapeError("features that are recomputed cannot go to worker processes; leave workers= out, or keep them")

    @property
    def schema(self) -> pa.Schema:
        return self.encoded.schema

    def __len__(self) -> int:
        return len(self.encoded)

    def read(self, columns: Sequence[str], start: int, stop: int, size: int) -> Iterator[pa.RecordBatch]:
        yield from rebatch(self._pieces(columns, start, stop), size)

    def take(self, columns: Sequence[str], rows: np.ndarray) -> pa.RecordBatch:
        wanted, order = np.unique(rows, return_inverse=True)
        size = self.encoded.examples.batch
        fields = [self.schema.field(name) for name in columns]
        pieces = [pa.RecordBatch.from_pylist([], schema=pa.schema(fields))]
        for block in np.unique(wanted // size):
            inside = wanted[wanted // size == block] - block * size
            pieces.append(self._block(int(block), columns).take(pa.array(inside)))
        return join(pieces).take(pa.array(order.ravel()))

    def limits(self, columns: Sequence[str]) -> tuple[float, float] | None:
        return None

    def where(self, row: int) -> str:
        return self.encoded.examples.where(row)

    def spec(self) -> dict[str, Any] | None:
        return {"kind": "recomputed", "encoder": self.encoded.split.name}

    def _pieces(self, columns: Sequence[str], start: int, stop: int) -> Iterator[pa.RecordBatch]:
        size = self.encoded.examples.batch
        for block in range(start // size, -(-stop // size)):
            first = block * size
            rows = self._block(block, columns)
            yield rows.slice(max(start - first, 0), min(stop - first, len(rows)) - max(start - first, 0))

    def _block(self, block: int, columns: Sequence[str]) -> pa.RecordBatch:
        first = block * self.encoded.examples.batch
        with _RUNNING:
            stop = min(first + self.encoded.examples.batch, len(self))
            return next(self.encoded.batches(first, stop, columns=list(columns)))
