"""A group of an audit's samples, by ids or by a condition: its effect is that of the head in memory, and of a refit."""

from pathlib import Path

import numpy as np
import pytest
from audits import FLIPPED, TARGETS, WEIGHTS, N, X, Y, write
from torch.testing import assert_close

import assay

SITE = np.array(["north", "south"])[np.arange(N) % 2]


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> assay.Audit:
    path = write(tmp_path_factory.mktemp("group") / "a.parquet", site=SITE, weight=WEIGHTS)
    return assay.audit(path, label="y", features="f*", weight="weight", l2=1e-2, shard_rows=50)


CONDITIONS = {
    "given_label == 'cat'": Y == "cat",
    "given_label != 'cat' and site == 'north'": (Y != "cat") & (SITE == "north"),
    "given_label in ('ant', 'bee') or site not in ['north']": np.isin(Y, ["ant", "bee"]) | (SITE != "north"),
    "not (site == 'south')": SITE == "north",
    "0 <= row < 7": np.arange(N) < 7,
    "f0 > -0.5": X[:, 0] > -0.5,
    "is_label_issue == True and kind == 'mislabeled'": None,
}


@pytest.mark.parametrize("where", CONDITIONS)
def test_a_condition_over_scores_and_the_users_own_columns(audit: assay.Audit, where: str):
    expected = CONDITIONS[where]
    if expected is None:
        table = audit.table
        expected = table["is_label_issue"].to_numpy() & (np.array(table["kind"].to_pylist()) == "mislabeled")
        assert len(set(np.flatnonzero(expected)) & set(FLIPPED.tolist())) >= 8
    assert audit.select(where) == np.flatnonzero(expected).tolist()


REFUSED = {
    "given_label": "given_label is string; compare like with like",
    "": "cannot be read",
    "given_label =": "cannot be read",
    "__import__('os').system('true')": "is not allowed; compare columns",
    "given_label.__class__ == 'a'": "is not allowed",
    "[x for x in given_label]": "is not allowed",
    "f0 + 1 > 2": "is not allowed",
    "given_label == site + 'x'": "is not allowed",
    "nothing > 2": "no column 'nothing'; the columns are 'row'",
    "given_label > 2": "given_label is string; compare like with like",
}


@pytest.mark.parametrize("where", REFUSED)
def test_what_is_no_condition_is_refused_and_never_run(audit: assay.Audit, where: str):
    with pytest.raises(assay.ShapeError, match=REFUSED[where]):
        audit.select(where)


@pytest.mark.parametrize("order", [1, 2, "newton"])
def test_the_effect_is_that_of_the_head_in_memory(audit: assay.Audit, order):
    head = assay.Head.fit(X, Y, l2=1e-2, weights=WEIGHTS)
    leverage = head.leverage(X, Y, weights=WEIGHTS)
    ids = FLIPPED.tolist()
    expected = assay.group_influence(leverage, ids, order=order)
    found = audit.group(ids, order=order)
    assert_close(found.influence.shift, expected.shift, rtol=1e-7, atol=1e-9)
    assert found.influence.cooks_distance == pytest.approx(expected.cooks_distance, rel=1e-8)
    before = leverage.scores.loss.numpy()
    change = expected.loss_without(X, Y).numpy() - before
    assert found.own_loss_change == pytest.approx(change[FLIPPED].mean(), rel=1e-6)
    stays = ~np.isin(np.arange(N), FLIPPED)
    for row in found.others.to_pylist():
        of_class = stays & (row["class"] == Y)
        assert row["rows"] == of_class.sum()
        assert row["loss_change"] == pytest.approx(change[of_class].mean(), rel=1e-5, abs=1e-9)


def test_the_exact_answer_is_the_fit_of_the_rest(audit: assay.Audit):
    rest = ~np.isin(np.arange(N), FLIPPED)
    total = WEIGHTS.sum()
    head = assay.Head.fit(X, Y, l2=1e-2, weights=WEIGHTS)
    found = audit.group(FLIPPED.tolist(), refit=True)
    refit = assay.refit_without(head, assay.open_source((X, Y), weight=WEIGHTS), FLIPPED.tolist(), together=True)
    assert found.influence.exact is not None
    assert_close(found.influence.exact, refit.shift[0], rtol=1e-6, atol=1e-8)
    H = head.matrix(X)  # standardised by all, as the penalty is
    l2 = 1e-2 * total / WEIGHTS[rest].sum()
    alone = assay.Head.fit(H[rest, :4], Y[rest], l2=l2, weights=WEIGHTS[rest], standardize=False)
    shifted = head.family.expand(H @ (head.V + found.influence.exact).T)
    assert_close(shifted, alone.logits(H[:, :4]), rtol=1e-6, atol=1e-7)
    assert found.own_loss_change > 0
    assert sum(row["loss_change"] * row["rows"] for row in found.others.to_pylist()) < 0  # wrong labels hurt the others


def test_by_condition_and_by_ids_is_the_same(audit: assay.Audit):
    where = audit.group(where="given_label == 'cat' and site == 'north'")
    ids = audit.group(np.flatnonzero((Y == "cat") & (SITE == "north")).tolist())
    assert where.influence.ids.to_pylist() == ids.influence.ids.to_pylist()
    assert where.own_loss_change == ids.own_loss_change


def test_a_regression_has_one_row_of_others(tmp_path: Path):
    path = write(tmp_path / "a.parquet", t=TARGETS[:, 0])
    audit = assay.audit(path, label="t", features="f*", l2=1e-2)
    found = audit.group(list(range(10)))
    assert found.others["class"].to_pylist() == ["all"]
    assert found.others["rows"].to_pylist() == [N - 10]
    exact = audit.group(list(range(10)), order="newton")
    assert exact.own_loss_change == pytest.approx(audit.group(list(range(10)), refit=True).own_loss_change, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ({}, assay.ShapeError, "by ids or by where=, one of them"),
        ({"ids": [1], "where": "row == 1"}, assay.ShapeError, "one of them"),
        ({"ids": []}, assay.UnknownIdError, "the group is empty: no ids are given"),
        ({"where": "row == -1"}, assay.UnknownIdError, "the group is empty: no sample has row == -1"),
        ({"ids": [1, 2, 1]}, assay.ShapeError, "id 1 is in the group twice"),
        ({"ids": [1, N]}, assay.UnknownIdError, f"no sample of this audit has the id {N}"),
        ({"ids": ["x"]}, assay.UnknownIdError, r"the ids are int64; \['x'\] are not"),
        ({"where": "given_label == 'cat'"}, assay.ShapeError, "class 'cat' has none left"),
        ({"ids": [1], "order": 3}, assay.ShapeError, "order=3 is not one of"),
    ],
)
def test_groups_that_cannot_be(audit: assay.Audit, call, error, said):
    with pytest.raises(error, match=said):
        audit.group(**call)
