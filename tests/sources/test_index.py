"""The index of a frame is no feature, whichever way it came; who wants it names it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import assay

X = np.random.default_rng(0).normal(size=(80, 2))
FRAME = pd.DataFrame({"f0": X[:, 0], "f1": X[:, 1], "y": np.where(X[:, 0] > 0, "yes", "no")})
NAMED = FRAME.set_index(pd.Index([*range(100, 179), 999], name="patient"))


def csv(folder: Path):
    FRAME.to_csv(folder / "a.csv")
    return folder / "a.csv", "''"


def csv_read_and_written_again(folder: Path):
    FRAME.to_csv(folder / "a.csv")
    pd.read_csv(folder / "a.csv").to_csv(folder / "b.csv", index=False)
    return folder / "b.csv", "'Unnamed: 0'"


def parquet(folder: Path):
    NAMED.to_parquet(folder / "a.parquet")
    return folder / "a.parquet", "'patient'"


def frame(folder: Path):
    del folder
    return NAMED, "'patient'"


def shuffled(folder: Path):
    del folder
    return FRAME.sample(frac=1, random_state=0), "'__index_level_0__'"


@pytest.mark.parametrize("make", [csv, csv_read_and_written_again, parquet, frame, shuffled])
def test_an_index_is_left_out_and_said(make, tmp_path: Path):
    data, name = make(tmp_path)
    with pytest.warns(assay.AssayWarning, match=f"column {name} is the index of a frame and left out") as said:
        audit = assay.audit(data, label="y", l2=1e-2, out=tmp_path / "audit")
    assert len(said) == 1
    assert audit.info["columns"] == ["f0", "f1"]
    if make is not shuffled:
        audit.export(tmp_path / "out.parquet")
        assert pq.read_table(tmp_path / "out.parquet")[name.strip("'")].to_pylist()[:1] != [None]


def test_an_index_that_is_named_is_used(tmp_path: Path):
    NAMED.to_parquet(tmp_path / "a.parquet")
    by_id = assay.audit(tmp_path / "a.parquet", label="y", id="patient", l2=1e-2)
    assert by_id.table["id"].to_pylist()[:2] == [100, 101]
    feature = assay.audit(tmp_path / "a.parquet", label="y", features=["f0", "patient"], l2=1e-2)
    assert feature.info["columns"] == ["f0", "patient"]


def test_a_frame_whose_index_counts_its_rows_has_none(tmp_path: Path):
    FRAME.to_parquet(tmp_path / "a.parquet")
    assert assay.audit(tmp_path / "a.parquet", label="y", l2=1e-2).info["columns"] == ["f0", "f1"]
