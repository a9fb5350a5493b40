"""What memory does a product with the curvature take?

The peak of a Hessian-vector product of 512 images over that of a training step, each in a process of its own, and
within byte budgets.

    python benchmarks/curvature_memory.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import torch
from record import record

from assay.curvature.objective import BUDGET, NetworkObjective
from assay.curvature.products import Hessian
from curvature import gradient, problem


def peak(what: str, budget: int, environment: dict[str, str]) -> float:
    """MiB above what stood before, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--peak", what, "--budget", str(budget)],
        capture_output=True, text=True, check=True, env={**os.environ, **environment},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def measure_peak(what: str, budget: int) -> None:
    objective = problem("resnet", budget)
    V = torch.randn(1, objective.P, dtype=torch.float64)
    small = problem("resnet", budget)
    small = NetworkObjective(small.model, small.loss, small.reading.sampled(2, 0), small.parameters, small.l2, budget)
    Hessian(small)(V)  # libraries and their workspaces are there
    _ = objective.activation_bytes, objective.total_weight
    _reset_peak()
    before = _status("VmRSS")
    gradient(objective) if what == "step" else Hessian(objective)(V)
    print(json.dumps((_status("VmHWM") - before) / 1024))


def main() -> None:
    rows: list[list[object]] = []
    for name, environment in (("as it comes", {}), ("freed memory given back", {"MALLOC_MMAP_THRESHOLD_": "65536"})):
        step, whole = peak("step", BUDGET, environment), peak("hvp", 2**40, environment)
        within = [f"{peak('hvp', budget * 2**20, environment):,.0f}" for budget in (64, 512)]
        rows.append([name, f"{step:,.0f}", f"{whole:,.0f}", f"{whole / step:.2f}", *within])
    record(
        "Memory of a product with the curvature",
        "Peak MiB over what stood before, ResNet-8 of width 16, 512 images: a plain training step, one Hessian-vector "
        "product unchunked (wanted: ≤ 2.5 times the step), and the same within budgets of 64 and 512 MiB.",
        ["the C library's allocator", "training step", "product", "ratio", "within 64", "within 512"],
        rows,
        [
            "Freed memory that the C library holds back counts in the first row; in the second "
            "MALLOC_MMAP_THRESHOLD_=65536 has it given back."
        ],
    )


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--peak")
    parser.add_argument("--budget", type=int, default=BUDGET)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peak:
        measure_peak(given.peak, given.budget)
    else:
        main()
