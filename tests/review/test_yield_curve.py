"""The finds to come: the interval holds the truth as often as it says, on planted flips of several kinds of data."""

import numpy as np
import pytest
import torch

import assay
from assay.explore.kinds import tell_kinds
from assay.review.yield_curve import FEW, LEVEL, NEXT, advice, curve, expected_finds, scale_of

REVIEWED = (30, 60, 100, 200, 400)


def scored(seed: int, *, separation: float, rate: float, n: int = 2_000, C: int = 3, d: int = 6):
    """Cook's distance, mislabeled score and the flipped ones of classes that overlap more or less."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, C, n)
    X = rng.normal(size=(n, d))
    X[:, :C] += separation * np.eye(C)[truth]
    flipped = rng.random(n) < rate
    y = np.where(flipped, (truth + rng.integers(1, C, n)) % C, truth)
    leverage = assay.Head.fit(X, y, family="softmax", l2=1e-3).leverage(X, y)
    variance = float(leverage.logit_variance().mean())
    head = leverage.family
    kinds = tell_kinds(head, leverage.scores, torch.as_tensor(y), mean_logit_variance=variance)
    return leverage.cooks_distance().numpy(), kinds.mislabeled_score.numpy(), flipped


def covered(seeds: range) -> np.ndarray:
    """Whether the truth lay in the interval, for each data set, ranking and number of samples reviewed."""
    held: list[bool] = []
    for separation, rate in ((1.8, 0.03), (2.5, 0.05), (4.0, 0.1)):
        for seed in seeds:
            cooks, mislabeled, flipped = scored(seed, separation=separation, rate=rate)
            for column, scores in (("cooks_distance", cooks), ("mislabeled_score", mislabeled)):
                order, scale = np.argsort(-scores, kind="stable"), scale_of(column)
                x = scale.x(mislabeled)
                for m in REVIEWED:
                    seen, coming = order[:m], order[m : m + NEXT]
                    found = expected_finds(x[seen], flipped[seen], x[coming], scale.start)
                    held.append(found.low <= flipped[coming].sum() <= found.high)
    return np.array(held)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    held = covered(range(4))
    spread = np.sqrt(LEVEL * (1 - LEVEL) / len(held))
    assert held.mean() > LEVEL - 2 * spread


@pytest.mark.slow
def test_the_interval_holds_the_truth_over_many_data_sets():
    assert covered(range(100, 130)).mean() > LEVEL


def test_where_nothing_was_found_little_is_expected():
    x = np.linspace(3, 1, 200)
    none = expected_finds(x, np.zeros(200, bool), np.linspace(1, 0.5, 100), -3.0)
    assert none.expected < 3
    assert none.high <= FEW
    all_of_them = expected_finds(x, np.ones(200, bool), np.linspace(1, 0.5, 100), -3.0)
    assert all_of_them.expected > 60


def test_the_answer_does_not_change_by_asking_again():
    x, found = np.linspace(5, 0, 60), np.arange(60) < 40
    assert expected_finds(x, found, x, -3.0) == expected_finds(x, found, x, -3.0)


def test_the_loss_is_read_from_its_score():
    loss = np.array([0.01, 1.0, 7.0])
    np.testing.assert_allclose(scale_of("cooks_distance").x(loss / (1 + loss)), loss, rtol=1e-9)
    assert np.isfinite(scale_of("boundary_score").x(np.array([0.0, 1.0, -np.inf]))).all()


def test_the_curve_counts_finds_by_rank():
    scores = np.array([0.1, 0.9, 0.5, 0.5])
    found = np.array([True, True, False, True])
    assert curve(scores, np.arange(4), found) == [
        {"reviewed": 1, "finds": 1},
        {"reviewed": 2, "finds": 1},
        {"reviewed": 3, "finds": 2},
        {"reviewed": 4, "finds": 3},
    ]
    assert curve(np.empty(0), np.empty(0, np.int64), np.empty(0, bool)) == []
    assert len(curve(np.arange(9_999.0), np.arange(9_999), np.ones(9_999, bool))) == 200


def test_advice():
    x = np.linspace(3, 1, 100)
    assert advice(29, None) == (False, "Not enough reviewed to say: 29 of 30.")
    assert advice(100, None)[0]
    nothing = expected_finds(x, np.zeros(100, bool), np.full(100, 0.1), -3.0)
    stop, sentence = advice(100, nothing)
    assert stop
    assert sentence.startswith("You may stop: 0 to ")
    assert not advice(100, expected_finds(x, np.ones(100, bool), x, -3.0))[0]
