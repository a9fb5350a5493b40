"""What the units of cifar10.py say together: read back, grouped by condition, with intervals over models."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from cifar10 import UNITS, Unit
from common import RESULTS

NETWORKS = {"resnet20": "ResNet-20", "vgg19": "VGG-19", "efficientnet": "EfficientNetB0"}
IMAGES = {"smoke": 400, "cpu": 10_000, "paper": 40_000}
BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Result:
    """One unit's table: which labels are wrong, scores by name, and what its checkpoints are like."""

    unit: Unit
    path: Path

    @cached_property
    def table(self) -> Any:
        return pq.read_table(self.path)

    @cached_property
    def told(self) -> dict[str, Any]:
        return json.loads(self.table.schema.metadata[b"assay"])

    @property
    def points(self) -> list[dict[str, Any]]:
        return self.told["checkpoints"]

    @cached_property
    def wrong(self) -> np.ndarray:
        return self.table["label"].to_numpy() != self.table["truth"].to_numpy()

    @property
    def rows(self) -> np.ndarray:
        return self.table["row"].to_numpy()

    def score(self, name: str) -> np.ndarray:
        """`[n]`; of the last checkpoint where a score is kept at each."""
        column = name if name in self.table.column_names else f"{name} @{self.unit.epochs}"
        return self.table[column].to_numpy().astype(np.float64)

    def trace(self, name: str) -> np.ndarray:
        """`[checkpoints, n]`."""
        return np.stack([self.score(f"{name} @{point['epoch']}") for point in self.points])

    def last(self, name: str, what: str) -> float:
        """How a score of the last checkpoint ranks the flips."""
        return self.points[-1]["found"][name][what]


def read_units(folder: Path = UNITS) -> list[Result]:
    """All units that are done, in the order of their names."""
    found: list[Result] = []
    for path in sorted(folder.glob("*.parquet")):
        told = json.loads(pq.read_schema(path).metadata[b"assay"])
        found.append(Result(Unit(**told["unit"]), path))
    return found


def chosen(results: list[Result], **fields: Any) -> list[Result]:
    """Those of these fields: `chosen(results, network="resnet20", flips=0.05)`."""
    return [result for result in results if all(getattr(result.unit, k) == v for k, v in fields.items())]


def interval(values: list[float], *, seed: int = 0) -> dict[str, Any]:
    """The mean over models, its 95 % bootstrap interval (none for a single model), and every model's value."""
    array = np.asarray(values, dtype=np.float64)
    told: dict[str, Any] = {"models": len(array), "mean": float(array.mean()), "each": array.tolist()}
    if len(array) > 1:
        drawn = np.random.default_rng(seed).choice(array, (BOOTSTRAPS, len(array))).mean(1)
        told["interval"] = [float(v) for v in np.quantile(drawn, (0.025, 0.975))]
    return told


def difference(one: list[Result], other: list[Result], name: str, what: str) -> dict[str, Any]:
    """`what` of a score in `one` condition minus that in the `other`, of models on the same images and flips."""
    by_seed = {result.unit.seed: result for result in other}
    pairs = [(a, by_seed[a.unit.seed]) for a in one if a.unit.seed in by_seed]
    return interval([a.last(name, what) - b.last(name, what) for a, b in pairs]) if pairs else {"models": 0}


def figure_arguments(description: str) -> argparse.Namespace:
    """What a figure's script is called with."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=tuple(IMAGES), default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("cifar10-work"))
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--drawn", action="store_true", help="train nothing")
    parser.add_argument("--units", type=Path, default=UNITS)
    parser.add_argument("--folder", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    return given
