"""Near-duplicates: found whatever their number, scored as a group, and planted duplicate flips recovered."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.testing import assert_close

import assay
import oracles
from assay.explore import duplicates
from assay.explore.duplicates import near_duplicates
from assay.head import Head


def digits_with_copied_flips(copies: int, jitter: float, seed: int = 0):
    """30 flipped digits, each there 1 + `copies` times with the same wrong label; `jitter` in columns' deviations."""
    rng = np.random.default_rng(seed)
    X, y = load_digits(return_X_y=True)
    flipped = rng.choice(len(X), 30, replace=False)
    y[flipped] = (y[flipped] + rng.integers(1, 10, 30)) % 10
    noise = jitter * X.std(0) * rng.normal(size=(30 * copies, 64))
    bad = np.r_[np.isin(np.arange(len(X)), flipped), np.ones(30 * copies, bool)]
    return np.r_[X, np.repeat(X[flipped], copies, 0) + noise], np.r_[y, np.repeat(y[flipped], copies)], bad


@pytest.mark.parametrize("jitter", [0.0, 0.1])
def test_duplicate_flips_that_hide_from_leave_one_out_are_recovered(jitter: float):
    """Among as many first suspects as there are wrong labels: at least 0.8 of them, by leave-one-out at most 0.4."""
    X, y, bad = digits_with_copied_flips(4, jitter)
    found = near_duplicates(Head.fit(X, y).leverage(X, y))

    def recall(score: torch.Tensor) -> float:
        return bad[score.argsort(descending=True)[: bad.sum()].numpy()].mean()

    assert recall(found.loss_shown) < 0.4
    assert recall(found.loo_loss) >= 0.8
    assert len(found.members) >= 30
    assert (found.group.numpy()[bad] >= 0).all()
    assert (found.group.numpy()[~bad] >= 0).mean() < 0.01


@pytest.mark.parametrize("name", ["softmax", "logistic", "linear"])
def test_a_group_is_scored_by_the_head_without_it(name: str):
    """Exactly for squared error; to one Newton step, whose error is tested elsewhere, for the others."""
    X, y = oracles.regression(80, 3, 2) if name == "linear" else oracles.blobs(80, 3, 2)
    X[40:42] = X[7]
    y[40:42] = y[7]
    head = Head.fit(X, y, family=name, l2=1e-2)
    found = near_duplicates(head.leverage(X, y), within=0.01)
    assert found.members == [[7, 40, 41]]
    refit = assay.refit_without(head, (X, y), [7, 40, 41], together=True)
    exact = head.matrix(X[[7, 40, 41]]) @ refit.V[0].T
    error = (found.loo_logits[[7, 40, 41]] - exact).norm()
    alone = head.leverage(X, y).scores.loo_logits[[7, 40, 41]]  # each left out by itself, the other two kept
    assert float(error) <= (1e-8 if name == "linear" else 0.1) * float((alone - exact).norm())
    assert (found.group[[0, 1, 2]] == -1).all()
    assert_close(found.loo_loss[:7], found.loss_shown[:7])


def test_groups_are_chains_and_numbered_by_their_first_member():
    rng = np.random.default_rng(0)
    X = 10 * rng.normal(size=(50, 2))
    X[49] = X[3] + 0.010
    X[20] = X[3] + 0.005
    X[11] = X[10]
    y = np.arange(50) % 2
    found = near_duplicates(Head.fit(X, y, l2=1.0).leverage(X, y), within=0.05)
    assert found.members == [[3, 20, 49], [10, 11]]


def test_many_copies_are_left_out_as_many_as_can_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(duplicates, "MOST", 4)
    X, y = oracles.blobs(60, 3, 3)
    X[:9] = X[0]
    leverage = Head.fit(X, y, l2=1e-2).leverage(X, y)
    found = near_duplicates(leverage)
    assert found.members[0] == list(range(9))
    assert not found.loo_logits.isnan().any()


def test_samples_without_a_duplicate_are_left_as_they_were():
    X, y = oracles.blobs(60, 3, 3)
    found = near_duplicates(Head.fit(X, y, l2=1e-2).leverage(X, y), within=0.0)
    assert found.members == []
    assert_close(found.loo_loss, found.loss_shown)
    with pytest.raises(assay.ShapeError, match=r"within=1\.5; give a share"):
        near_duplicates(Head.fit(X, y, l2=1e-2).leverage(X, y), within=1.5)


def test_targets_agree_within_their_noise():
    X, y = oracles.regression(80, 3, 1)
    X[40:43] = X[7]
    y[40:42] = y[7] + 0.1
    y[42] = y[7]
    X[60] = X[50]
    y[60] = y[50] + 9.0
    table = assay.audit((X, y), l2=1e-3).near_duplicates(within=0.01)
    found = {row["row"]: row["labels_agree"] for row in table.to_pylist()}
    assert found == {7: True, 40: True, 41: True, 42: True, 50: False, 60: False}
    assert set(table["row"].to_pylist()[:2]) == {50, 60}  # the most suspect first


def test_an_audits_table_says_who_hid_whom(tmp_path: Path):
    X, y, bad = digits_with_copied_flips(2, 0.05)
    names = np.array([f"d{k}" for k in y])
    with pytest.warns(assay.AssayWarning, match="never vary"):
        audit = assay.audit((X, names), l2=1e-3, out=tmp_path / "audit")
    table = audit.near_duplicates()
    group = np.array(table["group"].to_pylist())
    assert set(np.flatnonzero(bad)) <= set(table["row"].to_pylist())
    assert (np.diff(np.flatnonzero(np.r_[True, group[1:] != group[:-1]])) > 1).all()  # members stand together
    first = table.slice(0, 60)
    assert bad[first["row"].to_numpy()].mean() > 0.9
    assert np.median(first["group_loo_loss"].to_numpy() - first["loo_loss"].to_numpy()) > 0.5
    assert table["given_label"].to_pylist() == names[table["row"].to_numpy()].tolist()
    for row in table.to_pylist():
        labels = {r["given_label"] for r in table.to_pylist() if r["group"] == row["group"]}
        assert row["labels_agree"] == (len(labels) == 1)
