"""Fig. 5 of Picard et al.: flipped labels of CIFAR-10 found by three networks.

    python experiments/fig5_cifar10.py --scale cpu --jobs 2 --work ../cifar10-work
    python experiments/fig5_cifar10.py --drawn        # from the units that are there, training nothing

Trains and scores what units of `cifar10.py` are missing, then draws true ROC curves (the paper's library plots recall
and calls it ROC): the mean over models, every model, chance. Writes results/fig5_cifar10.json and .png,
and fig5_cifar10_40000.png of networks of 40,000 images.
"""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from cifar10 import run_plan
from cifar10_results import IMAGES, NETWORKS, Result, chosen, difference, figure_arguments, interval, read_units
from common import write_results
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from assay.canvas import BLUE, GREEN, INK, MUTED, VERMILLION, calm

COLORS = {"resnet20": VERMILLION, "vgg19": BLUE, "efficientnet": GREEN}
SCORES = ("trained Cook's distance", "refit Cook's distance", "trimmed leave-one-out loss")
GRID = np.linspace(0, 1, 401)


def draw(results: list[Result], path: Path) -> None:
    """A row a share of flips, a column a score."""
    shares = sorted({result.unit.flips for result in results})
    figure = Figure(figsize=(4.1 * len(SCORES), 3.7 * len(shares)), layout="constrained")
    axes = figure.subplots(len(shares), len(SCORES), squeeze=False, sharex=True, sharey=True)
    for row, share in zip(axes, shares, strict=True):
        for ax, name in zip(row, SCORES, strict=True):
            for network, label in NETWORKS.items():
                curves(ax, chosen(results, network=network, flips=share), name, label, COLORS[network])
            ax.plot([0, 1], [0, 1], ":", color=MUTED, lw=1.2)
            ax.set_title(f"{name}, {share:.2%} flipped", fontsize=10, color=INK)
            ax.set(xlabel="right labels flagged", ylabel="wrong labels flagged", xlim=(0, 1), ylim=(0, 1.02))
            ax.legend(frameon=False, loc="lower right", fontsize=8)
            calm(ax, grid="both")
    figure.savefig(path, dpi=120)


def curves(ax: Axes, results: list[Result], name: str, label: str, color: str) -> None:
    """Every model thin, their mean thick; how many there are stands in the legend."""
    if not results:
        return
    found = []
    for result in results:
        found.append(np.interp(GRID, *roc_curve(result.wrong, result.score(name))[:2]))
        ax.plot(GRID, found[-1], color=color, lw=0.6, alpha=0.45)
    area = np.mean([result.last(name, "AUROC") for result in results])
    count = f"{len(results)} model{'s' * (len(results) > 1)}"
    ax.plot(GRID, np.mean(found, 0), color=color, lw=2, label=f"{label}, {area:.3f} ({count})")


def measure(results: list[Result]) -> dict[str, Any]:
    """For every network, share and score: AUROC, average precision and recalls over models; and the paper's order of
    networks, as differences on the same images and flips."""
    found: dict[str, Any] = {}
    for share in sorted({result.unit.flips for result in results}):
        by_network = {network: chosen(results, network=network, flips=share) for network in NETWORKS}
        for network, here in by_network.items():
            if here:
                found[f"{NETWORKS[network]}, {share:.2%}"] = {
                    "test accuracy": interval([result.points[-1]["accuracy"]["test"] for result in here]),
                    **{name: {what: interval([r.last(name, what) for r in here]) for what in WHAT} for name in SCORES},
                }  # fmt: skip
        for one, other in pairwise(NETWORKS):
            if by_network[one] and by_network[other]:
                found[f"{NETWORKS[one]} minus {NETWORKS[other]}, {share:.2%}"] = {
                    name: {what: difference(by_network[one], by_network[other], name, what) for what in WHAT[:2]}
                    for name in SCORES
                }
    return found


WHAT = ("AUROC", "average precision", "recall 1x", "recall 2x", "recall 5x")


if __name__ == "__main__":
    given = figure_arguments(__doc__ or "")
    start = time.perf_counter()
    if not given.drawn:
        run_plan(given.scale, given.work, given.data, given.units, jobs=given.jobs, only="-p")  # plain and paper
    recipe = "paper" if given.scale == "paper" else "plain"
    units = chosen(read_units(given.units), recipe=recipe, by_class=False)
    found: dict[str, Any] = {}
    for images in sorted({unit.unit.images for unit in units} & {IMAGES[given.scale], IMAGES["paper"]}):
        here = chosen(units, images=images)
        further = "" if images == IMAGES[given.scale] else f"_{images}"
        draw(here, given.folder / f"fig5_cifar10{further}.png")
        found[f"{images:,} images"] = measure(here)
    write_results("fig5_cifar10", {"scale": given.scale, "conditions": found},
                  seconds=time.perf_counter() - start, folder=given.folder)  # fmt: skip
