"""dattri 0.3: `IFAttributorExplicit`, 500 samples' own influence (it returns every pair)."""

from __future__ import annotations

import torch
from common import arrays, report
from dattri.algorithm.influence_function import IFAttributorExplicit
from dattri.task import AttributionTask
from torch.func import functional_call
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

layer, X, y, damping, exact = arrays()
ROWS = 500


def loss(parameters, pair):
    x, t = pair
    return functional.cross_entropy(functional_call(layer, parameters, (x.reshape(-1, X.shape[1]),)), t.reshape(-1))


def run():
    task = AttributionTask(loss_func=loss, model=layer, checkpoints=layer.state_dict())
    attributor = IFAttributorExplicit(task=task, regularization=damping)
    attributor.cache(DataLoader(TensorDataset(X, y), batch_size=4096))
    part = DataLoader(TensorDataset(X[:ROWS], y[:ROWS]), batch_size=ROWS)
    with torch.no_grad():
        return attributor.attribute(part, part).diagonal().numpy()


report("dattri IFAttributorExplicit, scores of 500 rows", run, exact)
