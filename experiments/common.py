"""What the experiments share: seeds trained side by side, and results as JSON with how they were made."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.models.mlp import mlp
from assay.models.stacked import Stacked
from assay.models.training import Training, train

torch.set_num_threads(1)  # products of this size are slower on several
RESULTS = Path(__file__).parent / "results"


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of `[seeds, n, 1]` logits: the mean over samples, summed over seeds, each on its own."""
    return functional.binary_cross_entropy_with_logits(logits[..., 0], labels, reduction="none").mean(1).sum()


def train_together(
    widths: list[int],
    points: Tensor,
    labels: Tensor,
    training: Training,
    *,
    activation: type[nn.Module] = nn.Sigmoid,
    at_checkpoint: Callable[[int, Stacked], None] = lambda epoch, stack: None,
) -> tuple[list[float], Callable[[int], nn.Sequential]]:
    """One MLP a seed (a slice of `points` `[seeds, n, 2]`), full-batch: the gradient norms, and each network alone."""
    nets: list[nn.Module] = []
    for seed in range(len(points)):
        torch.manual_seed(seed)
        nets.append(mlp(widths, activation=activation).double())
    stack = Stacked(nets)
    history = train(stack, points, labels, training, loss=mean_loss, at_checkpoint=lambda e: at_checkpoint(e, stack))

    def alone(seed: int) -> nn.Sequential:
        net = mlp(widths, activation=activation).double()
        net.load_state_dict(stack.state_of(seed))
        return net

    return history.gradient_norm, alone


def spread(values: Any) -> dict[str, Any]:
    """Mean, standard deviation, median and every seed's value."""
    array = np.asarray(values, dtype=np.float64)
    middle = {"mean": float(array.mean()), "std": float(array.std(ddof=1)), "median": float(np.median(array))}
    return {**middle, "seeds": [float(value) for value in array]}


def write_results(name: str, found: dict[str, Any], *, seconds: float, folder: Path = RESULTS) -> Path:
    """The numbers beside the command, the versions and the time they took."""
    folder.mkdir(parents=True, exist_ok=True)
    header = {
        "command": " ".join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "versions": {package: version(package) for package in ("assay", "torch", "numpy")},
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "seconds": round(seconds, 1),
        "date": time.strftime("%Y-%m-%d"),
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**header, **found}, indent=1) + "\n", encoding="utf-8")
    return path
