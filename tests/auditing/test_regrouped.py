"""Large row groups are copied to small ones for the run: same bytes, the user's file in every message, no copy left."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import assay
from assay.auditing.keep import regrouped

N, SHARD = 1_200, 50
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype(np.float32)
NAMES = np.where(X[:, 0] + RNG.normal(size=N) > 0, "yes", "no")


def table(values: np.ndarray = X) -> pa.Table:
    flat = pa.array(values.reshape(-1))
    columns = {"x": pa.FixedSizeListArray.from_arrays(flat, 3), "y": NAMES, "note": ["left aside"] * N}
    return pa.table(columns)


def shards(audit: assay.Audit) -> list[bytes]:
    return [path.read_bytes() for path in audit.folder.shards()]


def test_the_size_of_the_row_groups_does_not_show(tmp_path: Path):
    results = {}
    for size in (N, SHARD):
        pq.write_table(table(), tmp_path / f"{size}.parquet", row_group_size=size)
        out = tmp_path / f"audit-{size}"
        results[size] = assay.audit(tmp_path / f"{size}.parquet", label="y", l2=1e-2, out=out, shard_rows=SHARD)
        assert results[size].info["source"]["store"]["files"] == [str(tmp_path / f"{size}.parquet")]
        assert not (out / "work").exists()
    assert shards(results[N]) == shards(results[SHARD])
    assert results[N].export(tmp_path / "out.parquet").exists()
    assert "note" in pq.read_schema(tmp_path / "out.parquet").names


def test_only_large_groups_and_used_columns_are_copied(tmp_path: Path):
    for size in (N, 4 * SHARD):
        pq.write_table(table(), tmp_path / f"{size}.parquet", row_group_size=size)
    small = assay.open_source(tmp_path / f"{4 * SHARD}.parquet", label="y")
    assert regrouped(small, tmp_path / "copy", SHARD) is small
    source = assay.open_source(str(tmp_path / "*.parquet"), label="y")
    copy = regrouped(source, tmp_path / "copy", SHARD)
    found = pq.ParquetFile(tmp_path / "copy" / "00000.parquet")
    assert found.schema_arrow.names == ["x", "y"]
    assert found.metadata.num_row_groups == N // SHARD
    assert copy.where(N + 3) == source.where(N + 3)
    for ours, theirs in zip(copy.batches(77), source.batches(77), strict=True):
        assert ours.ids == theirs.ids
        assert (ours.x == theirs.x).all()
        assert (ours.y == theirs.y).all()


def test_errors_name_the_users_file(tmp_path: Path):
    bad = X.copy()
    bad[777, 1] = np.inf
    pq.write_table(table(bad), tmp_path / "bad.parquet", row_group_size=N)
    with pytest.raises(assay.SourceError, match=r"bad\.parquet, row 777: feature 'x\[1\]' is inf"):
        assay.audit(tmp_path / "bad.parquet", label="y", out=tmp_path / "audit", shard_rows=SHARD)
    assert not (tmp_path / "audit").exists()
