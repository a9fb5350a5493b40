"""Features that are kept nowhere: every pass runs the network again."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
from torch import nn

from ..errors import ShapeError
from ..sources.examples import Examples
from ..sources.store import join, rebatch
from .encode import Encoded

SPARSE = 8  # rows are taken one by one where they are fewer than this part of the blocks they lie in


class Recomputed:
    """The record batches of `encoded` as a store; only the blocks asked for are computed, whole ones.

    Every thread runs a copy of the network of its own: hooks of one do not see the runs of another.
    """

    def __init__(self, encoded: Encoded) -> None:
        examples = encoded.examples  # a block is read at a time: processes would be started for each
        self.encoded = (
            replace(encoded, examples=replace(examples, workers=0)) if isinstance(examples, Examples) else encoded
        )
        self._own = threading.local()

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
        blocks = np.unique(wanted // size)
        alone = self._mine().rows(wanted.tolist(), columns) if SPARSE * len(wanted) < size * len(blocks) else None
        if alone is not None:
            return alone.take(pa.array(order.ravel()))
        fields = [self.schema.field(name) for name in columns]
        pieces = [pa.RecordBatch.from_pylist([], schema=pa.schema(fields))]
        for block in blocks:
            inside = wanted[wanted // size == block] - block * size
            pieces.append(self._block(int(block), columns).take(pa.array(inside)))
        return join(pieces).take(pa.array(order.ravel()))

    def fingerprint(self) -> str | None:
        """Of the network and the samples, where that is known without running all of it."""
        return self.encoded.fingerprint()

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
        stop = min(first + self.encoded.examples.batch, len(self))
        return next(self._mine().batches(first, stop, columns=list(columns)))

    def _mine(self) -> Encoded:
        """This thread's copy."""
        if not hasattr(self._own, "encoded"):
            split = self.encoded.split
            model = copy.deepcopy(split.model)
            linear = dict(model.named_modules())[split.layer]
            assert isinstance(linear, nn.Linear)
            self._own.encoded = replace(self.encoded, split=replace(split, model=model, linear=linear))
        return self._own.encoded
