"""Cook's distance, leave-one-out, leverage and dfbeta against oracles we did not write."""

import itertools

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from torch.testing import assert_close

import assay
import oracles
from assay.head import Head

HEADS = [("softmax", 2), ("softmax", 3), ("softmax", 10), ("logistic", 2), ("linear", 1), ("linear", 3)]


def data(name: str, size: int, n: int = 120, d: int = 4, seed: int = 0):
    return oracles.regression(n, d, size, seed) if name == "linear" else oracles.blobs(n, d, size, seed)


def fit(name: str, X, y, **settings) -> Head:
    return Head.fit(X, y, family=name, standardize=False, **settings)


@pytest.mark.parametrize(("name", "size"), HEADS)
@pytest.mark.parametrize(("l2", "bias", "weighted"), list(itertools.product([0.0, 1e-3], [True, False], [True, False])))
def test_cooks_distance_is_the_pseudo_inverse_quadratic_form(name, size, l2, bias, weighted):
    X, y = data(name, size)
    w = np.random.default_rng(1).uniform(0.5, 2.0, len(X)) if weighted else np.ones(len(X))
    head = fit(name, X, y, l2=l2, bias=bias, weights=w)
    leverage = head.leverage(X, y, weights=w)
    W, H = oracles.class_weights(head), leverage.H
    expected = oracles.cooks_distance(name, W, H, leverage.y, leverage.w, head.penalty, head.total_weight)
    assert_close(leverage.cooks_distance(), expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("l2", [1e-2, 1e-4, 1e-5])
@pytest.mark.parametrize("spread", [1.5, 0.3])
def test_float32_features_lose_no_more_than_their_own_rounding(l2, spread):
    """All work is in float64, so only the features' rounding (6e-8 relative) is left, times the condition."""
    X, y = oracles.blobs(400, 6, 5, spread=spread)
    X32 = X.astype(np.float32)
    head = fit("softmax", X32, y, l2=l2)
    leverage = head.leverage(X32, y)
    exact = fit("softmax", X32.astype(np.float64), y, l2=l2).leverage(X32.astype(np.float64), y)
    largest = float(exact.cooks_distance().max())
    assert_close(leverage.cooks_distance(), exact.cooks_distance(), rtol=0, atol=1e-3 * largest)
    expected = oracles.cooks_distance(
        "softmax", oracles.class_weights(head), leverage.H, leverage.y, leverage.w, head.penalty, head.total_weight
    )
    assert_close(leverage.cooks_distance(), expected, rtol=0, atol=1e-6 * largest)


@pytest.mark.parametrize(("name", "size"), HEADS)
def test_the_gradient_is_small_and_newton_says_so(name, size):
    X, y = data(name, size)
    head = fit(name, X, y, l2=1e-3)
    leverage = head.leverage(X, y)
    W = oracles.class_weights(head).requires_grad_()
    value = oracles.objective(name, W, leverage.H, leverage.y, leverage.w, head.penalty, head.total_weight)
    (gradient,) = torch.autograd.grad(value, W)
    assert float(gradient.norm()) <= 1e-8 * head.gradient_scale
    assert head.gradient_norm <= 1e-8 * head.gradient_scale


def test_predictions_equal_scikit_learns():
    X, y = load_wine(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    n, l2 = len(X), 1e-2
    softmax = fit("softmax", X, y, l2=l2)
    expected = LogisticRegression(C=1 / (n * l2), tol=1e-12, max_iter=10_000).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(softmax.probabilities(X).numpy(), expected, atol=1e-6)
    binary = y > 0
    logistic = fit("logistic", X, binary, l2=l2)
    expected = LogisticRegression(C=1 / (n * l2), tol=1e-12, max_iter=10_000).fit(X, binary).predict_proba(X)
    np.testing.assert_allclose(logistic.probabilities(X).numpy(), expected, atol=1e-6)
    two = fit("softmax", X, binary, l2=2 * l2)
    np.testing.assert_allclose(two.probabilities(X).numpy(), expected, atol=1e-6)


def test_regression_equals_scikit_learns_ridge():
    X, y = load_diabetes(return_X_y=True)
    targets = np.stack([y, X[:, 0] * 100], 1)
    linear = fit("linear", X, targets, l2=1e-3)
    expected = Ridge(alpha=1e-3 * len(X)).fit(X, targets)
    np.testing.assert_allclose(linear.logits(X).numpy(), expected.predict(X), atol=1e-6)
    np.testing.assert_allclose(linear.coefficients()[:, :-1].numpy(), expected.coef_, atol=1e-6)
    np.testing.assert_allclose(linear.coefficients()[:, -1].numpy(), expected.intercept_, atol=1e-6)


@pytest.mark.parametrize(
    "load",
    [
        load_diabetes,
        lambda **_: (
            sm.datasets.stackloss.load_pandas().exog.to_numpy(),
            sm.datasets.stackloss.load_pandas().endog.to_numpy(),
        ),
    ],
)
@pytest.mark.parametrize("standardize", [True, False])
def test_least_squares_equals_statsmodels(load, standardize):
    X, y = load(return_X_y=True)
    head = Head.fit(X, y, family="linear", l2=0.0, standardize=standardize)
    leverage = head.leverage(X, y)
    influence = sm.OLS(y, sm.add_constant(X)).fit().get_influence()
    assert_close(leverage.leverage(), torch.tensor(influence.hat_matrix_diag), rtol=1e-8, atol=0)
    loo = leverage.leave_one_out()
    assert_close(torch.tensor(y) - loo.logits[:, 0], torch.tensor(influence.resid_press), rtol=1e-8, atol=1e-9)
    dfbeta = leverage.dfbeta()[:, 0]
    dfbeta = torch.cat([dfbeta[:, -1:], dfbeta[:, :-1]], 1)  # statsmodels has the constant first
    expected = torch.tensor(influence.dfbeta)
    assert_close(dfbeta, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))
    assert float(leverage.leverage().sum()) == pytest.approx(X.shape[1] + 1)


def test_logistic_leverage_equals_statsmodels_glm():
    X, y = load_breast_cancer(return_X_y=True)
    X = X[:, [1, 4, 9]] / X[:, [1, 4, 9]].max(0)  # overlapping classes: statsmodels clips fitted probabilities
    head = fit("logistic", X, y, l2=0.0)
    fitted = sm.GLM(y, sm.add_constant(X), family=sm.families.Binomial()).fit(tol=1e-15, maxiter=200)
    expected = torch.tensor(fitted.get_influence().hat_matrix_diag)
    assert_close(head.leverage(X, y).leverage(), expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("outputs", [1, 3])
def test_leave_one_out_of_ridge_is_the_refit(outputs):
    X, y = oracles.regression(40, 3, outputs)
    head = fit("linear", X, y, l2=1e-2)
    leverage = head.leverage(X, y)
    loo = leverage.leave_one_out()
    alpha = head.l2 * len(X)  # the total penalty stays
    for i in (0, 7, 39):
        rest = np.arange(len(X)) != i
        expected = Ridge(alpha=alpha).fit(X[rest], y[rest]).predict(X[i : i + 1]).reshape(-1)
        np.testing.assert_allclose(loo.logits[i].numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize(("l2", "bound"), [(1e-2, 0.01), (1e-3, 0.04), (1e-4, 0.08)])
def test_leave_one_out_of_a_softmax_agrees_with_real_refits(flipped_digits, l2, bound, capsys):
    """≥ 60 refits on digits, half of planted flips, N λ2 fixed; the first-order `D/N` printed beside it."""
    X, y, flipped = flipped_digits
    head = fit("softmax", X, y, l2=l2)
    leverage = head.leverage(X, y)
    clean = np.setdiff1d(np.arange(len(y)), flipped)
    ids = [*flipped[:30].tolist(), *np.random.default_rng(0).choice(clean, 30, replace=False).tolist()]
    truth = assay.refit_without(head, assay.open_source((X, y)), ids).loss_change
    newton, first = leverage.leave_one_out().change[ids], leverage.cooks_distance()[ids] / len(y)
    error, first_error = (float(((a - truth).abs() / truth.abs()).median()) for a in (newton, first))
    correlation = float(torch.corrcoef(torch.stack([newton, truth]))[0, 1])
    with capsys.disabled():
        print(f"\nλ2 = {l2:g}: correlation {correlation:.4f}, median error {error:.2%}, first order {first_error:.2%}")
    assert correlation >= 0.99
    assert error <= bound
    assert error <= first_error / 2


@pytest.mark.parametrize(("name", "size"), HEADS)
def test_refit_without_is_the_fit_of_the_rest(name, size):
    X, y = data(name, size)
    head = fit(name, X, y, l2=1e-2)
    refits = assay.refit_without(head, assay.open_source((X, y), regression=name == "linear"), [30, 100])
    for k, i in enumerate((30, 100)):
        rest = np.arange(len(X)) != i
        alone = fit(name, X[rest], y[rest], l2=1e-2 * len(X) / (len(X) - 1))
        assert_close(refits.V[k], alone.V, rtol=1e-7, atol=1e-9)
    rest = np.delete(np.arange(len(X)), [30, 100])
    both = assay.refit_without(head, assay.open_source((X, y), regression=name == "linear"), [30, 100], together=True)
    alone = fit(name, X[rest], y[rest], l2=1e-2 * len(X) / (len(X) - 2))
    assert_close(both.V[0], alone.V, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("name", "size"), HEADS)
def test_dfbeta_predicts_the_refit(name, size):
    """`θ − θ_{−i}`: exact for squared error, one Newton step otherwise, off by the order of the leverage (5 % here)."""
    X, y = data(name, size, n=800)
    head = fit(name, X, y, l2=1e-2)
    leverage = head.leverage(X, y)
    refits = assay.refit_without(head, assay.open_source((X, y), regression=name == "linear"), [5, 60])
    shift = -head.design.original_units(refits.shift)
    tolerance = 1e-9 if name == "linear" else 0.05
    assert_close(leverage.dfbeta([5, 60]), shift, rtol=0, atol=tolerance * float(shift.abs().max()))


@pytest.mark.parametrize(("name", "size"), HEADS)
def test_influence_between_samples_is_the_hessian_form(name, size):
    X, y = data(name, size)
    head = fit(name, X, y, l2=1e-3)
    leverage = head.leverage(X, y)
    W = oracles.class_weights(head)
    args = (name, W, leverage.H, leverage.y, leverage.w, head.penalty, head.total_weight)
    g = oracles.gradients(name, W, leverage.H, leverage.y)
    expected = g @ torch.linalg.pinv(oracles.hessian(*args), hermitian=True) @ g[:3].T
    found = assay.influence_on(leverage, torch.tensor(X[:3]), leverage.y[:3], top_k=6)
    for t in range(3):
        order = expected[:, t].argsort(descending=True)
        assert list(found.supporters[t].positions) == order[:6].tolist()
        assert list(found.opponents[t].positions) == order.flip(0)[:6].tolist()
        assert_close(torch.tensor(found.supporters[t].values), expected[order[:6], t].float(), rtol=1e-6, atol=0)


def test_positive_influence_means_that_removal_hurts():
    """The sign, on real refits: removing the strongest supporter raises the test loss, the opponent lowers it."""
    X, y = load_iris(return_X_y=True)
    head = Head.fit(X, y, l2=1e-2)
    leverage = head.leverage(X, y)
    test = [70, 77, 133]
    found = assay.influence_on(leverage, torch.tensor(X[test]), leverage.y[test], top_k=1)
    source = assay.open_source((X, y))
    for k, t in enumerate(test):
        for ranking, sign in ((found.supporters[k], 1), (found.opponents[k], -1)):
            refit = assay.refit_without(head, source, [ranking.positions[0]])
            H, label = leverage.H[t : t + 1], leverage.y[t : t + 1]
            change = head.family.loss(H @ refit.V[0].T, label) - head.family.loss(H @ head.V.T, label)
            assert float(change) * sign > 0
            assert float(change) == pytest.approx(ranking.values[0] / len(X), rel=0.5)


def test_weight_two_is_a_row_given_twice():
    X, y = oracles.blobs(80, 3, 3)
    w = np.ones(80)
    w[5] = 2
    once = fit("softmax", X, y, l2=1e-2, weights=w)
    twice_X, twice_y = np.vstack([X, X[5:6]]), np.append(y, y[5])
    twice = fit("softmax", twice_X, twice_y, l2=1e-2)
    assert_close(once.V, twice.V, rtol=1e-9, atol=1e-11)
    a, b = once.leverage(X, y, weights=w), twice.leverage(twice_X, twice_y)
    assert_close(a.cooks_distance()[5], b.cooks_distance()[5], rtol=1e-9, atol=0)
    assert_close(a.logit_variance()[5], b.logit_variance()[5], rtol=1e-9, atol=0)
    assert_close(a.leverage()[5], 2 * b.leverage()[5], rtol=1e-9, atol=0)
    # its leave-one-out removes the whole weight: both copies at once, by one Newton step (exactly, for squared error)
    both = assay.refit_without(twice, assay.open_source((twice_X, twice_y)), [5, 80], together=True)
    logits = twice.family.expand(b.H[5:6] @ both.V[0].T)
    full = once.logits(X[5:6])
    assert_close(a.leave_one_out().logits[5:6] - full, logits - full, rtol=0.1, atol=0.02)


def test_leaving_out_a_row_of_weight_two_is_the_refit_without_it():
    X, y = oracles.regression(40, 3, 1)
    w = np.ones(40)
    w[5] = 2
    head = fit("linear", X, y, l2=1e-2, weights=w)
    rest = np.arange(40) != 5
    expected = Ridge(alpha=head.l2 * 41).fit(X[rest], y[rest]).predict(X[5:6])
    loo = head.leverage(X, y, weights=w).leave_one_out()
    np.testing.assert_allclose(loo.logits[5].numpy(), expected, rtol=1e-9)
