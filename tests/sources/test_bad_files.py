"""Files that cannot be audited, and files that cannot be written, are one clear error."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad import FRAME, X, Y, audited, having, with_value

from assay.errors import OutputError, SourceError
from assay.sources import open_source, reopen, spill


def test_the_file_and_its_row_are_named(tmp_path: Path):
    for i in range(2):
        pq.write_table(with_value("b", 4, np.nan if i else 4.0), tmp_path / f"part-{i}.parquet", row_group_size=2)
    with pytest.raises(SourceError, match=re.escape(f"{tmp_path}/part-1.parquet, row 4: feature 'b' is nan")):
        audited(tmp_path)


def torn(path: Path) -> None:
    pq.write_table(pa.table(FRAME), path)
    path.write_bytes(path.read_bytes()[:-20])


def damaged(path: Path) -> None:
    pq.write_table(pa.table(FRAME), path, compression="gzip", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[30:80] = bytes(50)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil", [torn, damaged, lambda path: path.write_text("a,y\n1,2\n"), lambda path: path.touch()]
)
def test_unreadable_parquet(spoil: Any, tmp_path: Path):
    spoil(tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"a\.parquet cannot be read as Parquet: .*is it complete\?"):
        audited(tmp_path / "a.parquet")


def test_missing_files(tmp_path: Path):
    for path, said in [
        ("none.parquet", r"there is no file .*none\.parquet; give the path of a table"),
        ("*.parquet", r"no file matches .*\*\.parquet"),
        ("none.npz", r"there is no file .*none\.npz"),
        ("", r"the folder .* holds no \.parquet or \.pq file"),
    ]:
        with pytest.raises(SourceError, match=said):
            open_source(tmp_path / path)
    with pytest.raises(SourceError, match=r"x\.npy does not exist"):
        open_source((tmp_path / "x.npy", tmp_path / "y.npy"))


def test_files_of_no_use(tmp_path: Path):
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "a.txt").touch()
    pq.write_table(pa.table(FRAME), tmp_path / "a.parquet")
    pq.write_table(pa.table(FRAME).slice(0, 0), tmp_path / "empty.parquet")
    for path, said in [
        ("x.npy", r"x\.npy has no labels beside it; give both files: \(\"X\.npy\", \"y\.npy\"\)"),
        ("a.txt", r"a\.txt is \.txt; give \.parquet, \.pq, \.csv, \.npz or \.npy files"),
        ("a.*", r"holds files of several kinds \(\.parquet, \.txt\); give one kind"),
        ("empty.parquet", r"empty\.parquet has no rows; there is nothing to audit"),
    ]:
        with pytest.raises(SourceError, match=said):
            open_source(tmp_path / path)


def test_files_of_different_schemas(tmp_path: Path):
    pq.write_table(pa.table(FRAME), tmp_path / "a.parquet")
    pq.write_table(having(b=list("abcdef")), tmp_path / "b.parquet")
    with pytest.raises(SourceError, match=r"column 'b' is string in .*b\.parquet, but double in .*a\.parquet; cast"):
        open_source(tmp_path)
    pq.write_table(pa.table(FRAME).drop(["b"]), tmp_path / "b.parquet")
    with pytest.raises(SourceError, match=r"b\.parquet has no column 'b', but .*a\.parquet has"):
        open_source(tmp_path)


def test_pickled_arrays_are_not_loaded(tmp_path: Path):
    objects = np.array([{"a": 1}, None], object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    np.save(tmp_path / "y.npy", [0, 1])
    with pytest.raises(SourceError, match=r"x\.npy holds pickled Python objects, which are not loaded; save numbers"):
        open_source((tmp_path / "x.npy", tmp_path / "y.npy"))
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", X=objects, y=[0, 1])
        with pytest.raises(
            SourceError, match=r"array 'X' of .*a\.npz.* holds pickled Python objects, which are not loaded"
        ):
            open_source(tmp_path / "a.npz")
    (tmp_path / "x.npy").write_bytes(pickle.dumps(X))
    with pytest.raises(SourceError, match=r"x\.npy cannot be read as NPY: "):
        open_source((tmp_path / "x.npy", tmp_path / "y.npy"))


def test_npz_without_the_arrays_needed(tmp_path: Path):
    np.savez(tmp_path / "a.npz", X=X, classes=Y)
    with pytest.raises(
        SourceError, match=r"a\.npz has no labels: no array is called 'y' or 'labels' or 'label'; it has X, classes"
    ):
        open_source(tmp_path / "a.npz")
    with pytest.raises(SourceError, match=r"has no features: no array is called 'Z'"):
        open_source(tmp_path / "a.npz", features="Z", label="classes")
    (tmp_path / "b.npz").write_bytes(b"PK not a zip")
    with pytest.raises(SourceError, match=r"b\.npz cannot be read as NPZ: .*np\.savez"):
        open_source(tmp_path / "b.npz")


def test_a_label_that_appears_after_opening_is_an_error(tmp_path: Path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(FRAME), path)
    source = open_source(path)
    pq.write_table(having(y=[0, 1, 0, 7, 0, 1]), path)
    with pytest.raises(
        SourceError, match=r"row 3: label 7 in column 'y' is not one of the 2 classes \(0, 1\); correct"
    ):
        list(source.batches(6))


def test_a_column_that_is_gone_on_reopening_is_an_error(tmp_path: Path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(FRAME), path)
    spec = open_source(path).spec()
    assert spec is not None
    pq.write_table(pa.table(FRAME).drop(["b"]), path)
    with pytest.raises(SourceError, match=r"a\.parquet no longer has the column 'b'"):
        reopen(spec)


def test_a_spill_that_cannot_be_written_is_an_output_error_and_leaves_nothing(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"s\.parquet cannot be written: .*free some space"):
        spill(open_source((X, Y)), tmp_path / "file" / "s.parquet")
    with pytest.raises(SourceError, match="row 3: column 'a' is null"):
        spill(open_source(with_value("a", 3, None)), tmp_path / "s.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
