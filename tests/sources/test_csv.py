"""CSV files become Parquet once; what a parser would swallow in silence is an error."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import SourceError
from assay.sources import Source, csv, merge, open_source, scan_shard

TEXT = "f0,f1,note,y\n" + "".join(f"{i / 3!r},{i % 7},n{i},{'ab'[i % 2]}\n" for i in range(40))


def written(tmp_path: Path, text: str, name: str = "train.csv") -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


def audited(path: Path) -> Source:
    source = open_source(path)
    merge([scan_shard(source, 0, len(source))], source)
    return source


@pytest.fixture(params=["memory", "workdir"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return open_source(written(tmp_path, TEXT), workdir=None if request.param == "memory" else tmp_path / "work")


def test_numbers_are_read_exactly_as_float64(opened: Source):
    batch = next(opened.batches(40))
    assert (opened.columns, opened.vocabulary) == (("f0", "f1"), ("a", "b"))
    np.testing.assert_array_equal(batch.x.numpy(), [[i / 3, i % 7] for i in range(40)])
    assert batch.y.tolist() == [i % 2 for i in range(40)]
    assert opened.render([3])[0].fields == {"f0": 1.0, "f1": 3.0, "note": "n3", "y": "b"}
    assert "train.csv, row 5" in opened.where(5)


def test_it_is_converted_once_and_again_when_it_changes(tmp_path: Path):
    path = written(tmp_path, TEXT)
    first = open_source(path, workdir=tmp_path / "work")
    (made,) = (tmp_path / "work").iterdir()
    before = made.stat().st_mtime_ns
    again = open_source(path, workdir=tmp_path / "work")
    assert made.stat().st_mtime_ns == before
    assert again.fingerprint() == first.fingerprint() == open_source(path).fingerprint()
    changed = open_source(written(tmp_path, TEXT.replace(",1,n1,", ",2,n1,")), workdir=tmp_path / "work")
    assert changed.fingerprint() != first.fingerprint()
    assert first.spec() is not None


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_delimiters_and_compression(mark: str, tmp_path: Path):
    truth = open_source(written(tmp_path, TEXT)).fingerprint()
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(TEXT.replace(",", mark).encode()))
    assert open_source(tmp_path / "a.csv.gz").fingerprint() == truth


def test_several_files_are_one_source(tmp_path: Path):
    head, *rows = TEXT.splitlines(keepends=True)
    written(tmp_path, head + "".join(rows[:9]), "a.csv")
    written(tmp_path, head + "".join(rows[9:]), "b.csv")
    assert open_source(tmp_path / "?.csv").fingerprint() == open_source(written(tmp_path, TEXT)).fingerprint()


def test_integer_features_may_turn_into_fractions_later(tmp_path: Path):
    rows = "".join("1,a\n2,b\n" for _ in range(600_000))  # more than one block
    source = open_source(written(tmp_path, f"f,y\n{rows}1.5,a\n"), workdir=tmp_path / "w")
    assert source.take([1_200_000, 0]).x[:, 0].tolist() == [1.5, 1.0]


def test_integer_labels_and_string_ids_keep_their_type(tmp_path: Path):
    source = open_source(written(tmp_path, "id,f,y\n007a,1,3\n8,2,5\n"))
    assert source.vocabulary == (3, 5)
    assert source.take([0, 1]).ids.to_pylist() == ["007a", "8"]
    dates = open_source(written(tmp_path, "f,y\n1,2020-01-01\n2,2020-01-02\n"))
    assert dates.vocabulary == ("2020-01-01", "2020-01-02")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "f,g,y\n1,2,a\n?,3,b\n3,4,a\n",
            r"train\.csv, row 1 \(line 3\): column 'f' holds '\?', but most of it is numbers; corr",
        ),
        ("f,g,y\n1,2,a\n,3,b\n3,4,a\n", r"train\.csv, row 1: column 'f' is null; fill the value in"),
        ("f,y\n1,a\n2,\n3,b\n", r"train\.csv, row 1 \(line 3\): column 'y' is empty; fill it in or drop the row"),
        ("f,y\n1,3\n2,\n3,4\n", r"train\.csv, row 1 \(line 3\): column 'y' is empty"),
        ("f,y\n1,a\ninf,b\n3,b\n", r"train\.csv, row 1: feature 'f' is inf"),
        ("f,y\n1,a\n2\n", r"train\.csv cannot be read as CSV: .*Expected 2 columns, got 1.*correct the file"),
        ("f,y\n", r"train\.csv has no rows; there is nothing to audit"),
        ("", r"train\.csv cannot be read as CSV: Empty CSV file"),
    ],
)
def test_bad_cells(text: str, said: str, tmp_path: Path):
    with pytest.raises(SourceError, match=said):
        audited(written(tmp_path, text))


def test_text_after_the_first_block_is_an_error(tmp_path: Path):
    rows = "".join("1,a\n2,b\n" for _ in range(600_000))
    with pytest.raises(SourceError, match=r"cannot be read as CSV: .*'oops'.*types were read from the beginning"):
        open_source(written(tmp_path, f"f,y\n{rows}oops,a\n"), workdir=tmp_path / "w")
    assert not list((tmp_path / "w").iterdir()), "no half-written file is left"


def test_a_conversion_that_is_interrupted_leaves_nothing_and_is_done_again(tmp_path: Path, monkeypatch):
    rows = "\n".join(f"{i}.5,{i % 2}" for i in range(100))
    (tmp_path / "a.csv").write_text(f"f0,y\n{rows}\n")
    real = csv._batches

    def cut(*arguments: Any) -> Any:
        yield next(real(*arguments))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(csv, "_batches", cut)
        with pytest.raises(KeyboardInterrupt):
            open_source(tmp_path / "a.csv", label="y", workdir=tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []
    assert len(open_source(tmp_path / "a.csv", label="y", workdir=tmp_path / "work")) == 100
