"""What every peer's script shares: the arrays, the layer, and one line of JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn


def arrays() -> tuple[nn.Linear, torch.Tensor, torch.Tensor, float, np.ndarray]:
    """The layer, features, labels, damping and exact scores that `influence_speed.py --arrays` saved."""
    torch.set_num_threads(1)
    found = np.load(sys.argv[1])
    layer = nn.Linear(found["weight"].shape[1], len(found["weight"]))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(found["weight"]))
        layer.bias.copy_(torch.from_numpy(found["bias"]))
    return (
        layer,
        torch.from_numpy(found["X"]),
        torch.from_numpy(found["y"]),
        float(found["damping"]),
        found["reference"],
    )


def binary():
    """A logistic regression fitted to classes 0–4 against 5–9, and its exact scores; the bias is not penalised."""
    from sklearn.linear_model import LogisticRegression

    _, features, labels, damping, _ = arrays()
    X, y = features.numpy().astype(np.float64), (labels.numpy() >= 5).astype(np.int64)
    model = LogisticRegression(C=1 / (len(X) * damping), max_iter=500, tol=1e-10).fit(X, y)
    h = np.concatenate([X, np.ones((len(X), 1))], 1)
    p = model.predict_proba(X)[:, 1]
    penalty = np.full(h.shape[1], damping)
    penalty[-1] = 0
    H = (h * (p * (1 - p))[:, None]).T @ h / len(X) + np.diag(penalty)
    g = (p - y)[:, None] * h
    return model, X, y, 0.0, np.einsum("np,np->n", g @ np.linalg.inv(H), g)


def report(name: str, run: Callable[[], np.ndarray], exact: np.ndarray) -> None:
    """Times a method and compares its scores; a sign or a factor 1/n of its own is undone by the caller."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = time.process_time(), time.perf_counter()
    found = np.asarray(run(), dtype=np.float64)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    exact = exact[: len(found)]
    error, top = np.abs(found - exact) / exact, exact >= np.quantile(exact, 0.9)
    told = {"s": wall, "CPU s": cpu, "MiB": peak, "median error": float(np.median(error)),
            "top tenth": float(np.median(error[top])), "scale": float(found @ exact / (exact @ exact))}  # fmt: skip
    print(json.dumps({"method": name, "rows": len(found), **told}))
