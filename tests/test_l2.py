"""λ2 by leave-one-out: the path's losses are those of real refits, and its choice is as good as cross-validation's."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import LeaveOneOut, StratifiedKFold, cross_val_predict

import oracles
from assay.families import Linear, Softmax
from assay.head import Head
from assay.l2 import LeaveOneOutPath, Rows


def rows(X, y) -> Rows:
    H = torch.cat([torch.tensor(X), torch.ones(len(X), 1)], 1).double()
    return Rows(H, torch.tensor(y), torch.ones(len(X), dtype=torch.float64))


def penalised(d: int) -> torch.Tensor:
    return torch.tensor([1.0] * d + [0.0], dtype=torch.float64)


def test_the_losses_of_a_regression_are_press():
    X, y = oracles.regression(50, 4, 1)
    path = LeaveOneOutPath(upper=0.0, lower=-3.0, per_decade=1, patience=9).choose(Linear(1), rows(X, y), penalised(4))
    for l2, loss in zip(path.grid, path.loo_loss, strict=True):
        # the total penalty N λ2 stays when a sample leaves
        left_out = cross_val_predict(Ridge(alpha=l2 * len(X)), X, y[:, 0], cv=LeaveOneOut())
        assert loss == pytest.approx(float(((left_out - y[:, 0]) ** 2).mean()) / 2, rel=1e-9)
    assert path.l2 == path.grid[int(np.argmin(path.loo_loss))]


def test_the_losses_of_a_softmax_are_those_of_refits():
    """One Newton step a sample: an order in 1/n better than the whole of what leaving out changes."""
    X, y = oracles.blobs(90, 3, 3, 0)
    path = LeaveOneOutPath(upper=0.0, lower=-3.0, per_decade=1, patience=9).choose(Softmax(3), rows(X, y), penalised(3))
    for l2, loss in zip(path.grid, path.loo_loss, strict=True):
        model = LogisticRegression(C=1 / (l2 * len(X)), tol=1e-8, max_iter=10_000)
        left_out = cross_val_predict(model, X, y, cv=LeaveOneOut(), method="predict_proba")
        correction = log_loss(y, left_out) - log_loss(y, model.fit(X, y).predict_proba(X))
        assert loss == pytest.approx(log_loss(y, left_out), abs=0.1 * correction)


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_the_choice_is_as_good_as_cross_validations(load):
    """5-fold cross-validation cannot tell the chosen λ2 from its own best: two standard errors of the difference."""
    X, y = load(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    head = Head.fit(X, y, standardize=False)
    assert head.l2_path is not None
    folds = StratifiedKFold(5, shuffle=True, random_state=0)

    def losses(l2: float) -> np.ndarray:
        model = LogisticRegression(C=(2 if len(set(y)) == 2 else 1) / (l2 * len(X)), max_iter=5_000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return -np.log(cross_val_predict(model, X, y, cv=folds, method="predict_proba")[np.arange(len(y)), y])

    best = min((losses(l2) for l2 in head.l2_path.grid), key=np.mean)
    difference = losses(head.l2) - best
    assert difference.mean() <= 2 * difference.std() / len(y) ** 0.5


@pytest.mark.parametrize(("gap", "said"), [(0.0, "10, the heaviest"), (40.0, "1e-08, the lightest")])
def test_a_best_at_the_edge_of_the_path_is_said(gap: float, said: str):
    """Where the features tell nothing, or everything, the best penalty lies beyond what is tried."""
    y = np.arange(60) % 2
    X = np.random.default_rng(0).normal(size=(60, 2)) + gap * y[:, None]
    with pytest.warns(UserWarning, match=f'l2="auto" chose {said} penalty it tries'):
        Head.fit(X, y)
