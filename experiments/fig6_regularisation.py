"""Fig. 6 of Picard et al.: elastic net on the head helps, training on after the labels are known by heart blinds.

    python experiments/fig6_regularisation.py --scale cpu --jobs 2 --work ../cifar10-work
    python experiments/fig6_regularisation.py --drawn        # from the units that are there, training nothing

ResNet-20, 5 % of the labels flipped. Writes results/fig6_regularisation.json and .png (ROC curves), and
fig6_collapse.png: through training, the loss, errors, the head's norm, neural collapse, and what the scores find.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from cifar10 import run_plan
from cifar10_results import IMAGES, Result, chosen, difference, figure_arguments, interval, read_units
from common import write_results
from fig5_cifar10 import SCORES, WHAT, curves
from matplotlib.figure import Figure

from assay.canvas import BLUE, GREEN, INK, MUTED, VERMILLION, calm

RECIPES = {"plain": ("one cycle", BLUE), "elastic": ("with L1L2", GREEN), "over": ("over-trained", VERMILLION)}
PANELS = (
    ("loss", "mean loss as trained", True), ("error", "wrong as labelled", False),
    ("spectral norm", "‖W‖ of the head", True),
    ("NC1", "NC1: within over between classes", True), ("NC2", "NC2: distance to the simplex", True),
    ("found", "average precision", False),
)  # fmt: skip


def draw_curves(results: list[Result], path: Path) -> None:
    figure = Figure(figsize=(4.1 * len(SCORES), 3.8), layout="constrained")
    for ax, name in zip(figure.subplots(1, len(SCORES), sharey=True), SCORES, strict=True):
        for recipe, (label, color) in RECIPES.items():
            curves(ax, chosen(results, recipe=recipe), name, label, color)
        ax.plot([0, 1], [0, 1], ":", color=MUTED, lw=1.2)
        ax.set_title(name, fontsize=10, color=INK)
        ax.set(xlabel="right labels flagged", ylabel="wrong labels flagged", xlim=(0, 1), ylim=(0, 1.02))
        ax.legend(frameon=False, loc="lower right", fontsize=8)
        calm(ax, grid="both")
    figure.savefig(path, dpi=120)


def draw_collapse(results: list[Result], path: Path) -> None:
    """Why over-training blinds: one line a model."""
    figure = Figure(figsize=(12.6, 6.4), layout="constrained")
    for ax, (what, label, log) in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        for recipe, (told, color) in RECIPES.items():
            for k, result in enumerate(chosen(results, recipe=recipe)):
                epochs = [point["epoch"] for point in result.points]
                for name, style in (("trimmed leave-one-out loss", "-"), ("refit Cook's distance", "--")):
                    values = [value_of(point, what, name) for point in result.points]
                    if what == "found" or style == "-":
                        named = f"{told}{', ' + name if what == 'found' else ''}" if not k else None
                        ax.plot(epochs, values, style, color=color, lw=1.4, marker="o", ms=2.5, label=named)
        ax.set(xlabel="epoch", ylabel=label, yscale="log" if log else "linear")
        ax.legend(frameon=False, fontsize=7)
        calm(ax, grid="both")
    figure.savefig(path, dpi=120)


def value_of(point: dict[str, Any], what: str, name: str) -> float:
    if what == "error":
        return 1 - point["accuracy"]["trained on, as labelled"]
    return point["found"][name]["average precision"] if what == "found" else point[what]


def measure(results: list[Result]) -> dict[str, Any]:
    """Every score by recipe, and the two claims as differences on the same images and flips."""
    plain = chosen(results, recipe="plain")
    found: dict[str, Any] = {
        recipe: {
            "test accuracy": interval([r.points[-1]["accuracy"]["test"] for r in here]),
            **{name: {what: interval([r.last(name, what) for r in here]) for what in WHAT} for name in SCORES},
        }
        for recipe in RECIPES if (here := chosen(results, recipe=recipe))
    }  # fmt: skip
    for recipe in ("elastic", "over"):
        other = chosen(results, recipe=recipe)
        found[f"{recipe} minus plain"] = {
            name: {what: difference(other, plain, name, what) for what in WHAT[:2]} for name in SCORES
        }
    return found


if __name__ == "__main__":
    given = figure_arguments(__doc__ or "")
    start = time.perf_counter()
    if not given.drawn:
        run_plan(given.scale, given.work, given.data, given.units, jobs=given.jobs, only="resnet20-")
    units = chosen(read_units(given.units), network="resnet20", images=IMAGES[given.scale], flips=0.05, by_class=False)
    draw_curves(units, given.folder / "fig6_regularisation.png")
    draw_collapse(units, given.folder / "fig6_collapse.png")
    write_results("fig6_regularisation", {"scale": given.scale, **measure(units)},
                  seconds=time.perf_counter() - start, folder=given.folder)  # fmt: skip
