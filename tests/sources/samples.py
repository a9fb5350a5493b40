"""Fifty samples in every kind of data that a source can be opened from, and how to compare what is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from assay.sources import Batch, Source

N, D = 50, 4
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, D)).astype(np.float32)
Y = RNG.integers(0, 3, N)
WORDS = np.array(["cat", "ant", "bee"])[Y]
FRAME = {**{f"f{j}": X[:, j] for j in range(D)}, "label": WORDS}


def whole(source: Source, size: int = 1000, **rows: int) -> Batch:
    batches = list(source.batches(size, **rows))
    ids = pa.concat_arrays([batch.ids for batch in batches])
    return Batch(ids, *(torch.cat([batch[k] for batch in batches]) for k in (1, 2, 3)))


def assert_same(one: Batch, other: Batch) -> None:
    assert one.ids.equals(other.ids)
    for a, b in zip(one[1:], other[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def parquet(tmp_path: Path) -> Any:
    pq.write_table(pa.table(FRAME), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


def ragged(tmp_path: Path) -> Any:
    with pq.ParquetWriter(tmp_path / "a.pq", pa.table(FRAME).schema) as writer:
        for start, stop in [(0, 7), (7, 8), (8, 40), (40, 50)]:
            writer.write_table(pa.table(FRAME).slice(start, stop - start))
    return tmp_path / "a.pq"


def folder(tmp_path: Path) -> Any:
    (tmp_path / "d" / "more").mkdir(parents=True)
    for i, (name, start, stop) in enumerate([("a.parquet", 0, 7), ("b.parquet", 7, 7), ("more/c.pq", 7, 50)]):
        pq.write_table(pa.table(FRAME).slice(start, stop - start), tmp_path / "d" / name, row_group_size=3 + i)
    pq.write_table(pa.table(FRAME), tmp_path / "d" / "_ignored.parquet")
    return str(tmp_path / "d")


def globbed(tmp_path: Path) -> Any:
    folder(tmp_path)
    return str(tmp_path / "d" / "**" / "[abc].p*")


def dictionary(tmp_path: Path) -> Any:
    for name, start, stop in [("a", 0, 20), ("b", 20, N)]:  # each file has a dictionary of its own
        words = pa.array(WORDS[start:stop]).dictionary_encode()
        coded = pa.table({**{f"f{j}": X[start:stop, j] for j in range(D)}, "label": words})
        pq.write_table(coded, tmp_path / f"{name}.parquet", row_group_size=9)
    return tmp_path


def embedding(kind: pa.DataType) -> Callable[[Path], Any]:
    def write(tmp_path: Path) -> Any:
        table = pa.table({"label": WORDS, "note": ["x"] * N, "split": np.zeros(N), "e": pa.array(list(X), type=kind)})
        pq.write_table(table, tmp_path / "e.parquet", row_group_size=11)
        return tmp_path / "e.parquet"

    return write


def npz(save: Callable[..., None], **names: str) -> Callable[[Path], Any]:
    def write(tmp_path: Path) -> Any:
        save(tmp_path / "a.npz", **{names.get("x", "X"): X, names.get("y", "y"): WORDS, "other": np.zeros(3)})
        return tmp_path / "a.npz"

    return write


def npy(order: str) -> Callable[[Path], Any]:
    def write(tmp_path: Path) -> Any:
        np.save(tmp_path / "x.npy", np.array(X, order=order))
        np.save(tmp_path / "y.npy", WORDS)
        return str(tmp_path / "x.npy"), tmp_path / "y.npy"

    return write


def of(data: Any) -> Callable[[Path], Any]:
    return lambda _: data


KINDS: dict[str, Callable[[Path], Any]] = {
    "parquet": parquet,
    "ragged row groups": ragged,
    "folder": folder,
    "glob": globbed,
    "dictionary labels": dictionary,
    "fixed-size lists": embedding(pa.list_(pa.float32(), D)),
    "lists": embedding(pa.list_(pa.float32())),
    "large lists": embedding(pa.large_list(pa.float32())),
    "npz stored": npz(np.savez),
    "npz compressed": npz(np.savez_compressed, x="embeddings", y="labels"),
    "npy": npy("C"),
    "npy by column": npy("F"),
    "table": of(pa.table(FRAME)),
    "chunked table": of(pa.concat_tables([pa.table(FRAME).slice(0, 13), pa.table(FRAME).slice(13)])),
    "record batch": of(pa.table(FRAME).to_batches()[0]),
    "pandas": of(pd.DataFrame(FRAME)),
    "pandas categories": of(pd.DataFrame({**FRAME, "label": pd.Categorical(WORDS, categories=["cat", "bee", "ant"])})),
    "pandas index": of(pd.DataFrame(FRAME, index=np.arange(N)[::-1].copy())),
    "polars": of(pl.DataFrame(FRAME)),
    "polars categories": of(pl.DataFrame(FRAME).with_columns(pl.col("label").cast(pl.Categorical))),
    "polars arrays": of(pl.DataFrame({"e": pl.Series(X, dtype=pl.Array(pl.Float32, D)), "label": WORDS})),
    "numpy": of((X, WORDS)),
    "numpy by column": of((np.asfortranarray(X), WORDS)),
    "numpy slices": of((np.repeat(X, 2, axis=0)[::2], np.repeat(WORDS, 2)[::2])),
    "numpy objects": of((X, WORDS.astype(object))),
    "numpy bytes": of((X, WORDS.astype("S"))),
    "big-endian": of((X.astype(">f4"), WORDS)),
    "torch": of((torch.tensor(X, requires_grad=True), list(WORDS))),
    "frame and series": of((pd.DataFrame(X, columns=list("abcd")), pd.Series(WORDS))),
    "polars frame and series": of((pl.DataFrame(X, schema=list("abcd")), pl.Series(WORDS))),
    "arrow frame and array": of((pa.table(FRAME).drop(["label"]), pa.chunked_array([WORDS[:9], WORDS[9:]]))),
}
FILES = [name for name in KINDS if name in ("parquet", "folder", "npz stored", "npz compressed", "npy", "lists")]


def assert_same_take(source: Source, rows: list[int]) -> None:
    everything, taken = whole(source), source.take(rows)
    index = torch.tensor(rows, dtype=torch.int64)
    assert taken.ids.equals(everything.ids.take(pa.array(rows, pa.int64())))
    for a, b in zip(taken[1:], everything[1:], strict=True):
        torch.testing.assert_close(a, b[index], rtol=0, atol=0)


def assert_same_rows(part: Batch, everything: Batch, rows: range) -> None:
    cut = slice(rows.start, rows.stop)
    assert_same(part, Batch(*(whole_part[cut] for whole_part in everything)))
