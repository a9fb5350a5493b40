"""Samples keep their identity: fingerprints, pickling, reopening, one file of ours."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from samples import FILES, FRAME, KINDS, WORDS, D, N, X, Y, assert_same, whole

from assay.sources import open_source, reopen, spill


@pytest.mark.parametrize("name", FILES)
def test_file_backed_sources_are_pickled_small_and_reopened_from_json(name: str, tmp_path: Path):
    source = open_source(KINDS[name](tmp_path))
    saved = pickle.dumps(source)
    assert len(saved) < 2000 + N * D
    spec = json.loads(json.dumps(source.spec()))
    for again in (pickle.loads(saved), reopen(spec)):
        assert_same(whole(again), whole(source))
        assert (again.columns, again.vocabulary) == (source.columns, source.vocabulary)
        assert again.fingerprint() == source.fingerprint()


def test_sources_in_memory_have_no_spec_and_are_returned_as_they_are():
    source = open_source((X, Y))
    assert source.spec() is None
    assert open_source(source) is source


def test_the_fingerprint_is_of_the_samples_and_not_of_where_they_lie(tmp_path: Path):
    prints = set()
    for name in ("ragged row groups", "dictionary labels", "table", "polars"):
        (tmp_path / name).mkdir()
        prints.add(open_source(KINDS[name](tmp_path / name)).fingerprint())
    assert len(prints) == 1


def test_the_fingerprint_tells_every_change_of_the_samples():
    table = pa.table({**FRAME, "key": np.arange(N), "name": [f"n{i}" for i in range(N)], "w": np.arange(N) + 1.0})
    other = np.where(np.arange(N) == 7, "cow", WORDS)
    assert other[7] != WORDS[7]
    sources = [
        open_source(table, label="label", features="f*"),
        open_source(table, label="label", features=["f0", "f1", "f3", "f2"]),
        open_source(table, label="label", features="f[012]"),
        open_source(table.take(np.arange(N)[::-1].copy()), label="label", features="f*"),
        open_source(table.set_column(4, "label", pa.array(other)), features="f*"),
        open_source(table.set_column(0, "f0", pa.array(np.nextafter(X[:, 0], np.float32(9)))), features="f*"),
        open_source(table.set_column(0, "f0", pa.array(X[:, 0].astype(float))), features="f*"),
        open_source(table, features="f*", id="name"),
        open_source(table, features="f*", weight="w"),
        open_source(table, features="f*", vocabulary=["bee", "ant", "cat"]),
        open_source(table, features="f*", label="w"),
    ]
    assert len({source.fingerprint() for source in sources}) == len(sources)


@pytest.mark.parametrize("name", ["numpy", "lists", "pandas", "npz stored"])
def test_spilled_samples_are_the_same_bit_for_bit(name: str, tmp_path: Path):
    source = open_source(KINDS[name](tmp_path), image_shape=(2, 2))
    again = spill(source, tmp_path / "spilled.parquet")
    opened = open_source(tmp_path / "spilled.parquet")
    for other in (again, opened, reopen(json.loads(json.dumps(again.spec())))):
        assert_same(whole(other), whole(source))
        assert other.fingerprint() == source.fingerprint()
        assert (other.columns, other.image_shape, other.key) == (source.columns, (2, 2), None)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("key", ["name", "number"])
@pytest.mark.parametrize("label", ["words", "flag", ["t0", "t1"]])
def test_spilling_keeps_ids_labels_weights_and_float64(key: str, label: Any, tmp_path: Path):
    more = {"name": [f"é{i}" for i in range(N)], "number": np.arange(N) * 10, "w": np.arange(N) / 3}
    labels = {"words": WORDS, "flag": Y > 1, "t0": X[:, 0] * 2, "t1": X[:, 1].astype(float)}
    table = pa.table({**more, **labels, "f0": X[:, 0].astype(float), "f1": Y})
    source = open_source(table, label=label, features="f*", id=key, weight="w")
    again = spill(source, tmp_path / "s.parquet")
    assert_same(whole(again), whole(source))
    assert whole(again).x.dtype == torch.float64
    assert (again.key, again.vocabulary, again.targets) == (key, source.vocabulary, source.targets)
    assert again.fingerprint() == source.fingerprint()
