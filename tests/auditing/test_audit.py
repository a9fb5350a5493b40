"""An audit end to end, from every kind of table: what is found, and that it is what the head says."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from audits import CODES, FLIPPED, KEYS, SCORES, TARGETS, WEIGHTS, N, X, Y, frame, numbers, strict_json, write

import assay
from assay.auditing.columns import UNITS
from assay.explore.judge import judge
from assay.explore.kinds import KINDS as KIND_NAMES
from assay.l2 import Rows

L2 = 1e-3


def csv(tmp_path: Path) -> Any:
    pd.DataFrame(frame()).to_csv(tmp_path / "a.csv", index=False)
    return tmp_path / "a.csv"


def npz(tmp_path: Path) -> Any:
    np.savez(tmp_path / "a.npz", X=X, y=Y)
    return tmp_path / "a.npz"


def npy(tmp_path: Path) -> Any:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    return tmp_path / "x.npy", tmp_path / "y.npy"


def parts(tmp_path: Path) -> Any:
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "a.parquet", slice(0, 77))
    write(tmp_path / "parts" / "b.parquet", slice(77, N))
    return tmp_path / "parts"


KINDS: dict[str, Any] = {
    "parquet": lambda tmp_path: write(tmp_path / "a.parquet"),
    "folder": parts,
    "csv": csv,
    "npz": npz,
    "npy": npy,
    "pandas": lambda _: pd.DataFrame(frame()),
    "polars": lambda _: pl.DataFrame(frame()),
    "arrow": lambda _: pa.table(frame()),
    "embedding": lambda _: pa.table({"e": pa.array(list(X), pa.list_(pa.float64())), "y": Y}),
    "numpy": lambda _: (X, Y),
    "torch": lambda _: (torch.tensor(X), Y.tolist()),
    "frame and labels": lambda _: (pd.DataFrame(X), pd.Series(Y)),
}


def judged(head: assay.Head) -> torch.Tensor:
    """Leave-one-out probabilities of the trimmed head `[n, C]`."""
    leverage = head.leverage(X, Y)
    scores = judge(head, Rows(leverage.H, leverage.y, leverage.w), leverage.V, leverage.curvature).scores
    return head.family.probabilities(scores.loo_logits)


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    """What the head in memory says of the same rows."""
    head = assay.Head.fit(X, Y, l2=L2)
    leverage = head.leverage(X, Y)
    loo = leverage.leave_one_out()
    own = judged(head).gather(1, torch.tensor(CODES)[:, None])[:, 0]
    found = {
        "cooks_distance": leverage.cooks_distance(),
        "leverage": leverage.leverage(),
        "logit_variance": leverage.logit_variance(),
        "loss": loo.loss - loo.change,
        "loo_loss": loo.loss,
        "label_score": own,
    }
    return {name: values.numpy() for name, values in found.items()}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_table_gives_the_heads_own_scores(name: str, tmp_path: Path, expected: dict[str, np.ndarray]):
    audit = assay.audit(KINDS[name](tmp_path), l2=L2, out=tmp_path / "audit")
    table = assay.load(tmp_path / "audit").table
    assert table.schema.names == list(UNITS)
    assert table["row"].to_pylist() == table["id"].to_pylist() == list(range(N))
    assert table["given_label"].to_pylist() == Y.tolist()
    for column, values in expected.items():
        np.testing.assert_allclose(numbers(table, column), values, rtol=1e-9, err_msg=column)
    assert audit.info["rows"] == N
    assert len(next(iter(audit.source.batches(1000))).ids) == N, "the samples can be read again"


def test_the_columns_say_what_they_mean(tmp_path: Path):
    audit = assay.audit((X, Y), l2=L2)
    table = audit.table
    cleanlab = {"is_label_issue", "label_score", "given_label", "predicted_label"}
    assert cleanlab <= set(table.schema.names)
    assert set(audit.info["units"]) == set(table.schema.names)
    assert "supports" in audit.info["sign"]
    p = judged(assay.Head.fit(X, Y, l2=L2))
    predicted = np.array(["ant", "bee", "cat"])[p.argmax(1).numpy()]
    assert table["suggested_label"].to_pylist() == table["predicted_label"].to_pylist() == predicted.tolist()
    np.testing.assert_allclose(numbers(table, "confidence"), p.amax(1).numpy(), rtol=1e-9)
    assert numbers(table, "is_label_issue").tolist() == (predicted != Y).tolist()
    for name in ("mislabeled_score", "under_represented_score", "boundary_score", "label_score"):
        assert 0 <= numbers(table, name).min() <= numbers(table, name).max() <= 1
    assert set(table["kind"].to_pylist()) <= set(KIND_NAMES)


def test_the_planted_flips_of_the_digits_come_first(digits_audit: assay.Audit, flipped_digits: Any):
    _, _, flipped = flipped_digits
    top = digits_audit.top(len(flipped), kind="mislabeled")
    assert np.isin(top["id"].to_numpy(), flipped).mean() >= 0.8
    info = digits_audit.info
    assert info["l2"] == digits_audit.head.l2 == info["l2_path"][0][int(np.argmin(info["l2_path"][1]))]
    assert info["dropped_columns"] == ["x0", "x32", "x39"]
    assert sum(info["kinds"].values()) == info["rows"] == 1797
    assert info["gradient_norm"] <= 1e-8 * info["gradient_scale"]
    assert digits_audit.source.render([0])[0].png


def test_the_trust_report_is_there_and_the_same_after_loading(digits_audit: assay.Audit):
    trust = digits_audit.trust
    assert trust.verdict == "trust"
    assert len(trust.refits.ids) >= 10
    assert len(trust.checks) == 7
    assert all(check.sentence.endswith((".", ")")) for check in trust.checks)
    assert assay.load(digits_audit.path).trust == trust


def test_weights_are_repetitions(tmp_path: Path):
    heavy = assay.audit((X, Y), weight=WEIGHTS, l2=L2)
    rows = np.repeat(np.arange(N), WEIGHTS.astype(int))
    plain = assay.audit((X[rows], Y[rows]), l2=L2)
    assert heavy.info["total_weight"] == plain.info["rows"] == WEIGHTS.sum()
    first = np.flatnonzero(np.diff(rows, prepend=-1))
    for name in ("cooks_distance", "logit_variance", "loss"):
        np.testing.assert_allclose(
            numbers(heavy.table, name), numbers(plain.table, name)[first], rtol=1e-8, err_msg=name
        )
    np.testing.assert_allclose(
        numbers(heavy.table, "leverage"), WEIGHTS * numbers(plain.table, "leverage")[first], rtol=1e-8
    )
    named = assay.audit(pa.table(frame(w=WEIGHTS)), weight="w", l2=L2)
    assert numbers(named.table, "cooks_distance").tolist() == numbers(heavy.table, "cooks_distance").tolist()


def test_a_row_of_weight_zero_has_no_effect():
    wild = np.vstack([X[:100], [[1e3, -1e3, 1e3, 5]], X[100:]])
    labels, weights = np.insert(Y, 100, "ant"), np.insert(np.ones(N), 100, 0.0)
    with_it = assay.audit((wild, labels), weight=weights, l2=L2).table
    without = assay.audit((X, Y), l2=L2).table
    rest = np.delete(np.arange(N + 1), 100)
    for name in ("cooks_distance", "leverage", "loo_loss", "under_represented_score"):
        np.testing.assert_allclose(numbers(with_it, name)[rest], numbers(without, name), rtol=1e-9, err_msg=name)
    assert with_it["leverage"][100].as_py() == 0
    assert with_it["loss"][100].as_py() == pytest.approx(with_it["loo_loss"][100].as_py(), rel=1e-12)


@pytest.mark.parametrize("keys", [KEYS, np.arange(N)[::-1] * 7 - 500], ids=["strings", "integers"])
def test_ids_from_a_key_column(keys: np.ndarray, tmp_path: Path):
    path = write(tmp_path / "a.parquet", key=keys)
    audit = assay.audit(path, id="key", features="f*", l2=L2)
    assert audit.table["id"].to_pylist() == keys.tolist()
    assert audit.table["row"].to_pylist() == list(range(N))
    asked = [keys[17].item(), keys[3].item()]
    assert audit.rows_of(asked)["row"].to_pylist() == [17, 3]
    with pytest.raises(assay.UnknownIdError, match=r"no sample of this audit has the id|the ids are"):
        audit.rows_of([keys[0].item(), "nobody"])


def test_regression_with_one_target_is_press():
    y = TARGETS[:, 0].copy()
    y[FLIPPED] += 4
    audit = assay.audit((X, y), l2=0.0)
    H = np.column_stack([X, np.ones(N)])
    hat = H @ np.linalg.solve(H.T @ H, H.T)
    residual = (hat @ y - y) / (1 - hat.diagonal())  # PRESS
    table = audit.table
    np.testing.assert_allclose(numbers(table, "suggested_label"), y + residual, rtol=1e-9)
    np.testing.assert_allclose(numbers(table, "loo_loss"), residual**2 / 2, rtol=1e-7)
    np.testing.assert_allclose(numbers(table, "leverage"), hat.diagonal(), rtol=1e-9)
    assert numbers(table, "given_label").tolist() == y.tolist()
    assert set(FLIPPED) <= set(audit.top(12, kind="mislabeled")["row"].to_pylist())
    assert numbers(table, "is_label_issue")[FLIPPED].all()
    assert set(table["kind"].to_pylist()) <= {"typical", "mislabeled", "under-represented"}
    assert audit.info["family"] == "linear"
    assert audit.info["targets"] == ["y"]
    assert 0.1 < audit.info["noise"][0] < 0.5, "the shifts of 4 hardly move it"


def test_regression_with_several_targets(tmp_path: Path):
    path = write(tmp_path / "a.parquet", u=TARGETS[:, 0], v=TARGETS[:, 1])
    audit = assay.audit(path, label=["u", "v"], features="f*", l2=L2, out=tmp_path / "audit")
    leverage = assay.Head.fit(X, TARGETS, family="linear", l2=L2).leverage(X, TARGETS)
    table = assay.load(audit.path).table
    np.testing.assert_allclose(numbers(table, "cooks_distance"), leverage.cooks_distance().numpy(), rtol=1e-9)
    np.testing.assert_allclose(numbers(table, "loo_loss"), leverage.leave_one_out().loss.numpy(), rtol=1e-9)
    suggested = np.array(table["suggested_label"].to_pylist())
    np.testing.assert_allclose(suggested, leverage.leave_one_out().logits.numpy(), rtol=1e-9)
    assert np.array(table["given_label"].to_pylist()).tolist() == TARGETS.tolist()
    assert audit.info["targets"] == ["u", "v"]
    assert "targets of its strongest supporters" in audit.explain(3).sentence


def test_a_logistic_head_is_half_the_penalty_of_a_softmax():
    y = CODES > 0
    one = assay.audit((X, y), family="logistic", l2=1e-2)
    two = assay.audit((X, y), family="softmax", l2=2e-2)
    for name in ("cooks_distance", "leverage", "loo_loss", "confidence", "boundary_score", "loo_margin"):
        np.testing.assert_allclose(numbers(one.table, name), numbers(two.table, name), rtol=1e-6, err_msg=name)
    assert one.table["suggested_label"].to_pylist() == two.table["suggested_label"].to_pylist()
    assert one.table.schema.field("given_label").type == pa.bool_()


def test_what_a_user_can_act_on_is_said_once(tmp_path: Path):
    wide = np.column_stack([X, np.full(N, 7.0), np.zeros(N)])
    labels = np.append(Y[:-1], "lone")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        audit = assay.audit((wide, labels), l2=L2)
    assert [str(w.message) for w in said if issubclass(w.category, assay.AssayWarning)] == [
        "2 of 6 columns never vary and are left out: x4, x5",
        "1 class has a single sample, which nothing can confirm: 'lone'; collect more of them, or drop them",
    ]
    assert audit.info["dropped_columns"] == ["x4", "x5"]
    plain = assay.audit((X, Y), l2=L2)
    with pytest.warns(assay.AssayWarning, match="never vary"):
        same = assay.audit((wide, Y), l2=L2)
    assert numbers(same.table, "cooks_distance").tolist() == numbers(plain.table, "cooks_distance").tolist()


def test_rows_that_alone_determine_a_parameter_are_nan_and_counted():
    dummies = np.column_stack([X, np.arange(N) == 11, np.arange(N) == 200]).astype(float)
    audit = assay.audit((dummies, TARGETS[:, 0]), l2=0.0)
    sole = np.isnan(numbers(audit.table, "loo_loss"))
    assert np.flatnonzero(sole).tolist() == [11, 200]
    assert audit.info["leverage_one"] == 2
    assert np.isnan(numbers(audit.table, "loo_margin"))[[11, 200]].all()
    assert audit.rows_of([11, 200])["kind"].to_pylist() == ["under-represented"] * 2
    assert np.isfinite(numbers(audit.table, "cooks_distance")).all()
    assert 11 not in audit.top(200, by="loo_loss")["row"].to_pylist(), "NaN stands last"


def test_a_regression_that_follows_every_sample_is_not_trusted():
    audit = assay.audit((X[:5], TARGETS[:5, 0]), l2=0.0)
    assert audit.info["leverage_one"] == 5
    assert audit.trust.verdict == "do not trust"
    strict_json((audit.path / "audit.json").read_text())


def test_collinear_columns_are_fine_under_a_penalty():
    twice = np.column_stack([X, X[:, 0], 2 * X[:, 1] - X[:, 2]])
    audit = assay.audit((twice, Y), l2=1e-2)
    assert audit.info["leverage_one"] == 0
    leverage = assay.Head.fit(twice, Y, l2=1e-2).leverage(twice, Y)
    np.testing.assert_allclose(numbers(audit.table, "cooks_distance"), leverage.cooks_distance().numpy(), rtol=1e-9)


def test_without_a_folder_the_audit_lives_as_long_as_its_object():
    audit = assay.audit((X, Y), l2=L2)
    folder = audit.path
    assert len(audit.table) == N
    del audit
    assert not folder.exists()


def test_the_users_data_are_not_changed():
    data, labels = X.copy(), Y.copy()
    table = pd.DataFrame(frame())
    assay.audit((data, labels), l2=L2)
    assay.audit(table, l2=L2)
    assert (data == X).all()
    assert (labels == Y).all()
    pd.testing.assert_frame_equal(table, pd.DataFrame(frame()))


@pytest.mark.parametrize("shard_rows", [pytest.param(1, marks=pytest.mark.slow), 23, 1000, N])
def test_shards_of_any_size_give_the_same_scores(shard_rows: int, expected: dict[str, np.ndarray]):
    rows = slice(0, 40) if shard_rows == 1 else slice(None)
    audit = assay.audit((X[rows], Y[rows]), l2=L2, shard_rows=shard_rows)
    leverage = assay.Head.fit(X[rows], Y[rows], l2=L2).leverage(X[rows], Y[rows])
    assert len(audit.folder.shards()) == -(-len(Y[rows]) // shard_rows)
    np.testing.assert_allclose(numbers(audit.table, "cooks_distance"), leverage.cooks_distance().numpy(), rtol=1e-9)
    np.testing.assert_allclose(numbers(audit.table, "loo_loss"), leverage.leave_one_out().loss.numpy(), rtol=1e-9)
    np.testing.assert_allclose(numbers(audit.table, "leverage"), leverage.leverage().numpy(), rtol=1e-9)


@pytest.mark.parametrize("l2", [L2, "auto"])
def test_the_order_of_the_rows_does_not_matter(l2: Any, tmp_path: Path):
    shuffled = np.random.default_rng(5).permutation(N)
    plain = assay.audit(write(tmp_path / "a.parquet", key=KEYS), id="key", features="f*", l2=l2)
    other = assay.audit(write(tmp_path / "b.parquet", shuffled, key=KEYS), id="key", features="f*", l2=l2)
    assert plain.info["l2"] == other.info["l2"]
    same = other.rows_of(plain.table["id"].to_pylist())
    for name in SCORES:
        a, b = numbers(plain.table, name), numbers(same, name)
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9 * np.abs(a).max() * (name == "loo_margin"), err_msg=name)
    assert same["suggested_label"].to_pylist() == plain.table["suggested_label"].to_pylist()


def test_row_groups_do_not_matter(tmp_path: Path):
    table = pa.table(frame())
    with pq.ParquetWriter(tmp_path / "ragged.parquet", table.schema) as writer:
        for start, stop in [(0, 1), (1, 8), (8, 130), (130, N)]:
            writer.write_table(table.slice(start, stop - start))
    plain = assay.audit(write(tmp_path / "plain.parquet"), l2=L2, shard_rows=100).table
    ragged = assay.audit(tmp_path / "ragged.parquet", l2=L2, shard_rows=100).table
    assert ragged.equals(plain), "to the bit"


def test_float32_features_are_exact_to_a_millionth_of_the_largest_score():
    exact = assay.audit((X, Y), l2=L2).table
    narrow = assay.audit((X.astype(np.float32), Y), l2=L2).table
    for name in ("cooks_distance", "leverage", "logit_variance", "loo_loss"):
        values = numbers(exact, name)
        np.testing.assert_allclose(numbers(narrow, name), values, rtol=0, atol=1e-6 * values.max(), err_msg=name)


def test_more_rows_than_are_sampled_are_scored_by_the_head_of_all():
    """λ2 and trust rest on a sample of 20,000; the head and the scores on every row."""
    rng = np.random.default_rng(3)
    n = 21_000
    y = rng.integers(0, 2, n)
    x = rng.normal(size=(n, 3)) + y[:, None]
    audit = assay.audit((x, y))
    assert audit.info["sampled_rows"] == 20_000
    head = assay.Head.fit(x, y, l2=audit.info["l2"])
    leverage = head.leverage(x, y)
    np.testing.assert_allclose(numbers(audit.table, "cooks_distance"), leverage.cooks_distance().numpy(), rtol=1e-8)
    whole = assay.Head.fit(x, y)
    assert 0.3 < audit.info["l2"] / whole.l2 < 3, "the sample's total penalty is carried over"
