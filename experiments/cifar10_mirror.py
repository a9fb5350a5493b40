"""Over-trained networks know their images by heart, but not the mirror images: what is found there.

    python experiments/cifar10_mirror.py --work ../cifar10-work     # from checkpoints of cifar10.py, training nothing

ResNet-20 at 5 % flips. The over-trained ones never saw a mirror image, the others did. At every checkpoint: how much
oftener the network agrees with the labels on its images than on their mirror images, and the average precision of the
leave-one-out loss of the trimmed head fitted to the embeddings of the images, of both, of the mirror images only.
Writes results/cifar10_mirror.json and .png.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from cifar10 import checkpoint, draw
from cifar10_results import UNITS, Result, interval, read_units
from cifar10_scores import BOTH, SUSPECT, measured, right, trimmed_loss
from common import RESULTS, write_results
from matplotlib.figure import Figure
from scipy.stats import spearmanr

import assay
from assay.canvas import BLUE, GREEN, INK, MUTED, VERMILLION, calm
from assay.datasets.cifar10 import Cifar10, cifar10

ONLY = "trimmed leave-one-out loss, mirrored only"
COOK = "trained Cook's distance"
LINES = {COOK: (INK, ":"), SUSPECT: (VERMILLION, "-"), BOTH: (BLUE, "-"), ONLY: (GREEN, "-")}


def looked_at(result: Result, work: Path, data: Cifar10) -> list[dict[str, Any]]:
    """What each checkpoint is like: all of an over-trained network, the last of another."""
    unit, told = result.unit, list[dict[str, Any]]()
    drawn = draw(unit, data)
    for point in result.points if unit.recipe == "over" else result.points[-1:]:
        seen = checkpoint(unit, work / unit.name, data, drawn, point["epoch"], "cpu")
        H = torch.from_numpy(seen.mirrored).double()
        head = assay.Head.fit(H, drawn.labels, family="softmax")
        score = trimmed_loss(head, head.leverage(H, drawn.labels))
        found = {name: point["found"][name]["average precision"] for name in (COOK, SUSPECT, BOTH)}
        agrees = [right(rows, seen.W, seen.b, drawn.labels) for rows in (seen.H, seen.mirrored)]
        told.append({
            "epoch": point["epoch"], "agrees with its labels": agrees[0], "of mirror images": agrees[1],
            "average precision": {**found, ONLY: measured(score, result.wrong)["average precision"]},
        })  # fmt: skip
        print(unit.name, told[-1], flush=True)
    return told


def summary(found: dict[str, list[dict[str, Any]]], results: list[Result]) -> dict[str, Any]:
    """At the last checkpoints, by recipe; and how the gap ranks what mirror images alone add."""
    told: dict[str, Any] = {}
    for recipe in dict.fromkeys(result.unit.recipe for result in results):
        last = [found[r.unit.name][-1] for r in results if r.unit.recipe == recipe]
        told[recipe] = {name: interval([point["average precision"][name] for point in last]) for name in LINES}
        told[recipe]["gap"] = interval([gap(point) for point in last])
    points = [point for each in found.values() for point in each]
    told["rank correlation of the gap with what mirror images alone add"] = float(
        spearmanr([gap(p) for p in points], [added(p) for p in points]).statistic
    )
    return told


def added(point: dict[str, Any]) -> float:
    return point["average precision"][ONLY] - point["average precision"][SUSPECT]


def gap(point: dict[str, Any]) -> float:
    return point["agrees with its labels"] - point["of mirror images"]


def draw_lines(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Left: through the training of the over-trained; right: what another view adds, against the gap."""
    figure = Figure(figsize=(10.4, 4.2), layout="constrained")
    left, right_ax = figure.subplots(1, 2)
    for k, points in enumerate(each for each in found.values() if len(each) > 1):
        for name, (color, style) in LINES.items():
            values = [point["average precision"][name] for point in points]
            left.plot([p["epoch"] for p in points], values, color=color, ls=style, label=None if k else name)
    for points in found.values():
        color = VERMILLION if len(points) > 1 else BLUE
        right_ax.plot([gap(p) for p in points], [added(p) for p in points], "o", color=color, ms=5)
    right_ax.axhline(0, color=MUTED, lw=1, ls=":")
    left.set(xlabel="epoch of over-training", ylabel="average precision")
    right_ax.set(xlabel="agreement with labels: of images less of mirror images", ylabel="gained by mirror images only")
    left.legend(frameon=False, fontsize=8)
    for ax in (left, right_ax):
        calm(ax, grid="both")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("cifar10-work"))
    parser.add_argument("--data", type=Path, default=None, help="CIFAR-10, where ASSAY_DATA does not say it")
    parser.add_argument("--folder", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    torch.set_num_threads(1)
    cifar = cifar10(given.data, cache=given.work)
    there = [
        r for r in read_units(UNITS)
        if (r.unit.network, r.unit.flips, r.unit.by_class, r.unit.images) == ("resnet20", 0.05, False, 10_000)
        and (given.work / r.unit.name / f"epoch-{r.unit.epochs:05d}.safetensors").exists()
    ]  # fmt: skip
    seen = {result.unit.name: looked_at(result, given.work, cifar) for result in there}
    draw_lines(seen, given.folder / "cifar10_mirror.png")
    write_results("cifar10_mirror", {"networks": seen, **summary(seen, there)},
                  seconds=time.perf_counter() - start, folder=given.folder)  # fmt: skip
