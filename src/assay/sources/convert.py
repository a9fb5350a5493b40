"""Arrow columns to tensors: features, class codes, targets, weights, ids. A null is an error that says where."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ..errors import SourceError

Where = Callable[[int], str]  # the place, in words, of a row of the batch at hand

FLOATS = {torch.float32: pa.float32(), torch.float64: pa.float64()}


def dense(batch: pa.RecordBatch, names: Sequence[str], dtype: torch.dtype, where: Where) -> Float[Tensor, "b d"]:
    """Numeric columns side by side."""
    columns = [batch.column(name) for name in names]
    for name, column in zip(names, columns, strict=True):
        refuse_null(column, f"column {name!r}", where)
    if not len(batch):
        return torch.empty(0, len(names), dtype=dtype)
    cast = [_cast(column, FLOATS[dtype]) for column in columns]
    matrix = pa.RecordBatch.from_arrays(cast, names=[str(j) for j in range(len(cast))]).to_tensor(row_major=True)
    return torch.from_numpy(np.require(matrix.to_numpy(), requirements=["C", "W"]))


def embedded(batch: pa.RecordBatch, name: str, width: int, dtype: torch.dtype, where: Where) -> Float[Tensor, "b d"]:
    """A list column of `width` numbers a row."""
    column = batch.column(name)
    refuse_null(column, f"column {name!r}", where)
    if not pa.types.is_fixed_size_list(column.type):
        lengths = pc.list_value_length(column).to_numpy()
        unequal = np.flatnonzero(lengths != width)
        if len(unequal):
            row = int(unequal[0])
            raise SourceError(
                f"{where(row)}: the list in column {name!r} has {lengths[row]} values, but the first row has {width}; "
                "give embeddings of one length"
            )
    elements = column.flatten()
    refuse_null(elements, f"an element of column {name!r}", lambda i: where(i // width))
    numbers = _cast(elements, FLOATS[dtype]).to_numpy(zero_copy_only=False)
    return torch.from_numpy(np.array(numbers).reshape(len(batch), width))


def codes(column: pa.Array, vocabulary: pa.Array, name: str, where: Where) -> Int64[Tensor, " b"]:
    """The position of each label in the vocabulary."""
    refuse_null(column, f"the label column {name!r}", where)
    labels = as_labels(column, name, where)
    if labels.type != vocabulary.type:
        raise SourceError(
            f"the labels in column {name!r} are {labels.type}, but the classes are {vocabulary.type} "
            f"({some(vocabulary.to_pylist())}); give labels of that type"
        )
    found = pc.index_in(labels, value_set=vocabulary)
    if found.null_count:
        row = first(found.is_null())
        raise SourceError(
            f"{where(row)}: label {column[row].as_py()!r} in column {name!r} is not one of the {len(vocabulary)} "
            f"classes ({some(vocabulary.to_pylist())}); correct it or drop the row"
        )
    return torch.from_numpy(found.to_numpy().astype(np.int64))


def targets(batch: pa.RecordBatch, names: Sequence[str], where: Where) -> Float64[Tensor, "b k"]:
    """Numeric target columns side by side."""
    return dense(batch, names, torch.float64, where)


def weights(batch: pa.RecordBatch, name: str | None, where: Where) -> Float64[Tensor, " b"]:
    """The weight column, 1 everywhere without one."""
    if name is None:
        return torch.ones(len(batch), dtype=torch.float64)
    return dense(batch, [name], torch.float64, where)[:, 0]


def ids(batch: pa.RecordBatch, name: str | None, rows: np.ndarray, where: Where) -> pa.Array:
    """The key column as int64 or string, the row positions without one."""
    if name is None:
        return pa.array(rows, type=pa.int64())
    column = batch.column(name)
    refuse_null(column, f"the id column {name!r}", where)
    return _whole(column, f"the id column {name!r}", where) if pa.types.is_integer(column.type) else _text(column)


def as_labels(column: pa.Array, name: str, where: Where) -> pa.Array:
    """Labels as bool, int64 or string; whole floats count as integers."""
    if pa.types.is_boolean(column.type):
        return column
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return _whole(column, f"the label column {name!r}", where)
    return _text(column)


def refuse_null(column: pa.Array, what: str, where: Where) -> None:
    if column.null_count:
        raise SourceError(f"{where(first(column.is_null()))}: {what} is null; fill the value in or drop the row")


def first(mask: pa.Array) -> int:
    """The first row where the mask holds."""
    return int(np.flatnonzero(mask.to_numpy(zero_copy_only=False))[0])


def some(names: Sequence[object], most: int = 8) -> str:
    """The first few names in words."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f", … {len(names) - most} more" if len(names) > most else "")


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if column.type == kind else pc.cast(column, kind, safe=False)


def _text(column: pa.Array) -> pa.Array:
    return column if pa.types.is_string(column.type) else pc.cast(column, pa.string())


def _whole(column: pa.Array, what: str, where: Where) -> pa.Array:
    if pa.types.is_int64(column.type):
        return column
    try:
        return pc.cast(column, pa.int64())
    except pa.ArrowInvalid as error:
        numbers = column.to_numpy(zero_copy_only=False)
        row = next(i for i, value in enumerate(numbers.tolist()) if value != value or not _fits(value))
        raise SourceError(
            f"{where(row)}: {what} holds {numbers[row]}, which is not a 64-bit integer; "
            'give integers or strings (for numeric targets family="linear", in open_source regression=True)'
        ) from error


def _fits(value: int | float) -> bool:
    return abs(value) < 2**63 and float(value).is_integer()
