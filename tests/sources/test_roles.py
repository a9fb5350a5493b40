"""Which columns are features, label, id and weight, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from samples import FRAME, WORDS, D, N, X, Y, whole

from assay.sources import open_source


def test_int64_ids_and_string_ids_from_a_key_column():
    table = pa.table(
        {**FRAME, "number": pa.array(np.arange(N)[::-1].copy(), pa.uint16()), "name": [f"n{i}" for i in range(N)]}
    )
    assert whole(open_source(table, id="number")).ids.to_pylist() == list(range(N))[::-1]
    assert open_source(table, id="name", features="f*").take([3, 1]).ids.to_pylist() == ["n3", "n1"]
    assert open_source((X, Y, [f"a{i}" for i in range(N)])).take([2]).ids.to_pylist() == ["a2"]
    assert open_source((X, Y), id=np.arange(N) + 5).take([2]).ids.to_pylist() == [7]


def test_a_column_called_id_is_the_key_unless_it_is_asked_for_as_a_feature():
    table = pa.table({**FRAME, "id": np.arange(N) + 100})
    assert open_source(table).key == "id"
    assert open_source(table).columns == ("f0", "f1", "f2", "f3")
    assert open_source(table).take([1]).ids.to_pylist() == [101]
    assert open_source(table, features="f0,id").key is None
    assert open_source(table, features="f0,id").columns == ("f0", "id")
    assert open_source(table, features="f*").key == "id"


@pytest.mark.parametrize(
    ("labels", "vocabulary", "codes"),
    [
        (["b", "a", "b"], ("a", "b"), [1, 0, 1]),
        ([7, -2, 7], (-2, 7), [1, 0, 1]),
        (np.array([3, 1, 2], np.uint8), (1, 2, 3), [2, 0, 1]),
        ([True, False, True], (False, True), [1, 0, 1]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ("a", "b"), [1, 0, 1]),
        (pa.array(["b", "a", "b"], pa.large_string()), ("a", "b"), [1, 0, 1]),
        (pa.array(["b", "a", "b"], pa.string_view()), ("a", "b"), [1, 0, 1]),
    ],
)
def test_labels_of_every_kind_become_codes_of_a_sorted_vocabulary(labels: Any, vocabulary: Any, codes: list[int]):
    for source in (open_source(pa.table({"a": [1.0, 2.0, 3.0], "y": labels})), open_source((X[:3], labels))):
        assert source.vocabulary == vocabulary
        assert [type(name) for name in source.vocabulary] == [type(name) for name in vocabulary]
        assert next(source.batches(3)).y.tolist() == codes


def test_the_same_vocabulary_may_be_given_for_data_that_lack_a_class():
    source = open_source((X[:2], ["b", "c"]), vocabulary=["a", "b", "c"])
    assert source.vocabulary == ("a", "b", "c")
    assert next(source.batches(2)).y.tolist() == [1, 2]


def test_float_labels_are_targets_and_integers_are_if_asked():
    table = pa.table({"f": X[:, 0], "y": X[:, 1], "n": Y})
    source = open_source(table, label="y", features="f")
    assert (source.vocabulary, source.targets) == (None, ("y",))
    torch.testing.assert_close(whole(source).y, torch.tensor(X[:, 1:2]).double())
    counted = open_source(table, label="n", features="f", regression=True)
    torch.testing.assert_close(whole(counted).y[:, 0], torch.tensor(Y).double())
    many = open_source(table, label=["n", "y"], features="f")
    assert many.targets == ("n", "y")
    torch.testing.assert_close(whole(many).y, torch.tensor(np.stack([Y, X[:, 1]], 1)).double())
    arrays = open_source((X, X[:, :2]))
    assert arrays.targets == ("y0", "y1")
    torch.testing.assert_close(whole(arrays).y, torch.tensor(X[:, :2]).double())


def test_whole_floats_are_classes_if_asked():
    assert open_source((X, Y.astype(float)), regression=False).vocabulary == (0, 1, 2)


def test_features_keep_float32_and_everything_else_is_float64():
    for kind, dtype in [("f2", torch.float32), ("f4", torch.float32), ("f8", torch.float64), ("u1", torch.float64)]:
        for source in (open_source((X.astype(kind), Y)), open_source(pa.table({"a": X[:, 0].astype(kind), "y": Y}))):
            batch = next(source.batches(N))
            assert batch.x.dtype == dtype
            torch.testing.assert_close(batch.x[:, 0], torch.tensor(X[:, 0].astype(kind)).to(dtype))
    mixed = open_source(pa.table({"a": X[:, 0], "b": Y == 1, "y": WORDS}))
    assert next(mixed.batches(2)).x.dtype == torch.float64
    assert whole(mixed).x[:, 1].tolist() == (Y == 1).astype(float).tolist()


def test_weights_from_a_column_and_from_an_array():
    weights = np.arange(N) / 2
    for source in (open_source(pa.table({**FRAME, "w": weights}), weight="w"), open_source((X, Y), weight=weights)):
        assert len(source.columns) == D
        assert whole(source).w.tolist() == weights.tolist()


def test_features_are_named_by_name_glob_and_order():
    table = pa.table({**FRAME, "g": X[:, 0], "text": WORDS})
    assert open_source(table).columns == ("f0", "f1", "f2", "f3", "g")
    assert open_source(table, features="f*").columns == ("f0", "f1", "f2", "f3")
    assert open_source(table, features="g, f[12]").columns == ("g", "f1", "f2")
    assert open_source(table, features=["*"]).columns == ("f0", "f1", "f2", "f3", "g")
    assert open_source((X, Y)).columns == ("x0", "x1", "x2", "x3")
    assert open_source(pa.table({"e": [[1.0, 2.0], [3.0, 4.0]], "y": [0, 1]})).columns == (
        "e[0]",
        "e[1]",
    )


def test_an_npz_may_name_its_arrays_and_carry_ids_and_weights(tmp_path: Path):
    np.savez(tmp_path / "a.npz", emb=X, kind=WORDS, ids=np.arange(N) + 9, weights=np.full(N, 2.0), X=X[:, :1])
    source = open_source(tmp_path / "a.npz", features="emb", label="kind")
    batch = source.take([1])
    assert (batch.ids.to_pylist(), batch.w.tolist(), batch.x.shape[1]) == ([10], [2.0], D)
