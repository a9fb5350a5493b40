"""The exported file: the user's own columns as they were, the suggestions beside them, nothing overwritten."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audits import TARGETS, N, X, Y, contents, frame, write

import assay
from assay.auditing.export import ADDED

NOTES = np.array([f"note {i}" for i in range(N)])
FORMULAS = ["=1+1", "+SUM(A1)", "-2+3", "@x", "\tx", "\rx", "-1.5", "+3e-7", "a=b", ""]
HARMLESS = {"-1.5", "+3e-7", "a=b", ""}
DEFUSED = [text if text in HARMLESS else f"'{text}" for text in FORMULAS]


@pytest.mark.parametrize("shard_rows", [23, 1000])
def test_parquet_keeps_every_column_and_its_type(shard_rows: int, tmp_path: Path):
    when = pa.array(np.arange(N), pa.timestamp("ms"))
    lists = pa.array([[i, 300] for i in range(N)], pa.list_(pa.int16()))
    table = pa.table({**frame(note=NOTES), "when": when, "small": np.arange(N, dtype=np.uint8), "pair": lists})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=31)
    before = path.read_bytes()
    audit = assay.audit(path, features="f*", l2=1e-2, out=tmp_path / "audit", shard_rows=shard_rows)
    exported = pq.read_table(audit.export(tmp_path / "out.parquet"))
    assert exported.select(table.schema.names).equals(table)
    assert exported.schema.names == [*table.schema.names, *ADDED]
    for name in ADDED:
        scored = audit.table[name].cast(pa.string()) if name == "kind" else audit.table[name]
        assert exported[name].combine_chunks().equals(scored.combine_chunks()), name
    assert path.read_bytes() == before


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "arrow"])
def test_a_frame_is_exported_with_the_columns_it_had(make, tmp_path: Path):
    audit = assay.audit(make(frame(note=NOTES)), l2=1e-2, out=tmp_path / "audit")
    exported = pq.read_table(assay.load(audit.path).export(tmp_path / "out.parquet"))
    assert exported.schema.names == ["f0", "f1", "f2", "f3", "y", "note", *ADDED]
    assert exported["note"].to_pylist() == NOTES.tolist()
    assert np.array(exported["f2"]).tolist() == X[:, 2].tolist()
    assert exported["y"].to_pylist() == Y.tolist()


def test_arrays_are_exported_too(tmp_path: Path):
    audit = assay.audit((X, TARGETS), l2=1e-2)
    exported = pq.read_table(audit.export(tmp_path / "out.parquet"))
    assert np.array(exported["x"].to_pylist()).tolist() == X.tolist()
    assert np.column_stack([exported["y0"], exported["y1"]]).tolist() == TARGETS.tolist()
    assert exported["suggested_label"].equals(audit.table["suggested_label"])
    with pytest.raises(assay.OutputError, match=r"column 'x' holds lists, which a CSV cannot; export to \.parquet"):
        audit.export(tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "arrow"])
def test_csv_has_no_formulas(make, tmp_path: Path):
    texts = [FORMULAS[i % len(FORMULAS)] for i in range(N)]
    large = pa.array(texts, pa.large_string())
    data = {**frame(), "=cmd": texts, "long": large if make is pa.table else texts}
    classes = np.where(Y == "ant", "=ant", Y)
    audit = assay.audit(make({**data, "y": classes}), l2=1e-2)
    with open(audit.export(tmp_path / "out.csv"), newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["f0", "f1", "f2", "f3", "y", "'=cmd", "long", *ADDED]
    for name in ("'=cmd", "long"):
        found = [row[header.index(name)] for row in rows]
        assert found == [DEFUSED[i % len(FORMULAS)] for i in range(N)]
    assert [float(row[1]) for row in rows] == X[:, 1].tolist(), "negative numbers stay numbers"
    assert {row[header.index("suggested_label")] for row in rows} == {"'=ant", "bee", "cat"}
    assert [row[header.index("kind")] for row in rows] == audit.table["kind"].to_pylist()


def test_a_csv_comes_back_with_its_columns(tmp_path: Path):
    source = pd.DataFrame(frame(note=NOTES, count=np.arange(N)))
    source.to_csv(tmp_path / "a.csv", index=False)
    audit = assay.audit(tmp_path / "a.csv", features="f*", l2=1e-2, out=tmp_path / "audit")
    exported = pd.read_csv(audit.export(tmp_path / "out.csv"))
    pd.testing.assert_frame_equal(exported[list(source.columns)], source)
    assert exported["cooks_distance"].tolist() == audit.table["cooks_distance"].to_pylist()


def test_names_that_are_taken_get_a_prefix(tmp_path: Path):
    audit = assay.audit(write(tmp_path / "a.parquet", kind=NOTES), features="f*", l2=1e-2, out=tmp_path / "audit")
    exported = pq.read_table(audit.export(tmp_path / "out.parquet"))
    assert exported["kind"].to_pylist() == NOTES.tolist()
    assert exported["assay_kind"].to_pylist() == audit.table["kind"].to_pylist()


def test_nothing_is_overwritten_unasked_and_the_data_never(tmp_path: Path):
    path = write(tmp_path / "a.parquet")
    audit = assay.audit(path, l2=1e-2, out=tmp_path / "audit")
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(assay.OutputError, match=r"there\.csv exists already; .*--overwrite"):
        audit.export(tmp_path / "there.csv")
    assert (tmp_path / "there.csv").read_text() == "mine"
    audit.export(tmp_path / "there.csv", overwrite=True)
    assert len(pd.read_csv(tmp_path / "there.csv")) == N
    (tmp_path / "link.parquet").symlink_to(path)
    for name in ("a.parquet", "link.parquet"):
        with pytest.raises(assay.OutputError, match="holds the audited data, which are never changed"):
            audit.export(tmp_path / name, overwrite=True)
    before = contents(tmp_path / "audit")
    with pytest.raises(assay.OutputError, match=r"ends in \.xlsx; name a file that ends in \.parquet or \.csv"):
        audit.export(tmp_path / "a.xlsx")
    with pytest.raises(assay.OutputError, match="cannot be written"):
        audit.export(tmp_path / "none" / "a.csv")
    assert contents(tmp_path / "audit") == before


def test_the_csv_that_was_audited_is_never_overwritten(tmp_path: Path):
    pd.DataFrame(frame()).to_csv(tmp_path / "a.csv", index=False)
    audit = assay.audit(tmp_path / "a.csv", l2=1e-2, out=tmp_path / "audit")
    with pytest.raises(assay.OutputError, match="holds the audited data"):
        audit.export(tmp_path / "a.csv", overwrite=True)


def test_changed_data_are_refused(tmp_path: Path):
    path = write(tmp_path / "a.parquet")
    audit = assay.audit(path, l2=1e-2, out=tmp_path / "audit")
    labels = Y.copy()
    labels[9] = "bee" if Y[9] == "cat" else "cat"
    write(path, y=labels)
    with pytest.raises(assay.SourceError, match=r"a\.parquet, row 0: the data are no longer those that were audited"):
        assay.load(audit.path).export(tmp_path / "out.parquet")
    path.unlink()
    with pytest.raises(assay.SourceError, match=r"a\.parquet does not exist"):
        assay.load(audit.path).export(tmp_path / "out.parquet")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["audit"]
