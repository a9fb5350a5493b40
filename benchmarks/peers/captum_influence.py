"""captum 0.9: `TracInCPFast` (gradients only, no curvature) and `NaiveInfluenceFunction` at n = 5,000."""

from __future__ import annotations

import sys

import numpy as np
from captum.influence import NaiveInfluenceFunction, TracInCPFast
from common import arrays, report
from torch import nn
from torch.utils.data import TensorDataset

layer, X, y, damping, exact = arrays()
model = nn.Sequential(layer)
NAIVE = 5_000


def load(model: nn.Module, _path: str) -> float:
    return 1.0


def trac():
    data = TensorDataset(X, y)
    made = TracInCPFast(model, layer, data, ["here"], load, nn.CrossEntropyLoss(reduction="sum"), batch_size=4096)
    return made.self_influence().numpy()


def naive():
    data = TensorDataset(X[:NAIVE], y[:NAIVE])
    made = NaiveInfluenceFunction(
        model, data, "here", load, loss_fn=nn.CrossEntropyLoss(reduction="none"), batch_size=500, projection_dim=None,
        hessian_reg=damping * NAIVE, show_progress=False,
    )  # fmt: skip
    return made.self_influence().numpy() * NAIVE  # its Hessian is a sum over samples


report("captum TracInCPFast", trac, exact)
report("captum NaiveInfluenceFunction, 5,000 rows", naive, np.load(sys.argv[1])["reference5000"])
