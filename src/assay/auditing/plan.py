"""What an audit would take: rows, passes, time and memory, before any of it is spent."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..curvature.dense import dense_bytes, packed_size
from ..engine import SHARD_ROWS
from ..families import Family, make_family
from ..features.network import Network
from ..sources.source import Source
from .keep import has_large_groups
from .sample import CELLS, ROWS

NEWTON = 8  # passes a fit usually takes
TRIM = 2 * (1 + 5)  # those that leave the suspects out
PATH = 15 * 4  # passes over the sample to choose λ2
TRUST = 3 * NEWTON  # passes over the sample for planted flips
INTERPRETER = 350 << 20  # Python, torch and Arrow, before any data
WITHIN = 0.4  # share of the square-product rate that a pass reaches with reading and small work


@dataclass(frozen=True)
class Plan:
    """Rows, parameters, passes over the rows, and what to expect on this machine: seconds, bytes at the peak."""

    rows: int
    columns: int
    parameters: int
    passes: int
    sampled_rows: int
    seconds: float
    peak_bytes: int
    disk_bytes: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan(source: Source, family: Family, l2: float | str, *, trim: bool = True) -> Plan:
    """An estimate from the sizes and a product timed for a few milliseconds; expect a factor of two."""
    copied = source.spec() is None or has_large_groups(source, SHARD_ROWS)
    return _plan(len(source), len(source.columns) + 1, family, l2, copied=copied, trim=trim)


def plan_network(network: Network, data: Any, l2: float | str, *, trim: bool = True, **columns: Any) -> Plan:
    """The same for the embedding of a network, and the time of running it over `data` (from one block of samples)."""
    encoded = network.encoded(data, **columns)
    samples, found, name = encoded.examples, encoded.split, encoded.family
    start = time.perf_counter()
    found.embed(next(samples.blocks()).inputs)
    blocks = -(-len(samples) // samples.batch)
    encoding = (time.perf_counter() - start) * blocks
    width, outputs = found.linear.in_features, found.linear.out_features
    family = make_family(name, 2 if name == "logistic" else outputs)
    planned = _plan(len(samples), width + 1, family, l2, copied=True, trim=trim and bool(network.refit))
    return replace(planned, seconds=planned.seconds + encoding)


def _plan(n: int, d: int, family: Family, l2: float | str, *, copied: bool, trim: bool) -> Plan:
    K = 1 if family.shared else family.K
    work = 2.0 * packed_size(K) * packed_size(d)
    sampled = min(n, ROWS, max(1_000, CELLS // d))
    on_sample = TRUST + (PATH if l2 == "auto" else 0)
    factorisations = NEWTON + on_sample
    trimming = TRIM if family.classifies and trim else 0
    flops = work * ((NEWTON + 1 + trimming) * n + on_sample * sampled) + factorisations * (K * d) ** 3
    return Plan(
        rows=n,
        columns=d - 1,
        parameters=family.K * d,
        passes=NEWTON + 3 + trimming,
        sampled_rows=sampled,
        seconds=flops / (WITHIN * _rate()),
        peak_bytes=INTERPRETER + dense_bytes(K, d) + 8 * d * (2 * sampled + 2 * SHARD_ROWS),
        disk_bytes=120 * n + (8 * d * n if copied else 0),
    )


def _rate() -> float:
    """Floating-point operations a second of a square float64 product."""
    a = torch.rand(768, 768, dtype=torch.float64)
    times: list[float] = []
    for _ in range(4):
        start = time.perf_counter()
        _ = a @ a
        times.append(time.perf_counter() - start)
    return 2 * 768**3 / sorted(times)[1]
