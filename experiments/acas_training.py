"""How well small networks learn the collision-avoidance tables: three recipes, their learning curves.

    python experiments/acas_training.py --nets ../shared/data/acasxu            # about half an hour of CPU
    python experiments/acas_training.py --nets ../shared/data/acasxu --only paper

`hcas`: twelve pairs of speeds, 5.2 million points. `acasxu`: the published networks' advisories at nine pairs of
speeds, 3 million points. `paper`: the paper's own recipe (mini-batches of 8,096, 200 epochs, constant rate) on 221,892
points of the latter table at τ = 0. A fifth is held out. Goes on where it was stopped; writes
results/acas_training.json and .png, in which recipes that were not asked for stay as they were.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, write_results
from matplotlib.figure import Figure

from assay.canvas import BLUE, VERMILLION, calm
from assay.datasets.acas import ACAS_RHO, Labeller, acasxu_encounters, hcas_encounters
from assay.datasets.acasxu import read_networks
from assay.datasets.encounters import COLUMNS, Encounters
from assay.models.schedules import one_cycle
from assay.models.surrogate import surrogate
from assay.models.training import Training, train

SPEEDS = (200.0, 600.0, 1000.0)
PAIRS = tuple((own, other) for own in (200.0, 500.0, 800.0, 1100.0) for other in SPEEDS)
RECIPES = {
    "hcas": (64, Training(30, lr=5e-3, batch_size=2048, schedule=one_cycle(0.2))),
    "acasxu": (96, Training(30, lr=5e-3, batch_size=2048, schedule=one_cycle(0.2))),
    "paper": (64, Training(200, lr=1e-3, batch_size=8096)),
}
SHOWN = 200_000  # points on which accuracy is told after every epoch


def table_of(name: str, nets: Path, work: Path) -> Encounters:
    if name == "hcas":
        return hcas_encounters(work / "labels", pairs=PAIRS, held_out=0.2)
    networks = read_networks(nets)
    if name == "acasxu":
        return acasxu_encounters(networks, own=SPEEDS, intruder=SPEEDS, held_out=0.2)
    found = acasxu_encounters(networks, rho=ACAS_RHO, steps=41, own=(200.0, 1000.0), intruder=(200.0, 600.0, 1000.0))
    grid = replace(found.grid, tau=(0,))
    return replace(found, grid=grid, label=Labeller(networks, grid), held_out=0.2)


def learn(name: str, nets: Path, work: Path) -> dict[str, Any]:
    table = table_of(name, nets, work)
    batch = next(table.batches(len(table)))
    seen = batch.w > 0
    x, y, vx, vy = batch.x[seen], batch.y[seen], batch.x[~seen], batch.y[~seen]
    ranges = [(float(c.min()), float(max(c.max(), c.min() + 1))) for c in batch.x.T]
    torch.manual_seed(0)
    width, settings = RECIPES[name]
    net = surrogate(ranges, 5, width=width, columns=COLUMNS)
    curve = work / f"{name}.jsonl"
    start, cpu = time.perf_counter(), time.process_time()

    def told() -> None:
        net.eval()
        point = {"trained on": accuracy(net, x[:SHOWN], y[:SHOWN]), "held out": accuracy(net, vx[:SHOWN], vy[:SHOWN])}
        with curve.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**point, "seconds": round(time.perf_counter() - start, 1)}) + "\n")

    train(net, x, y, settings, folder=work / name, advance=told)
    points = [json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines()] if curve.exists() else []
    return {
        "command": " ".join(["python", *sys.argv]),
        "points": len(table), "width": width, "epochs": settings.epochs, "batch": settings.batch_size,
        "lr": settings.lr, "trained on": accuracy(net, x, y), "held out": accuracy(net, vx, vy),
        "CPU seconds": round(time.process_time() - cpu, 1), "curve": points[-settings.epochs :],
    }  # fmt: skip


def accuracy(net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    with torch.inference_mode():
        right = sum(int((net(a).argmax(1) == b).sum()) for a, b in zip(x.split(65_536), y.split(65_536), strict=True))
    return right / len(y)


def known(path: Path) -> dict[str, Any]:
    """What an earlier call found, by recipe."""
    return json.loads(path.read_text(encoding="utf-8"))["recipes"] if path.exists() else {}


def draw(found: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(4.2 * len(found), 3.6), layout="constrained")
    for ax, (name, result) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        for what, color in (("trained on", BLUE), ("held out", VERMILLION)):
            ax.plot([100 * (1 - point[what]) for point in result["curve"]], color=color, lw=1.6, label=what)
        ax.set(
            yscale="log",
            xlabel="epoch",
            ylabel="wrong among the first 200,000, %",
            title=f"{name}: {result['points']:,} points",
        )
        ax.legend(frameon=False)
        calm(ax, grid="both")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", type=Path, default=Path("acasxu"))
    parser.add_argument("--only", choices=tuple(RECIPES), nargs="+", default=list(RECIPES))
    parser.add_argument("--work", type=Path, default=Path("fig3-work"))
    parser.add_argument("--folder", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    results = {name: learn(name, given.nets, given.work) for name in given.only}
    merged = {**known(given.folder / "acas_training.json"), **results}
    every = {name: merged[name] for name in RECIPES if name in merged}
    draw(every, given.folder / "acas_training.png")
    write_results("acas_training", {"recipes": every}, seconds=time.perf_counter() - begin, folder=given.folder)
    for recipe, told_of in results.items():
        print(recipe, {key: value for key, value in told_of.items() if key != "curve"})
