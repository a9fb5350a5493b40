"""The same samples from every kind of data, in any batches."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.sources import Batch, Source, open_source, reopen, spill

N, D = 50, 4
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, D)).astype(np.float32)
Y = RNG.integers(0, 3, N)
WORDS = np.array(["cat", "ant", "bee"])[Y]
FRAME = {**{f"f{j}": X[:, j] for j in range(D)}, "label": WORDS}


def whole(source: Source, size: int = 1000, **rows: int) -> Batch:
    batches = list(source.batches(size, **rows))
    ids = pa.concat_arrays([batch.ids for batch in batches])
    return Batch(ids, *(torch.cat([batch[k] for batch in batches]) for k in (1, 2, 3)))


def assert_same(one: Batch, other: Batch) -> None:
    assert one.ids.equals(other.ids)
    for a, b in zip(one[1:], other[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def parquet(tmp_path: Path) -> Any:
    pq.write_table(pa.table(FRAME), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


def ragged(tmp_path: Path) -> Any:
    with pq.ParquetWriter(tmp_path / "a.pq", pa.table(FRAME).schema) as writer:
        for start, stop in [(0, 7), (7, 8), (8, 40), (40, 50)]:
            writer.write_table(pa.table(FRAME).slice(start, stop - start))
    return tmp_path / "a.pq"


def folder(tmp_path: Path) -> Any:
    (tmp_path / "d" / "more").mkdir(parents=True)
    for i, (name, start, stop) in enumerate([("a.parquet", 0, 7), ("b.parquet", 7, 7), ("more/c.pq", 7, 50)]):
        pq.write_table(pa.table(FRAME).slice(start, stop - start), tmp_path / "d" / name, row_group_size=3 + i)
    pq.write_table(pa.table(FRAME), tmp_path / "d" / "_ignored.parquet")
    return str(tmp_path / "d")


def globbed(tmp_path: Path) -> Any:
    folder(tmp_path)
    return str(tmp_path / "d" / "**" / "[abc].p*")


def dictionary(tmp_path: Path) -> Any:
    for name, start, stop in [("a", 0, 20), ("b", 20, N)]:  # each file has a dictionary of its own
        words = pa.array(WORDS[start:stop]).dictionary_encode()
        coded = pa.table({**{f"f{j}": X[start:stop, j] for j in range(D)}, "label": words})
        pq.write_table(coded, tmp_path / f"{name}.parquet", row_group_size=9)
    return tmp_path


def embedding(kind: pa.DataType) -> Callable[[Path], Any]:
    def write(tmp_path: Path) -> Any:
        table = pa.table({"label": WORDS, "note": ["x"] * N, "split": np.zeros(N), "e": pa.array(list(X), type=kind)})
        pq.write_table(table, tmp_path / "e.parquet", row_group_size=11)
        return tmp_path / "e.parquet"

    return write


def npz(save: Callable[..., None], **names: str) -> Callable[[Path], Any]:
    def write(tmp_path: Path) -> Any:
        save(tmp_path / "a.npz", **{names.get("x", "X"): X, names.get("y", "y"): WORDS, "other": np.zeros(3)})
        return tmp_path / "a.npz"

    return write


def npy(order: str) -> Callable[[Path], Any]:
    def write(tmp_path: Path) -> Any:
        np.save(tmp_path / "x.npy", np.array(X, order=order))
        np.save(tmp_path / "y.npy", WORDS)
        return str(tmp_path / "x.npy"), tmp_path / "y.npy"

    return write


def of(data: Any) -> Callable[[Path], Any]:
    return lambda _: data


KINDS: dict[str, Callable[[Path], Any]] = {
    "parquet": parquet,
    "ragged row groups": ragged,
    "folder": folder,
    "glob": globbed,
    "dictionary labels": dictionary,
    "fixed-size lists": embedding(pa.list_(pa.float32(), D)),
    "lists": embedding(pa.list_(pa.float32())),
    "large lists": embedding(pa.large_list(pa.float32())),
    "npz stored": npz(np.savez),
    "npz compressed": npz(np.savez_compressed, x="embeddings", y="labels"),
    "npy": npy("C"),
    "npy by column": npy("F"),
    "table": of(pa.table(FRAME)),
    "chunked table": of(pa.concat_tables([pa.table(FRAME).slice(0, 13), pa.table(FRAME).slice(13)])),
    "record batch": of(pa.table(FRAME).to_batches()[0]),
    "pandas": of(pd.DataFrame(FRAME)),
    "pandas categories": of(pd.DataFrame({**FRAME, "label": pd.Categorical(WORDS, categories=["cat", "bee", "ant"])})),
    "pandas index": of(pd.DataFrame(FRAME, index=np.arange(N)[::-1].copy())),
    "polars": of(pl.DataFrame(FRAME)),
    "polars categories": of(pl.DataFrame(FRAME).with_columns(pl.col("label").cast(pl.Categorical))),
    "polars arrays": of(pl.DataFrame({"e": pl.Series(X, dtype=pl.Array(pl.Float32, D)), "label": WORDS})),
    "numpy": of((X, WORDS)),
    "numpy by column": of((np.asfortranarray(X), WORDS)),
    "numpy slices": of((np.repeat(X, 2, axis=0)[::2], np.repeat(WORDS, 2)[::2])),
    "numpy objects": of((X, WORDS.astype(object))),
    "numpy bytes": of((X, WORDS.astype("S"))),
    "big-endian": of((X.astype(">f4"), WORDS)),
    "torch": of((torch.tensor(X, requires_grad=True), list(WORDS))),
    "frame and series": of((pd.DataFrame(X, columns=list("abcd")), pd.Series(WORDS))),
    "polars frame and series": of((pl.DataFrame(X, schema=list("abcd")), pl.Series(WORDS))),
    "arrow frame and array": of((pa.table(FRAME).drop(["label"]), pa.chunked_array([WORDS[:9], WORDS[9:]]))),
}
FILES = [name for name in KINDS if name in ("parquet", "folder", "npz stored", "npz compressed", "npy", "lists")]


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


def assert_same_take(source: Source, rows: list[int]) -> None:
    everything, taken = whole(source), source.take(rows)
    index = torch.tensor(rows, dtype=torch.int64)
    assert taken.ids.equals(everything.ids.take(pa.array(rows, pa.int64())))
    for a, b in zip(taken[1:], everything[1:], strict=True):
        torch.testing.assert_close(a, b[index], rtol=0, atol=0)


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


def assert_same_rows(part: Batch, everything: Batch, rows: range) -> None:
    cut = slice(rows.start, rows.stop)
    assert_same(part, Batch(*(whole_part[cut] for whole_part in everything)))


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
    assert open_source({"y": [0, 1]} and pa.table({"e": [[1.0, 2.0], [3.0, 4.0]], "y": [0, 1]})).columns == (
        "e[0]",
        "e[1]",
    )


def test_an_npz_may_name_its_arrays_and_carry_ids_and_weights(tmp_path: Path):
    np.savez(tmp_path / "a.npz", emb=X, kind=WORDS, ids=np.arange(N) + 9, weights=np.full(N, 2.0), X=X[:, :1])
    source = open_source(tmp_path / "a.npz", features="emb", label="kind")
    batch = source.take([1])
    assert (batch.ids.to_pylist(), batch.w.tolist(), batch.x.shape[1]) == ([10], [2.0], D)


def test_images_render_as_thumbnails_on_the_scale_of_the_source():
    from io import BytesIO

    from PIL import Image

    pixels = np.zeros((3, 2, 4), np.uint8)
    pixels[1, 0, 0], pixels[2, 1, 3] = 255, 51
    source = open_source((pixels, [0, 1, 1]))
    assert source.image_shape == (2, 4)
    image = np.asarray(Image.open(BytesIO(source.render(2).png)))
    assert image.shape == (2, 4)
    assert image[1, 3] == 51
    assert open_source((np.zeros((3, 2, 4, 3)), [0, 1, 1])).render(0).png.startswith(b"\x89PNG")


def test_a_table_renders_its_fields():
    table = pa.table({**FRAME, "note": [f"row {i}" for i in range(N)], "e": list(X)})
    shown = open_source(table, features="f*", image_shape=(2, 2)).render(3)
    assert shown.png is not None
    assert shown.fields == {"label": WORDS[3], "note": "row 3"}
    shown = open_source(table, features="f0").render(3)
    assert shown.png is None
    assert shown.fields == {**{f"f{j}": float(X[3, j]) for j in range(D)}, "label": WORDS[3], "note": "row 3"}
