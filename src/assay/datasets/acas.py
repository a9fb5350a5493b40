"""Two collision-avoidance tables: a notional one that is solved here, and one labelled by the published networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..engine import atomic
from .acasxu import TAUS as ACAS_TAUS
from .acasxu import AcasNetworks
from .encounters import COLUMNS, Encounters, Grid, stored_labels
from .hcas import HCAS, RHO, TAUS, policy

PAIRS = ((200.0, 200.0), (200.0, 1000.0), (1000.0, 200.0), (1000.0, 1000.0))
"""Speeds of own ship and intruder in the demo's table, slow and fast."""

ACAS_RHO = (
    499.0, 800.0, 2000.0, 3038.0, 5316.0, 6450.0, 7200.0, 7950.0, 8725.0, 10633.0, 13671.0, 16709.0, 19747.0, 22785.0,
    25823.0, 28862.0, 31900.0, 34938.0, 37976.0, 41014.0, 48608.0, 60760.0,
)  # fmt: skip
"""Distances of the early table (Julian et al. 2016)."""

FINE_RHO = tuple(sorted({*ACAS_RHO, *((a + b) / 2 for a, b in pairwise(ACAS_RHO[:19]))}))
"""With midpoints up to 37,976 ft: 40 distances, which make the table 94.4 million points."""

OWN = tuple(float(v) for v in range(100, 1300, 100))
INTRUDER = tuple(float(v) for v in range(0, 1300, 100))
SHARD = 1 << 20  # rows of a Parquet file


def angles(n: int = 41) -> tuple[float, ...]:
    """Even steps over [−π, π], both ends included."""
    return tuple(float(v) for v in np.linspace(-np.pi, np.pi, n))


def hcas_encounters(
    folder: Path,
    *,
    pairs: Sequence[tuple[float, float]] = PAIRS,
    rho: tuple[float, ...] = RHO,
    steps: int = 41,
    held_out: float = 0.0,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Encounters:
    """The notional table for these pairs of speeds, previous advisory COC; solved once, a byte a row kept in `folder`.

    `advance` is called after every pair. About 6 CPU seconds a pair on the full grid.
    """
    grid = Grid(rho, angles(steps), angles(steps), tuple(pairs), TAUS)
    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join(f"{own:g}x{other:g}" for own, other in pairs)
    path = folder / f"hcas-{len(rho)}x{steps}x{steps}-{name}.labels"
    if not path.exists():
        codes = np.empty((len(TAUS), len(pairs), len(rho) * steps**2), np.uint8)
        for k, (own, other) in enumerate(pairs):
            Q = HCAS(own, other, rho, steps).solve()
            for j, tau in enumerate(TAUS):
                codes[j, k] = policy(Q[tau][:, 0])
            advance()
        with atomic(path) as temporary:
            codes.tofile(temporary)
    return Encounters(grid, stored_labels(path), "HCAS (notional)", held_out, seed)


@dataclass(frozen=True)
class Labeller:
    """Codes of any range of rows of a grid, from the networks, as they are asked for."""

    networks: AcasNetworks
    grid: Grid

    def __call__(self, start: int, stop: int) -> NDArray[np.int64]:
        points = self.grid.points(np.arange(start, stop))
        codes = np.empty(len(points), np.int64)
        for tau in np.unique(points[:, 5]):
            rows = points[:, 5] == tau
            codes[rows] = self.networks.advisory(points[rows, :5], int(tau))
        return codes


def acasxu_encounters(
    networks: AcasNetworks,
    *,
    rho: tuple[float, ...] = ACAS_RHO,
    steps: int = 41,
    own: Sequence[float] = OWN,
    intruder: Sequence[float] = INTRUDER,
    held_out: float = 0.0,
    seed: int = 0,
) -> Encounters:
    """The published networks' advisories on a grid: 51.9 million points, 94.4 million with `FINE_RHO`."""
    pairs = tuple((a, b) for a in own for b in intruder)
    grid = Grid(rho, angles(steps), angles(steps), pairs, ACAS_TAUS)
    return Encounters(grid, Labeller(networks, grid), "ACAS Xu (published networks)", held_out, seed)


def write_table(
    table: Encounters, folder: Path, *, shard: int = SHARD, advance: Callable[[], None] = lambda: None
) -> list[Path]:
    """Parquet files of `COLUMNS`, `previous`, `advisory` (names) and, where rows are held out, `weight`.

    Files that are there already are kept: an interrupted call goes on. `advance` is called after every file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = pa.array(table.vocabulary)
    paths: list[Path] = []
    for k, start in enumerate(range(0, len(table), shard)):
        path = folder / f"part-{k:05d}.parquet"
        paths.append(path)
        if not path.exists():
            batch = next(table.batches(shard, start=start, stop=start + shard))
            columns = {name: pa.array(batch.x[:, j].numpy()) for j, name in enumerate(COLUMNS)}
            columns["previous"] = pa.array(["COC"] * len(batch.ids)).dictionary_encode()
            columns["advisory"] = pa.DictionaryArray.from_arrays(pa.array(batch.y.numpy().astype(np.int8)), names)
            if table.held_out:
                columns["weight"] = pa.array(batch.w.numpy())
            with atomic(path, resumes=True) as temporary:
                pq.write_table(pa.table(columns), temporary, compression="zstd", row_group_size=1 << 16)
        advance()
    return paths
