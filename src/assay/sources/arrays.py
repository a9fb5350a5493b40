"""NumPy and torch arrays as an Arrow table, without a copy where the array lies row after row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ..errors import ShapeError, SourceError

SPOKEN = {"x": "features", "id": "ids", "weight": "weights"}  # a column, and what people call the array


def table_of(features: Any, labels: Any, ids: Any = None, weights: Any = None) -> pa.Table:
    """Columns `x` (fixed-size lists), `y` (`y0`, `y1`… for two-dimensional labels), and `id`, `weight` if given."""
    columns = {"x": lists(matrix(features)), **label_columns(labels, "y")}
    if ids is not None:
        columns["id"] = column(ids, "ids")
    if weights is not None:
        columns["weight"] = column(weights, "weights")
    return same_length(columns)


def same_length(columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """The columns as a table; raises `ShapeError` where their lengths differ."""
    (name, reference), *others = columns.items()
    for other, array in others:
        if len(array) != len(reference):
            raise ShapeError(
                f"{len(reference)} rows of {SPOKEN.get(name, name)}, but {len(array)} {SPOKEN.get(other, 'labels')}; "
                "give one of each per sample"
            )
    return pa.table(dict(columns))


def image_shape(features: Any) -> tuple[int, ...] | None:
    """(h, w) or (h, w, c) of an array of images [n, h, w] or [n, h, w, c]."""
    shape = tuple(int(side) for side in getattr(features, "shape", ()))
    drawable = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3, 4))
    return shape[1:] if drawable else None


def numpy_of(array: Any, name: str) -> np.ndarray:
    """A NumPy view of whatever holds numbers or strings."""
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        return (array.float() if array.dtype == torch.bfloat16 else array).numpy()
    try:
        found = np.asarray(array)
    except ValueError as error:
        raise SourceError(f"{name} is no array: {error}; give rows of one length") from error
    return found.astype(str) if found.dtype.kind == "T" else found


def matrix(features: Any) -> np.ndarray:
    """Features as [n, d]; images [n, h, w(, c)] are laid out row by row."""
    x = numpy_of(features, "features")
    if x.dtype.kind not in "fiub":
        raise SourceError(f"features have dtype {x.dtype}; give an array of numbers, e.g. X.astype(np.float32)")
    if x.ndim < 2:
        raise ShapeError(f"features have shape {x.shape}; expected [n, d], e.g. X.reshape(-1, 1)")
    return x.reshape(len(x), -1) if len(x) else x.reshape(0, int(np.prod(x.shape[1:])))


def lists(x: np.ndarray) -> pa.Array:
    """[n, d] as fixed-size lists."""
    if not x.shape[1]:
        raise SourceError(f"features have shape {x.shape}: there are no feature columns")
    native = x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))
    numbers = native.astype(np.float32) if native.dtype.itemsize == 2 and native.dtype.kind == "f" else native
    wide = numbers.astype(np.float64) if numbers.dtype.kind == "f" and numbers.dtype.itemsize > 8 else numbers
    return pa.FixedSizeListArray.from_arrays(pa.array(wide.reshape(-1)), x.shape[1])


def label_columns(labels: Any, name: str) -> dict[str, pa.Array]:
    """Labels [n] as one column, targets [n, k] as k of them."""
    y = numpy_of(labels, "labels") if not isinstance(labels, pa.Array | pa.ChunkedArray) else labels
    if isinstance(y, np.ndarray) and y.ndim == 2 and y.shape[1] > 1:
        return {f"{name}{j}": column(y[:, j], f"labels[:, {j}]") for j in range(y.shape[1])}
    if isinstance(y, np.ndarray) and y.ndim == 2:
        y = y[:, 0]
    return {name: column(y, "labels")}


def column(array: Any, name: str) -> pa.Array:
    """A one-dimensional array as an Arrow column."""
    if isinstance(array, pa.Array):
        return array
    if hasattr(array, "__arrow_c_stream__"):
        return arrow_column(array, name)
    y = numpy_of(array, name)
    if y.ndim != 1:
        raise ShapeError(f"{name} have shape {y.shape}; expected one value per sample")
    if y.dtype.kind == "O":
        return _objects(y, name)
    if y.dtype.kind not in "fiubUS":
        raise SourceError(f"{name} have dtype {y.dtype}; give strings, integers, booleans or numbers")
    native = y if y.dtype.isnative else y.astype(y.dtype.newbyteorder("="))
    return pa.array(np.char.decode(native, "utf-8") if y.dtype.kind == "S" else np.ascontiguousarray(native))


def arrow_column(array: Any, name: str) -> pa.Array:
    """A pandas or polars series, or a chunked Arrow array."""
    try:
        return pa.chunked_array(array).combine_chunks()
    except (pa.ArrowException, TypeError) as error:
        raise SourceError(f"{name} cannot be read: {error}; give labels of one type, e.g. y.astype(str)") from error


def _objects(y: np.ndarray, name: str) -> pa.Array:
    """An object array is taken where all its values are of one kind."""
    kinds = [_kind(value) for value in y]
    for row, kind in enumerate(kinds):
        if kind is None:
            raise SourceError(f"{name}[{row}] is {y[row]!r}, of type {type(y[row]).__name__}; give strings or numbers")
        if kind != kinds[0]:
            raise SourceError(
                f"{name} are of mixed type: {name}[0] = {y[0]!r} is {kinds[0]}, {name}[{row}] = {y[row]!r} is {kind}; "
                "give one type, e.g. y.astype(str)"
            )
    return pa.array(y.tolist())


def _kind(value: object) -> str | None:
    names = (
        (bool | np.bool_, "boolean"),
        (int | np.integer, "integer"),
        (float | np.floating, "float"),
        (str, "string"),
    )
    return next((name for types, name in names if isinstance(value, types)), None)
