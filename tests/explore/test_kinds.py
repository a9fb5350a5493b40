"""Each kind finds its own on data where the truth is planted."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from assay.datasets.noise import flip_uniformly
from assay.explore.kinds import KINDS, Kinds, robust_noise, tell_kinds
from assay.head import Head

N, D = 2_000, 6
SEEDS = range(10)


@dataclass
class Planted:
    kinds: Kinds
    flipped: np.ndarray
    isolated: np.ndarray
    distance: np.ndarray  # to the boundary between the two classes that overlap, in standard deviations; inf elsewhere


def planted(seed: int) -> Planted:
    """Four Gaussian classes: 0 and 1 overlap densely (four standard deviations apart along axis 0), 2 and 3 stand
    apart; one sample in a hundred lies in an isolated cluster beyond class 3, rightly labelled 3 and
    confidently fitted.
    Then 5 % of the labels are flipped, none in the cluster."""
    rng = np.random.default_rng(seed)
    means = np.zeros((4, D))
    means[0, 0], means[1, 0], means[2, 1], means[3, 2] = -2, 2, 8, 8
    y = rng.integers(0, 4, N)
    X = means[y] + rng.normal(size=(N, D))
    isolated = np.arange(N) < N // 100
    y[isolated] = 3
    X[isolated] = np.array([0, 0, 10, 9, -9, 0]) + 0.3 * rng.normal(size=(isolated.sum(), D))
    distance = np.where((y < 2) & ~isolated, np.abs(X[:, 0]), np.inf)
    labels = y.copy()
    labels[~isolated], where = flip_uniformly(y[~isolated], 0.05 * N / (~isolated).sum(), seed=seed)
    head = Head.fit(X, labels)
    leverage = head.leverage(X, labels)
    mean = float(leverage.logit_variance().mean())
    kinds = tell_kinds(head.family, leverage.scores, leverage.y, mean_logit_variance=mean)
    return Planted(kinds, np.flatnonzero(~isolated)[where], np.flatnonzero(isolated), distance)


@pytest.fixture(scope="module")
def runs():
    return [planted(seed) for seed in SEEDS]


def recall(score: torch.Tensor, truth: np.ndarray) -> float:
    first = score.argsort(descending=True)[: len(truth)].numpy()
    return float(np.isin(first, truth).mean())


def test_flips_stand_first_by_mislabeled_score(runs):
    assert min(recall(run.kinds.mislabeled_score, run.flipped) for run in runs) >= 0.8


def test_the_isolated_cluster_stands_first_by_under_represented_score(runs):
    assert min(recall(run.kinds.under_represented_score, run.isolated) for run in runs) >= 0.8


def test_boundary_score_tells_closeness_to_the_boundary(runs):
    for run in runs:
        near = run.distance < 0.5
        assert near.sum() > 30
        assert roc_auc_score(near, run.kinds.boundary_score.numpy()) >= 0.9


def test_kinds_are_rarely_confused(runs, capsys):
    """Rows: what was planted. Columns: the kind that was told, mean count over ten seeds."""
    counts = np.zeros((4, len(KINDS)))
    for run in runs:
        truth = np.zeros(N, dtype=int)
        truth[run.distance < 0.5] = 3
        truth[run.isolated] = 2
        truth[run.flipped] = 1
        np.add.at(counts, (truth, run.kinds.kind.numpy()), 1 / len(runs))
    with capsys.disabled():
        print("\nplanted \\ told   " + "".join(f"{kind:>19}" for kind in KINDS))
        for name, row in zip(KINDS, counts, strict=True):
            print(f"{name:<17}" + "".join(f"{value:19.1f}" for value in row))
    assert counts[1, 1] / counts[1].sum() >= 0.8
    assert counts[2, 2] / counts[2].sum() >= 0.8
    assert counts[3, 3] / counts[3].sum() >= 0.6  # labels there are wrong by nature at times
    assert counts[0, 0] / counts[0].sum() >= 0.8


def test_scores_lie_between_zero_and_one_and_rise_with_what_they_measure(runs):
    for run in runs:
        for name in ("mislabeled_score", "under_represented_score", "boundary_score", "label_score", "confidence"):
            values = getattr(run.kinds, name)
            assert float(values.min()) >= 0
            assert float(values.max()) <= 1
        order = run.kinds.label_score.argsort()
        assert bool((run.kinds.mislabeled_score[order].diff() <= 0).all())


def test_regression_suspects_are_the_shifted_targets():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(500, 4))
        y = X @ rng.normal(size=4) + 0.2 * rng.normal(size=500)
        shifted = rng.choice(500, 25, replace=False)
        y[shifted] += rng.choice([-2.0, 2.0], 25)
        head = Head.fit(X, y, family="linear")
        leverage = head.leverage(X, y)
        noise = robust_noise(leverage.scores.loo_logits - leverage.y)
        assert float(noise) == pytest.approx(0.2, rel=0.2)  # the shifts hardly move it
        kinds = tell_kinds(head.family, leverage.scores, leverage.y, mean_logit_variance=1.0, noise=noise)
        assert recall(kinds.mislabeled_score, shifted) >= 0.95
        assert bool(kinds.is_label_issue[shifted].float().mean() >= 0.95)


def test_a_sample_that_alone_determines_a_parameter_is_under_represented():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    X[:, 2] = 0
    X[7, 2] = 1  # alone in its dummy column
    y = X[:, 0] + 0.1 * rng.normal(size=40)
    leverage = Head.fit(X, y, family="linear", l2=0.0).leverage(X, y)
    loo = leverage.leave_one_out()
    assert loo.sole.nonzero().tolist() == [[7]]
    assert float(leverage.leverage()[7]) == pytest.approx(1)
    kinds = tell_kinds(
        leverage.family, leverage.scores, leverage.y, mean_logit_variance=1.0, noise=torch.ones(1).double()
    )
    assert KINDS[int(kinds.kind[7])] == "under-represented"
    assert float(kinds.under_represented_score[7]) == 1
