"""What is left of a table when its features were computed anew on every pass: all other columns, in Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import SourceError
from .parquet import ParquetFiles


@dataclass(frozen=True)
class ColumnsOnly:
    """The columns of `files`; whoever asks for `missing`, the features, is told to give the `encoder`."""

    files: ParquetFiles
    missing: str
    encoder: str

    @property
    def schema(self) -> pa.Schema:
        return self.files.schema

    def __len__(self) -> int:
        return len(self.files)

    def read(self, columns: Sequence[str], start: int, stop: int, size: int) -> Iterator[pa.RecordBatch]:
        self._check(columns)
        yield from self.files.read(columns, start, stop, size)

    def take(self, columns: Sequence[str], rows: np.ndarray) -> pa.RecordBatch:
        self._check(columns)
        return self.files.take(columns, rows)

    def limits(self, columns: Sequence[str]) -> tuple[float, float] | None:
        return None

    def where(self, row: int) -> str:
        return self.files.where(row)

    def spec(self) -> dict[str, Any] | None:
        return {"kind": "recomputed", "encoder": self.encoder, "files": list(self.files.files)}

    def _check(self, columns: Sequence[str]) -> None:
        if self.missing in columns:
            raise SourceError(
                f"the audit recomputes its features by {self.encoder}; give the model and its training set: "
                'assay.load(path, data=, model=); or audit with Encoding(keep="file"), which keeps them'
            )
