"""What the networks of cifar10.py say of the questions that the paper leaves open.

    python experiments/cifar10_findings.py            # from the units that are there, training nothing

- Has a network been trained right for influence? Quantities that can be told without knowing the flips: the rank
  correlation of each with what `mislabeled_score` finds, over all checkpoints of all runs; and what is lost, against
  the best checkpoint of a run, by looking at the one where the quantity is least. Nothing is fitted; the same again
  over the networks that were trained after the rule had been stated.
- Is it the data or the model? Rank correlation and overlap of the first hundredth of the scores of unflipped images,
  over recipes and architectures (same images), and over seeds (images drawn by both).
- Does cleaning help? Test accuracy of a head fitted to the cleaned labels, against doing nothing.

Writes results/cifar10_findings.json and .png.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from cifar10_results import NETWORKS, Result, chosen, interval, read_units
from common import RESULTS, write_results
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from assay.canvas import BLUE, GREEN, INK, VERMILLION, calm

SKY, PINK = "#56b4e9", "#cc79a7"  # Okabe and Ito's
SCORE = "trimmed leave-one-out loss"
FLIPPED = 0.05
HELD_OUT, LEFT_OUT = "1 − held-out accuracy, head refitted", "leave-one-out accuracy"
RECIPES = {"plain": "ResNet-20, one cycle", "elastic": "ResNet-20, L1L2", "over": "ResNet-20, over-trained",
           "paper": "ResNet-20, Adam, 60 epochs"}  # fmt: skip
SEEN = {
    ("plain", 0),
    ("plain", 1),
    ("plain", 2),
    ("elastic", 0),
    ("elastic", 1),
    ("elastic", 2),
    ("over", 0),
    ("over", 1),
}
"""The ResNet-20 (recipe, seed) that were there when the rule was stated in docs/images.md."""

Point = dict[str, Any]


def noisy(accuracy: float) -> float:
    """What an accuracy on true labels would be on labels flipped as those trained on, of ten classes."""
    return accuracy * (1 - FLIPPED) + (1 - accuracy) * FLIPPED / 9


OBSERVED: dict[str, Callable[[Point], float]] = {
    "leave-one-out less held-out accuracy, head refitted": lambda p: (
        p["accuracy"]["leave-one-out"] - noisy(p["accuracy"]["validation, refit"])
    ),
    "training less held-out accuracy, as trained": lambda p: (
        p["accuracy"]["trained on, as labelled"] - noisy(p["accuracy"]["validation"])
    ),
    "1 − NC1": lambda p: 1 - p["NC1"],
    LEFT_OUT: lambda p: p["accuracy"]["leave-one-out"],
    HELD_OUT: lambda p: 1 - p["accuracy"]["validation, refit"],
    "1 − planted recall": lambda p: 1 - p["planted recall"],
    "−effective parameters": lambda p: -p["effective parameters"],
    "leave-one-out loss": lambda p: p["leave-one-out loss"],
}


def rules(results: list[Result]) -> dict[str, Any]:
    """For each observed quantity its rank correlation with average precision, and the loss of choosing by it."""
    found = precision(results)
    told: dict[str, Any] = {"checkpoints": len(found)}
    for name, value in OBSERVED.items():
        lost = [precision([r]).max() - precision([r])[values([r], value).argmin()] for r in results]
        told[name] = {
            "rank correlation, of its negative": float(
                spearmanr(-values(results, value), precision(results)).statistic
            ),
            "lost by choosing its least": interval(lost),
        }
    last = [precision([r]).max() - precision([r])[-1] for r in results]
    return {**told, "lost by the last checkpoint": interval(last)}


def values(results: list[Result], value: Callable[[Point], float]) -> np.ndarray:
    return np.array([value(point) for result in results for point in result.points])


def precision(results: list[Result]) -> np.ndarray:
    """Average precision at every checkpoint."""
    return np.array([point["found"][SCORE]["average precision"] for result in results for point in result.points])


def agreement(results: list[Result]) -> dict[str, Any]:
    """Spearman's ρ and overlap of the first hundredth, over pairs of networks with 5 % flipped."""
    told: dict[str, Any] = {}
    for score in (SCORE, "refit Cook's distance"):
        pairs: dict[str, list[tuple[float, float]]] = {}
        for one, other in combinations(results, 2):
            kind = pair_of(one, other)
            if kind:
                pairs.setdefault(kind, []).append(alike(one, other, score))
        told[score] = {
            kind: {
                "rank correlation": interval([a for a, _ in found]),
                "overlap of the first 1 %": interval([b for _, b in found]),
            }
            for kind, found in pairs.items()
        }
    return told


def pair_of(one: Result, other: Result) -> str | None:
    """What differs between two networks, where it is one thing."""
    a, b = one.unit, other.unit
    if (a.images, a.flips) != (b.images, b.flips) or "over" in (a.recipe, b.recipe):
        return None
    differs = [what for what in ("network", "recipe", "seed") if getattr(a, what) != getattr(b, what)]
    return (
        {"network": "architecture", "recipe": "recipe", "seed": "seed and images"}.get(differs[0])
        if len(differs) == 1
        else None
    )


def alike(one: Result, other: Result, score: str) -> tuple[float, float]:
    """Over the images that both saw under their true labels."""
    _, i, j = np.intersect1d(one.rows[~one.wrong], other.rows[~other.wrong], return_indices=True)
    a, b = one.score(score)[~one.wrong][i], other.score(score)[~other.wrong][j]
    first = max(1, len(a) // 100)
    top = set(np.argsort(-a)[:first].tolist()) & set(np.argsort(-b)[:first].tolist())
    return float(spearmanr(a, b).statistic), len(top) / first


def cleaning(results: list[Result]) -> dict[str, Any]:
    """Test accuracy of the cleaned head less that of doing nothing, by what was done."""
    gains: dict[str, list[float]] = {}
    for result in results:
        found = result.points[-1]["head cleaned"]
        for name, value in found.items():
            if name != "nothing":
                gains.setdefault(name, []).append(value - found["nothing"])
    return {name: interval(each) for name, each in gains.items()}


def draw(results: list[Result], path: Path) -> None:
    """Average precision against two quantities, a point a checkpoint, a line a run."""
    figure = Figure(figsize=(10.4, 4.4), layout="constrained")
    others = {"vgg19": ("D", SKY), "efficientnet": ("P", PINK)}
    marks = {"plain": ("o", BLUE), "elastic": ("^", GREEN), "over": ("s", VERMILLION), "paper": ("v", INK)}
    for ax, name in zip(figure.subplots(1, 2, sharey=True), (HELD_OUT, LEFT_OUT), strict=True):
        told: set[str] = set()
        for result in results:
            network, recipe = result.unit.network, result.unit.recipe
            mark, color = others.get(network) or marks[recipe]
            label = NETWORKS[network] if network in others else RECIPES[recipe]
            x = 1 - values([result], OBSERVED[name]) if name == HELD_OUT else values([result], OBSERVED[name])
            ax.plot(
                x, precision([result]), marker=mark, ms=5, lw=0.8, color=color, alpha=0.8,
                label=None if label in told else label,
            )  # fmt: skip
            told.add(label)
        ax.set_xlabel(name.removeprefix("1 − "))
        calm(ax, grid="both")
    figure.axes[0].set_ylabel("average precision, trimmed leave-one-out loss")
    figure.axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    units = chosen(read_units(), flips=FLIPPED, images=10_000, by_class=False)
    later = [r for r in units if r.unit.network != "resnet20" or (r.unit.recipe, r.unit.seed) not in SEEN]
    draw(units, given.folder / "cifar10_findings.png")
    counts = {label: sum(r.unit.network == key for r in units) for key, label in NETWORKS.items()}
    write_results(
        "cifar10_findings",
        {
            "networks": counts,
            "rules": rules(units),
            "rules, on networks that came later": rules(later),
            "agreement": agreement(units),
            "cleaning": cleaning(units),
        },
        seconds=time.perf_counter() - start,
        folder=given.folder,
    )
