"""One pass tells the weighted moments, whatever the shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.sources import Scan, Source, merge, open_source, scan_shard
from assay.sources.identity import hashed

RNG = np.random.default_rng(1)
N = 200
X = np.concatenate([RNG.standard_normal((N, 3)) * [1, 1e-3, 50] + [0, 7, 1e4], np.full((N, 1), 0.1)], axis=1)
Y = RNG.integers(0, 3, N)
W = RNG.integers(0, 4, N).astype(float)


def scan(source: Source, step: int = 64) -> Scan:
    return merge([scan_shard(source, i, min(i + step, len(source))) for i in range(0, len(source), step)], source)


def test_the_moments_are_numpys():
    found = scan(open_source((X, Y), weight=W))
    mean = np.average(X, axis=0, weights=W)
    comoment = (X - mean).T @ ((X - mean) * W[:, None])
    assert (found.rows, found.total_weight) == (N, W.sum())
    np.testing.assert_allclose(found.mean, mean, rtol=1e-13)
    np.testing.assert_allclose(found.comoment[:3, :3], comoment[:3, :3], rtol=1e-9)
    np.testing.assert_allclose(found.scale[:3], np.sqrt(np.diag(comoment)[:3] / W.sum()), rtol=1e-11)
    assert found.constant.tolist() == [False, False, False, True]
    assert found.scale[3] == 0
    assert found.class_rows.tolist() == np.bincount(Y).tolist()
    assert found.class_weight.tolist() == np.bincount(Y, W).tolist()


def test_two_rows_far_from_zero_keep_their_spread():
    x = np.array([[1e9], [1e9 + 1]])
    assert scan(open_source((x, [0, 1])), 1).scale.item() == 0.5


@settings(max_examples=30, deadline=None)
@given(step=st.integers(1, 250))
def test_shards_of_any_size_give_the_same_moments(step: int):
    source = open_source((X, Y), weight=W)
    one, other = scan(source, N), scan(source, step)
    torch.testing.assert_close(one.mean, other.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(one.comoment, other.comoment, rtol=1e-9, atol=1e-9)
    assert one.class_weight.tolist() == other.class_weight.tolist()


def test_a_row_of_weight_zero_moves_nothing():
    source = open_source((np.vstack([X, [[1e6, 0, 0, 5]]]), [*Y, 0]), weight=[*W, 0.0])
    without = scan(open_source((X, Y), weight=W))
    torch.testing.assert_close(scan(source).mean, without.mean, rtol=1e-14, atol=0)
    assert scan(source).constant.tolist() == without.constant.tolist()


def test_a_weight_of_two_is_a_row_given_twice():
    whole = open_source((X, Y), weight=W)
    copies = open_source((np.repeat(X, W.astype(int), 0), np.repeat(Y, W.astype(int))))
    torch.testing.assert_close(scan(whole).comoment[:3, :3], scan(copies).comoment[:3, :3], rtol=1e-9, atol=1e-12)


def test_targets_have_a_weighted_mean():
    found = scan(open_source((X, X[:, :2]), weight=W))
    np.testing.assert_allclose(found.target_mean, np.average(X[:, :2], axis=0, weights=W), rtol=1e-12)
    assert found.class_rows.tolist() == []


def test_a_class_of_one_sample_is_counted():
    assert scan(open_source((X, ["a", *["b"] * (N - 1)]))).class_rows.tolist() == [1, N - 1]


def test_a_scan_is_saved_and_loaded_as_it_was(tmp_path: Path):
    found = scan(open_source((X, Y), weight=W))
    for name in ("a.npz", "b"):
        found.save(tmp_path / name)
        again = Scan.load(tmp_path / name)
        assert (again.rows, again.total_weight) == (found.rows, found.total_weight)
        assert torch.equal(again.comoment, found.comoment)
        assert torch.equal(again.class_rows, found.class_rows)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b").read_bytes()


def test_partials_pass_through_npz(tmp_path: Path):
    source = open_source(pa.table({"id": [f"r{i}" for i in range(N)], "a": X[:, 0], "y": Y}))
    partial = scan_shard(source, 0, N)
    np.savez(tmp_path / "p.npz", **partial)
    with np.load(tmp_path / "p.npz", allow_pickle=False) as saved:
        assert torch.equal(merge([dict(saved)], source).mean, merge([partial], source).mean)


@pytest.mark.parametrize("ids", [np.arange(-5, 95) * 3, [f"ä{i}" for i in range(100)]])
def test_hashes_tell_ids_apart_and_are_the_same_in_every_process(ids: Any):
    hashes = hashed(pa.array(ids))
    assert hashes.dtype == np.uint64
    assert len(set(hashes.tolist())) == 100
    assert hashed(pa.array(ids).slice(7, 3)).tolist() == hashes[7:10].tolist()
    assert hashed(pa.array(["a"])).tolist() == [3405396810240292928]  # little-endian BLAKE2b-64 of b"a"


def test_ids_that_only_share_a_hash_are_not_refused():
    source = open_source(pa.table({"id": ["p", "q", "r"], "a": [1.0, 2.0, 4.0], "y": [0, 1, 0]}))
    partial = scan_shard(source, 0, 3)
    partial["ids"][1] = partial["ids"][0]
    assert merge([partial], source).rows == 3
