"""The rows of a table as a network takes them: its feature columns as inputs, read a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .examples import BATCH, Block
from .source import Source


@dataclass(frozen=True)
class TableExamples:
    """A source's rows, inputs `[b, columns]`; labels are its own, integers where the network counts its outputs."""

    source: Source
    batch: int = 16 * BATCH  # of rows of numbers, more at a time

    @property
    def classes(self) -> tuple[str, ...] | None:
        return None

    def __len__(self) -> int:
        return len(self.source)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        """Samples [start, stop), `batch` at a time; raises `SourceError` at a null, naming row and column."""
        vocabulary = self.source.vocabulary
        words = None if vocabulary is None else np.array(vocabulary)
        for batch in self.source.batches(self.batch, start=start, stop=stop):
            labels = batch.y.numpy() if words is None else words[batch.y.numpy()]
            yield Block(batch.x, labels, batch.ids, batch.w.numpy())

    def known_labels(self) -> np.ndarray | None:
        """Not at hand: they are read with the rows."""
        return None

    def check_unchanging(self) -> None:
        """A file does not change by being read."""

    def where(self, row: int) -> str:
        return self.source.where(row)
