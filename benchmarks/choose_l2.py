"""Does the leave-one-out path choose as well as cross-validation, and how much sooner?

`l2="auto"` against 5-fold cross-validation on the same path of λ2, same Newton fits: the λ2 each picks, the log loss of
the head refitted there on held-out rows, and the time.

    python benchmarks/choose_l2.py
"""

from __future__ import annotations

import time
from statistics import mean

import numpy as np
import torch
from record import record
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_classification
from sklearn.model_selection import StratifiedKFold, train_test_split

from assay.datasets.noise import flip_uniformly
from assay.design import Design
from assay.families import Softmax
from assay.head import Head
from assay.l2 import LeaveOneOutPath, Rows
from assay.newton import Newton, Objective

SEEDS = range(3)
SETS = {
    "digits": lambda: load_digits(return_X_y=True),
    "breast cancer": lambda: load_breast_cancer(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
    "synthetic, 5,000 × 20": lambda: make_classification(
        5_000, 20, n_informative=8, n_classes=5, n_clusters_per_class=2, random_state=0
    ),
}


def rows_of(X: np.ndarray, y: np.ndarray) -> Rows:
    H = torch.cat([torch.tensor(X, dtype=torch.float64), torch.ones(len(X), 1, dtype=torch.float64)], 1)
    return Rows(H, torch.tensor(y), torch.ones(len(X), dtype=torch.float64))


def fold_loss(family: Softmax, X: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, grid) -> list[float]:
    """Mean loss on the fold's test rows along the path, warm-started; the total penalty N λ2 of all rows."""
    rows, held = rows_of(X[train], y[train]), rows_of(X[test], y[test])
    penalised = Design.identity(X.shape[1]).penalised(penalize_bias=False)
    V, losses = torch.zeros(family.K, X.shape[1] + 1, dtype=torch.float64), []
    for l2 in grid:
        objective = Objective(family, rows.sums(family), float(len(train)), l2 * len(X) / len(train), penalised)
        V = Newton(tolerance=1e-6, decrement=1e-9).minimise(objective, V).V
        losses.append(float(family.loss(held.H @ V.T, held.y).mean()))
    return losses


def cross_validate(family: Softmax, X: np.ndarray, y: np.ndarray, grid, seed: int) -> float:
    folds = StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y)
    losses = np.mean([fold_loss(family, X, y, train, test, grid) for train, test in folds], axis=0)
    return grid[int(losses.argmin())]


def test_loss(X, y, X_test, y_test, l2: float) -> float:
    head = Head.fit(X, y, l2=l2, standardize=False)
    z = head.design.matrix(torch.tensor(X_test)) @ head.V.T
    return float(head.family.loss(z, torch.tensor(y_test)).mean())


def measure(name: str) -> list[object]:
    found = []
    for seed in SEEDS:
        X, y = SETS[name]()
        X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=seed, stratify=y)
        centre, scale = X_train.mean(0), np.maximum(X_train.std(0), 1e-9)
        X_train, X_test = (X_train - centre) / scale, (X_test - centre) / scale
        X_test = np.clip(X_test, -20, 20)  # pixels that never vary in training
        y_train, _ = flip_uniformly(y_train, 0.05, seed=seed)
        family = Softmax(len(np.unique(y)))
        penalised = Design.identity(X.shape[1]).penalised(penalize_bias=False)
        start = time.perf_counter()
        path = LeaveOneOutPath().choose(family, rows_of(X_train, y_train), penalised)
        middle = time.perf_counter()
        crossed = cross_validate(family, X_train, y_train, path.grid, seed)
        end = time.perf_counter()
        losses = [test_loss(X_train, y_train, X_test, y_test, l2) for l2 in (path.l2, crossed)]
        found.append([path.l2, crossed, *losses, middle - start, end - middle])
    columns = list(zip(*found, strict=True))
    picked = [" ".join(f"{value:.1g}" for value in column) for column in columns[:2]]
    return [name, *picked, *(mean(column) for column in columns[2:]), mean(columns[5]) / mean(columns[4])]


if __name__ == "__main__":
    record(
        "λ2 by leave-one-out and by 5-fold cross-validation",
        "5 % of the training labels flipped, 30 % of the rows held out (clean), three seeds; the same "
        "path of λ2 for both.",
        ["data", "λ2 LOO", "λ2 CV", "test loss LOO", "test loss CV", "s LOO", "s CV", "CV / LOO time"],
        [measure(name) for name in SETS],
        ["Losses are in nats on clean held-out labels, of the head refitted to all training rows at the λ2 chosen."],
    )
