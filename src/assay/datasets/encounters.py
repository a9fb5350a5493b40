"""A look-up table of encounters: one advisory for every point of a grid, read in any range without being stored."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ..errors import ShapeError, SourceError
from ..sources.source import Batch, Rendered
from .hcas import ADVISORIES

COLUMNS = ("rho", "theta", "psi", "v_own", "v_int", "tau")
"""ft, rad, rad, ft/s, ft/s, s."""

HASHED = 1 << 20  # labels hashed at a time
GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Grid:
    """The product of its axes, τ slowest, then the speeds, ρ, θ, and ψ fastest; `pairs` are the speeds (own, intruder).

    A row is a point; its number counts through them.
    """

    rho: tuple[float, ...]
    theta: tuple[float, ...]
    psi: tuple[float, ...]
    pairs: tuple[tuple[float, float], ...]
    tau: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("rho", "theta", "psi", "tau"):
            axis = getattr(self, name)
            rising = all(a < b for a, b in itertools.pairwise(axis)) and all(math.isfinite(v) for v in axis)
            if not axis or not rising:
                raise ShapeError(
                    f"{name} has {len(axis)} values; an axis has one or more, finite, each larger than the last"
                )
        finite = all(math.isfinite(speed) for pair in self.pairs for speed in pair)
        if not self.pairs or len(set(self.pairs)) < len(self.pairs) or not finite:
            raise ShapeError(f"{len(self.pairs)} pairs of speeds; there is one or more, finite, each once")

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.tau), len(self.pairs), len(self.rho), len(self.theta), len(self.psi)

    def __len__(self) -> int:
        return int(np.prod(self.shape))

    def points(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """`[b, 6]`, columns as `COLUMNS`."""
        tau, pair, rho, theta, psi = np.unravel_index(rows, self.shape)
        speeds = np.array(self.pairs, dtype=np.float64)[pair]
        axes = [np.array(axis, dtype=np.float64) for axis in (self.rho, self.theta, self.psi, self.tau)]
        return np.stack([axes[0][rho], axes[1][theta], axes[2][psi], speeds[:, 0], speeds[:, 1], axes[3][tau]], 1)

    def neighbours(self, row: int) -> list[int]:
        """Points one step away along ρ, θ, ψ or τ; an angle's two ends are neighbours."""
        at = [int(place) for place in np.unravel_index(row, self.shape)]
        found: list[int] = []
        for axis in (0, 2, 3, 4):
            size = self.shape[axis]
            for place in (at[axis] - 1, at[axis] + 1):
                if axis > 2 and size > 2:  # −π and π, first and last, are one direction
                    place = {-1: size - 2, size: 1}.get(place, place)
                if 0 <= place < size:
                    other = [*at[:axis], place, *at[axis + 1 :]]
                    found.append(int(np.ravel_multi_index(tuple(other), self.shape)))
        return found


@dataclass(frozen=True)
class Encounters:
    """A source over a grid: features `COLUMNS` float32, the advisory as class; nothing is held but what is read.

    `label(start, stop)` gives the codes of the rows, always the same; where it has a `digest`, a string that differs
    wherever a code does, no label is read for the fingerprint. `held_out`, a share drawn by `seed`, have weight zero:
    they are scored, and the head does not see them. `previous` is the advisory that stands.
    """

    grid: Grid
    label: Callable[[int, int], NDArray[np.int64]]
    name: str
    held_out: float = 0.0
    seed: int = 0
    previous: str = "COC"
    columns: tuple[str, ...] = COLUMNS
    vocabulary: tuple[str, ...] = ADVISORIES
    targets: tuple[str, ...] = ()
    key: str | None = None
    image_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.seed < 0 or not 0 <= self.held_out < 1:
            raise ShapeError(f"seed={self.seed}, held_out={self.held_out}; a seed is 0 or more, a share in [0, 1)")

    def __len__(self) -> int:
        return len(self.grid)

    def batches(self, size: int, *, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """Rows [start, stop) in order, `size` at a time."""
        end = len(self) if stop is None else min(stop, len(self))
        for first in range(start, end, size):
            last = min(first + size, end)
            yield self._batch(np.arange(first, last), self.label(first, last))

    def take(self, rows: Sequence[int]) -> Batch:
        """The rows asked for, in the order asked."""
        index = np.asarray(rows, dtype=np.int64)
        labels = np.empty(len(index), np.int64)
        order = index.argsort(kind="stable")
        for run in np.split(order, np.flatnonzero(np.diff(index[order]) > 64) + 1):
            if len(run):
                first, last = int(index[run[0]]), int(index[run[-1]]) + 1
                labels[run] = self.label(first, last)[index[run] - first]
        return self._batch(index, labels)

    def fingerprint(self) -> str:
        """SHA-256 of the name, the grid, the split and the labels."""
        labels = getattr(self.label, "digest", None) or self._labels
        told = (self.name, self.grid, self.held_out, self.seed, self.previous, labels)
        return hashlib.sha256(repr(told).encode()).hexdigest()

    @cached_property
    def _labels(self) -> str:
        """SHA-256 of all labels, a byte each, of which a million are held at a time."""
        digest = hashlib.sha256()
        for start in range(0, len(self), HASHED):
            digest.update(self.label(start, min(start + HASHED, len(self))).astype(np.uint8).tobytes())
        return digest.hexdigest()

    def render(self, rows: Sequence[int]) -> list[Rendered]:
        batch = self.take(rows)
        return [
            Rendered(None, {**dict(zip(self.columns, x, strict=True)), "previous": self.previous, "advisory": advisory})
            for x, advisory in zip(batch.x.tolist(), (self.vocabulary[y] for y in batch.y.tolist()), strict=True)
        ]

    def spec(self) -> dict[str, Any] | None:
        return {"kind": "generated", "name": self.name}

    def where(self, row: int) -> str:
        return f"row {row} of the table {self.name}"

    def weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """1, and 0 for held-out rows: a hash of row and seed decides, whatever is read with it."""
        if not self.held_out:
            return np.ones(len(rows))
        begin = (int(self.seed) * GOLDEN + GOLDEN) % 2**64
        mixed = rows.astype(np.uint64) + np.uint64(begin)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        uniform = (mixed ^ (mixed >> np.uint64(31))).astype(np.float64) / 2.0**64
        return (uniform >= self.held_out).astype(np.float64)

    def _batch(self, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> Batch:
        x = torch.from_numpy(self.grid.points(rows).astype(np.float32))
        return Batch(pa.array(rows), x, torch.from_numpy(labels), torch.from_numpy(self.weights(rows)))


@dataclass(frozen=True)
class StoredLabels:
    """The labels of a file of bytes, one a row, read where they lie."""

    path: Path

    def __call__(self, start: int, stop: int) -> NDArray[np.int64]:
        return self._codes[start:stop].astype(np.int64)

    @property
    def digest(self) -> str:
        """SHA-256 of the file as it is now."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def _codes(self) -> NDArray[np.uint8]:
        return np.memmap(self.path, dtype=np.uint8, mode="r")


def stored_labels(path: str | Path, rows: int) -> StoredLabels:
    """The labels of this many rows; raises `SourceError` where the file is not there or holds another number."""
    path = Path(path)
    found = path.stat().st_size if path.is_file() else None
    if found != rows:
        told = "is not there" if found is None else f"holds {found:,} labels, a byte each"
        raise SourceError(f"{path} {told}, but the grid has {rows:,} points; remove it and make the table again")
    return StoredLabels(path)
