"""Samples for a fitted head: its columns found by name, its classes by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import ShapeError
from .arrays import numpy_of
from .convert import some
from .frame import is_frame
from .identity import hashed, refuse_twins
from .open import open_source
from .scan import check
from .source import Batch, Source
from .table import TableSource


def whole(source: Source) -> Batch:
    """All rows of a source as one batch in memory."""
    return next(iter(source.batches(len(source))))


def read_samples(
    columns: Sequence[str],
    vocabulary: Sequence[Any] | None,
    features: Any,
    labels: Any,
    *,
    weights: Any = None,
    ids: Any = None,
) -> Batch:
    """Features and labels in memory, as a head of these columns and classes wants them; every value is checked.

    A frame's columns are found by name, those of an array by position. `labels` are class names of the vocabulary, or
    targets where that is None. Raises `SourceError`, `ShapeError`.
    """
    data = (features, labels) if ids is None else (features, labels, ids)
    opened = open_source(data, weight=weights, regression=vocabulary is None, vocabulary=vocabulary)
    source = matched(opened, columns, vocabulary)
    batch = whole(source)
    check(batch, source, 0)
    if ids is not None:
        refuse_twins(hashed(batch.ids), source)
    return batch


def read_features(columns: Sequence[str], features: Any) -> Any:
    """Features alone, `[n, columns]`; the same checks."""
    rows = len(features) if is_frame(features) else len(numpy_of(features, "features"))
    return read_samples(columns, None, features, np.zeros(rows)).x


def matched(source: Source, columns: Sequence[str], vocabulary: Sequence[Any] | None) -> Source:
    """The source with its features in the order of `columns` and its labels as codes of `vocabulary`.

    Columns of tables are found by name and further ones left aside; those of embeddings, and any for a head that was
    made of arrays (x0, x1, …) or of embeddings (e[0], e[1], …), go by position. Raises `ShapeError` for a missing
    column or another number of them, and where a source that is no table has other classes.
    """
    if isinstance(source, TableSource) and source.choice.embedding is None and not _nameless(columns):
        missing = [name for name in columns if name not in source.columns]
        if missing:
            raise ShapeError(
                f"{len(missing)} of the head's {len(columns)} columns are missing: {some(missing)}; "
                f"the features found are {some(source.columns)}"
            )
        choice = replace(source.choice, features=tuple(columns))
        source = replace(source, choice=choice, columns=tuple(columns))
    if len(source.columns) != len(columns):
        raise ShapeError(f"{len(source.columns)} feature columns; the head was made for {len(columns)}")
    if (source.vocabulary is None) != (vocabulary is None):
        found, wanted = ("numeric targets", "classes") if vocabulary is not None else ("classes", "numeric targets")
        raise ShapeError(f"the labels are {found}, but the head was fitted to {wanted}")
    if vocabulary is None or source.vocabulary == tuple(vocabulary):
        return source
    if not isinstance(source, TableSource):
        raise ShapeError(f"the source's classes are {some(source.vocabulary or ())}; the head's are {some(vocabulary)}")
    return replace(source, vocabulary=tuple(vocabulary))


def _nameless(columns: Sequence[str]) -> bool:
    return all(name == f"x{j}" or name.endswith(f"[{j}]") for j, name in enumerate(columns))
