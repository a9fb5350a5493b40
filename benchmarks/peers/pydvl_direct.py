"""pyDVL 0.10: `DirectInfluence` factors of the layer, each sample's own product."""

from __future__ import annotations

import torch
from common import arrays, report
from pydvl.influence.torch import DirectInfluence
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

layer, X, y, damping, exact = arrays()


def run():
    loader = DataLoader(TensorDataset(X, y), batch_size=4096)
    influence = DirectInfluence(layer, functional.cross_entropy, regularization=damping).fit(loader)
    out = []
    for x, t in loader:
        factors = influence.influence_factors(x, t)
        r = torch.softmax(layer(x), 1).detach()
        r[torch.arange(len(t)), t] -= 1
        g = torch.cat([(r[:, :, None] * x[:, None]).flatten(1), r], 1)
        out.append((factors.flatten(1) * g).sum(1))
    return torch.cat(out).detach().numpy()


report("pyDVL DirectInfluence", run, exact)
