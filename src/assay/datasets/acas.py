"""Two collision-avoidance tables: a notional one that is solved here, and one labelled by the published networks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..engine import atomic, write_json
from ..errors import OutputError, ShapeError
from .acasxu import TAUS as ACAS_TAUS
from .acasxu import AcasNetworks
from .encounters import COLUMNS, Encounters, Grid, stored_labels
from .hcas import ADVISORIES, HCAS, RHO, TAUS, policy

SPEEDS = (200.0, 1000.0)
PAIRS = tuple((own, other) for own in SPEEDS for other in SPEEDS)
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
MANIFEST = "_table.json"  # what begins with _ is passed over by those who read a folder of Parquet files


def angles(n: int = 41) -> tuple[float, ...]:
    """Even steps over [−π, π], both ends included."""
    return tuple(float(v) for v in np.linspace(-np.pi, np.pi, n))


def hcas_encounters(
    folder: Path,
    *,
    pairs: Sequence[tuple[float, float]] = PAIRS,
    rho: tuple[float, ...] = RHO,
    steps: int = 41,
    previous: str = "COC",
    held_out: float = 0.0,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Encounters:
    """The notional table for these pairs of speeds after the advisory `previous`; solved once, a byte a row kept in
    `folder`.

    `advance` is called after every pair. About 6 CPU seconds a pair on the full grid. Raises `ShapeError` for an
    advisory that is none.
    """
    if previous not in ADVISORIES:
        raise ShapeError(f"previous={previous!r} is none of {', '.join(ADVISORIES)}")
    rho = tuple(float(v) for v in rho)
    pairs = tuple((float(own), float(other)) for own, other in pairs)
    grid = Grid(rho, angles(steps), angles(steps), pairs, TAUS)
    folder.mkdir(parents=True, exist_ok=True)
    made_of = hashlib.blake2b(repr((rho, steps, pairs, previous, TAUS)).encode(), digest_size=12).hexdigest()
    path = folder / f"hcas-{previous}-{made_of}.labels"
    if not path.exists():
        codes = np.empty((len(TAUS), len(pairs), len(rho) * steps**2), np.uint8)
        for k, (own, other) in enumerate(pairs):
            Q = HCAS(own, other, rho, steps).solve()
            for j, tau in enumerate(TAUS):
                codes[j, k] = policy(Q[tau][:, ADVISORIES.index(previous)])
            advance()
        with atomic(path) as temporary:
            codes.tofile(temporary)
    return Encounters(grid, stored_labels(path, len(grid)), "HCAS (notional)", held_out, seed, previous)


@dataclass(frozen=True)
class Labeller:
    """Codes of any range of rows of a grid, from the networks, as they are asked for.

    Raises `ShapeError` where the grid has a τ without a network.
    """

    networks: AcasNetworks
    grid: Grid

    def __post_init__(self) -> None:
        if missing := [tau for tau in self.grid.tau if tau not in self.networks.layers]:
            there = ", ".join(map(str, self.networks.layers))
            raise ShapeError(f"the grid has tau={missing[0]} s, which has no network; there is one for each of {there}")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all the labels are made of."""
        return hashlib.sha256(repr((self.networks.digest, self.grid)).encode()).hexdigest()

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
    """The published networks' advisories on a grid: 51.9 million points, 94.4 million with `FINE_RHO`.

    Raises `ShapeError` for a speed beyond the networks' range, where they would repeat what they say at its end.
    """
    for name, speeds, k in (("own", own, 3), ("intruder", intruder, 4)):
        low, high = float(networks.low[k]), float(networks.high[k])
        if beyond := [speed for speed in speeds if not low <= speed <= high]:
            raise ShapeError(f"{name}={beyond[0]:g} ft/s, but the networks are for {low:g} to {high:g} ft/s")
    pairs = tuple((a, b) for a in own for b in intruder)
    grid = Grid(rho, angles(steps), angles(steps), pairs, ACAS_TAUS)
    label = Labeller(networks, grid)
    return Encounters(grid, label, "ACAS Xu (published networks)", held_out, seed, networks.previous)


def write_table(
    table: Encounters, folder: Path, *, shard: int = SHARD, advance: Callable[[], None] = lambda: None
) -> list[Path]:
    """Parquet files of `COLUMNS`, `previous`, `advisory` (names) and, where rows are held out, `weight`.

    Files that are there already are kept: an interrupted call goes on. `advance` is called after every file. Raises
    `OutputError` where the folder holds another table, or the same in files of another length.
    """
    _claim(folder, table, shard)
    names = pa.array(table.vocabulary)
    paths: list[Path] = []
    for k, start in enumerate(range(0, len(table), shard)):
        path = folder / f"part-{k:05d}.parquet"
        paths.append(path)
        if not path.exists():
            batch = next(table.batches(shard, start=start, stop=start + shard))
            columns = {name: pa.array(batch.x[:, j].numpy()) for j, name in enumerate(COLUMNS)}
            columns["previous"] = pa.array([table.previous] * len(batch.ids)).dictionary_encode()
            columns["advisory"] = pa.DictionaryArray.from_arrays(pa.array(batch.y.numpy().astype(np.int8)), names)
            if table.held_out:
                columns["weight"] = pa.array(batch.w.numpy())
            with atomic(path, resumes=True) as temporary:
                pq.write_table(pa.table(columns), temporary, compression="zstd", row_group_size=1 << 16)
        advance()
    return paths


def _claim(folder: Path, table: Encounters, shard: int) -> None:
    """Says first, beside the files, of which table they are."""
    told = {
        "fingerprint": table.fingerprint(), "shard": shard, "name": table.name, "rows": len(table),
        "previous": table.previous, "held_out": table.held_out, "seed": table.seed,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).exists():
        try:
            found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != told:
            raise OutputError(f"{folder} holds {_spoken(found)}; name another folder, or remove it")
    elif any(folder.rglob("*.parquet")):
        raise OutputError(f"{folder} holds Parquet files of something else; name another folder, or remove them")
    else:
        write_json(folder / MANIFEST, told)


def _spoken(told: Any) -> str:
    if not isinstance(told, dict):
        return "another table"
    said = ", ".join(f"{key} {told.get(key)}" for key in ("rows", "previous", "held_out", "seed", "shard"))
    return f"another table ({told.get('name')}: {said})"
