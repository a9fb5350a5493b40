"""One door for every kind of data: `open_source`."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SourceError
from . import arrays, npz
from .arrow_files import ArrowFiles
from .choose import choose
from .columns_only import ColumnsOnly
from .csv import is_csv, kept_columns, parquet_from_csv, table_from_csv
from .frame import is_frame, table_from, with_labels
from .parquet import ParquetFiles, find
from .source import Source
from .spill import spilled
from .store import Memory, Store
from .table import TableSource, from_spec, parquet_source


def open_source(
    data: Any,
    *,
    label: str | Sequence[str] | None = None,
    features: str | Sequence[str] | None = None,
    embedding: str | None = None,
    id: Any = None,
    weight: Any = None,
    regression: bool | None = None,
    image_shape: Sequence[int] | None = None,
    vocabulary: Sequence[Any] | None = None,
    workdir: str | os.PathLike[str] | None = None,
) -> Source:
    """Samples from a path, arrays, a frame or an Arrow table; a `Source` is returned as it is.

    data: the path of a Parquet or CSV file, of a folder of Parquet files, a glob, an NPZ, (X.npy, y.npy); `(X, y)` or
    `(X, y, ids)` of arrays, tensors or frames; anything with an Arrow C stream.
    label: the label column, or several in regression; without it "label", "y" or "target" if exactly one is there.
    features: names or globs ("f*", "a,b", ["a", "f*"]); without them the only list column, else every numeric column
    that is not label, id or weight. embedding: the list column. In an NPZ, `features` and `label` name its arrays.
    id: the key column (an integer or string; one called "id" is taken by itself), else ids are row positions.
    weight: the weight column. Beside arrays, `id` and `weight` are arrays themselves.
    regression: None takes float labels as targets and all others as classes.
    vocabulary: the classes, where they are known already and their order is given. Else all distinct labels, sorted.
    workdir: where a CSV file is turned into Parquet once; without it the CSV file is held in memory.

    Raises `SourceError`, or `ShapeError` where lengths disagree.
    """
    if hasattr(data, "batches") and isinstance(data, Source):
        return data
    options: dict[str, Any] = {"regression": regression, "image_shape": image_shape, "vocabulary": vocabulary}
    named = {"label": label, "features": features, "embedding": embedding, "id": id, "weight": weight}
    if isinstance(data, str | os.PathLike):
        return _from_path(os.fspath(data), named, options, workdir)
    if isinstance(data, tuple | list) and 2 <= len(data) <= 3:
        return _from_arrays(data, named, options)
    if is_frame(data):
        return choose(Memory(table_from(data)), **named, **options)
    raise SourceError(
        f"cannot read samples from {type(data).__name__}; give a path, a frame, an Arrow table or (X, y)"
        + ("; collect() a lazy frame first" if hasattr(data, "collect") else "")
    )


def reopen(spec: dict[str, Any]) -> Source:
    """The source whose `spec()` this is; raises `SourceError` where files or columns are gone."""
    kind = spec["store"]["kind"]
    if kind == "recomputed":
        files = ParquetFiles.open(spec["store"]["files"])
        store = ColumnsOnly(files, spec["choice"]["embedding"], spec["store"]["encoder"])
        return from_spec(spec, store)
    if kind not in ("arrow", "parquet", "npz", "npy"):
        raise SourceError(f"the samples are {kind} and were not kept as files; audit them again to see them")
    if kind == "arrow":
        source = from_spec(spec, ArrowFiles.open(spec["store"]["files"]))
    else:
        source = parquet_source(spec) if kind == "parquet" else from_spec(spec, npz.load(spec["store"]))
    for name in source.choice.used():
        if name not in source.store.schema.names:
            raise SourceError(f"{source.store.where(0).rpartition(',')[0]} no longer has the column {name!r}")
    return source


def _from_path(
    path: str, named: dict[str, Any], options: dict[str, Any], workdir: str | os.PathLike[str] | None
) -> TableSource:
    files = _files(path)
    suffixes = {_suffix(file) for file in files}
    if len(suffixes) > 1:
        raise SourceError(f"{path} holds files of several kinds ({', '.join(sorted(suffixes))}); give one kind")
    suffix = suffixes.pop()
    if suffix == ".parquet":
        store = ParquetFiles.open(files)
        own = spilled(store) if all(value is None for value in (*named.values(), *options.values())) else None
        return own or choose(store, **named, **options)
    if is_csv(suffix):
        return choose(_csv_store(files, named, workdir), **named, **options)
    if suffix == ".npz" and len(files) == 1:
        names = {"features": named["features"] or named["embedding"], "labels": named["label"]}
        store = npz.open_npz(files[0], {**names, "ids": named["id"], "weights": named["weight"]})
        return _array_source(store, options)
    if suffix == ".npy":
        raise SourceError(f'{path} has no labels beside it; give both files: ("X.npy", "y.npy")')
    raise SourceError(f"{path} is {suffix or 'a file without a suffix'}; give .parquet, .pq, .csv, .npz or .npy files")


def _files(path: str) -> list[str]:
    if os.path.isdir(path):
        return find(path)
    if os.path.exists(path):
        return [path]
    found = sorted(file for file in glob.glob(path, recursive=True) if os.path.isfile(file))
    if not found:
        kind = "no file matches" if glob.has_magic(path) else "there is no file"
        raise SourceError(f"{kind} {path}; give the path of a table, a folder of Parquet files or a glob")
    return found


def _suffix(file: str) -> str:
    """In lower case, with what comes before .gz; .pq is .parquet."""
    *_, before, last = ["", "", *(suffix.lower() for suffix in Path(file).suffixes)]
    return ".parquet" if last == ".pq" else before + last if last == ".gz" else last


def _csv_store(files: list[str], named: dict[str, Any], workdir: str | os.PathLike[str] | None) -> Store:
    kept = kept_columns(named["label"], named["id"])
    if workdir is None:
        return Memory(table_from_csv(files, kept))
    return ParquetFiles.open([parquet_from_csv(files, Path(workdir), kept)])


def _from_arrays(data: Sequence[Any], named: dict[str, Any], options: dict[str, Any]) -> TableSource:
    features, labels = data[0], data[1]
    ids = named["id"] if len(data) == 2 else data[2]
    if named["label"] is not None or named["features"] is not None or named["embedding"] is not None:
        raise SourceError("label=, features= and embedding= name columns of a table; (X, y) needs none of them")
    given = {"features": features, "labels": labels, "ids": ids, "weights": named["weight"]}
    given = {role: value for role, value in given.items() if value is not None}
    if all(isinstance(value, str | os.PathLike) for value in given.values()):
        return _array_source(npz.open_npy({role: os.fspath(value) for role, value in given.items()}), options)
    read = {role: _loaded(value) for role, value in given.items()}
    if is_frame(read["features"]):
        table, names = with_labels(read["features"], *(read.get(role) for role in ("labels", "ids", "weights")))
        return choose(Memory(table), **names, **options)
    shape = arrays.image_shape(read["features"])
    return _array_source(Memory(arrays.table_of(**read)), options, shape)


def _loaded(value: Any) -> Any:
    return npz.read_npy(os.fspath(value)) if isinstance(value, str | os.PathLike) else value


def _array_source(store: Memory, options: dict[str, Any], shape: tuple[int, ...] | None = None) -> TableSource:
    """The source over `arrays.table_of`: its columns are called x0, x1, …"""
    names = store.schema.names
    labels = [name for name in names if name[0] == "y"]
    chosen = {"label": labels, "embedding": "x", "weight": "weight" if "weight" in names else None}
    options = {**options, "image_shape": options["image_shape"] or shape or getattr(store, "image_shape", None)}
    source = choose(store, **chosen, **options)
    return replace(source, columns=tuple(f"x{j}" for j in range(len(source.columns))))
