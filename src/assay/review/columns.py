"""The columns a queue is filtered, ordered and shown by, as flat files beside the shards.

A shard must be decoded to read one row of it; a flat file gives any row at once, and a million rows of a score in a few
milliseconds. Some 60 bytes a row on disk. Nothing but the rows asked for is held in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import OutputError
from .shards import Shards

SCORES = ("cooks_distance", "mislabeled_score", "under_represented_score", "boundary_score", "confidence")
LABELS = ("given_label", "suggested_label")
KINDS = ("typical", "mislabeled", "under-represented", "boundary")
CHUNK = 1 << 19  # rows of a column in memory at a time
FOLDER = "queue"
FORMAT = 1


@dataclass(frozen=True)
class Columns:
    """The flat files of an audit, `types[name]` the NumPy type of each and, for several targets, how many a row."""

    path: Path
    rows: int
    types: dict[str, tuple[str, int]]
    classes: tuple[str, ...] | None

    @classmethod
    def of(cls, shards: Shards) -> Columns:
        """Those of an audit, written once beside its shards (anew where they are of another run)."""
        types = _types(shards)
        classes = None if shards.classes is None else tuple(map(str, shards.classes))
        wanted = {"format": FORMAT, "rows": len(shards), "types": {k: list(v) for k, v in types.items()},
                  "manifest": _digest(shards.info["manifest"])}  # fmt: skip
        found = cls(shards.path / FOLDER, len(shards), types, classes)
        if not found.is_of(wanted):
            _write(shards, found, wanted)
        return found

    def chunks(self, names: Sequence[str], size: int = CHUNK) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        """(first row, the columns' values there), in order."""
        with ExitStack() as opened:
            files = {name: opened.enter_context(open(self.path / name, "rb")) for name in names}
            for first in range(0, self.rows, size):
                yield first, {name: self._next(file, name, size) for name, file in files.items()}

    def take(self, name: str, rows: Sequence[int]) -> list[Any]:
        """A column's values at these rows, in that order."""
        kind, width = self.types[name]
        step = np.dtype(kind).itemsize * width
        with open(self.path / name, "rb") as file:
            found = [_at(file, row * step, step) for row in rows]
        values = np.frombuffer(b"".join(found), kind).reshape(len(rows), width)
        return (values if width > 1 else values[:, 0]).tolist()

    def ids(self, rows: Sequence[int]) -> list[Any]:
        """The samples' ids."""
        if "id" in self.types:
            return self.take("id", rows)
        ends = self.take("id_end", rows)
        starts = [end if row else 0 for row, end in zip(rows, self.take("id_end", _before(rows)), strict=True)]
        with open(self.path / "id_text", "rb") as file:
            return [_at(file, a, b - a).decode("utf-8", "replace") for a, b in zip(starts, ends, strict=True)]

    def labels(self, name: str, rows: Sequence[int]) -> list[Any]:
        """Given or suggested labels by name; numbers, or lists of them, for a regression."""
        values = self.take(name, rows)
        return values if self.classes is None else [self.classes[k] for k in values]

    def _next(self, file: BinaryIO, name: str, size: int) -> NDArray[Any]:
        kind, width = self.types[name]
        values = np.fromfile(file, kind, size * width)
        return values if width == 1 else values.reshape(-1, width)

    def is_of(self, wanted: dict[str, Any]) -> bool:
        """Whether the files are there, whole, and of the run that is wanted."""
        try:
            return json.loads((self.path / "columns.json").read_text(encoding="utf-8")) == wanted and all(
                (self.path / name).stat().st_size == self.rows * np.dtype(kind).itemsize * width
                for name, (kind, width) in self.types.items()
            )
        except (OSError, ValueError):
            return False


def _types(shards: Shards) -> dict[str, tuple[str, int]]:
    label = shards.schema.field("given_label").type
    width = label.list_size if pa.types.is_fixed_size_list(label) else 1
    kind = "<f8" if shards.classes is None else "<i4"
    key = {"id": ("<i8", 1)} if pa.types.is_integer(shards.schema.field("id").type) else {"id_end": ("<i8", 1)}
    flags = {"kind": ("i1", 1), "held_out": ("i1", 1)}
    return {**{name: ("<f8", 1) for name in SCORES}, **{name: (kind, width) for name in LABELS}, **flags, **key}


def _write(shards: Shards, columns: Columns, wanted: dict[str, Any]) -> None:
    """All files into a folder beside, which then takes its place."""
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{FOLDER}.", suffix=".tmp", dir=shards.path))
    except OSError as cause:
        raise OutputError(f"{shards.path.name} cannot be written ({cause}); make the folder writable") from cause
    try:
        _fill(shards, columns, staging)
        (staging / "columns.json").write_text(json.dumps(wanted), encoding="utf-8")
        if columns.path.exists():
            shutil.rmtree(columns.path)
        os.replace(staging, columns.path)
    except OSError as cause:
        if not columns.is_of(wanted):  # another server may have been faster
            raise OutputError(f"{columns.path.name} cannot be written ({cause}); free some space") from cause
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fill(shards: Shards, columns: Columns, staging: Path) -> None:
    names = [*columns.types, *(["id_text"] if "id" not in columns.types else [])]
    with ExitStack() as opened:
        files = {name: opened.enter_context(open(staging / name, "wb")) for name in names}
        end = 0
        for table in shards.tables([*SCORES, *LABELS, "kind", "held_out", "id"]):
            for name, values in _flat(table, shards).items():
                files[name].write(np.ascontiguousarray(values, columns.types[name][0]).data)
            if "id_text" in files:
                texts = [text.encode() for text in table["id"].cast(pa.string()).to_pylist()]
                ends = end + np.cumsum([len(text) for text in texts])
                files["id_end"].write(np.ascontiguousarray(ends, "<i8").data)
                files["id_text"].write(b"".join(texts))
                end = int(ends[-1]) if len(ends) else end


def _flat(table: pa.Table, shards: Shards) -> dict[str, NDArray[Any]]:
    """The table's columns as numbers; a score that is not known counts as the least."""
    found: dict[str, NDArray[Any]] = {name: np.nan_to_num(table[name].to_numpy(), nan=-np.inf) for name in SCORES}
    for name in LABELS:
        if shards.classes is None:
            flat = table[name].combine_chunks()
            flat = flat.flatten() if pa.types.is_nested(flat.type) else flat
            found[name] = flat.to_numpy(zero_copy_only=False)
        else:
            codes = pc.index_in(table[name], pa.array(shards.classes, table[name].type))
            found[name] = codes.to_numpy()
    found["kind"] = pc.index_in(table["kind"].cast(pa.string()), pa.array(KINDS)).to_numpy()
    found["held_out"] = table["held_out"].to_numpy()
    if pa.types.is_integer(table.schema.field("id").type):
        found["id"] = table["id"].to_numpy()
    return found


def _before(rows: Sequence[int]) -> list[int]:
    return [max(row - 1, 0) for row in rows]


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _digest(manifest: Any) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
