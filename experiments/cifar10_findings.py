"""What the networks of cifar10.py say of the questions that the paper leaves open.

    python experiments/cifar10_findings.py            # from the units that are there, training nothing

- Has a network been trained right for influence? Quantities that can be told without knowing the flips, each as a rule
  "accept where it is below a threshold": the threshold is chosen on the runs of seed 0, the rule judged on all others.
  A checkpoint is right where `mislabeled_score` finds nine tenths or more of what it finds at the best of its run.
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
from cifar10_results import NETWORKS, Result, interval, read_units
from common import RESULTS, write_results
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from assay.canvas import BLUE, INK, MUTED, VERMILLION, calm

SCORE = "trimmed leave-one-out loss"
ENOUGH = 0.9  # of the best checkpoint's average precision
FLIPPED = 0.05

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
    "leave-one-out accuracy": lambda p: p["accuracy"]["leave-one-out"],
    "1 − held-out accuracy, head refitted": lambda p: 1 - p["accuracy"]["validation, refit"],
    "1 − planted recall": lambda p: 1 - p["planted recall"],
    "−effective parameters": lambda p: -p["effective parameters"],
    "leave-one-out loss": lambda p: p["leave-one-out loss"],
}


def rules(results: list[Result]) -> dict[str, Any]:
    """For each observed quantity its threshold on seed 0, how often it is right on the others, and AUROC there."""
    fitted = [r for r in results if r.unit.seed == 0]
    others = [r for r in results if r.unit.seed != 0]
    told: dict[str, Any] = {"checkpoints": [len(judged(fitted)[1]), len(judged(others)[1])]}
    for name, value in OBSERVED.items():
        x, right = values(fitted, value), judged(fitted)[1]
        threshold = max(cuts(x), key=lambda t: balanced(x <= t, right))
        told[name] = {"threshold": float(threshold), "chosen on": balanced(x <= threshold, right)}
        if others:
            x, right = values(others, value), judged(others)[1]
            told[name]["others"] = balanced(x <= threshold, right)
            if right.any() and not right.all():
                told[name]["AUROC, others"] = float(roc_auc_score(right, -x))
    return told


def cuts(x: np.ndarray) -> np.ndarray:
    """Half way between neighbouring values."""
    ordered = np.unique(x)
    return (ordered[1:] + ordered[:-1]) / 2 if len(ordered) > 1 else ordered


def values(results: list[Result], value: Callable[[Point], float]) -> np.ndarray:
    return np.array([value(point) for result in results for point in result.points])


def judged(results: list[Result]) -> tuple[np.ndarray, np.ndarray]:
    """Every checkpoint's average precision over the best of its run, and whether that is enough."""
    share: list[float] = []
    for result in results:
        found = np.array([point["found"][SCORE]["average precision"] for point in result.points])
        share += (found / found.max()).tolist()
    return np.array(share), np.array(share) >= ENOUGH


def balanced(accepted: np.ndarray, right: np.ndarray) -> float:
    """Mean of the shares of right ones accepted and of wrong ones refused."""
    if right.all() or not right.any():
        return float((accepted == right).mean())
    return float((accepted[right].mean() + (~accepted[~right]).mean()) / 2)


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
    """The share of the best average precision against the two gaps in accuracy, a point a checkpoint."""
    figure = Figure(figsize=(10.4, 4.2), layout="constrained")
    marks = {"plain": ("o", BLUE), "elastic": ("^", MUTED), "over": ("s", VERMILLION)}
    for ax, name in zip(figure.subplots(1, 2, sharey=True), list(OBSERVED)[:2], strict=True):
        for recipe, (mark, color) in marks.items():
            here = [r for r in results if r.unit.recipe == recipe]
            if here:
                x, y = values(here, OBSERVED[name]), judged(here)[0]
                kinds = len({r.unit.network for r in here})
                label = f"{recipe} ({len(here)} runs, {kinds} network{'s' * (kinds > 1)})"
                ax.scatter(x, y, marker=mark, s=26, color=color, alpha=0.75, lw=0, label=label)
        ax.axhline(ENOUGH, color=MUTED, lw=1, ls=":")
        ax.axvline(rules(results)[name]["threshold"], color=INK, lw=1, ls="--")
        ax.set(xlabel=name, ylabel="average precision over the best of the run" if name == next(iter(OBSERVED)) else "")
        ax.legend(frameon=False, fontsize=8, loc="lower left")
        calm(ax, grid="both")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=RESULTS)
    given = parser.parse_args()
    start = time.perf_counter()
    units = [r for r in read_units() if r.unit.flips == FLIPPED and r.unit.images == 10_000]
    draw(units, given.folder / "cifar10_findings.png")
    counts = {label: sum(r.unit.network == key for r in units) for key, label in NETWORKS.items()}
    write_results(
        "cifar10_findings",
        {"networks": counts, "rules": rules(units), "agreement": agreement(units), "cleaning": cleaning(units)},
        seconds=time.perf_counter() - start,
        folder=given.folder,
    )
