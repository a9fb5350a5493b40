"""What a source is: samples in a fixed order, with ids, re-readable from any row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

HASHED_ROWS = 4096  # rows hashed at a time: part of what the fingerprint means
BLOCK_BYTES = 16 << 20  # feature bytes of a block where nobody asked for a batch size


class Batch(NamedTuple):
    """b consecutive (or taken) samples.

    ids: int64 or string Arrow array [b]. x: features [b, d], float32 or float64. y: class codes int64 [b], or targets
    float64 [b, k]. w: weights float64 [b].
    """

    ids: pa.Array
    x: Tensor
    y: Tensor
    w: Tensor


class Rendered(NamedTuple):
    """One sample for people: a PNG where the features have an image shape, and its fields by column."""

    png: bytes | None
    fields: dict[str, Any]


@runtime_checkable
class Source(Protocol):
    """Samples with ids in a fixed order; nothing depends on batch size or on how the data lie on disk.

    columns: feature names [d]. vocabulary: class names in code order (sorted), None for regression. targets: names of
    the regression targets [k], () for classes. key: name of the id column, None where ids are row positions.
    image_shape: (h, w) or (h, w, c) where a row's features are an image.
    """

    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def vocabulary(self) -> tuple[Any, ...] | None: ...
    @property
    def targets(self) -> tuple[str, ...]: ...
    @property
    def key(self) -> str | None: ...
    @property
    def image_shape(self) -> tuple[int, ...] | None: ...

    def __len__(self) -> int: ...
    def batches(self, size: int, *, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """Rows [start, stop) in order, `size` at a time; only the last batch may be shorter."""
        ...

    def take(self, rows: Sequence[int]) -> Batch:
        """The rows asked for, in the order asked."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 of everything the samples are: ids, features, labels, weights, names; reads every row."""
        ...

    def render(self, rows: Sequence[int]) -> list[Rendered]:
        """The rows asked for, for people."""
        ...

    def spec(self) -> dict[str, Any] | None:
        """What `reopen` needs, as JSON; None where the samples live in memory only."""
        ...

    def where(self, row: int) -> str:
        """The row in words: file and row."""
        ...


def block_rows(source: Source) -> int:
    """Rows of a block of about 16 MiB."""
    return max(256, min(16_384, BLOCK_BYTES // (8 * len(source.columns))))


def content_hash(source: Source) -> str:
    """SHA-256 over names, ids, features, labels and weights, row by row in order.

    The same samples hash the same from Parquet, CSV or memory, in any row groups; file names and times do not count.
    """
    digest = hashlib.sha256(repr((source.columns, source.vocabulary, source.targets)).encode())
    for batch in source.batches(HASHED_ROWS):
        _update_ids(digest, batch.ids)
        for tensor in (batch.x, batch.y, batch.w):
            digest.update(f"{tensor.dtype}".encode())
            digest.update(tensor.numpy().data)
    return digest.hexdigest()


def _update_ids(digest: Any, ids: pa.Array) -> None:
    if pa.types.is_int64(ids.type):
        digest.update(np.ascontiguousarray(ids.to_numpy()).data)
    else:
        digest.update(pc.binary_length(ids).to_numpy().astype(np.int64).tobytes())
        digest.update("".join(ids.to_pylist()).encode())
