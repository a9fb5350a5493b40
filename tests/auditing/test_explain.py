"""Supporters and opponents: signed, with ids, against influence by brute force."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from audits import CODES, FLIPPED, KEYS, TARGETS, WEIGHTS, N, X, Y, write

import assay
import oracles


def brute_force(head: assay.Head, y: torch.Tensor, w: torch.Tensor) -> np.ndarray:
    """`I(i, t) = ∇ℓ(t)ᵀ H⁺ ∇ℓ(i)`, by autograd and the pseudo-inverse."""
    name, W, H = head.family.name, oracles.class_weights(head), head.design.matrix(torch.tensor(X))
    g = oracles.gradients(name, W, H, y)
    hessian = oracles.hessian(name, W, H, y, w, head.penalty, head.total_weight)
    return (g @ torch.linalg.pinv(hessian, hermitian=True) @ g.T).numpy()


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> assay.Audit:
    path = write(tmp_path_factory.mktemp("explain") / "a.parquet", key=KEYS, w=WEIGHTS)
    return assay.audit(path, id="key", features="f*", weight="w", l2=1e-2, shard_rows=100)


@pytest.mark.parametrize("row", [0, int(FLIPPED[0]), N - 1])
def test_the_neighbours_are_those_of_brute_force(audit: assay.Audit, row: int):
    influence = brute_force(audit.head, torch.tensor(CODES), torch.tensor(WEIGHTS))[:, row]
    influence[row] = 0
    why = audit.explain(str(KEYS[row]), top_k=6)
    order = np.argsort(-influence)
    for table, expected in ((why.supporters, order[:6]), (why.opponents, order[::-1][:6])):
        assert table["row"].to_pylist() == expected.tolist()
        assert table["id"].to_pylist() == KEYS[expected].tolist()
        assert table["given_label"].to_pylist() == Y[expected].tolist()
        np.testing.assert_allclose(table["influence"].to_numpy(), influence[expected], rtol=1e-7)
    assert min(why.supporters["influence"].to_pylist()) > 0 > max(why.opponents["influence"].to_pylist())
    assert row not in [*why.supporters["row"].to_pylist(), *why.opponents["row"].to_pylist()]
    scored = audit.rows_of([str(KEYS[row])]).to_pylist()[0]
    for name in ("id", "given_label", "suggested_label", "confidence", "kind"):
        assert getattr(why, name) == scored[name]


def test_a_supporter_that_leaves_raises_the_loss_and_an_opponent_lowers_it(audit: assay.Audit):
    row = int(FLIPPED[2])
    why = audit.explain(str(KEYS[row]), top_k=1)
    before = audit.head.logits(torch.tensor(X))
    for table, sign in ((why.supporters, 1), (why.opponents, -1)):
        rest = np.delete(np.arange(N), table["row"][0].as_py())
        # the total penalty stays when a sample leaves
        l2 = audit.head.l2 * audit.head.total_weight / WEIGHTS[rest].sum()
        mean, scale = audit.head.design.mean.numpy(), audit.head.design.scale.numpy()
        same = (X - mean) / scale
        head = assay.Head.fit(same[rest], Y[rest], weights=WEIGHTS[rest], l2=l2, standardize=False)
        after = head.logits(torch.tensor(same))
        label = torch.tensor(CODES[[row]])
        change = torch.nn.functional.cross_entropy(after[[row]], label) - torch.nn.functional.cross_entropy(
            before[[row]], label
        )
        first_order = WEIGHTS[table["row"][0].as_py()] * table["influence"][0].as_py() / audit.head.total_weight
        assert sign * float(change) > 0
        assert float(change) == pytest.approx(first_order, rel=0.25)


def test_several_at_once_are_the_same_as_one_by_one(audit: assay.Audit):
    ids = [str(KEYS[k]) for k in (5, 200, 7)]
    for alone, together in zip([audit.explain(id_) for id_ in ids], audit.explain_many(ids), strict=True):
        assert alone.id == together.id
        assert alone.supporters["id"].equals(together.supporters["id"])
        assert alone.opponents["id"].equals(together.opponents["id"])


def test_a_suspect_is_opposed_by_its_own_kind(audit: assay.Audit):
    why = audit.explain(audit.top(1, kind="mislabeled")["id"][0].as_py())
    assert why.suggested_label != why.given_label
    assert f"of its 5 strongest opponents are labelled {why.suggested_label}." in why.sentence


def test_a_sample_of_weight_zero_neither_supports_nor_opposes():
    weights = np.ones(N)
    weights[:50] = 0
    audit = assay.audit((X, Y), weight=weights, l2=1e-2)
    why = audit.explain(3, top_k=N)
    assert min(why.supporters["row"].to_pylist() + why.opponents["row"].to_pylist()) >= 50
    assert len(why.supporters) + len(why.opponents) == N - 50


def test_regression_neighbours_are_those_of_brute_force():
    audit = assay.audit((X, TARGETS), l2=1e-2)
    influence = brute_force(audit.head, torch.tensor(TARGETS), torch.ones(N).double())[:, 8]
    influence[8] = 0
    why = audit.explain(8)
    assert why.supporters["row"].to_pylist() == np.argsort(-influence)[:5].tolist()
    assert why.opponents["row"].to_pylist() == np.argsort(influence)[:5].tolist()
    assert why.supporters["given_label"][0].as_py() == TARGETS[why.supporters["row"][0].as_py()].tolist()


@pytest.mark.parametrize(("id_", "said"), [("nobody", "no sample .* has the id 'nobody'"), (7, "the ids are string")])
def test_an_id_that_is_not_there(audit: assay.Audit, id_: Any, said: str):
    with pytest.raises(assay.UnknownIdError, match=said):
        audit.explain(id_)


def test_changed_data_are_not_explained(tmp_path: Path):
    path = write(tmp_path / "a.parquet")
    audit = assay.audit(path, l2=1e-2, out=tmp_path / "audit")
    write(path, slice(1, N))
    with pytest.raises(assay.SourceError, match=r"a\.parquet, row 0: the data are no longer those that were audited"):
        assay.load(audit.path).explain(3)
