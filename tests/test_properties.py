"""Identities that hold for any data, and what must not matter."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import assay.curvature.dense as dense
import assay.leverage
import oracles
from assay.families import Linear, Logistic, Softmax
from assay.head import Head
from assay.influence.pairs import pairwise

problems = st.tuples(
    st.sampled_from([("softmax", 2), ("softmax", 3), ("softmax", 6), ("logistic", 2), ("linear", 1), ("linear", 2)]),
    st.integers(30, 80),
    st.integers(1, 5),
    st.integers(0, 10_000),
)
few = settings(max_examples=25, deadline=None, derandomize=True)


def make(problem):
    (name, size), n, d, seed = problem
    return name, *(oracles.regression(n, d, size, seed) if name == "linear" else oracles.blobs(n, d, size, seed))


@few
@given(problems, st.floats(-4, 0))
def test_scores_obey_their_identities(problem, exponent):
    name, X, y = make(problem)
    w = np.random.default_rng(0).uniform(0.2, 3, len(X))
    head = Head.fit(X, y, family=name, l2=10**exponent, weights=w)
    leverage = head.leverage(X, y, weights=w)
    assert bool((leverage.cooks_distance() >= 0).all())
    assert bool((leverage.logit_variance() >= 0).all())
    total = leverage.curvature.effective_parameters
    assert float(leverage.leverage().sum()) == pytest.approx(total, rel=1e-9)
    mean = leverage.curvature.mean_block((leverage.H.T * leverage.w) @ leverage.H / head.total_weight)
    variance = float(leverage.logit_variance() @ leverage.w) / head.total_weight
    assert variance == pytest.approx(float(head.family.spread(mean)), rel=1e-9)
    loo = leverage.leave_one_out()
    assert bool((loo.change >= -1e-12).all())  # a convex head fits a sample at least as well with it as without it


@few
@given(problems)
def test_influence_is_symmetric(problem):
    name, X, y = make(problem)
    leverage = Head.fit(X, y, family=name, l2=1e-2).leverage(X, y)
    matrix = pairwise(leverage, range(len(X)), range(len(X)))
    assert_close(matrix, matrix.T, rtol=1e-8, atol=1e-9 * float(matrix.abs().max()))
    assert_close(matrix.diagonal(), leverage.cooks_distance(), rtol=1e-8, atol=1e-12)


@few
@given(problems, st.integers(0, 100), st.sampled_from([1e-3, 7.0, 1e4]))
def test_rescaling_a_column_changes_nothing_under_standardisation(problem, shift, factor):
    name, X, y = make(problem)
    other = X.copy()
    other[:, 0] = factor * (X[:, 0] + shift)
    a = Head.fit(X, y, family=name, l2=1e-2).leverage(X, y).cooks_distance()
    b = Head.fit(other, y, family=name, l2=1e-2).leverage(other, y).cooks_distance()
    assert_close(a, b, rtol=1e-7, atol=0)


@few
@given(problems, st.randoms(use_true_random=False))
def test_a_permutation_of_the_rows_permutes_the_scores(problem, random):
    name, X, y = make(problem)
    order = list(range(len(X)))
    random.shuffle(order)
    a = Head.fit(X, y, family=name, l2=1e-3).leverage(X, y)
    b = Head.fit(X[order], y[order], family=name, l2=1e-3).leverage(X[order], y[order], ids=order)
    assert b.ids.to_pylist() == order
    assert_close(a.cooks_distance()[order], b.cooks_distance(), rtol=1e-9, atol=0)
    assert_close(a.leave_one_out().loss[order], b.leave_one_out().loss, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(("name", "size"), [("softmax", 4), ("logistic", 2), ("linear", 2)])
def test_float32_features_in_another_order_or_batch(monkeypatch, name, size):
    """Everything after the features is float64: far within the 1e-3 of the largest score that is asked."""
    X, y = oracles.regression(300, 6, size) if name == "linear" else oracles.blobs(300, 6, size)
    X = X.astype(np.float32)
    expected = Head.fit(X, y, family=name, l2=1e-5).leverage(X, y).cooks_distance()
    order = np.random.default_rng(0).permutation(300)
    for module in (dense, assay.leverage):
        monkeypatch.setattr(module, "ROWS", 7)
    found = Head.fit(X[order], y[order], family=name, l2=1e-5).leverage(X[order], y[order]).cooks_distance()
    assert float((found - expected[order]).abs().max()) <= 1e-6 * float(expected.max())


@few
@given(problems)
def test_a_row_of_weight_zero_has_no_effect(problem):
    name, X, y = make(problem)
    w = np.ones(len(X))
    w[-1] = 0
    if name != "linear":
        y[-1] = y[0]
    with_it = Head.fit(X, y, family=name, l2=1e-2, weights=w)
    without = Head.fit(X[:-1], y[:-1], family=name, l2=1e-2)
    if name != "linear" and len(np.unique(y[:-1])) < len(np.unique(y)):
        return
    assert_close(with_it.V, without.V, rtol=1e-9, atol=1e-12)
    a, b = with_it.leverage(X, y, weights=w), without.leverage(X[:-1], y[:-1])
    assert_close(a.cooks_distance()[:-1], b.cooks_distance(), rtol=1e-9, atol=0)
    assert float(a.leverage()[-1]) == 0
    assert float(a.leave_one_out().change[-1]) == 0


@pytest.mark.parametrize("rows", [1, 7, 1000, 10_000])
@pytest.mark.parametrize(("classes", "d"), [(3, 5), (9, 40)])
def test_scores_do_not_depend_on_the_batch(monkeypatch, rows, classes, d):
    X, y = oracles.blobs(300, d, classes)
    head = Head.fit(X, y, l2=1e-3)
    expected = head.leverage(X, y)
    expected.scores  # noqa: B018  (read before the batch changes)
    for module in (dense, assay.leverage):
        monkeypatch.setattr(module, "ROWS", rows)
    monkeypatch.setattr(dense, "PACKED", 50)
    found = head.leverage(X, y)
    assert_close(found.cooks_distance(), expected.cooks_distance(), rtol=1e-9, atol=0)
    assert_close(found.leave_one_out().logits, expected.leave_one_out().logits, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", [Softmax(2), Softmax(7), Logistic(), Linear(3)])
def test_residual_and_curvature_are_the_derivatives_of_the_loss(family):
    torch.manual_seed(0)
    z = torch.randn(6, family.K, dtype=torch.float64) * 3
    y = torch.randn(6, family.K, dtype=torch.float64) if family.name == "linear" else torch.arange(6) % max(family.C, 2)
    if family.name == "logistic":
        y = y % 2
    for i in range(6):
        label = y[i : i + 1]

        def loss(v, label=label):
            return family.loss(v[None], label)[0]

        assert_close(family.residual(z[i : i + 1], label)[0], torch.func.grad(loss)(z[i]), rtol=1e-12, atol=1e-15)
        S = family.curvature(z[i : i + 1])
        S = torch.eye(family.K, dtype=torch.float64) if family.shared else dense.unpack(S, family.K)[0]
        assert_close(S, torch.autograd.functional.hessian(loss, z[i]), rtol=1e-10, atol=1e-14)


def test_a_saturated_softmax_loses_no_digits():
    """Probabilities of 1 − 1e-20 still have their loss, residual and curvature to 1e-12 (p − 1 would be zero)."""
    family = Softmax(3)
    full = torch.tensor([[46.0, 0.0, 1.0]], dtype=torch.float64)
    z = full @ family.basis
    y = torch.tensor([0])
    small = torch.exp(full[0, 1:] - full[0, 0])
    assert_close(family.loss(z, y), torch.log1p(small.sum())[None], rtol=1e-12, atol=0)
    r = torch.cat([-small.sum()[None], small]) @ family.basis  # p_j = e^{z_j − z_0} to 1e-20
    assert_close(family.residual(z, y)[0], r, rtol=1e-12, atol=0)
    trace = 2 * (small.sum() + small[0] * small[1])
    S = dense.unpack(family.curvature(z), 2)[0]
    assert_close(S.trace(), trace, rtol=1e-12, atol=0)


def test_shifting_all_logits_changes_nothing():
    X, y = oracles.blobs(60, 3, 4)
    head = Head.fit(X, y, l2=1e-2)
    assert_close(
        head.logits(X).sum(1), torch.zeros(60, dtype=torch.float64), rtol=0, atol=1e-12
    )  # contrasts: none to shift
    W = oracles.class_weights(head)
    shifted = W + torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
    H = head.design.matrix(torch.tensor(X))
    p = torch.softmax(H @ shifted.T, 1)
    assert_close(p, head.probabilities(X), rtol=1e-12, atol=1e-14)
