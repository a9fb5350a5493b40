"""The trimmed head against its definition, and that it finds more."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

import assay
from assay.explore import trim
from assay.explore.trim import BINS, MOST, ROUNDS, Suspects, counted, find_suspects, flip_rate, loss_bins, trimmed
from assay.l2 import Rows
from assay.scores import read_scores


def embedded(n: int = 1_500, d: int = 6, classes: int = 4, share: float = 0.1, seed: int = 0):
    """Features, labels with flips, and which are flipped; the clean labels are drawn from a softmax."""
    g = np.random.default_rng(seed)
    X, W = g.normal(size=(n, d)), 2 * g.normal(size=(classes, d))
    p = np.exp(X @ W.T)
    clean = (p.cumsum(1) < (g.random(n) * p.sum(1))[:, None]).sum(1)
    flipped = g.random(n) < share
    return X, np.where(flipped, (clean + g.integers(1, classes, n)) % classes, clean), flipped


def fitted(X, y, l2: float = 1e-2):
    head = assay.Head.fit(X, y, family="softmax", l2=l2)
    leverage = head.leverage(X, y)
    rows = Rows(leverage.H, leverage.y, leverage.w)
    return head, rows, leverage


def losses(head, rows, V, curvature, w):
    return read_scores(head.family, curvature, V, rows.H, rows.y, w)


def test_the_flip_rate_is_the_likeliest_on_a_fine_grid():
    X, y, _ = embedded()
    head, rows, fit = fitted(X, y)
    scores = losses(head, rows, fit.V, fit.curvature, rows.w)
    counts = counted(loss_bins(scores), rows.y, rows.w, 4)
    p = torch.exp(-scores.loo_loss).numpy()
    grid = np.linspace(0, 0.5, 5_001)
    likelihood = [np.log((1 - rho) * p + rho * (1 - p) / 3).sum() for rho in grid]
    # the bins round a loss by 1/4,096 of (1 + L)², which moves the maximiser by less than a step of the grid or two
    assert flip_rate(counts.sum(0), 4) == pytest.approx(grid[int(np.argmax(likelihood))], abs=5e-4)


def test_calibrated_labels_are_left_alone():
    """Labels drawn from the very probabilities they are judged by: their likelihood falls with ρ, up to chance."""
    g = np.random.default_rng(0)
    p = expit(3 * g.normal(size=200_000))
    given = torch.from_numpy(np.where(g.random(len(p)) < p, p, 1 - p))
    bins = (-torch.log(given) / (1 - torch.log(given)) * BINS).long()
    total = torch.bincount(bins, minlength=BINS).double()
    assert flip_rate(total, 2) < 2e-3
    assert find_suspects(torch.stack([total, total])).flip_rate < 2e-3


def test_trimmed_is_a_fit_without_the_suspects_at_the_same_total_penalty():
    X, y, _ = embedded()
    head, rows, fit = fitted(X, y)
    found = trimmed(head, rows, fit.V, fit.curvature)
    kept = (found.w > 0).numpy()
    assert 0 < (~kept).sum() < 0.12 * len(y)
    standardised = (X - X.mean(0)) / X.std(0)
    l2 = head.l2 * len(y) / kept.sum()
    oracle = assay.Head.fit(standardised[kept], y[kept], family="softmax", l2=l2, standardize=False)
    torch.testing.assert_close(found.V, oracle.V, rtol=1e-4, atol=1e-5)  # stopped at a decrement of 1e-10


def test_the_largest_losses_of_the_last_round_are_left_out_and_their_share_is_the_rate():
    X, y, _ = embedded()
    head, rows, fit = fitted(X, y)
    found = trimmed(head, rows, fit.V, fit.curvature)
    out = float(rows.w.sum() - found.w.sum()) / float(rows.w.sum())
    assert found.flip_rate - 3 / len(y) <= out <= found.flip_rate
    assert ROUNDS == 2


def test_no_class_loses_more_than_half():
    counts = torch.zeros(3, BINS, dtype=torch.float64)
    counts[0, :40], counts[1, :40] = 100.0, 100.0
    counts[2, 4_000:4_040] = 1.0  # all of a small class is doubted
    suspects = find_suspects(counts)
    assert suspects.flip_rate > 0
    assert float(counts[2, suspects.limits[2] :].sum()) <= MOST * 40


def test_a_row_of_weight_two_counts_as_two_rows():
    X, y, _ = embedded(n=600)
    head, rows, fit = fitted(X, y)
    bins = loss_bins(losses(head, rows, fit.V, fit.curvature, rows.w))
    twice = torch.cat([torch.arange(600), torch.arange(0, 600, 3)])
    weights = torch.where(torch.arange(600) % 3 == 0, 2.0, 1.0).double()
    one = counted(bins, rows.y, weights, 4)
    torch.testing.assert_close(one, counted(bins[twice], rows.y[twice], torch.ones(800).double(), 4))
    plain = find_suspects(counted(bins, rows.y, rows.w, 4))
    assert find_suspects(one) == find_suspects(one / 2)  # only shares count
    assert find_suspects(one) != plain


def test_more_flips_come_first_than_by_the_head_of_all_samples():
    """On embedded flips of several seeds the mean average precision rises; digits are near their ceiling and stay."""
    gains = []
    for seed in range(5):
        X, y, flipped = embedded(seed=seed)
        head, rows, fit = fitted(X, y)
        found = trimmed(head, rows, fit.V, fit.curvature)
        before = losses(head, rows, fit.V, fit.curvature, rows.w).loo_loss
        after = losses(head, rows, found.V, found.curvature, found.w).loo_loss
        gains.append(average_precision_score(flipped, after) - average_precision_score(flipped, before))
    assert np.mean(gains) > 0


def test_an_audit_trims_as_rows_in_memory_do():
    X, clean = load_digits(n_class=5, return_X_y=True)
    X = X[:, X.std(0) > 0]
    g = np.random.default_rng(0)
    y = clean.copy()
    flipped = g.choice(len(y), 45, replace=False)
    y[flipped] = (y[flipped] + g.integers(1, 5, 45)) % 5
    audit = assay.audit((X, y), l2=1e-2, shard_rows=250)
    head, rows, fit = fitted(X, y)
    found = trimmed(head, rows, fit.V, fit.curvature)
    scores = losses(head, rows, found.V, found.curvature, found.w)
    expected = (scores.loo_loss / (1 + scores.loo_loss)).numpy()
    np.testing.assert_allclose(audit.table["mislabeled_score"].to_numpy(), expected, rtol=1e-6)
    assert audit.info["mistaken"] == []  # flips to any other class: the score is the loss
    assert audit.info["trimmed"] == {
        "flip_rate": pytest.approx(found.flip_rate, rel=1e-6),
        "weight": len(y) - found.w.sum(),
    }
    whole = assay.audit((X, y), l2=1e-2, trim=False)
    assert whole.info["trimmed"] is None
    np.testing.assert_allclose(
        whole.table["mislabeled_score"].to_numpy(),
        1 - 1 / (1 + whole.table["loo_loss"].to_numpy()),
        rtol=1e-9,
    )
    np.testing.assert_allclose(audit.table["loo_loss"].to_numpy(), whole.table["loo_loss"].to_numpy(), rtol=1e-9)


def test_a_regression_and_a_kept_head_are_not_trimmed():
    X, y, _ = embedded(n=300)
    assert assay.audit((X, X @ np.arange(6.0)), family="linear", l2=1e-3).info["trimmed"] is None
    network = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4))
    kept = assay.audit((X.astype(np.float32), y), model=network, refit=False, l2=1e-2)
    assert kept.info["trimmed"] is None


def test_a_rest_that_has_no_fit_leaves_labels_to_the_head_of_all(monkeypatch):
    """λ2 = 0, and but for one wrong label the classes part: the optimum of the rest lies at infinity."""
    X = np.r_[np.linspace(-2, -1, 60), np.linspace(1, 2, 60)][:, None]
    y = np.r_[np.zeros(60), np.ones(60)].astype(int)
    y[5] = 1
    head, rows, fit = fitted(X, y, l2=0.0)
    monkeypatch.setattr(trim, "find_suspects", lambda counts: Suspects(0.01, (BINS, BINS - BINS // 3)))
    found = trimmed(head, rows, fit.V, fit.curvature)
    assert found.flip_rate == 0
    torch.testing.assert_close(found.V, fit.V)
