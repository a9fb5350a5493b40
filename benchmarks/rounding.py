"""What do float32 features cost in exactness?

Cook's distance from float32 features against the same head fitted and read in all-float64 from the unrounded ones, and
against the dense float64 oracle (autograd Hessian, pseudo-inverse) on the rounded ones: largest error
over largest score.

    python benchmarks/rounding.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from record import record

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import oracles
from assay.head import Head


def measure(name: str, spread: float, l2: float) -> list[object]:
    X, y = oracles.blobs(600, 8, 5, spread=spread)
    rounded = X.astype(np.float32)
    head = Head.fit(rounded, y, l2=l2, standardize=False)
    leverage = head.leverage(rounded, y)
    found = leverage.cooks_distance()
    unrounded = Head.fit(X, y, l2=l2, standardize=False).leverage(X, y).cooks_distance()
    exact = oracles.cooks_distance(
        "softmax", oracles.class_weights(head), leverage.H, leverage.y, leverage.w, head.penalty, head.total_weight
    )
    errors = [float((found - other).abs().max() / other.max()) for other in (exact, unrounded)]
    return [name, f"{l2:g}", f"{leverage.curvature.condition_number:.1e}", *(f"{error:.1e}" for error in errors)]


if __name__ == "__main__":
    heads = [("overlapping classes", 1.5), ("saturated (separated classes)", 0.25)]
    record(
        "Rounding: float32 features",
        "n = 600, d = 8, C = 5. Wanted: 1e-3 of the largest score down to λ2 = 1e-5.",
        ["head", "λ2", "condition", "error of the method", "error of rounding the features"],
        [measure(name, spread, l2) for name, spread in heads for l2 in (1e-3, 1e-5, 1e-7)],
        ["Method: against the dense oracle on the same rounded features. Features: against the unrounded ones."],
    )
