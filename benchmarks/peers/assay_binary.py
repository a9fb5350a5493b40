"""Ours on pyinfluence's problem: the exact path of a logistic head, leave-one-out included."""

from __future__ import annotations

from common import binary, report

from assay import Head

model, X, y, damping, exact = binary()


def run():
    leverage = Head.from_sklearn(model, X, y).leverage(X, y)
    _ = leverage.leave_one_out()
    return leverage.cooks_distance().numpy()


report("assay, exact path, C = 2", run, exact)
