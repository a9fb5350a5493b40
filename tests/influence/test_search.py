"""The greedy search: each step is the best by the second-order formula, and what it finds holds up in refits."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import assay
import oracles
from assay.head import Head

HEADS = [("softmax", 3), ("logistic", 2), ("linear", 1), ("linear", 2)]


def problem(name: str, size: int, n: int = 40):
    X, y = oracles.regression(n, 3, size) if name == "linear" else oracles.blobs(n, 3, size)
    w = np.random.default_rng(1).uniform(0.5, 2, n)
    return X, y, Head.fit(X, y, family=name, l2=1e-2, weights=w).leverage(X, y, weights=w)


def change(leverage, ids, on, order=2) -> float:
    return float(assay.group_influence(leverage, ids, order=order).loss_change(*on).mean())


@pytest.mark.parametrize("direction", ["support", "oppose"])
@pytest.mark.parametrize(("name", "size"), HEADS)
def test_each_step_is_the_best_by_the_second_order_formula(name, size, direction):
    X, y, leverage = problem(name, size)
    on, sign = (X[:5] + 0.1, y[:5]), 1 if direction == "support" else -1
    found = assay.most_influential_group(leverage, 3, on=on, direction=direction)
    group: list[int] = []
    for k, position in enumerate(found.positions):
        changes = {i: sign * change(leverage, [*group, i], on) for i in range(40) if i not in group}
        assert position == max(changes, key=changes.__getitem__)
        group.append(position)
        assert float(found.effect[k]) == pytest.approx(change(leverage, group, on), rel=1e-8)


@pytest.mark.parametrize(("name", "size"), HEADS)
def test_without_a_target_it_is_the_groups_cooks_distance(name, size):
    *_, leverage = problem(name, size)
    found = assay.most_influential_group(leverage, 4)
    group: list[int] = []
    for k, position in enumerate(found.positions):
        distances = {
            i: assay.group_influence(leverage, [*group, i]).cooks_distance for i in range(40) if i not in group
        }
        assert position == max(distances, key=distances.__getitem__)
        group.append(position)
        assert float(found.effect[k]) == pytest.approx(distances[position], rel=1e-8)


def test_without_pairs_it_is_the_ranking_by_first_order():
    X, y, leverage = problem("softmax", 3)
    on = (X[:5], y[:5])
    found = assay.most_influential_group(leverage, 6, on=on, pairwise=False)
    own = torch.tensor([change(leverage, [i], on, order=1) for i in range(40)])
    assert list(found.positions) == own.argsort(descending=True)[:6].tolist()
    assert_close(found.effect, own.sort(descending=True).values[:6].cumsum(0).double(), rtol=1e-6, atol=0)


def test_what_is_found_holds_up_in_a_refit():
    """Its removal raises the loss more than that of any of 40 random groups, and no less than without the pairs."""
    X, y, leverage = problem("softmax", 3, n=120)
    on = (X[:8], y[:8])

    def truth(positions) -> float:
        ids = list(positions)
        refit = assay.group_influence(leverage, ids, refit=True)
        H, labels = leverage.read(*on)
        before = leverage.family.loss(H @ leverage.V.T, labels)
        return float((refit.loss_without(*on) - before).mean())

    found = truth(assay.most_influential_group(leverage, 12, on=on).positions)
    plain = truth(assay.most_influential_group(leverage, 12, on=on, pairwise=False).positions)
    rng = np.random.default_rng(0)
    others = [truth(rng.choice(120, 12, replace=False).tolist()) for _ in range(40)]
    assert found > max(others)
    assert found >= plain * (1 - 1e-12)  # the same group, summed in another order


def test_the_last_of_a_class_stays():
    X, _ = oracles.blobs(30, 3, 3)
    y = np.where(np.arange(30) < 2, 2, np.arange(30) % 2)
    leverage = Head.fit(X, y, l2=1e-2).leverage(X, y)
    found = assay.most_influential_group(leverage, 27)
    assert set(y[[i for i in range(30) if i not in found.positions]]) == {0, 1, 2}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 0}, "size=0; of 40 samples 1 to 37 can leave"),
        ({"size": 38}, "size=38; of 40 samples 1 to 37"),
        ({"size": 2, "direction": "up"}, "direction='up' is neither"),
    ],
)
def test_bad_input(settings, said):
    *_, leverage = problem("softmax", 3)
    with pytest.raises(assay.ShapeError, match=said):
        assay.most_influential_group(leverage, **settings)
