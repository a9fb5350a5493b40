"""One validating pass over a source, shard by shard: moments, class counts, ids; what cannot be audited is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from os import PathLike
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from ..errors import SourceError
from .identity import hashed, refuse_twins
from .source import Batch, Source, block_rows

Partial = dict[str, np.ndarray]


@dataclass(frozen=True)
class Scan:
    """What one pass tells of the samples: weighted mean [d] and comoment [d, d] `Σ w (x − mean)(x − mean)ᵀ`, counts.

    Samples of weight zero count in `rows` and `class_rows` only. `minimum`, `maximum`: of each column [d]; of targets,
    `target_mean` [k] is weighted.
    """

    rows: int
    total_weight: float
    mean: Float64[Tensor, " d"]
    comoment: Float64[Tensor, "d d"]
    minimum: Float64[Tensor, " d"]
    maximum: Float64[Tensor, " d"]
    class_rows: Int64[Tensor, " C"]
    class_weight: Float64[Tensor, " C"]
    target_mean: Float64[Tensor, " k"]

    @property
    def scale(self) -> Float64[Tensor, " d"]:
        """Weighted (population) standard deviation of each column, 0 where it is constant."""
        spread = (self.comoment.diagonal() / self.total_weight).clamp(min=0).sqrt()
        return torch.where(self.constant, torch.zeros_like(spread), spread)

    @property
    def constant(self) -> Bool[Tensor, " d"]:
        """Columns that never vary."""
        return self.minimum == self.maximum

    def save(self, path: str | PathLike[str]) -> None:
        """As NPZ, the same bytes for the same numbers."""
        saved = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        with open(path, "wb") as file:
            np.savez(file, allow_pickle=False, **saved)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Scan:
        with np.load(path, allow_pickle=False) as saved:
            return cls(**{field.name: _read(saved[field.name]) for field in fields(cls)})


def scan_shard(source: Source, start: int, stop: int, *, also: Callable[[Batch], None] = lambda batch: None) -> Partial:
    """The sums over rows [start, stop), and the hashed ids where there is a key column.

    `also` is called with every batch that was found good.

    Raises `SourceError` for a null, NaN or infinite feature, target or weight and for a negative weight.
    """
    total: Partial | None = None
    hashes: list[np.ndarray] = []
    row = start
    for batch in source.batches(block_rows(source), start=start, stop=stop):
        check(batch, source, row)
        also(batch)
        part = _partial(batch, source)
        total = part if total is None else _chan(total, part)
        hashes.append(hashed(batch.ids) if source.key is not None else np.empty(0, np.uint64))
        row += len(batch.ids)
    if total is None:
        raise SourceError(f"there are no rows from {start} to {stop}")
    return {**total, "ids": np.concatenate(hashes)}


def merge(partials: Iterable[Partial], source: Source) -> Scan:
    """The partial sums of consecutive shards, added in the order given.

    Raises `SourceError` where there are no rows, all weights are zero, only one class (or one target value) has weight,
    or two samples have one id.
    """
    total: Partial | None = None
    hashes: list[np.ndarray] = []
    for part in partials:
        hashes.append(part["ids"])
        total = part if total is None else _chan(total, part)
    if total is None or not int(total["rows"]):
        raise SourceError("the source has no rows; there is nothing to audit")
    refuse_twins(np.concatenate(hashes), source)
    _refuse_useless(total, source)
    return Scan(**{field.name: _read(total[field.name]) for field in fields(Scan)})


def check(batch: Batch, source: Source, row: int) -> None:
    """Raises `SourceError` for NaN, infinity and negative weights in a batch whose first row is `row`."""
    for values, names, role in (
        (batch.x, source.columns, "feature"),
        (batch.y if batch.y.is_floating_point() else batch.x[:, :0], source.targets, "target"),
        (batch.w[:, None], ("weight",), "the"),
    ):
        if not bool(torch.isfinite(values.sum())) and not bool(torch.isfinite(values).all()):
            i, j = torch.nonzero(~torch.isfinite(values))[0].tolist()
            raise SourceError(
                f"{source.where(row + i)}: {role} {names[j]!r} is {float(values[i, j])}; "
                "every value must be finite: fill it in or drop the row"
            )
    if len(negative := torch.nonzero(batch.w < 0)):
        i = int(negative[0])
        raise SourceError(f"{source.where(row + i)}: the weight is {float(batch.w[i])}; weights are zero or positive")


def _partial(batch: Batch, source: Source) -> Partial:
    w = batch.w
    x = batch.x.double()
    W = float(w.sum())
    mean = w @ x / W if W else torch.zeros(x.shape[1], dtype=torch.float64)
    centred = x - mean
    seen = x[w > 0]
    y = batch.y
    sums: dict[str, Any] = {
        "rows": len(w),
        "total_weight": W,
        "mean": mean,
        "comoment": (centred * w[:, None]).T @ centred,
        "minimum": seen.amin(0) if len(seen) else torch.full_like(mean, torch.inf),
        "maximum": seen.amax(0) if len(seen) else torch.full_like(mean, -torch.inf),
        **_labels(y, w, W, source),
    }
    return {name: np.asarray(value) for name, value in sums.items()}


def _labels(y: Tensor, w: Float64[Tensor, " b"], W: float, source: Source) -> dict[str, Any]:
    none = torch.empty(0, dtype=torch.float64)
    if source.vocabulary is None:
        seen = y[w > 0]
        return {
            "class_rows": torch.empty(0, dtype=torch.int64),
            "class_weight": none,
            "target_mean": w @ y / W if W else torch.zeros(y.shape[1], dtype=torch.float64),
            "target_minimum": seen.amin(0) if len(seen) else torch.full((y.shape[1],), torch.inf).double(),
            "target_maximum": seen.amax(0) if len(seen) else torch.full((y.shape[1],), -torch.inf).double(),
        }
    classes = len(source.vocabulary)
    counts = {"class_rows": y.bincount(minlength=classes), "class_weight": y.bincount(w, minlength=classes)}
    return {**counts, "target_mean": none, "target_minimum": none, "target_maximum": none}


def _chan(a: Partial, b: Partial) -> Partial:
    """Sums over two disjoint sets of rows (Chan, Golub & LeVeque 1983): centred about their common mean."""
    W = a["total_weight"] + b["total_weight"]
    share = b["total_weight"] / W if W else 0.0
    delta = b["mean"] - a["mean"]
    sums = {
        "rows": a["rows"] + b["rows"],
        "total_weight": W,
        "mean": a["mean"] + share * delta,
        "comoment": a["comoment"] + b["comoment"] + share * a["total_weight"] * np.outer(delta, delta),
        "minimum": np.minimum(a["minimum"], b["minimum"]),
        "maximum": np.maximum(a["maximum"], b["maximum"]),
        "class_rows": a["class_rows"] + b["class_rows"],
        "class_weight": a["class_weight"] + b["class_weight"],
        "target_mean": a["target_mean"] + share * (b["target_mean"] - a["target_mean"]),
        "target_minimum": np.minimum(a["target_minimum"], b["target_minimum"]),
        "target_maximum": np.maximum(a["target_maximum"], b["target_maximum"]),
    }
    return {name: np.asarray(value) for name, value in sums.items()}


def _refuse_useless(total: Partial, source: Source) -> None:
    if not float(total["total_weight"]) > 0:
        raise SourceError("all weights are zero: no sample counts; give at least some a positive weight")
    if source.vocabulary is not None:
        present = np.flatnonzero(total["class_weight"] > 0)
        if len(present) < 2:
            raise SourceError(
                f"only one class is there: every sample (of positive weight) is {source.vocabulary[present[0]]!r}; "
                "an audit needs two, is this the label column?"
            )
        if len(present) < len(source.vocabulary):
            absent = np.flatnonzero(total["class_weight"] == 0)[0]
            raise SourceError(
                f"class {source.vocabulary[absent]!r} has no sample of positive weight; drop its samples, or weigh some"
            )
    if len(wide := np.flatnonzero(~np.isfinite(total["comoment"].diagonal()))):
        raise SourceError(f"feature {source.columns[wide[0]]!r} is too large to be squared; give it in another unit")
    for name, low, high in zip(source.targets, total["target_minimum"], total["target_maximum"], strict=True):
        if low == high:
            raise SourceError(f"target {name!r} is {low} in every sample; there is nothing to learn, is it the target?")


def _read(value: np.ndarray) -> Any:
    return value.item() if value.ndim == 0 else torch.from_numpy(np.array(value))
