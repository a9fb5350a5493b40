"""Ours on the same arrays: the exact path, alone and with leave-one-out, `EKFAC`, `WideHead`; one of them, by name."""

from __future__ import annotations

import sys

import pyarrow as pa
import torch
from common import arrays, report

from assay import EKFAC, GaussNewton, Influence, WideHead
from assay.curvature.dense import Curvature
from assay.design import Design
from assay.families import Softmax
from assay.l2 import Rows
from assay.leverage import Leverage
from assay.newton import weighted_curvature

layer, X, y, damping, exact = arrays()
which = sys.argv[2]


def path(*, loo: bool = False):
    """The damping is on every parameter here, the bias included, as the peers have it."""
    n, classes = len(X), layer.out_features
    family, design = Softmax(classes), Design.identity(X.shape[1])
    V = family.basis.T @ torch.cat([layer.weight, layer.bias[:, None]], 1).detach().double()
    rows = Rows(design.matrix(X), y, torch.ones(n, dtype=torch.float64))
    penalty = n * damping * design.penalised(penalize_bias=True)
    packed = weighted_curvature(family, rows.H @ V.T, rows.H, rows.w)
    curvature = Curvature(packed, penalty, float(n), family.K)
    leverage = Leverage(family, design, V, curvature, pa.nulls(n), rows.H, rows.y, rows.w)
    if loo:
        _ = leverage.leave_one_out()
    return leverage.cooks_distance().numpy()


def ekfac():
    made = Influence(layer, "softmax", (X, y), inverse=EKFAC(damping), curvature=GaussNewton, check=0)
    return made.self_influence().cooks_distance.numpy()


def wide():
    return WideHead(X.numpy(), y.numpy(), layer.weight, layer.bias, damping=damping).self_influence().numpy()


methods = {
    "exact path": path,
    "exact path with leave-one-out": lambda: path(loo=True),
    "EKFAC": ekfac,
    "WideHead": wide,
}
report(f"assay, {which}", methods[which], exact)
