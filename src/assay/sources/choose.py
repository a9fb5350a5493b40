"""From a schema and what the user named to the role of every column."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import SourceError
from . import convert
from .store import Store, is_list
from .table import Choice, TableSource

LABELS = ("label", "y", "target")  # taken when no label is named and exactly one is there
READ_ROWS = 65_536  # labels read at a time
CLASSES = 65_536  # more distinct labels than this are not classes


def choose(
    store: Store,
    *,
    label: str | Sequence[str] | None = None,
    features: str | Sequence[str] | None = None,
    embedding: str | None = None,
    id: str | None = None,
    weight: str | None = None,
    regression: bool | None = None,
    image_shape: Sequence[int] | None = None,
    vocabulary: Sequence[Any] | None = None,
) -> TableSource:
    """The source that a store's columns make; raises `SourceError` for what is absent, ambiguous or of no use."""
    schema = store.schema
    _refuse_twins(schema)
    if not len(store):
        raise SourceError(f"{_place(store)} has no rows; there is nothing to audit")
    labels = _labels(schema, label)
    key = _key(schema, id, features)
    if weight is not None:
        _numeric(schema, weight, "weight")
    taken = {*labels, *([key] if key else []), *([weight] if weight else [])}
    names, embedding = _features(schema, features, embedding, taken)
    choice = Choice(names, embedding, labels, key, weight)
    columns = _listed_columns(store, embedding) if embedding else names
    classes = _is_classes(schema, labels, regression)
    words = None if not classes else find_vocabulary(store, labels[0]) if vocabulary is None else tuple(vocabulary)
    shape = _image_shape(image_shape, len(columns))
    return TableSource(store, choice, columns, words, () if classes else labels, key, shape)


def find_vocabulary(store: Store, label: str) -> tuple[Any, ...]:
    """The distinct labels, sorted, in one pass over their column alone."""
    found: set[Any] = set()
    start = 0
    for batch in store.read([label], 0, len(store), READ_ROWS):
        where = _offset(store, start)
        convert.refuse_null(batch.column(0), f"the label column {label!r}", where)
        found.update(pc.unique(convert.as_labels(batch.column(0), label, where)).to_pylist())
        start += len(batch)
        if len(found) > CLASSES:
            raise SourceError(
                f"the label column {label!r} has more than {CLASSES:,} distinct values ({batch.column(0).type}); "
                "name another column, or pass regression=True for a numeric target"
            )
    return tuple(sorted(found))


def _offset(store: Store, start: int) -> convert.Where:
    return lambda row: store.where(start + row)


def _place(store: Store) -> str:
    return store.where(0).rpartition(",")[0] or "the table"


def _refuse_twins(schema: pa.Schema) -> None:
    twins = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twins:
        raise SourceError(f"column names repeat: {convert.some(twins)}; rename them so that each is there once")


def _present(schema: pa.Schema, name: str, role: str) -> pa.DataType:
    if name not in schema.names:
        raise SourceError(
            f"there is no column {name!r} to take as {role}; the columns are {convert.some(schema.names, 30)}"
        )
    return schema.field(name).type


def _numeric(schema: pa.Schema, name: str, role: str) -> None:
    kind = _present(schema, name, role)
    if not is_numeric(kind):
        raise SourceError(f"the {role} column {name!r} is {kind}; it must be numeric")


def is_numeric(kind: pa.DataType) -> bool:
    """Integers, floats, decimals and booleans."""
    types = pa.types
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _labels(schema: pa.Schema, label: str | Sequence[str] | None) -> tuple[str, ...]:
    if label is None:
        found = [name for name in LABELS if name in schema.names]
        if len(found) != 1:
            why = f"{convert.some(found)} are all there" if found else f"none is named {' or '.join(map(repr, LABELS))}"
            raise SourceError(f"which column is the label? {why}; pass label=, one of {convert.some(schema.names, 30)}")
        label = found[0]
    labels = (label,) if isinstance(label, str) else tuple(label)
    if not labels:
        raise SourceError("label=[] names no column")
    for name in labels:
        kind = _present(schema, name, "label")
        if not (is_numeric(kind) or is_text(kind)):
            raise SourceError(f"the label column {name!r} is {kind}; labels are strings, integers, booleans or numbers")
    return labels


def _key(schema: pa.Schema, id: str | None, features: str | Sequence[str] | None) -> str | None:
    """The key column: the one named, or one called "id" unless it was asked for as a feature."""
    if id is None:
        asked = features is not None and any(fnmatchcase("id", p) for p in _patterns(features))
        usable = "id" in schema.names and _identifies(schema.field("id").type) and not asked
        return "id" if usable else None
    kind = _present(schema, id, "id")
    if not _identifies(kind):
        raise SourceError(f"the id column {id!r} is {kind}; ids are integers or strings")
    return id


def _identifies(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or is_text(kind)


def _features(
    schema: pa.Schema, features: str | Sequence[str] | None, embedding: str | None, taken: set[str]
) -> tuple[tuple[str, ...], str | None]:
    """Feature columns and no embedding, or the reverse."""
    if embedding is not None and features is not None:
        raise SourceError("both features= and embedding= are given; name the columns with one of them")
    if features is not None:
        return _named(schema, _patterns(features), taken), None
    lists = [f.name for f in schema if is_list(f.type) and is_numeric(f.type.value_type) and f.name not in taken]
    if embedding is None and len(lists) > 1:
        raise SourceError(f"several columns hold lists of numbers: {convert.some(lists)}; name one with embedding=")
    if embedding is not None or lists:
        return (), _embedding(schema, embedding or lists[0])
    taken = {*taken, *index_columns(schema)}
    names = [f.name for f in schema if is_numeric(f.type) and f.name not in taken]
    if not names:
        others = [f"{f.name} ({f.type})" for f in schema]
        raise SourceError(
            f"there are no feature columns: beside label, id and weight no column is numeric or a list of numbers "
            f"({', '.join(others[:30])}); name them with features= or embedding="
        )
    return tuple(names), None


def index_columns(schema: pa.Schema) -> list[str]:
    """Columns that number or name the rows of a pandas frame, by its metadata or as its CSV files have them."""
    described = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    named = [name for name in described.get("index_columns", []) if isinstance(name, str)]  # a range is a dict
    unnamed = [name for name in schema.names[:1] if name in ("", "Unnamed: 0")]
    return [name for name in schema.names if name in {*named, *unnamed} or name.startswith("__index_level_")]


def _patterns(features: str | Sequence[str]) -> list[str]:
    return [part.strip() for part in features.split(",")] if isinstance(features, str) else list(features)


def _named(schema: pa.Schema, patterns: list[str], taken: set[str]) -> tuple[str, ...]:
    """Columns by name or glob, in the order named; a glob passes over label, id, weight and what is not numeric."""
    chosen: dict[str, None] = {}
    for pattern in patterns:
        if pattern in schema.names:
            _numeric(schema, pattern, "feature")
            if pattern in taken:
                raise SourceError(f"column {pattern!r} is a feature and also label, id or weight; name it once")
            found = [pattern]
        else:
            globbed = [f.name for f in schema if fnmatchcase(f.name, pattern) and f.name not in taken]
            found = [name for name in globbed if is_numeric(schema.field(name).type)]
        if not found:
            raise SourceError(
                f"there are no feature columns: features={pattern!r} matches no numeric column; "
                f"the columns are {convert.some(schema.names, 30)}"
            )
        chosen.update(dict.fromkeys(found))
    return tuple(chosen)


def _embedding(schema: pa.Schema, name: str) -> str:
    kind = _present(schema, name, "embedding")
    if not (is_list(kind) and is_numeric(kind.value_type)):
        raise SourceError(f"the embedding column {name!r} is {kind}; it must be a list of numbers")
    return name


def _listed_columns(store: Store, embedding: str) -> tuple[str, ...]:
    """Names for the elements of a list column, as many as its first row has."""
    kind = store.schema.field(embedding).type
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
    else:
        column = store.take([embedding], np.array([0])).column(0)
        convert.refuse_null(column, f"column {embedding!r}", store.where)
        width = pc.list_value_length(column)[0].as_py()
    if not width:
        raise SourceError(f"there are no feature columns: the lists in column {embedding!r} are empty")
    return tuple(f"{embedding}[{j}]" for j in range(width))


def _is_classes(schema: pa.Schema, labels: tuple[str, ...], regression: bool | None) -> bool:
    """Float labels and several of them are regression targets, others are classes, unless the caller says."""
    kinds = [schema.field(name).type for name in labels]
    floats = all(pa.types.is_floating(kind) or pa.types.is_decimal(kind) for kind in kinds)
    classes = not (floats or len(labels) > 1) if regression is None else not regression
    if classes and len(labels) > 1:
        raise SourceError(f"{len(labels)} label columns are several targets, which is regression; name one for classes")
    for name, kind in zip(labels, kinds, strict=True):
        if not classes and not is_numeric(kind):
            raise SourceError(f"the target column {name!r} is {kind}; regression needs numbers")
    return classes


def _image_shape(shape: Sequence[int] | None, columns: int) -> tuple[int, ...] | None:
    if shape is None:
        return None
    shape = tuple(int(side) for side in shape)
    drawable = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
    if not drawable or math.prod(shape) != columns:
        raise SourceError(
            f"image_shape={shape} does not fit {columns} features; give (h, w) or (h, w, c), c = 1, 3 or 4, "
            "whose product is the number of features"
        )
    return shape
