"""The same samples from every kind of data, in any batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import KINDS, WORDS, D, N, X, Y, assert_same, assert_same_rows, assert_same_take, whole

from assay.sources import Batch, Source, open_source


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return open_source(KINDS[request.param](tmp_path))


def test_every_kind_gives_the_same_samples(source: Source):
    codes = torch.tensor([("ant", "bee", "cat").index(word) for word in WORDS])
    truth = Batch(pa.array(range(N)), torch.tensor(X), codes, torch.ones(N, dtype=torch.float64))
    assert isinstance(source, Source)
    assert source.vocabulary == ("ant", "bee", "cat")
    assert (len(source), len(source.columns), source.targets, source.key) == (N, D, (), None)
    assert_same(whole(source), truth)
    assert_same(whole(source, 7), truth)
    assert_same_take(source, [41, 0, 41, 7])
    assert_same_take(source, [])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_batches_of_any_size_over_any_range_are_the_same_rows(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
):
    name = data.draw(st.sampled_from(["ragged row groups", "folder", "chunked table", "numpy", "npz stored", "lists"]))
    source = open_source(KINDS[name](tmp_path_factory.mktemp("any")))
    size = data.draw(st.integers(1, 60))
    start = data.draw(st.integers(0, N - 1))
    stop = data.draw(st.integers(start + 1, N + 5))
    sizes = [len(batch.ids) for batch in source.batches(size, start=start, stop=stop)]
    assert set(sizes[:-1]) <= {size}
    assert sum(sizes) == min(stop, N) - start
    assert_same_rows(whole(source, size, start=start, stop=stop), whole(source), range(start, min(stop, N)))
    assert_same_take(source, data.draw(st.lists(st.integers(0, N - 1), max_size=9)))


def test_an_empty_range_has_no_batches(source: Source):
    assert list(source.batches(5, start=N)) == []
    assert list(source.batches(5, start=9, stop=9)) == []


def test_rows_that_are_not_there_and_sizes_below_one_are_refused():
    source = open_source((X, Y))
    with pytest.raises(IndexError, match=r"row 50 of a source of 50 rows \(0 to 49\)"):
        source.take([1, 50])
    with pytest.raises(IndexError, match="row -1"):
        source.take([-1])
    with pytest.raises(ValueError, match="size=0"):
        list(source.batches(0))


def test_what_a_batch_holds_is_the_readers_own():
    x = X.copy()
    source = open_source((x, Y))
    next(source.batches(10)).x.zero_()
    source.take([0]).x.zero_()
    np.testing.assert_array_equal(x, X)
