"""The reason a surrogate exists: bytes and look-ups a second of a table and of its network.

python benchmarks/acas_lookup.py [--labels FOLDER]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from record import record

from assay.datasets.acas import PAIRS, hcas_encounters
from assay.datasets.encounters import Encounters
from assay.models.surrogate import surrogate

QUERIES, REPEATS = 200_000, 7


def nearest(table: Encounters, codes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The label of the grid point nearest to each query along each axis, speeds as they are."""
    grid = table.grid
    places = [np.zeros(len(x), np.int64)] * 5
    axes = ((grid.tau, 5), (None, 0), (grid.rho, 0), (grid.theta, 1), (grid.psi, 2))
    for k, (axis, column) in enumerate(axes):
        if axis is not None:
            values = np.array(axis, dtype=np.float64)
            places[k] = np.searchsorted((values[1:] + values[:-1]) / 2, x[:, column])
    speeds = {pair: k for k, pair in enumerate(grid.pairs)}
    places[1] = np.array([speeds[pair] for pair in zip(x[:, 3].tolist(), x[:, 4].tolist(), strict=True)])
    return codes[np.ravel_multi_index(tuple(places), grid.shape)]


def timed(run: object, *given: object) -> float:
    """Queries a second, the median of several runs."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run(*given)  # type: ignore[operator]
        seconds.append(time.perf_counter() - start)
    return QUERIES / median(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--labels", type=Path, default=Path("acas-labels"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = hcas_encounters(options.labels)
    codes = np.concatenate([part.y.numpy().astype(np.uint8) for part in table.batches(1 << 20)])
    rng = np.random.default_rng(0)
    x = table.grid.points(rng.integers(0, len(table), QUERIES))
    torch.manual_seed(0)
    net = surrogate([(float(a), float(b)) for a, b in zip(x.min(0), x.max(0), strict=True)], 5)
    inputs = torch.from_numpy(x.astype(np.float32))
    weights = sum(p.numel() * p.element_size() for p in net.parameters())

    def forward() -> None:
        with torch.inference_mode():
            for part in inputs.split(4096):
                net(part).argmax(1)

    found, said = timed(nearest, table, codes, x), timed(forward)
    values = 4 * 5 * len(table)
    record(
        "A table and its surrogate",
        f"The notional table, {len(PAIRS)} pairs of speeds, previous advisory COC, and a 6 × 64 network; one thread.",
        ["", "bytes", "bytes over the network's", "look-ups a second", "look-ups over the table's"],
        [
            ["table, five values a point in float32", f"{values:,}", values / weights, f"{found:,.0f}", 1.0],
            ["table, one byte a point", f"{codes.nbytes:,}", codes.nbytes / weights, f"{found:,.0f}", 1.0],
            ["network, float32", f"{weights:,}", 1.0, f"{said:,.0f}", said / found],
        ],
        ["A look-up is the nearest grid point (NumPy), a network's a forward pass of 4,096 queries at a time (torch)."],
    )
