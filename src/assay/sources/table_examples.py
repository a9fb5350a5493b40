"""The rows of a table as a network takes them: its feature columns as inputs, read a block at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from .examples import BATCH, Block
from .source import Batch, Source


@dataclass(frozen=True)
class TableExamples:
    """A source's rows, inputs `[b, columns]`, which go along as fields of their own.

    Labels are the source's; where it is `ordered`, its classes stand in the order of the network's outputs, else only
    integers can be matched with them.
    """

    source: Source
    batch: int = 16 * BATCH  # of rows of numbers, more at a time
    ordered: bool = False

    @property
    def classes(self) -> tuple[str, ...] | None:
        return self.source.vocabulary if self.ordered else None

    @property
    def keyed(self) -> bool:
        return self.source.key is not None

    def __len__(self) -> int:
        return len(self.source)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        """Samples [start, stop), `batch` at a time; raises `SourceError` at a null, naming row and column."""
        return map(self._block, self.source.batches(self.batch, start=start, stop=stop))

    def take(self, rows: Sequence[int]) -> Block:
        """The rows asked for as one block, in that order."""
        return self._block(self.source.take(rows))

    def fingerprint(self) -> str:
        """That of the source."""
        return self.source.fingerprint()

    def known_labels(self) -> np.ndarray | None:
        """Not at hand: they are read with the rows."""
        return None

    def check_unchanging(self) -> None:
        """A table does not change by being read."""

    def where(self, row: int) -> str:
        return self.source.where(row)

    def _block(self, batch: Batch) -> Block:
        vocabulary = self.source.vocabulary
        y = batch.y.numpy()
        labels = y if vocabulary is None or self.ordered else np.array(vocabulary)[y]
        fields = {name: pa.array(batch.x[:, j].numpy()) for j, name in enumerate(self.source.columns)}
        return Block(batch.x, labels, batch.ids, batch.w.numpy(), fields)
