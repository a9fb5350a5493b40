"""`assay demo toys` and `assay demo trace`: the paper's toy problems, one seed each, as pictures and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional

from ..datasets.toys import Toy, downsampled_circle, line_sine, noisy_circle, two_sided_square, unit_circle
from ..engine import Progress, atomic, stage, write_json
from ..explore.trace import trace
from ..head import Head
from ..models.mlp import mlp
from ..models.schedules import cosine
from ..models.training import Training, train
from ..plots import influence_as_transparency, trace_multiples

POINTS = 1000
TOP, NEAREST = 0.05, 0.2  # shares of the points: the most influential, and those nearest to the boundary
DAMPING = 1e-4
TOYS = Training(3000, lr=2e-2, schedule=cosine, batch_size=None, tolerance=1e-4)
EPOCHS = (500, 2_000, 4_000, 8_000, 12_000, 20_000)  # of Fig. 4
TRACE = Training(EPOCHS[-1], lr=1e-3, batch_size=None, checkpoints=EPOCHS)
TRACE_DAMPING = 1e-6


def toys(out: Path, seed: int, progress: Progress | None) -> dict[str, Any]:
    """Fig. 1: four problems, the influential points opaque; writes `toys.png` and `toys.json`."""
    figure = Figure(figsize=(13.2, 3.7), layout="constrained")
    found: dict[str, Any] = {}
    makers = (unit_circle, downsampled_circle, noisy_circle, line_sine)
    for ax, make in zip(figure.subplots(1, 4), makers, strict=True):
        toy = make(POINTS, seed=seed)
        points, labels = torch.tensor(toy.points), torch.tensor(toy.labels)
        net = _trained([2, 16, 16, 1], points, labels, TOYS, seed, toy.name, progress)
        with torch.no_grad():
            h = net[:-1](points)
        head = Head.from_module(_last(net), h, labels, family="logistic", damping=DAMPING)
        influence = head.leverage(h, labels).cooks_distance().numpy()
        influence_as_transparency(toy.points, toy.labels, influence, decision=toy.decision, ax=ax)
        ax.set_title(toy.name, fontsize=11)
        found[toy.name] = _numbers(toy, influence)
    return _written(out, "toys", figure, found)


def through_time(out: Path, seed: int, progress: Progress | None) -> dict[str, Any]:
    """Fig. 4: one flipped label through 20,000 epochs; writes `trace.png`, `trace.parquet` and `trace.json`."""
    toy = two_sided_square(200, seed=seed)
    points, labels = torch.tensor(toy.points), torch.tensor(toy.labels)
    states: dict[int, dict[str, torch.Tensor]] = {}
    net = _trained([2, 32, 1], points, labels, TRACE, seed, "train", progress, states)
    found = trace((points, toy.labels), model=net, checkpoints=states, damping=TRACE_DAMPING, progress=progress)
    ids = toy.flipped.tolist()
    axes = trace_multiples(found, toy.points, toy.labels, marked=ids, decision=toy.decision)
    out.mkdir(parents=True, exist_ok=True)
    found.save(out / "trace.parquet")
    told = {
        str(epoch): {"rank of the flipped": int(rank), "share of the flipped": float(share)}
        for epoch, rank, share in zip(EPOCHS, found.rank(ids)[:, 0], found.share(ids)[:, 0], strict=True)
    }
    figure = axes[0].figure
    assert isinstance(figure, Figure)
    return _written(out, "trace", figure, told)


def _trained(
    widths: list[int],
    points: torch.Tensor,
    labels: torch.Tensor,
    training: Training,
    seed: int,
    name: str,
    progress: Progress | None,
    states: dict[int, dict[str, torch.Tensor]] | None = None,
) -> nn.Sequential:
    """A sigmoid MLP trained full-batch on binary cross-entropy, float64; `states` gets its weights at checkpoints."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = mlp(widths).double()

    def loss(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(z[:, 0], y)

    def keep(epoch: int) -> None:
        if states is not None:
            states[epoch] = {name: value.clone() for name, value in net.state_dict().items()}

    with stage(progress, name, training.epochs) as advance:
        train(net, points, labels.double(), training, loss=loss, at_checkpoint=keep, advance=advance)
    return net


def _last(net: nn.Sequential) -> nn.Linear:
    last = net[-1]
    assert isinstance(last, nn.Linear)
    return last


def _numbers(toy: Toy, influence: np.ndarray) -> dict[str, float]:
    top = influence >= np.quantile(influence, 1 - TOP)
    near = toy.distance <= np.quantile(toy.distance, NEAREST)
    return {
        "median distance of the top 5 % over that of all": float(
            np.median(toy.distance[top]) / np.median(toy.distance)
        ),
        "share of influence in the nearest 20 %": float(influence[near].sum() / influence.sum()),
        "share of influence of flipped labels": float(influence[toy.flipped].sum() / influence.sum()),
    }


def _written(out: Path, name: str, figure: Figure, found: dict[str, Any]) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    with atomic(out / f"{name}.png") as temporary:
        figure.savefig(temporary, dpi=130)
    write_json(out / f"{name}.json", found)
    return found
