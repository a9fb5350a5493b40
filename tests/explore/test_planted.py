"""Planted errors: they are errors, no class is emptied, and the curve counts what a scan of the ranking counts."""

import numpy as np
import pytest
import torch

import oracles
from assay.explore.planted import EFFORT, GROSS, Flips, _flip, _mislabeled
from assay.head import Head
from assay.l2 import Rows

X, Y = oracles.blobs(240, 4, 3, 0)


def fitted(y, family: str = "softmax"):
    head = Head.fit(X, y, family=family, l2=1e-2)
    leverage = head.leverage(X, y)
    return head, Rows(leverage.H, leverage.y, leverage.w)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_flip_is_another_class_and_none_is_emptied():
    labels = np.where(np.arange(240) < 2, 2, Y % 2)  # a class of two
    head, rows = fitted(labels)
    for seed in range(20):
        which, y = _flip(head, rows, 24, None, generator(seed))
        assert len(which.unique()) == 24
        assert (y[which] != rows.y[which]).all()
        untouched = torch.ones(240, dtype=torch.bool)
        untouched[which] = False
        assert (y[untouched] == rows.y[untouched]).all()
        assert y.bincount(minlength=3).min() > 0


@pytest.mark.parametrize("outputs", [1, 2])
def test_every_planted_target_is_told_from_noise(outputs: int):
    """Also where most targets are one value, as for counts: never the same target again."""
    rng = np.random.default_rng(0)
    y = np.where(rng.random((240, outputs)) < 0.7, 0.0, rng.normal(size=(240, outputs)) * 9)
    head, rows = fitted(y, "linear")
    noise = torch.full((outputs,), 0.5, dtype=torch.float64)
    which, planted = _flip(head, rows, 24, noise, generator())
    assert (((planted - rows.y)[which] / noise).abs().amax(1) >= GROSS).all()


def test_where_no_target_is_that_far_the_farthest_is_planted():
    y = X[:, 0].copy()
    head, rows = fitted(y, "linear")
    which, planted = _flip(head, rows, 24, torch.tensor([1e6], dtype=torch.float64), generator())
    assert ((planted - rows.y)[which].abs() > y.std() / 2).all()


def test_the_curve_counts_the_flips_among_the_first():
    head, rows = fitted(Y)
    flips = Flips(share=0.1, repeats=1, seed=4)
    found = flips.into(head, rows, head.V)
    which, y = _flip(head, rows, found.flips, None, generator(5))
    score = _mislabeled(head, Rows(rows.H, y, rows.w), head.V, trim=True)[0].mislabeled_score
    order = score.argsort(descending=True, stable=True).tolist()
    for effort, recall in zip(EFFORT, found.recall, strict=True):
        inspected = set(order[: round(effort * 240)])
        assert recall == pytest.approx(len(inspected & set(which.tolist())) / found.flips)
    assert found.flips == 24
    assert found.recall_at_flips == pytest.approx(found.recall[20])
    assert found.recall[-1] == 1.0
