"""Ours on the same arrays: the exact path (leave-one-out included), `EKFAC` and `WideHead`; one of them, by name."""

from __future__ import annotations

import sys
from pathlib import Path

from common import arrays, report

sys.path.insert(0, str(Path(__file__).parent.parent))
from exact_path import exact_path
from exact_path import problem as head_problem

import assay

layer, X, y, damping, exact = arrays()
which = sys.argv[2]


def path():
    exact_path(*head_problem(64))
    return exact  # its own check is in tests/


def ekfac():
    made = assay.Influence(
        layer, "softmax", (X, y), inverse=assay.EKFAC(damping), curvature=assay.GaussNewton, check=0
    )  # fmt: skip
    return made.self_influence().cooks_distance.numpy()


def wide():
    return assay.WideHead(X.numpy(), y.numpy(), layer.weight, layer.bias, damping=damping).self_influence().numpy()


report(f"assay, {which}", {"exact path": path, "EKFAC": ekfac, "WideHead": wide}[which], exact)
