"""Fig. 4 of Picard et al.: one flipped label in a two-sided square, its influence as training goes on.

    python experiments/fig4_trace.py           # all seeds, rates, widths and dampings; under ten minutes on two cores
    python experiments/fig4_trace.py --scale 0.1 --folder /tmp/try

An MLP of one hidden layer is trained full-batch with Adam on binary cross-entropy; at each of the epochs its own last
layer is scored (`refit=False`), with damping. Writes results/fig4_trace.json, .png and fig4_shares.png.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, spread, train_together, write_results
from matplotlib.figure import Figure
from torch import nn

from assay import Trace, trace
from assay.canvas import BLUE, GREEN, GREY, VERMILLION, calm
from assay.datasets.toys import Toy, two_sided_square
from assay.models.mlp import mlp
from assay.models.stacked import Stacked
from assay.models.training import Training
from assay.plots import trace_multiples

SEEDS = 10
POINTS = 250  # of which 80 % are trained on
EPOCHS = (20, 100, 500, 2_000, 4_000, 8_000, 12_000, 20_000)  # the paper's six, and two before them
RATES = (1e-3, 1e-2)
WIDTHS = (32, 128)
DAMPINGS = (1e-6, 1e-2)
ACTIVATION = nn.Sigmoid
NEIGHBOURS = 10
BAND = 0.1  # distance to the boundary


def main(scale: float = 1.0, folder: Path = RESULTS) -> dict[str, Any]:
    """Runs everything, writes the results and returns them; `scale` shortens training and drops seeds."""
    start = time.perf_counter()
    seeds = max(2, round(SEEDS * scale))
    epochs = sorted({max(1, round(epoch * scale)) for epoch in EPOCHS})
    toys = [trained_on(two_sided_square(POINTS, seed=seed), seed) for seed in range(seeds)]
    found: list[dict[str, Any]] = []
    shown: list[tuple[float, list[Trace]]] = []
    for rate in RATES:
        for width in WIDTHS:
            states, fitted = train_all(toys, width, rate, epochs)
            for damping in DAMPINGS:
                traces = [traced(toy, states[seed], width, damping) for seed, toy in enumerate(toys)]
                found.append(
                    {"rate": rate, "width": width, "damping": damping, "epochs": measured(toys, traces, fitted)}
                )
                if width == WIDTHS[0] and damping == DAMPINGS[0]:
                    shown.append((rate, traces))
    draw(toys, shown, found, folder)
    settings = {
        "seeds": seeds, "points": len(toys[0]), "activation": ACTIVATION.__name__, "optimizer": "Adam",
        "neighbours": NEIGHBOURS, "band": BAND,
    }  # fmt: skip
    write_results("fig4_trace", {**settings, "settings": found}, seconds=time.perf_counter() - start, folder=folder)
    return {"settings": found}


def trained_on(toy: Toy, seed: int) -> Toy:
    """80 % of the points, the flipped one among them."""
    order = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(len(toy)), toy.flipped))
    return toy.subset(np.concatenate([toy.flipped, order[: round(0.8 * len(toy)) - 1]]))


def train_all(
    toys: list[Toy], width: int, rate: float, epochs: list[int]
) -> tuple[list[dict[int, dict[str, torch.Tensor]]], dict[int, list[float]]]:
    """Each seed's weights by epoch, and what its network then says of the flipped point's given label."""
    points = torch.stack([torch.tensor(toy.points) for toy in toys])
    labels = torch.stack([torch.tensor(toy.labels) for toy in toys]).double()
    states: list[dict[int, dict[str, torch.Tensor]]] = [{} for _ in toys]

    def keep(epoch: int, stack: Stacked) -> None:
        for seed, kept in enumerate(states):
            kept[epoch] = stack.state_of(seed)

    training = Training(epochs[-1], rate, batch_size=None, checkpoints=tuple(epochs))
    train_together([2, width, 1], points, labels, training, activation=ACTIVATION, at_checkpoint=keep)
    fitted: dict[int, list[float]] = {}
    for epoch in epochs:
        fitted[epoch] = []
        for seed, toy in enumerate(toys):
            net = network(width)
            net.load_state_dict(states[seed][epoch])
            with torch.no_grad():
                p = torch.sigmoid(net(points[seed])[toy.flipped[0], 0])
            fitted[epoch].append(float(p if labels[seed, toy.flipped[0]] else 1 - p))
    return states, fitted


def network(width: int) -> nn.Sequential:
    return mlp([2, width, 1], activation=ACTIVATION).double()


def traced(toy: Toy, states: dict[int, dict[str, torch.Tensor]], width: int, damping: float) -> Trace:
    """The library's own trace of one seed."""
    return trace((torch.tensor(toy.points), toy.labels), model=network(width), checkpoints=states, damping=damping)


def measured(toys: list[Toy], traces: list[Trace], fitted: dict[int, list[float]]) -> list[dict[str, Any]]:
    """At each epoch: rank and share of the flipped point, share of its neighbours and of the boundary."""

    def over_seeds(of: Any, k: int) -> dict[str, Any]:
        return spread([of(toy, found)[k] for toy, found in zip(toys, traces, strict=True)])

    rows: list[dict[str, Any]] = []
    for k, epoch in enumerate(fitted):
        ranks = [int(found.rank(toy.flipped)[k, 0]) for toy, found in zip(toys, traces, strict=True)]
        rows.append(
            {
                "epoch": epoch,
                "rank of the flipped": ranks,
                "seeds with the flipped first": sum(rank == 1 for rank in ranks),
                "share of the flipped": over_seeds(lambda toy, found: share(found, toy.flipped), k),
                "share of its neighbours": over_seeds(lambda toy, found: share(found, neighbours(toy)), k),
                "share of the boundary": over_seeds(lambda toy, found: share(found, boundary(toy)), k),
                "probability of the flipped label": spread(fitted[epoch]),
                "mean loss": over_seeds(lambda toy, found: found.steps["loss"].to_pylist(), k),
                "gradient / scale": over_seeds(lambda toy, found: gradients(found), k),
            }
        )
    return rows


def gradients(found: Trace) -> np.ndarray:
    return found.steps["gradient_norm"].to_numpy() / found.steps["gradient_scale"].to_numpy()


def share(found: Trace, rows: np.ndarray) -> np.ndarray:
    return found.share(rows.tolist()).sum(1)


def neighbours(toy: Toy) -> np.ndarray:
    """The points nearest to the flipped one, itself not among them."""
    return np.linalg.norm(toy.points - toy.points[toy.flipped[0]], axis=1).argsort()[1 : 1 + NEIGHBOURS]


def boundary(toy: Toy) -> np.ndarray:
    near = np.flatnonzero(toy.distance <= BAND)
    return np.setdiff1d(near, [*toy.flipped, *neighbours(toy)])


def draw(toys: list[Toy], shown: list[tuple[float, list[Trace]]], found: list[dict[str, Any]], folder: Path) -> None:
    """Small multiples of seed 0 at each rate; shares of all seeds through time, and by how far the label is fitted."""
    columns = len(shown[0][1][0].steps)
    figure = Figure(figsize=(2.1 * columns, 5.2), layout="constrained")
    for row, (rate, traces) in zip(figure.subplots(len(shown), columns, squeeze=False), shown, strict=True):
        trace_multiples(
            traces[0], toys[0].points, toys[0].labels, marked=toys[0].flipped.tolist(), decision=toys[0].decision,
            axes=list(row),
        )  # fmt: skip
        row[0].set_ylabel(f"rate {rate:g}")
    figure.savefig(folder / "fig4_trace.png", dpi=120)
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    *through_time, fitted = figure.subplots(1, len(shown) + 1)
    for ax, (rate, traces) in zip(through_time, shown, strict=True):
        shares(ax, toys, traces)
        ax.set_title(f"rate {rate:g}: mean share of the influence, single seeds thin", fontsize=10)
    by_fit(fitted, found)
    figure.savefig(folder / "fig4_shares.png", dpi=120)


def shares(ax: Any, toys: list[Toy], traces: list[Trace]) -> None:
    steps = traces[0].steps["step"].to_numpy()
    groups = (
        ("the flipped point", VERMILLION, lambda toy: toy.flipped),
        (f"its {NEIGHBOURS} neighbours", BLUE, neighbours),
        ("the boundary", GREEN, boundary),
    )
    for name, color, members in groups:
        each = np.stack([share(found, members(toy)) for toy, found in zip(toys, traces, strict=True)])
        ax.plot(steps, each.T, color=color, lw=0.6, alpha=0.35)
        ax.plot(steps, each.mean(0), color=color, lw=2.2, marker="o", ms=4, label=name)
    ax.set(xscale="log", ylim=(0, 1.02), xlabel="epoch")
    ax.legend(frameon=False)
    calm(ax, grid="both")


def by_fit(ax: Any, found: list[dict[str, Any]]) -> None:
    """The same shares against the probability of the flipped label, of every rate, width and epoch (least damping)."""
    markers = iter("osD^")
    for setting in (s for s in found if s["damping"] == DAMPINGS[0]):
        marker = next(markers)
        rows = setting["epochs"]
        p = [row["probability of the flipped label"]["mean"] for row in rows]
        for name, color in (("flipped", VERMILLION), ("its neighbours", BLUE), ("boundary", GREEN)):
            key = f"share of {name if name == 'its neighbours' else f'the {name}'}"
            label = f"rate {setting['rate']:g}, width {setting['width']}" if name == "flipped" else None
            ax.plot(p, [row[key]["mean"] for row in rows], color=color, marker=marker, lw=0.7, ms=5, label=label)
    ax.set(xscale="logit", ylim=(0, 1.02), xlabel="probability that the network gives the flipped label")
    ax.set_xticks([1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999], ["0.001", "0.01", "0.1", "0.5", "0.9", "0.99", "0.999"])
    ax.minorticks_off()
    ax.set_title("the same shares by how far the flipped label is fitted", fontsize=10)
    ax.legend(frameon=False)
    ax.grid(True, color=GREY, lw=0.4, alpha=0.4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for setting in main(given.scale, given.folder)["settings"]:
        print(f"rate {setting['rate']:g}, width {setting['width']}, damping {setting['damping']:g}")
        for row in setting["epochs"]:
            told = {k: f"{v['mean']:.3g}" for k, v in row.items() if isinstance(v, dict)}
            first, seeds = row["seeds with the flipped first"], len(row["rank of the flipped"])
            print(f"  {row['epoch']:6,}: the flipped first in {first} of {seeds}; {told}")
