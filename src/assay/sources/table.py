"""A table as a source: which columns are features, label, id and weight, read from any store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from . import convert
from .parquet import ParquetFiles
from .render import thumbnail
from .source import Batch, Rendered, Source, content_hash
from .store import Store, is_list

PICTURES = 256  # rows of pictures in memory at a time


@dataclass(frozen=True)
class Choice:
    """Columns by their role: feature columns or one embedding column, labels (several in regression), id, weight."""

    features: tuple[str, ...]
    embedding: str | None
    labels: tuple[str, ...]
    id: str | None = None
    weight: str | None = None

    def used(self) -> list[str]:
        """Every column that has a role."""
        roles = (*self.features, self.embedding, *self.labels, self.id, self.weight)
        return [name for name in roles if name is not None]


@dataclass(frozen=True)
class TableSource:
    """Samples from the rows of a store: Parquet files, or an Arrow table in memory.

    Features are float32 where every feature column is float32 or narrower, else float64.
    """

    store: Store
    choice: Choice
    columns: tuple[str, ...]
    vocabulary: tuple[Any, ...] | None
    targets: tuple[str, ...] = ()
    key: str | None = None
    image_shape: tuple[int, ...] | None = None
    picture: str | None = None  # the column of encoded images, where there is one

    def __len__(self) -> int:
        return len(self.store)

    @cached_property
    def dtype(self) -> torch.dtype:
        """float32 or float64."""
        names = [self.choice.embedding] if self.choice.embedding else self.choice.features
        kinds = [self.store.schema.field(name).type for name in names]
        narrow = [kind.value_type if is_list(kind) else kind for kind in kinds]
        return torch.float32 if all(pa.types.is_float16(k) or pa.types.is_float32(k) for k in narrow) else torch.float64

    def batches(self, size: int, *, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """Rows [start, stop) in order, `size` at a time; raises `SourceError` at a null, naming row and column."""
        if size < 1:
            raise ValueError(f"size={size}; a batch needs at least one row")
        stop = len(self) if stop is None else min(stop, len(self))
        for batch in self.store.read(self.choice.used(), start, stop, size):
            yield self._convert(batch, np.arange(start, start + len(batch)))
            start += len(batch)

    def take(self, rows: Sequence[int]) -> Batch:
        """The rows asked for, in that order; raises `IndexError` for one that is not there."""
        asked = np.asarray(rows, dtype=np.int64)
        for row in asked[(asked < 0) | (asked >= len(self))]:
            raise IndexError(f"row {row} of a source of {len(self)} rows (0 to {len(self) - 1})")
        return self._convert(self.store.take(self.choice.used(), asked), asked)

    def fingerprint(self) -> str:
        """SHA-256 of the samples; see `content_hash`."""
        own = getattr(self.store, "fingerprint", None)  # a store that knows its own need not be read
        return (None if own is None else own()) or content_hash(self)

    def render(self, rows: Sequence[int]) -> list[Rendered]:
        """Fields of the rows, and pictures: those of a column, or the features where they have an image shape."""
        hidden = set(self.choice.features) if self.image_shape else set[str]()
        schema = self.store.schema
        shown = [f.name for f in schema if f.name not in hidden and not _bulky(f.type)]
        fields = self.store.take(shown, np.asarray(rows)).to_pylist() if shown else [{} for _ in rows]
        return [Rendered(png, values) for png, values in zip(self.pictures_of(rows), fields, strict=True)]

    def pictures_of(self, rows: Sequence[int]) -> list[bytes | None]:
        """The pictures that `render` gives of these rows, read together."""
        if self.picture is not None:
            return self.store.take([self.picture], np.asarray(rows)).column(0).to_pylist()
        if shape := self.image_shape:
            return [thumbnail(x, shape, self._limits) for x in self.take(rows).x.numpy()]
        return [None] * len(rows)

    def pictures(self, start: int, stop: int) -> Iterator[bytes | None]:
        """The pictures that `render` gives of rows [start, stop), read together."""
        if self.picture is not None:
            for batch in self.store.read([self.picture], start, stop, PICTURES):
                yield from batch.column(0).to_pylist()
        elif shape := self.image_shape:
            for batch in self.batches(PICTURES, start=start, stop=stop):
                yield from (thumbnail(x, shape, self._limits) for x in batch.x.numpy())
        else:
            yield from (None for _ in range(start, stop))

    def spec(self) -> dict[str, Any] | None:
        store = self.store.spec()
        if store is None:
            return None
        return {"store": store, **_listed(described(self, self.choice))}

    def where(self, row: int) -> str:
        return self.store.where(row)

    @cached_property
    def _limits(self) -> tuple[float, float] | None:
        return self.store.limits([self.choice.embedding] if self.choice.embedding else self.choice.features)

    @cached_property
    def _words(self) -> pa.Array:
        return pa.array(self.vocabulary)

    def _convert(self, batch: pa.RecordBatch, rows: np.ndarray) -> Batch:
        def where(row: int) -> str:
            return self.store.where(int(rows[row]))

        choice = self.choice
        if choice.embedding:
            x = convert.embedded(batch, choice.embedding, len(self.columns), self.dtype, where)
        else:
            x = convert.dense(batch, choice.features, self.dtype, where)
        if self.vocabulary is None:
            y = convert.targets(batch, choice.labels, where)
        else:
            y = convert.codes(batch.column(choice.labels[0]), self._words, choice.labels[0], where)
        key = convert.ids(batch, choice.id, rows, where)
        return Batch(key, x, y, convert.weights(batch, choice.weight, where))


DESCRIBED = ("columns", "vocabulary", "targets", "key", "image_shape", "picture")


def described(source: Source, choice: Choice) -> dict[str, Any]:
    """All of a source but its store, as `from_spec` reads it."""
    return {"choice": asdict(choice), **{name: getattr(source, name, None) for name in DESCRIBED}}


def parquet_source(spec: dict[str, Any]) -> TableSource:
    """The source that a spec of Parquet files describes."""
    return from_spec(spec, ParquetFiles.open(spec["store"]["files"]))


def from_spec(spec: dict[str, Any], store: Store) -> TableSource:
    """The spec's columns and names over a store."""
    own = {name: spec.get(name) for name in DESCRIBED}
    return TableSource(store, Choice(**_fixed(spec["choice"])), **_fixed(own))


def _fixed(values: dict[str, Any]) -> dict[str, Any]:
    """Lists, as JSON has them, as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _listed(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _bulky(kind: pa.DataType) -> bool:
    return pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
