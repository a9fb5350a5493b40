"""Fig. 1 of Picard et al.: where the influential points of four two-dimensional problems lie.

    python experiments/fig1_toys.py            # all seeds, widths and dampings; under ten minutes on two cores
    python experiments/fig1_toys.py --scale 0.1 --folder /tmp/try

A sigmoid MLP of two hidden layers is trained full-batch with Adam on 80 % of the points until the gradient is small;
its own last layer is scored (`refit=False`), with damping. Writes results/fig1_toys.json and .png.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, spread, train_together, write_results
from matplotlib.figure import Figure
from scipy.spatial import KDTree

from assay import Head
from assay.datasets.toys import GAP, Toy, downsampled_circle, line_sine, noisy_circle, unit_circle
from assay.models.schedules import cosine
from assay.models.training import Training
from assay.plots import influence_as_transparency

SEEDS = 10
POINTS = 1250  # of which 80 % are trained on
WIDTHS = (16, 48)  # of both hidden layers
DAMPINGS = (1e-4, 1e-2)
TRAINING = Training(6000, lr=2e-2, schedule=cosine, batch_size=None, tolerance=1e-4)
NEAREST = 0.2  # the band: this share of the points, those nearest to the true boundary
TOP = 0.05  # the most influential
PROBLEMS: dict[str, Callable[..., Toy]] = {
    "unit circle": unit_circle,
    "down-sampled circle": downsampled_circle,
    "noisy band": noisy_circle,
    "line and sine": line_sine,
}


def main(scale: float = 1.0, folder: Path = RESULTS) -> dict[str, Any]:
    """Runs everything, writes the results and returns them; `scale` shortens training and drops seeds."""
    start = time.perf_counter()
    seeds = max(2, round(SEEDS * scale))
    epochs = max(300, round(TRAINING.epochs * scale))
    found: dict[str, Any] = {}
    drawn: dict[str, tuple[Toy, np.ndarray]] = {}
    for name, make in PROBLEMS.items():
        toys = [trained_on(make(POINTS, seed=seed), seed) for seed in range(seeds)]
        for width in WIDTHS:
            influences, training = influences_of(toys, width, epochs)
            for damping, (values, gradients) in influences.items():
                numbers = measured(name, toys, values)
                found.setdefault(name, []).append(
                    {"width": width, "damping": damping, "gradient / scale": spread(gradients), **training, **numbers}
                )
            drawn.setdefault(name, (toys[0], influences[DAMPINGS[0]][0][0]))
    draw(drawn, folder)
    settings = {
        "seeds": seeds, "points": round(0.8 * POINTS), "epochs": epochs, "lr": TRAINING.lr, "activation": "sigmoid",
        "top": TOP, "nearest": NEAREST,
    }  # fmt: skip
    write_results("fig1_toys", {**settings, "problems": found}, seconds=time.perf_counter() - start, folder=folder)
    return found


def trained_on(toy: Toy, seed: int) -> Toy:
    """The 80 % that are trained on."""
    return toy.subset(np.random.default_rng(seed).permutation(len(toy))[: round(0.8 * len(toy))])


def influences_of(
    toys: list[Toy], width: int, epochs: int
) -> tuple[dict[float, tuple[list[np.ndarray], list[float]]], dict[str, Any]]:
    """Cook's distance of every point by damping, a list over seeds, with the head's gradient over its scale."""
    points = torch.stack([torch.tensor(toy.points) for toy in toys])
    labels = torch.stack([torch.tensor(toy.labels) for toy in toys]).double()
    training = Training(epochs, TRAINING.lr, schedule=TRAINING.schedule, batch_size=None, tolerance=TRAINING.tolerance)
    norms, alone = train_together([2, width, width, 1], points, labels, training)
    found: dict[float, tuple[list[np.ndarray], list[float]]] = {damping: ([], []) for damping in DAMPINGS}
    right: list[float] = []
    for seed in range(len(toys)):
        net = alone(seed)
        with torch.no_grad():
            h, z = net[:-1](points[seed]), net(points[seed])[:, 0]
        right.append(float(((z > 0) == (labels[seed] > 0.5)).double().mean()))
        for damping in DAMPINGS:
            head = Head.from_module(net[-1], h, labels[seed].long(), family="logistic", damping=damping)
            found[damping][0].append(head.leverage(h, labels[seed].long()).cooks_distance().numpy())
            found[damping][1].append(head.gradient_norm / head.gradient_scale)
    return found, {"steps": len(norms), "gradient norm of all": norms[-1], "training accuracy": spread(right)}


def measured(name: str, toys: list[Toy], influences: list[np.ndarray]) -> dict[str, Any]:
    """What the figure claims, one value a seed."""
    each = [numbers_of(name, toy, influence) for toy, influence in zip(toys, influences, strict=True)]
    return {key: spread([numbers[key] for numbers in each]) for key in each[0]}


def numbers_of(name: str, toy: Toy, influence: np.ndarray) -> dict[str, float]:
    top = influence >= np.quantile(influence, 1 - TOP)
    near = toy.distance <= np.quantile(toy.distance, NEAREST)
    share = influence / influence.sum()
    found = {
        "median distance of the top over that of all": float(np.median(toy.distance[top]) / np.median(toy.distance)),
        "share of influence in the nearest band": float(share[near].sum()),
    }
    if name == "down-sampled circle":
        angle = np.abs(np.arctan2(toy.points[:, 1], toy.points[:, 0]))
        beside = near & (angle < GAP + 0.15)
        found |= ratios("influence of the boundary at the gap over elsewhere", influence, beside, near & ~beside)
    if name == "noisy band":
        flipped = np.isin(np.arange(len(toy)), toy.flipped)
        found["share of influence in the noisy band"] = float(share[toy.region].sum())
        found["share of points in the noisy band"] = float(toy.region.mean())
        found["share of influence of the flipped"] = float(share[flipped].sum())
        found["share of points that are flipped"] = float(flipped.mean())
    if name == "line and sine":
        density = np.array([len(around) for around in KDTree(toy.points).query_ball_point(toy.points, 0.15)])
        thin = density <= np.median(density[near])
        found |= ratios(
            "influence of the boundary where samples are few over many", influence, near & thin, near & ~thin
        )
        sine = toy.points[:, 0] > 0
        found |= ratios("influence of the boundary along the sine over the line", influence, near & sine, near & ~sine)
    return found


def ratios(what: str, influence: np.ndarray, one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Of the means, which one point can decide, and of the geometric means, which none can (as a power of ten)."""
    logs = np.log(np.maximum(influence, 1e-300))
    return {
        f"{what}, means": float(influence[one].mean() / influence[other].mean()),
        f"{what}, log10 of geometric means": float((logs[one].mean() - logs[other].mean()) / np.log(10)),
    }


def draw(drawn: dict[str, tuple[Toy, np.ndarray]], folder: Path) -> None:
    """Seed 0 of the first width and damping."""
    figure = Figure(figsize=(13.2, 3.7), layout="constrained")
    for ax, (name, (toy, influence)) in zip(figure.subplots(1, 4), drawn.items(), strict=True):
        influence_as_transparency(toy.points, toy.labels, influence, decision=toy.decision, ax=ax)
        ax.set_title(name, fontsize=11)
    figure.savefig(folder / "fig1_toys.png", dpi=130)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for problem, settings in main(given.scale, given.folder).items():
        print(problem)
        for setting in settings:
            print(f"  width {setting['width']}, damping {setting['damping']:g}, {setting['steps']} steps")
            for what, value in setting.items():
                if isinstance(value, dict):
                    print(f"    {what:85} {value['mean']:8.3g} ± {value['std']:<8.2g} median {value['median']:.3g}")
