"""Arrow IPC files as one table, memory-mapped: any row is read without decoding, and the system keeps what fits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import SourceError
from .store import Memory


@dataclass(frozen=True)
class ArrowFiles:
    """Files of one schema, in order. What travels to a worker is their names."""

    files: tuple[str, ...]

    @classmethod
    def open(cls, paths: Sequence[str | os.PathLike[str]]) -> ArrowFiles:
        """Maps the files; raises `SourceError` where one is missing or is no Arrow file."""
        found = cls(tuple(os.path.abspath(path) for path in paths))
        _ = found._memory
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrowFiles, (self.files,)

    @cached_property
    def _memory(self) -> Memory:
        return Memory(pa.concat_tables([_mapped(file) for file in self.files]))

    @property
    def schema(self) -> pa.Schema:
        return self._memory.schema

    def __len__(self) -> int:
        return len(self._memory)

    def read(self, columns: Sequence[str], start: int, stop: int, size: int) -> Iterator[pa.RecordBatch]:
        yield from self._memory.read(columns, start, stop, size)

    def take(self, columns: Sequence[str], rows: np.ndarray) -> pa.RecordBatch:
        return self._memory.take(columns, rows)

    def limits(self, columns: Sequence[str]) -> tuple[float, float] | None:
        return self._memory.limits(columns)

    def where(self, row: int) -> str:
        return self._memory.where(row)

    def spec(self) -> dict[str, Any] | None:
        return {"kind": "arrow", "files": list(self.files)}


def _mapped(file: str) -> pa.Table:
    try:
        with pa.memory_map(file) as mapped:
            return pa.ipc.open_file(mapped).read_all()
    except (OSError, pa.ArrowInvalid) as cause:
        raise SourceError(f"{file} cannot be read as an Arrow file: {cause}") from cause
