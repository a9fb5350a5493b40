"""What does a product with the curvature cost?

The time of a Hessian- and a Gauss-Newton-vector product over that of one gradient of the same batch, and of a block of
16 right-hand sides over 16 single ones; alternating in one process.

    python benchmarks/curvature.py [--runs 7]
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from record import record, spread
from torch import nn
from torch.nn import functional

from assay.curvature.objective import BUDGET, NetworkObjective
from assay.curvature.output_loss import output_loss
from assay.curvature.parameters import choose
from assay.curvature.products import GaussNewton, Hessian
from assay.curvature.reading import Reading
from assay.models.resnet import resnet
from assay.sources.open_examples import open_examples

WANTED = 4.0, 0.6


def problem(name: str, budget: int = BUDGET) -> NetworkObjective:
    torch.manual_seed(0)
    if name.startswith("mlp"):
        net = nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 10))
        x = (4096 if name == "mlp" else 128, 64)
    elif name == "head":
        net, x = nn.Linear(64, 10), (50_000, 64)
    else:
        net, x = resnet(8, width=16), (512, 3, 32, 32)
    inputs, labels = torch.randn(x), torch.randint(0, 10, (x[0],))
    chosen = choose(net)
    reading = Reading(open_examples((inputs, labels)), next(net.parameters()).detach())
    return NetworkObjective(net, output_loss("softmax"), reading, chosen, chosen.coefficients(0.0), budget)


def gradient(objective: NetworkObjective) -> None:
    """A plain training step's forward and backward, in eval mode, nothing of ours."""
    batch = next(objective.reading.batches())
    objective.model.eval()
    objective.model.zero_grad()
    functional.cross_entropy(objective.model(batch.inputs), batch.targets).backward()


def seconds(run) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def times(name: str, runs: int) -> list[object]:
    objective = problem(name)
    V = torch.randn(16, objective.P, dtype=torch.float64)
    H, G = Hessian(objective), GaussNewton(objective)
    jobs = {
        "gradient": lambda: gradient(objective),
        "hvp": lambda: H(V[:1]),
        "ggn": lambda: G(V[:1]),
        "block": lambda: H(V),
        "singles": lambda: [H(V[k : k + 1]) for k in range(16)],
    }
    for job in jobs.values():
        job()
    found = {job: [] for job in jobs}
    for _ in range(runs):
        for job, run in jobs.items():
            found[job].append(seconds(run)[1])
    base = found["gradient"]
    ratio = {job: [a / b for a, b in zip(found[job], base, strict=True)] for job in jobs}
    block = [a / b for a, b in zip(found["block"], found["singles"], strict=True)]
    return [
        f"{name}, {len(objective.reading):,} samples, P = {objective.P:,}", f"{1e3 * median(base):.3g}",
        spread(ratio["hvp"]), spread(ratio["ggn"]), spread(block),
    ]  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    record(
        "Products with the curvature",
        "Over the time of one gradient of the same batch; a block of 16 vectors over 16 single ones. Wanted on MLP and "
        f"head: a Hessian-vector product ≤ {WANTED[0]:g}, a block ≤ {WANTED[1]:g}.",
        ["network", "gradient, CPU ms", "Hessian-vector", "Gauss-Newton-vector", "block of 16 / 16 single"],
        [times(name, given.runs) for name in ("mlp", "mlp, small", "head", "resnet")],
        ["CPU seconds, one thread, float32; a gradient is a plain forward and backward pass in torch."],
    )
