"""What do the scores of every image through a whole network cost, and how exact are they?

Self-influence through all 269,722 parameters of a trained ResNet-20, by `EKFAC` (curvature of all images, one random
direction an image) and by `Arnoldi` (curvature of a few images). Exact scores are out of reach for all of them, so the
errors are of curvature summed over `--few` images: both inverses against conjugate gradients on that same operator, at
two dampings (factors and eigenvectors do not depend on it).

    python benchmarks/whole_network.py --weights resnet20.safetensors [--data cifar10.parquet] [--images 5000]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from record import record
from safetensors.torch import load_file
from torch import Tensor, nn

import assay
from assay.curvature.cg import CG, CGInverse
from assay.curvature.gradients import sampled_gradients
from assay.curvature.stated_error import StatedError
from assay.datasets.cifar10 import cifar10
from assay.models.augment import normalise
from assay.models.resnet import resnet

DAMPING, MORE = 1e-2, 1.0


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and its CPU seconds."""
    start = time.process_time()
    found = run()
    return found, time.process_time() - start


def made(net: nn.Module, x: Tensor, y: Tensor, inverse: Any, few: int | None = None) -> assay.Influence:
    return assay.Influence(
        net, "softmax", (x, y), inverse=inverse, curvature=assay.GaussNewton, sample=few, check=0
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--few", type=int, default=100)
    parser.add_argument("--checked", type=int, default=4)
    parser.add_argument("--rank", type=int, default=20)
    given = parser.parse_args()
    if given.weights is None:
        print("a trained network is needed: --weights, as experiments/cifar10.py leaves them")
        raise SystemExit
    torch.set_num_threads(1)
    net = resnet(20)
    net.load_state_dict(load_file(given.weights))
    data = cifar10(given.data, cache=given.cache)
    x = normalise(torch.from_numpy(data.images[: given.images]))
    y = torch.from_numpy(data.labels[: given.images])
    few, arnoldi = given.few, assay.Arnoldi(given.rank, DAMPING, tol=1e-2)

    layered = made(net, x, y, assay.EKFAC(DAMPING, draws=1))
    _, factors = timed(lambda: layered.inverted)
    scores, scoring = timed(lambda: layered.self_influence().cooks_distance)
    print(f"EKFAC: {factors:.0f} + {scoring:.0f} CPU s", flush=True)
    low = made(net, x, y, arnoldi, few)
    _, iterations = timed(lambda: low.inverted)
    other, forming = timed(lambda: low.self_influence().cooks_distance)
    print(f"Arnoldi: {iterations:.0f} + {forming:.0f} CPU s", flush=True)
    checked = made(net, x, y, assay.EKFAC(DAMPING), few)
    sampled = made(net, x, y, assay.EKFAC(DAMPING, draws=1), few)
    G = sampled_gradients(checked.curvature.objective, given.checked, 0)
    rows: list[list[object]] = []
    notes: list[str] = []
    for damping in (DAMPING, MORE):
        ekfac, drawn, lanczos = (replace(each.inverted, damping=damping) for each in (checked, sampled, low))
        solver = CGInverse(CG(damping, rtol=1e-2, max_iterations=100), checked.curvature, ekfac)
        tight, exactly = timed(lambda solver=solver: solver.quadratic(G))
        used, residual = int(tight.iterations.max()), float(tight.residual.max())
        print(f"CG: {exactly:.0f} CPU s, {used} iterations, residual {residual:.0e}", flush=True)
        notes.append(
            f"Damping {damping:g}: {given.checked} images by conjugate gradients on the curvature of {few} images took "
            f"{exactly:.0f} CPU s ({used} iterations, preconditioned by EKFAC, residual {residual:.0e}); on that of "
            f"all {len(x):,} they would take {len(x) / few:.0f} times as long."
        )
        for name, inverse in (
            ("EKFAC, 10 outputs exactly", ekfac),
            ("EKFAC, one direction an image", drawn),
            (f"Arnoldi, rank {given.rank}", lanczos),
        ):
            e = StatedError.between(inverse.quadratic(G).value, tight.value, residual, "")
            rows.append([name, damping, f"{e.median:.1%}", f"{e.p95:.1%}", f"{e.rank_correlation:.3f}", e.scale])
    both = torch.stack([scores.argsort().argsort().double(), other.argsort().argsort().double()])
    notes += [
        f"All {len(x):,} scores by EKFAC (one direction an image, curvature of all): {factors:.0f} CPU s for its "
        f"factors and eigenvalues, {scoring:.0f} for the scores; by Arnoldi (curvature of {few} images): "
        f"{iterations:.0f} and {forming:.0f}. Rank correlation of the two lists {torch.corrcoef(both)[0, 1]:.3f}.",
    ]
    record(
        "Self-influence through a whole ResNet-20",
        f"{layered.objective.P:,} parameters (BatchNorm's too), {len(x):,} images of CIFAR-10, Gauss-Newton matrix, "
        f"float32, one thread. Errors are of {given.checked} images, curvature of {few}.",
        ["method", "damping", "median error", "95 %", "rank correlation", "scale"],
        rows,
        notes,
    )
