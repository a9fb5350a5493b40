"""Is a table of 94 million points audited in bounded memory, and in time linear in its rows?

The published ACAS Xu networks' advisories on a grid, made as they are read; a 6 × 64 surrogate, its own head kept
(`refit=False`), its embedding computed anew on every pass. Each size in its own process; goes on where it was stopped.

    python benchmarks/acas_scale.py --nets ../shared/data/acasxu --work /tmp/acas-scale [--sizes 15x1 17x9 156x9]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from record import record

import assay
from assay.datasets.acas import FINE_RHO, Labeller, acasxu_encounters
from assay.datasets.acasxu import read_networks
from assay.datasets.encounters import Encounters, stored_labels
from assay.engine import atomic
from assay.models.schedules import one_cycle
from assay.models.surrogate import surrogate
from assay.models.training import Training, train

P = 4 * 65  # parameters of the head in contrasts


def table(nets: Path, work: Path, pairs: int, taus: int) -> Encounters:
    """The first pairs of speeds and τ of the fine grid, a byte a label kept on disk."""
    networks = read_networks(nets)
    whole = acasxu_encounters(networks, rho=FINE_RHO)
    grid = replace(whole.grid, pairs=whole.grid.pairs[:pairs], tau=whole.grid.tau[:taus])
    label = Labeller(networks, grid)
    found = replace(whole, grid=grid, label=label, held_out=0.2)
    path = work / f"{pairs}x{taus}-{label.digest[:12]}.labels"
    if not path.exists():
        start, block = time.process_time(), 1 << 20
        with atomic(path) as temporary, temporary.open("wb") as file:
            for a in range(0, len(found), block):
                file.write(label(a, min(a + block, len(found))).astype(np.uint8).tobytes())
        print(f"labels: {time.process_time() - start:.0f} CPU seconds", file=sys.stderr)
    return replace(found, label=stored_labels(path, len(found)))


def network(found: Encounters, work: Path) -> torch.nn.Module:
    """Trained for a little while on a million points drawn evenly: the audit takes as long whatever it has learned."""
    grid = found.grid
    speeds = np.array(grid.pairs)
    sides = (grid.rho, grid.theta, grid.psi, speeds[:, 0], speeds[:, 1], grid.tau)
    ranges = [(float(min(side)), float(max(max(side), min(side) + 1))) for side in sides]
    torch.manual_seed(0)
    net = surrogate(ranges, 5)
    rows = np.sort(np.random.default_rng(0).choice(len(found), min(len(found), 1_000_000), replace=False))
    starts = rows[: len(rows) // 1000 * 1000].reshape(-1, 1000)[:, 0]
    parts = [next(found.batches(1000, start=int(start), stop=int(start) + 1000)) for start in starts]
    x, y = torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])
    train(net, x, y, Training(6, lr=5e-3, batch_size=4096, schedule=one_cycle(0.2)), folder=work / f"net-{len(found)}")
    return net


def audit(nets: Path, work: Path, pairs: int, taus: int) -> None:
    """In its own process: prints rows, seconds and peak memory."""
    found = table(nets, work, pairs, taus)
    net = network(found, work)
    start, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", assay.AssayWarning)
        result = assay.audit(
            found, model=net, refit=False, damping=1e-4, out=work / f"audit-{pairs}x{taus}", overwrite=True,
            encoding=assay.Encoding(keep="recompute"),
        )  # fmt: skip
    told = {
        "rows": len(found),
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "trust": result.trust.verdict,
        "disk": sum(path.stat().st_size for path in result.path.rglob("*") if path.is_file()) / 2**20,
    }
    print(json.dumps(told))


def rate() -> float:
    """Multiply-adds a second of a float64 product on one core."""
    torch.set_num_threads(1)
    a = torch.rand(1024, 1024, dtype=torch.float64)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        _ = a @ a
        times.append(time.perf_counter() - start)
    return 1024**3 / sorted(times)[2]


def measure(options: argparse.Namespace, size: str, flops: float) -> list[object]:
    command = [sys.executable, __file__, "--nets", options.nets, "--work", options.work, "--audit", size]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    floor = told["rows"] * 3 * P**2 / 2 / flops  # two curvatures and the blocks, n P²/2 multiply-adds each
    seconds, cpu = told["seconds"], told["cpu"]
    return [
        f"{told['rows']:,}", seconds, cpu, f"{told['rows'] / seconds:,.0f}", cpu / floor, told["peak"], told["disk"],
        told["trust"],
    ]  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--nets", default="acasxu")
    parser.add_argument("--work", default="acas-scale")
    parser.add_argument("--sizes", nargs="+", default=["15x1", "17x9", "156x9"])
    parser.add_argument("--audit")
    options = parser.parse_args()
    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    if options.audit:
        audit(Path(options.nets), work, *map(int, options.audit.split("x")))
    else:
        flops = rate()
        rows = [measure(options, size, flops) for size in options.sizes]
        record(
            "A table of 94 million points",
            "`assay.audit` of the ACAS Xu table made as it is read, d = 65, C = 5, head kept. Wanted: peak ≤ 3 GiB "
            "(3,072 MiB), time linear in the rows.",
            ["rows", "seconds", "CPU seconds", "rows a second", "CPU over the floor", "peak MiB", "disk MiB", "trust"],
            rows,
            [
                f"Floor: three products of n P²/2 multiply-adds at {flops / 1e9:.0f} G a second, as one core does in "
                "float64, P = 260.",
                "Peak includes Python, torch and Arrow; labels (a byte a row) are memory-mapped.",
            ],
        )
