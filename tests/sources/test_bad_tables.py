"""Every kind of bad data is one clear error: what was found, where, what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from bad import FRAME, X, Y, audited, having, with_value

from assay.errors import ShapeError, SourceError
from assay.sources import open_source

LISTS = pa.array([[1.0, 2.0]] * 3 + [[1.0, 2.0, 3.0]] + [[1.0, 2.0]] * 2)
WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "NaN in a feature": (with_value("b", 4, np.nan), {}, r"row 4: feature 'b' is nan; every value must be finite"),
    "inf in a feature": (with_value("a", 1, np.inf), {}, r"row 1: feature 'a' is inf; .*fill it in or drop the row"),
    "null in a feature": (
        with_value("a", 3, None),
        {},
        r"row 3: column 'a' is null; fill the value in or drop the row",
    ),
    "null label": (with_value("y", 5, None), {}, r"row 5: the label column 'y' is null"),
    "NaN target": (having(y=[1.0, 2, 3, np.nan, 5, 6]), {}, r"row 3: target 'y' is nan"),
    "infinite target": (having(t=[1.0, 2, 3, 4, 5, -np.inf]), {"label": ["y", "t"]}, r"row 5: target 't' is -inf"),
    "null target": (having(y=[1.0, None, 3, 4, 5, 6]), {}, r"row 1: column 'y' is null"),
    "constant target": (having(y=[2.0] * 6), {}, r"target 'y' is 2\.0 in every sample; there is nothing to learn"),
    "one class": (having(y=["cat"] * 6), {}, r"only one class is there: .* is 'cat'; .*needs two"),
    "one class of weight": (
        having(w=[1, 0] * 3),
        {"weight": "w"},
        r"only one class is there: .*positive weight.* is 0",
    ),
    "negative weight": (
        having(w=[1, 1, 1, 1, -2.5, 1]),
        {"weight": "w"},
        r"row 4: the weight is -2\.5; .*zero or positive",
    ),
    "NaN weight": (having(w=[1, 1, np.nan, 1, 1, 1]), {"weight": "w"}, r"row 2: the 'weight' is nan"),
    "null weight": (having(w=[1, 1, None, 1, 1, 1]), {"weight": "w"}, r"row 2: column 'w' is null"),
    "no weight at all": (having(w=[0.0] * 6), {"weight": "w"}, r"all weights are zero.*positive weight"),
    "text weight": (having(w=list("abcdef")), {"weight": "w"}, r"the weight column 'w' is string; it must be numeric"),
    "duplicate string ids": (having(k=list("abcdeb")), {"id": "k"}, r"column 'k': 'b' is the id of rows 1 and 5; make"),
    "duplicate integer ids": (having(id=[1, 2, 3, 4, 5, 3]), {}, r"column 'id': 3 is the id of rows 2 and 5; .*id="),
    "null id": (having(k=["a", None, *"cdef"]), {"id": "k"}, r"row 1: the id column 'k' is null"),
    "float ids": (having(k=X[:, 0]), {"id": "k"}, r"id column 'k' is double; ids are integers or strings"),
    "absent id": (FRAME, {"id": "k"}, r"no column 'k' to take as id; the columns are 'a', 'b', 'y'"),
    "absent label": (FRAME, {"label": "z"}, r"no column 'z' to take as label; the columns are 'a', 'b', 'y'"),
    "no label": (
        {"a": X[:, 0]},
        {},
        r"which column is the label\? none is named 'label' or 'y' or 'target'; pass label=",
    ),
    "several labels": (having(label=Y), {}, r"which column is the label\? 'label', 'y' are all there; pass label="),
    "empty label list": (FRAME, {"label": []}, r"label=\[\] names no column"),
    "list label": (having(l=LISTS), {"label": "l"}, r"label column 'l' is list.*; labels are strings, integers"),
    "text target": (
        having(y=list("ababab")),
        {"regression": True},
        r"target column 'y' is string; regression needs numbers",
    ),
    "fractions as classes": (
        having(y=[0, 1.5, 0, 1, 0, 1]),
        {"regression": False},
        r"row 1: the label column 'y' holds 1\.5",
    ),
    "several classes": (having(t=Y), {"label": ["y", "t"], "regression": False}, r"2 label columns .*regression"),
    "unknown class": (
        FRAME,
        {"vocabulary": [0, 2]},
        r"row 1: label 1 in column 'y' is not one of the 2 classes \(0, 2\)",
    ),
    "no features": (
        {"y": Y, "t": list("abcdef")},
        {},
        r"there are no feature columns: .*y \(int64\), t \(string\).*features=",
    ),
    "no such features": (FRAME, {"features": "q*"}, r"no feature columns: features='q\*' matches no numeric column"),
    "text feature": (having(t=list("abcdef")), {"features": "t"}, r"feature column 't' is string; it must be numeric"),
    "label as feature": (FRAME, {"features": "a,y"}, r"column 'y' is a feature and also label"),
    "both": (FRAME, {"features": "a", "embedding": "b"}, r"both features= and embedding= are given"),
    "embedding of numbers": (
        FRAME,
        {"embedding": "b"},
        r"embedding column 'b' is double; it must be a list of numbers",
    ),
    "two embeddings": (having(e=LISTS, f=LISTS), {}, r"several columns hold lists of numbers: 'e', 'f'; name one"),
    "unequal embeddings": (having(e=LISTS), {}, r"row 3: the list in column 'e' has 3 values, but the first row has 2"),
    "empty embeddings": (
        having(e=pa.array([[]] * 6, pa.list_(pa.float32()))),
        {},
        r"no feature columns: .*'e' are empty",
    ),
    "null embedding": (having(e=[*LISTS.to_pylist()[:2], None, *[[1.0, 2.0]] * 3]), {}, r"row 2: column 'e' is null"),
    "null in an embedding": (
        having(e=[[1.0, 2.0]] * 4 + [[1.0, None]] * 2),
        {},
        r"row 4: an element of column 'e' is null",
    ),
    "image shape": (FRAME, {"image_shape": (2, 2)}, r"image_shape=\(2, 2\) does not fit 2 features"),
    "empty table": (pa.table(FRAME).slice(0, 0), {}, r"the table has no rows; there is nothing to audit"),
    "mixed labels": (
        (X, np.array([0, 1, "a", 1, 0, 1], object)),
        {},
        r"mixed type: labels\[0\] = 0 is integer, labels\[2\] = 'a'",
    ),
    "mixed booleans": ((X, np.array([0, 1, True, 1, 0, 1], object)), {}, r"labels\[2\] = True is boolean"),
    "labels of None": ((X, np.array([None, *"abcde"], object)), {}, r"labels\[0\] is None, of type NoneType"),
    "mixed pandas": (
        pd.DataFrame({**FRAME, "y": [0, "a", 1, 0, 1, 2]}),
        {},
        r"the pandas frame cannot be read: .*column y.*astype",
    ),
    "lazy polars": (
        pl.DataFrame(FRAME).lazy(),
        {},
        r"cannot read samples from LazyFrame.*collect\(\) a lazy frame first",
    ),
    "not data": (object(), {}, r"cannot read samples from object; give a path, a frame, an Arrow table or \(X, y\)"),
    "object features": ((X.astype(object), Y), {}, r"features have dtype object; .*X\.astype"),
    "text features": ((X.astype(str), Y), {}, r"features have dtype <U\d+"),
    "ragged features": (([[1], [1, 2]], [0, 1]), {}, r"features is no array: .*give rows of one length"),
    "no columns": ((X[:, :0], Y), {}, r"shape \(6, 0\): there are no feature columns"),
    "complex labels": ((X, np.array(Y, complex)), {}, r"labels have dtype complex128; give strings, integers"),
    "names beside arrays": ((X, Y), {"label": "y"}, r"name columns of a table; \(X, y\) needs none"),
    "no rows": ((X[:0], []), {}, r"the table has no rows"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_error_says_what_where_and_what_to_do(name: str):
    data, options, said = WRONG[name]
    with pytest.raises(SourceError, match=said):
        audited(pa.table(data) if isinstance(data, dict) else data, **options)


def test_good_data_pass():
    assert len(audited(pa.table(FRAME))) == 6
    assert len(audited((X, Y))) == 6


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        ((X, Y[:5]), {}, "6 rows of features, but 5 labels; give one of each per sample"),
        ((X, Y, list("abc")), {}, "6 rows of features, but 3 ids"),
        ((X, Y), {"weight": np.ones(7)}, "6 rows of features, but 7 weights"),
        ((pd.DataFrame(X, columns=["a", "b"]), Y[:5]), {}, "6 rows of a, but 5 labels"),
        ((X[:, 0], Y), {}, r"features have shape \(6,\); expected \[n, d\], e\.g\. X\.reshape\(-1, 1\)"),
        ((X, np.zeros((6, 2, 2))), {}, r"labels have shape \(6, 2, 2\); expected one value per sample"),
    ],
)
def test_lengths_that_differ_are_a_shape_error(data: Any, options: dict[str, Any], said: str):
    with pytest.raises(ShapeError, match=said):
        open_source(data, **options)


def test_columns_of_one_name():
    with pytest.raises(SourceError, match="column names repeat: 'a'; rename them"):
        open_source(pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0]), pa.array([1])], names=["a", "a", "y"]))


def test_too_many_classes_point_to_regression():
    n = 70_000
    with pytest.raises(
        SourceError, match=r"label column 'y' has more than 65,536 distinct values \(int64\); .*regression=True"
    ):
        open_source(pa.table({"a": np.arange(n) / n, "y": np.arange(n)}))


def test_ids_too_large_for_int64():
    with pytest.raises(
        SourceError, match=r"row 1: the id column 'k' holds 18446744073709551615, which is not a 64-bit"
    ):
        audited(having(k=pa.array([1, 2**64 - 1, 3, 4, 5, 6], pa.uint64())), id="k")
