"""A finished audit as the server reads it, without torch: `audit.json` and the score shards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..errors import OutputError

HERE = "{audit}/"  # how `audit.json` names files that lie in the audit


@dataclass(frozen=True)
class Shards:
    """The score table of the audit in `path`; `starts[i]` is the first row of shard i, the last entry their number."""

    path: Path
    info: dict[str, Any]
    files: tuple[Path, ...]
    starts: NDArray[np.int64]
    stamp: tuple[int, int] | None = None

    @classmethod
    def open(cls, path: str | Path) -> Shards:
        """Raises `OutputError` where there is no finished audit, or it names files that are not its own."""
        folder = Path(path)
        if not (folder / "audit.json").is_file():
            raise OutputError(f"{path} holds no finished audit; give the folder of one")
        stamp = stamp_of(folder)
        try:
            info = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
            rows = [int(entry["rows"]) for entry in info["manifest"]]
            names = [str(entry["file"]) for entry in info["manifest"]]
            own = [str(file) for file in info["source"]["store"].get("files") or () if str(file).startswith(HERE)]
        except (ValueError, KeyError, TypeError, AttributeError) as cause:
            raise OutputError(f"{folder / 'audit.json'} is damaged ({cause}); restore it, or audit again") from cause
        files = tuple(inside(folder, Path("scores") / name) for name in names)
        for file in own:
            inside(folder, Path(file.removeprefix(HERE)))
        return cls(folder, info, files, np.concatenate([[0], np.cumsum(rows)]).astype(np.int64), stamp)

    def check(self) -> None:
        """Raises `OutputError` where another audit took the place of this one."""
        if stamp_of(self.path) != self.stamp:
            raise OutputError(
                f"{self.path.name} was removed or made anew since the review began; start `assay review` again"
            )

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def classes(self) -> list[Any] | None:
        """The class names in code order; None for a regression."""
        return self.info["classes"]

    @property
    def pictures(self) -> bool:
        """Whether a sample has a picture."""
        source = self.info["source"]
        return bool(source.get("image_shape") or source.get("picture"))

    @cached_property
    def is_table(self) -> bool:
        """Whether the samples are no pictures and have numeric columns of their own, beside an embedding or as it."""
        choice = self.info["source"].get("choice") or {}
        if self.pictures or not choice:
            return False
        if choice.get("features"):
            return True
        taken = {*choice["labels"], choice.get("id"), choice.get("weight"), choice.get("embedding")}
        files = self.info["source"]["store"].get("files") or []
        if not isinstance(files, list) or not files:
            return False
        first = str(files[0])
        path = inside(self.path, Path(first.removeprefix(HERE))) if first.startswith(HERE) else Path(first)
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError):
            return False
        return any(_is_number(field.type) and field.name not in taken for field in schema)

    @cached_property
    def schema(self) -> pa.Schema:
        return pq.read_schema(self.files[0])

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """These columns, a shard at a time."""
        for file in self.files:
            yield _read(file, columns)

    def row(self, row: int) -> dict[str, Any]:
        """All scores of one sample."""
        i = int(np.searchsorted(self.starts, row, side="right")) - 1
        return _read(self.files[i], None).slice(row - int(self.starts[i]), 1).to_pylist()[0]


def stamp_of(folder: Path) -> tuple[int, int] | None:
    """Which `audit.json` there is, and when it was written; None where there is none."""
    try:
        found = (folder / "audit.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def inside(folder: Path, name: Path) -> Path:
    """The file of that name in the folder; raises `OutputError` where it lies elsewhere, links followed."""
    file = folder / name
    if name.is_absolute() or not file.resolve().is_relative_to(folder.resolve()):
        raise OutputError(f"{folder.name} names the file {name.name}, which lies outside of it; audit the data again")
    return file


def _read(file: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        with pq.ParquetFile(file, pre_buffer=False) as parquet:
            return parquet.read(columns=None if columns is None else list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as cause:
        raise OutputError(f"{file.name} is missing or damaged; restore it, or audit again") from cause
