"""How fast are the scores of every sample, and how exact?

Self-influence of the last layer, n = 50,000, d = 64, C = 10, float32: the head's exact path, then `Dense`, `EKFAC`,
`WideHead` (and `CG` on the first 5,000) on the same arrays, each in a process of its own. Scores are compared with the
exact path's. With `--wide` the ImageNet-size head: 100,000 rows of float16 features on disk, d = 2,048, C = 1,000.

    python benchmarks/influence_speed.py [--wide] [--arrays speed.npz]

`--arrays` saves the arrays that the peers in benchmarks/peers/ read.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from exact_path import exact_path, rate
from exact_path import problem as head_problem
from record import record
from torch import nn

import assay

N, D, CLASSES, DAMPING = 50_000, 64, 10, 1e-4
METHODS = ("exact path", "Dense", "EKFAC", "WideHead", "CG, 5,000 rows")


def peak_kib() -> int:
    """Of this process alone; `ru_maxrss` starts with what the parent had."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def layer() -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    """The same features, labels and weights as the exact path's, as a layer."""
    X, y, family, V = head_problem(D)
    net = nn.Linear(D, CLASSES)
    full = family.basis @ V
    with torch.no_grad():
        net.weight.copy_(full[:, :D])
        net.bias.copy_(full[:, D])
    return net, X, y


def scores(method: str) -> torch.Tensor:
    net, X, y = layer()
    if method == "WideHead":
        return assay.WideHead(X.numpy(), y.numpy(), net.weight, net.bias, damping=DAMPING).self_influence()
    if method.startswith("CG"):
        return assay.Influence(
            net, "softmax", (X[:5000], y[:5000]), inverse=assay.CG(DAMPING, rtol=1e-3), check=0
        ).self_influence().cooks_distance  # fmt: skip
    inverse = {"Dense": assay.Dense(DAMPING), "EKFAC": assay.EKFAC(DAMPING)}[method]
    made = assay.Influence(net, "softmax", (X, y), inverse=inverse, curvature=assay.GaussNewton, check=0)
    return made.self_influence().cooks_distance


def alone(method: str, out: Path) -> None:
    """One method in this process: seconds, CPU seconds, memory over that of the arrays and imports."""
    torch.set_num_threads(1)
    before = peak_kib()
    data = head_problem(D)
    cpu, wall = time.process_time(), time.perf_counter()
    if method == "exact path":
        exact_path(*data)
    else:
        np.save(out, scores(method).numpy())
    print(json.dumps([
        time.perf_counter() - wall, time.process_time() - cpu,
        (peak_kib() - before) / 1024,
    ]))  # fmt: skip


def reference(n: int) -> np.ndarray:
    """`gᵀ(H + damping)⁻¹g` by the dense float64 Gauss-Newton matrix, formed from the features at once."""
    net, X, y = layer()
    h = torch.cat([X, torch.ones(len(X), 1)], 1)[:n].double()
    p = torch.softmax(h @ torch.cat([net.weight, net.bias[:, None]], 1).double().T, 1).detach()
    d = h.shape[1]
    H = torch.zeros(CLASSES, d, CLASSES, d, dtype=torch.float64)
    for a in range(CLASSES):
        for b in range(CLASSES):
            s = p[:, a] * (float(a == b) - p[:, b])
            H[a, :, b] = (h * s[:, None]).T @ h / n
    A = H.reshape(CLASSES * d, -1) + DAMPING * torch.eye(CLASSES * d)
    r = p.clone()
    r[torch.arange(n), y[:n]] -= 1
    L = torch.linalg.cholesky(A)
    out = [torch.linalg.solve_triangular(L, (rr[:, :, None] * hh[:, None]).flatten(1).T, upper=False).square().sum(0)
           for rr, hh in zip(r.split(2048), h.split(2048), strict=True)]  # fmt: skip
    return torch.cat(out).numpy()


def compared(found: np.ndarray, exact: np.ndarray) -> tuple[float, float, float]:
    """Median relative error, the same in the top tenth, best-fit scale."""
    error, top = np.abs(found - exact) / exact, exact >= np.quantile(exact, 0.9)
    return float(np.median(error)), float(np.median(error[top])), float(found @ exact / (exact @ exact))


def last_layer() -> tuple[list[list[object]], list[str]]:
    rows: list[list[object]] = []
    base = 1.0
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            out = Path(folder) / "scores.npy"
            done = subprocess.run(
                [sys.executable, __file__, "--alone", method, "--out", str(out)],
                capture_output=True,
                text=True,
                check=True,
            )
            wall, cpu, memory = json.loads(done.stdout.splitlines()[-1])
            if method == METHODS[0]:
                base, said = cpu, ["exact"] * 3
            else:
                found = np.load(out)
                said = [f"{value:.3g}" for value in compared(found, reference(len(found)))]
            rows.append([method, f"{wall:.3g}", f"{cpu:.3g}", f"{cpu / base:.3g}", f"{memory:,.0f}", *said])
    return rows, [
        "One thread. Memory is over that of Python, torch and imports; scores against the dense float64 matrix."
    ]


def wide(n: int = 100_000, d: int = 2048, classes: int = 1000) -> list[str]:
    """The ImageNet-size head, features in float16 on disk."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.npy"
        features = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=(n, d))
        for start in range(0, n, 10_000):
            features[start : start + 10_000] = rng.random((min(10_000, n - start), d), dtype=np.float32)
        features.flush()
        del features
        weight = torch.from_numpy(rng.normal(size=(classes, d)).astype(np.float32)) * 0.1
        labels = rng.integers(0, classes, n)
        speed = rate(torch.float32)
        head = assay.WideHead(np.load(file, mmap_mode="r"), labels, weight, torch.zeros(classes), damping=1e-4)
        before = peak_kib()
        cpu, wall = time.process_time(), time.perf_counter()
        head.self_influence()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        peak = (peak_kib() - before) / 1024
    return [
        f"WideHead, n = {n:,} rows of float16 on disk, d = {d:,}, C = {classes:,}: {wall:.0f} s ({cpu:.0f} CPU s), "
        f"{peak:,.0f} MiB more than before, {head.flops() / speed / cpu:.0%} of it the floor of its matrix products at "
        f"{speed / 1e9:.0f} Gflop/s in float32; linearly, n = 1.28 M takes {wall * 1.28e6 / n / 60:.0f} minutes."
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--arrays")
    parser.add_argument("--alone")
    parser.add_argument("--out")
    given = parser.parse_args()
    if given.alone:
        alone(given.alone, Path(given.out))
        raise SystemExit
    if given.arrays:
        net, X, y = layer()
        arrays = {"X": X, "y": y, "weight": net.weight.detach(), "bias": net.bias.detach()}
        np.savez(given.arrays, damping=DAMPING, reference=reference(N), reference5000=reference(5000), **arrays)
        raise SystemExit
    rows, notes = last_layer()
    notes += wide() if given.wide else []
    record(
        "Self-influence of every sample of a last layer",
        "n = 50,000, d = 64, C = 10, damping 1e-4, on the same arrays; the exact path includes leave-one-out. Peers "
        "are run by the scripts in benchmarks/peers/, in their own environments.",
        ["method", "s", "CPU s", "CPU over exact path", "MiB", "median error", "in the top tenth", "scale"],
        rows,
        notes,
    )
