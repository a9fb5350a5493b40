"""Ensembles: the mean that is promised, samples matched by id, and other data refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn

import assay

RNG = np.random.default_rng(0)
N = 600
X = RNG.normal(size=(N, 6))
TRUTH = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 0.7)
NAMES = np.array(["ant", "bee", "cat"])
FLIPPED = np.sort(RNG.choice(N, 40, replace=False))
LABELS = TRUTH.copy()
LABELS[FLIPPED] = (LABELS[FLIPPED] + RNG.integers(1, 3, 40)) % 3


SCORE = "mislabeled_score"


def made(noise: float, seed: int = 0, order: np.ndarray | None = None, **columns) -> assay.Audit:
    """An audit of the features seen through noise, rows in any order."""
    seen = X + noise * np.random.default_rng(seed).normal(size=X.shape)
    table = pd.DataFrame(seen, columns=[f"f{j}" for j in range(6)]).assign(
        label=NAMES[LABELS], name=[f"s{i}" for i in range(N)]
    )
    table = table.assign(**columns) if order is None else table.iloc[order].reset_index(drop=True)
    return assay.audit(table, label="label", id="name", l2=1e-3)


def test_the_mean_of_the_losses_by_id():
    order = RNG.permutation(N)
    one, two = made(0.3, 1), made(1.5, 2, order)
    found = assay.ensemble([one, two])
    assert found.table["id"].to_pylist() == [f"s{i}" for i in range(N)]
    scores = np.stack([one.table[SCORE].to_numpy(), two.table[SCORE].to_numpy()[order.argsort()]])
    losses = scores / (1 - scores)
    right = np.array([1 - np.mean(audit.table["is_label_issue"].to_numpy()) for audit in (one, two)])
    a = np.array([0.5, 0.5])
    assert found.members["weight"].to_pylist() == [0.5, 0.5]
    np.testing.assert_allclose(found.members["loo_accuracy"].to_numpy(), right)
    np.testing.assert_allclose(found.table["label_loss"].to_numpy(), a @ losses)
    np.testing.assert_allclose(found.table["label_loss_std"].to_numpy(), losses.std(0))
    issues = [one.table["is_label_issue"].to_numpy(), two.table["is_label_issue"].to_numpy()[order.argsort()]]
    np.testing.assert_allclose(found.table["agreement"].to_numpy(), np.mean(issues, 0))
    assert found.table["given_label"].to_pylist() == NAMES[LABELS].tolist()
    assert found.table["suggested_label"].to_pylist() == one.table["suggested_label"].to_pylist()  # two votes: a tie
    first = assay.ensemble([one, two], weights=[3, 1])
    np.testing.assert_allclose(first.table["label_loss"].to_numpy(), np.array([0.75, 0.25]) @ losses)


def test_most_votes_and_better_than_each():
    audits = [made(0.8, seed) for seed in range(1, 6)]
    found = assay.ensemble(audits)
    suggested = pd.DataFrame({k: audit.table["suggested_label"].to_pylist() for k, audit in enumerate(audits)})
    most = suggested.mode(axis=1)
    clear = most.drop(columns=0).isna().all(axis=1)
    together = pd.Series(found.table["suggested_label"].to_pylist())
    assert (together[clear] == most[0][clear]).all()
    wrong = np.isin(np.arange(N), FLIPPED)
    each = [average_precision_score(wrong, audit.table["mislabeled_score"].to_numpy()) for audit in audits]
    assert average_precision_score(wrong, found.table["mislabeled_score"].to_numpy()) > max(each)
    assert set(found.top(20)["id"].to_pylist()) <= {f"s{i}" for i in range(N)}
    np.testing.assert_array_equal(
        found.top(3)["label_loss"].to_numpy(), np.sort(found.table["label_loss"].to_numpy())[:-4:-1]
    )


def test_traces_and_folders_are_members(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    states = {}
    for step in (1, 5):
        model[0].weight.data *= 1.5
        states[step] = {name: value.clone() for name, value in model.state_dict().items()}
    traced = assay.trace((X, LABELS), model=model, checkpoints=states, refit=True, l2=1e-3)
    found = assay.ensemble([traced])
    assert found.members["member"].to_pylist() == ["step 1", "step 5"]
    np.testing.assert_allclose(found.table["label_loss"].to_numpy(), traced.column("label_loss").mean(0))
    assert found.table["suggested_label"].null_count == N
    audit = assay.audit((X, LABELS), l2=1e-3, out=tmp_path / "a")
    both = assay.ensemble([tmp_path / "a", traced])
    assert len(both.members) == 3
    assert both.table["suggested_label"].to_pylist() == audit.table["suggested_label"].to_pylist()
    by_hand = 1 - np.mean(audit.table["is_label_issue"].to_numpy())
    assert both.members["loo_accuracy"][0].as_py() == pytest.approx(by_hand)


def test_members_weigh_by_what_they_know_of_held_out_samples():
    """One member sees little; with held-out samples it has little say, without them as much as the other."""
    held = np.arange(N) % 5 == 0
    weight = np.where(held, 0.0, 1.0)
    audits = [assay.audit((X + noise * RNG.normal(size=X.shape), LABELS), weight=weight, l2=1e-3) for noise in (0.1, 3)]
    found = assay.ensemble(audits)
    accuracy = [1 - np.mean(audit.table["is_label_issue"].to_numpy()[held]) for audit in audits]
    np.testing.assert_allclose(found.members["held_out_accuracy"].to_numpy(), accuracy)
    share = np.array(accuracy) ** 8
    np.testing.assert_allclose(found.members["weight"].to_numpy(), share / share.sum())
    assert found.members["weight"][0].as_py() > 0.9
    wrong = np.isin(np.arange(N), FLIPPED)
    even = assay.ensemble(audits, weights=[1, 1]).table[SCORE].to_numpy()
    score = average_precision_score(wrong, found.table[SCORE].to_numpy())
    assert score > average_precision_score(wrong, even)


def test_a_step_of_a_trace_knows_its_accuracy_on_held_out_samples():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    held = np.arange(N) % 4 == 0
    given = {"model": model, "checkpoints": {1: model.state_dict()}, "refit": True, "l2": 1e-3}
    table = pd.DataFrame(X, columns=[f"f{j}" for j in range(6)]).assign(y=LABELS, w=np.where(held, 0.0, 1.0))
    traced = assay.trace(table, label="y", weight="w", features="f*", **given)
    audit = assay.audit(table, label="y", weight="w", features="f*", model=model, l2=1e-3)
    step = traced.steps.to_pylist()[0]
    assert traced.column("label_loss")[0] == pytest.approx(
        audit.table[SCORE].to_numpy() / (1 - audit.table[SCORE].to_numpy()), rel=1e-6
    )
    plain = assay.audit(table, label="y", weight="w", features="f*", model=model, l2=1e-3, trim=False)
    issue = plain.table["is_label_issue"].to_numpy()
    assert step["held_out_accuracy"] == pytest.approx(1 - issue[held].mean())
    assert step["loo_accuracy"] == pytest.approx(1 - issue[~held].mean())


def test_a_regression_has_equal_weights_and_mean_suggestions():
    y = X @ np.arange(6.0) + RNG.normal(size=N)
    audits = [assay.audit((X[:, :k], y), l2=1e-3) for k in (4, 6)]
    found = assay.ensemble(audits)
    assert found.members["weight"].to_pylist() == [0.5, 0.5]
    means = np.mean([audit.table["suggested_label"].to_numpy() for audit in audits], 0)
    np.testing.assert_allclose(found.table["suggested_label"].to_numpy(), means)


@pytest.mark.parametrize(
    ("members", "weights", "message"),
    [
        (lambda: [], None, "one or more members"),
        (lambda: "folder", None, "one or more members"),
        (lambda: [made(0.3), assay.audit((X, LABELS), l2=1e-3)], None, "has other samples"),
        (lambda: [made(0.3), made(0.3, order=np.arange(N - 1))], None, r"other samples \(599\) than .* \(600\)"),
        (lambda: [made(0.3), made(0.3, label=NAMES[TRUTH])], None, r"sample 's\d+' has the label .* the same labels"),
        (lambda: [made(0.3)], [1.0, 1.0], "not one number ≥ 0 for each of the 1 members"),
        (lambda: [made(0.3)], [-1.0], "not one number"),
        (lambda: [made(0.3)], [0.0], "not one number"),
    ],
)
def test_what_is_no_ensemble_is_refused(members, weights, message):
    with pytest.raises(assay.ShapeError, match=message):
        assay.ensemble(members(), weights=weights)
