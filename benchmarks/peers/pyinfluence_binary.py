"""pyinfluence 0.5: `InfluenceFunctions` of a logistic regression, classes 0–4 against 5–9; its own fit is not timed."""

from __future__ import annotations

import numpy as np
from common import binary, report
from pyinfluence import InfluenceFunctions, self_influence

model, X, y, damping, exact = binary()


def run():
    found = self_influence(InfluenceFunctions(mode="loss", damping=damping).fit(model, X, y))
    return np.abs(found) * len(X)  # its scores are over n


report("pyinfluence InfluenceFunctions, C = 2", run, exact)
