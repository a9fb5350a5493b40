"""The elastic net: its optimum against scikit-learn's, its scores on the active set against real refits."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, LogisticRegression
from torch.testing import assert_close

import assay
import oracles
from assay.head import Head
from assay.newton import moments

FAMILIES = [("softmax", 2), ("softmax", 4), ("logistic", 2), ("linear", 1), ("linear", 3)]
PENALTIES = [(1e-2, 1e-2), (3e-2, 1e-3), (1e-3, 1e-4), (0.2, 1e-2)]


def data(name: str, size: int, n: int = 200, d: int = 6, idle: int = 6):
    """Standardised columns, `idle` of them noise."""
    X, y = oracles.regression(n, d, size) if name == "linear" else oracles.blobs(n, d, size)
    if name == "linear":
        y = y / y.std(0) + 0.5 * np.random.default_rng(2).normal(size=y.shape)
    X = np.hstack([X, np.random.default_rng(3).normal(size=(n, idle))])
    return (X - X.mean(0)) / X.std(0), y


def objective(name: str, head: Head, W: torch.Tensor, b: torch.Tensor, X, y) -> float:
    """The objective as the design writes it, from weights in class columns."""
    H = torch.cat([torch.tensor(X), torch.ones(len(X), 1)], 1).double()
    labels = torch.as_tensor(y) if name != "linear" else torch.as_tensor(y).view(len(X), -1)
    loss = oracles.losses(name, torch.cat([W, b[:, None]], 1), H, labels).mean()
    return float(loss + head.l2 / 2 * W.square().sum() + head.l1 * W.abs().sum())


def subgradient(head: Head, leverage) -> torch.Tensor:
    """What the optimality conditions leave over, entry by entry: zero at the optimum."""
    sums = moments(head.family, head.V, leverage.H, leverage.y, leverage.w)
    G = sums.gradient / head.total_weight + head.l2 * head.penalised * head.V
    D = head.penalised.expand_as(G) > 0
    at_zero = (G.abs() - head.l1).clamp(min=0)
    return torch.where(~D, G, torch.where(head.V == 0, at_zero, G + head.l1 * head.V.sign()))


@pytest.mark.parametrize(("name", "size"), FAMILIES)
@pytest.mark.parametrize(("l1", "l2"), PENALTIES)
def test_the_optimality_conditions_hold(name, size, l1, l2):
    X, y = data(name, size)
    w = np.random.default_rng(0).uniform(0.5, 2, len(X))
    head = Head.fit(X, y, family=name, l1=l1, l2=l2, weights=w)
    left = subgradient(head, head.leverage(X, y, weights=w))
    assert float(left.norm()) <= 1e-8 * head.gradient_scale
    assert bool((head.V == 0).any()) or l1 < 0.01
    if name == "softmax":
        assert_close(head.V[:, -1].sum(), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "size"), [("softmax", 4), ("logistic", 2)])
@pytest.mark.parametrize(("l1", "l2"), PENALTIES[:3])
def test_the_objective_equals_sagas(name, size, l1, l2):
    X, y = data(name, size)
    head = Head.fit(X, y, family=name, l1=l1, l2=l2, standardize=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", FutureWarning)  # scikit-learn renames the penalty argument
        saga = LogisticRegression(
            penalty="elasticnet", solver="saga", C=1 / (len(X) * (l1 + l2)), l1_ratio=l1 / (l1 + l2), tol=1e-12,
            max_iter=20_000,
        ).fit(X, y)  # fmt: skip
    ours = head.coefficients()
    found = objective(name, head, ours[:, :-1], ours[:, -1], X, y)
    theirs = objective(name, head, torch.tensor(saga.coef_), torch.tensor(saga.intercept_), X, y)
    assert found == pytest.approx(theirs, abs=1e-8)
    assert found <= theirs + 1e-12
    assert torch.equal(ours[:, :-1] != 0, torch.tensor(saga.coef_ != 0))


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_regression_equals_scikit_learns(outputs):
    X, y = data("linear", outputs)
    l1, l2 = 0.05, 0.01
    head = Head.fit(X, y, family="linear", l1=l1, l2=l2, standardize=False)
    for k in range(outputs):
        alone = ElasticNet(alpha=l1 + l2, l1_ratio=l1 / (l1 + l2), tol=1e-14, max_iter=100_000).fit(X, y[:, k])
        np.testing.assert_allclose(head.coefficients()[k, :-1].numpy(), alone.coef_, atol=1e-8)
        assert float(head.coefficients()[k, -1]) == pytest.approx(alone.intercept_, abs=1e-8)


@pytest.mark.parametrize(("name", "size"), FAMILIES)
def test_a_vanishing_l1_term_gives_the_scores_without_it(name, size):
    """In class columns or contrasts, with shared outputs or not: the same scores."""
    X, y = data(name, size)
    plain = Head.fit(X, y, family=name, l2=1e-2).leverage(X, y).scores
    with_l1 = Head.fit(X, y, family=name, l2=1e-2, l1=1e-13).leverage(X, y).scores
    for score in ("cooks_distance", "leverage", "logit_variance", "loss", "loo_loss"):
        assert_close(getattr(with_l1, score), getattr(plain, score), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(("name", "size"), FAMILIES)
def test_cooks_distance_is_the_quadratic_form_on_the_active_set(name, size):
    X, y = data(name, size, n=120, d=4)
    head = Head.fit(X, y, family=name, l1=3e-2, l2=1e-2)
    leverage = head.leverage(X, y)
    W, H = oracles.class_weights(head), leverage.H
    args = (name, W, H, leverage.y, leverage.w, head.penalty, head.total_weight)
    moving = (W != 0) | (head.penalised == 0)
    index = moving.flatten().nonzero()[:, 0]
    inverse = torch.linalg.pinv(oracles.hessian(*args)[index][:, index], hermitian=True)
    g = oracles.gradients(name, W, H, leverage.y)[:, index]
    assert 0 < len(index) < moving.numel()
    assert_close(leverage.cooks_distance(), torch.einsum("np,pq,nq->n", g, inverse, g), rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize(("name", "size"), FAMILIES)
def test_leave_one_out_agrees_with_real_refits_while_the_active_set_stays(name, size):
    """Exact for squared error; one Newton step otherwise, of which the error is of the order of the leverage."""
    X, y = data(name, size)
    head = Head.fit(X, y, family=name, l1=1e-2, l2=1e-2)
    leverage = head.leverage(X, y)
    changes = assay.active_set_changes(leverage)
    ids = np.random.default_rng(0).choice(len(X), 60, replace=False).tolist()
    refits = assay.refit_without(head, assay.open_source((X, y), regression=name == "linear"), ids)
    changed = ((refits.V != 0) != (head.V != 0)).flatten(1).any(1) | (refits.V.sign() != head.V.sign()).flatten(1).any(
        1
    )
    agree = float((changes[ids] == changed).double().mean())
    assert agree >= 0.95
    same = ~changed
    assert int(same.sum()) >= 10
    predicted = leverage.leave_one_out().change[ids][same]
    if name == "linear":
        assert_close(predicted, refits.loss_change[same], rtol=1e-7, atol=1e-10)
        return
    error = ((predicted - refits.loss_change[same]).abs() / refits.loss_change[same].abs()).median()
    assert float(error) <= 0.05
    shifts = -leverage.dfbeta(ids)[same]
    exact = head.design.original_units(refits.shift)[same]
    assert float((shifts - exact).norm() / exact.norm()) <= 0.15


def test_some_removals_change_the_set():
    """The count is neither nothing nor everything on data with weights near their threshold."""
    X, y = data("linear", 1, n=60)
    leverage = Head.fit(X, y, family="linear", l1=0.05, l2=1e-2).leverage(X, y)
    assert 0 < int(assay.active_set_changes(leverage).sum()) < len(X)


def test_everything_can_be_zero():
    """A large λ1 leaves the bias: leverage is that of the class frequencies."""
    X, y = data("softmax", 4)
    head = Head.fit(X, y, l1=10.0, l2=1e-2)
    leverage = head.leverage(X, y)
    assert not bool(head.V[:, :-1].any())
    assert_close(head.probabilities(X)[0], torch.bincount(leverage.y).double() / len(y), rtol=1e-9, atol=0)
    assert float(leverage.leverage().sum()) == pytest.approx(3)
    alone = Head.fit(X, y, l1=10.0, l2=1e-2, bias=False).leverage(X, y)
    assert not bool(alone.cooks_distance().any())


def test_a_saved_head_is_the_same(tmp_path):
    X, y = data("softmax", 4)
    head = Head.fit(X, y, l1=1e-2, l2=1e-2)
    head.save(tmp_path / "head.safetensors")
    back = Head.load(tmp_path / "head.safetensors")
    assert back.l1 == head.l1
    assert_close(back.leverage(X, y).cooks_distance(), head.leverage(X, y).cooks_distance(), rtol=0, atol=0)


def test_the_penalty_is_chosen_by_leave_one_out_beside_an_l1_term():
    X, y = data("softmax", 4)
    head = Head.fit(X, y, l1=1e-2)
    assert head.l2_path is not None
    assert head.l2 == head.l2_path.l2 > 0
    assert int((head.V == 0).sum()) > 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"l1": -1.0, "l2": 1.0}, "l1=-1.0 is not a finite number ≥ 0"),
        ({"l1": float("nan"), "l2": 1.0}, "l1=nan is not"),
        ({"l1": 0.1, "l2": 0.0}, "l1=0.1 needs l2 > 0"),
    ],
)
def test_bad_penalties(settings, said):
    X, y = data("softmax", 2)
    with pytest.raises(assay.ShapeError, match=said):
        Head.fit(X, y, **settings)


def test_without_an_l1_term_there_is_no_active_set():
    X, y = data("softmax", 2)
    with pytest.raises(assay.ShapeError, match="no L1 term"):
        assay.active_set_changes(Head.fit(X, y, l2=1e-2).leverage(X, y))
