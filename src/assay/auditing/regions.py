"""Where in the input space the influence is: boxes as rules, and clusters of the most influential samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN

from ..errors import ShapeError
from ..explore.boxes import Box, BoxSearch, stability
from ..sources.choose import is_numeric
from ..sources.convert import some
from ..sources.source import Source
from ..sources.table import TableSource
from .folder import Folder

ROWS = 100_000  # of all samples, drawn evenly, among which boxes are sought
TOP = 5_000  # of the most influential, at most, that are clustered
TOP_SHARE = 0.01
SCORES = (
    "row", "id", "given_label", "suggested_label", "predicted_label", "cooks_distance", "loo_margin", "kind",
)  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Regions:
    """Where the influence is, over the numeric `columns` of an audit's source.

    - `rules`: one row a box, the one with most excess first: `rule` in words, `rows`, `coverage` (share of the
      samples), `influence_share` (of all Cook's distance), `lift` (the latter over the former), `density` (samples per
      volume of the box over that of everywhere), `loo_margin` (mean), `mislabeled`, `under_represented`, `boundary`
      (shares of its rows), `classes` (rows by label, JSON), `stability` (mean overlap with the boxes of bootstrap
      resamples, 0–1).
    - `clusters`: one row a cluster of the most influential samples: `rows`, `influence_share`, `representative` (id of
      its most influential), `extent` in words, `classes` in conflict (given → suggested, JSON), `density` (samples per
      volume in its extent over that of twice the extent).
    - `boxes`: the rules as boxes, in the same order.
    """

    columns: tuple[str, ...]
    rules: pa.Table
    clusters: pa.Table
    boxes: tuple[Box, ...]

    def needs(self) -> pa.Table:
        """Where to sample next: for each rule its box, `<column>_low` to `<column>_high` (infinite where free), and
        `points`, as many as it holds: the box is then sampled twice as densely."""
        columns: dict[str, Any] = {"rule": self.rules["rule"], "points": self.rules["rows"]}
        for j, name in enumerate(self.columns):
            columns[f"{name}_low"] = pa.array([box.low[j] for box in self.boxes], pa.float64())
            columns[f"{name}_high"] = pa.array([box.high[j] for box in self.boxes], pa.float64())
        return pa.table(columns)


def find_regions(
    source: Source, folder: Folder, columns: Sequence[str] | None, *, top: int, resamples: int, seed: int
) -> Regions:
    """Two passes over columns and scores, `ROWS` samples in memory; raises `ShapeError` as `numeric_columns` does."""
    names = numeric_columns(source, columns)
    X, influence, best = _sample(source, folder, names, seed)
    search = BoxSearch(boxes=top, seed=seed)
    boxes = search.find(X, influence)
    stable = stability(search, X, influence, boxes, resamples=resamples) if resamples else [float("nan")] * len(boxes)
    totals = [_Total(box) for box in boxes]
    everything = _Total(Box((-np.inf,) * len(names), (np.inf,) * len(names)))
    for part, scores in parts(source, folder, names):
        for total in (*totals, everything):
            total.add(part, scores)
    spans = [_Span(float(x.min()), float(x.max()), len(np.unique(x))) for x in X.T]
    rules = [total.row(names, everything, spans, s) for total, s in zip(totals, stable, strict=True)]
    return Regions(names, _table(rules, RULES), _clusters(best, X, names, everything.influence), tuple(boxes))


def numeric_columns(source: Source, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The numeric columns of a source's own, or those `asked` for; not its label, id, weight, nor an embedding.

    Raises `ShapeError` where there are none, or one asked for is not numeric or not there.
    """
    if not isinstance(source, TableSource):
        raise ShapeError("regions are sought over the columns of a table, and these samples are none")
    choice, schema = source.choice, source.store.schema
    taken = {*choice.labels, choice.id, choice.weight, choice.embedding}
    usable = [field.name for field in schema if is_numeric(field.type) and field.name not in taken]
    if asked is None:
        if not usable:
            raise ShapeError(
                "the audited data have no numeric columns beside an embedding; name none, or audit a table"
            )
        return tuple(usable)
    if bad := [name for name in asked if name not in usable]:
        found = "is not numeric" if bad[0] in schema.names else "is not there"
        raise ShapeError(f"column {bad[0]!r} {found}; the numeric columns are {some(usable)}")
    return tuple(dict.fromkeys(asked))


def parts(source: Source, folder: Folder, names: Sequence[str]) -> Iterator[tuple[Floats, pa.Table]]:
    """The columns `[b, d]` and the scores of the same rows, with `held_out` (weight zero), shard by shard."""
    assert isinstance(source, TableSource)
    start, weight = 0, source.choice.weight
    for shard in folder.shards():
        scores = pq.read_table(shard, columns=list(SCORES))
        stop = start + len(scores)
        read = [*names, *([weight] if weight is not None and weight not in names else [])]
        batches = list(source.store.read(read, start, stop, 65_536))
        held = [np.zeros(len(b), bool) if weight is None else _floats(b, [weight])[:, 0] == 0 for b in batches]
        yield (
            np.concatenate([_floats(b, names) for b in batches]),
            scores.append_column("held_out", pa.array(np.concatenate(held))),
        )
        start = stop


def _floats(batch: pa.RecordBatch, names: Sequence[str]) -> Floats:
    columns = [np.asarray(batch.column(name).to_numpy(zero_copy_only=False), dtype=np.float64) for name in names]
    return np.stack(columns, 1)


def _sample(
    source: Source, folder: Folder, names: Sequence[str], seed: int
) -> tuple[Floats, Floats, list[dict[str, Any]]]:
    """Evenly drawn rows with their influence, and the most influential rows with their values."""
    n = len(source)
    share, keep = min(1.0, ROWS / n), min(TOP, max(20, int(TOP_SHARE * n)))
    drawn: list[Floats] = []
    influences: list[Floats] = []
    best: list[dict[str, Any]] = []
    for k, (X, scores) in enumerate(parts(source, folder, names)):
        influence = scores["cooks_distance"].to_numpy()
        chosen = np.random.default_rng([seed, k]).random(len(X)) < share
        drawn.append(X[chosen])
        influences.append(influence[chosen])
        first = influence.argsort()[::-1][:keep]
        rows = scores.take(pa.array(first)).to_pylist()
        best += [{**row, "x": X[i]} for row, i in zip(rows, first, strict=True)]
        best = sorted(best, key=lambda row: (-row["cooks_distance"], row["row"]))[:keep]
    return np.concatenate(drawn), np.concatenate(influences), best


class _Total:
    """What the samples of a box come to."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.rows, self.influence, self.margin, self.margins = 0, 0.0, 0.0, 0
        self.kinds: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()

    def add(self, X: Floats, scores: pa.Table) -> None:
        inside = self.box.contains(X)
        chosen = scores.filter(pa.array(inside))
        self.rows += len(chosen)
        self.influence += float(chosen["cooks_distance"].to_numpy().sum())
        margin = chosen["loo_margin"].to_numpy()
        self.margin += float(np.nansum(margin))
        self.margins += int((~np.isnan(margin)).sum())
        self.kinds.update(chosen["kind"].to_pylist())
        if not pa.types.is_floating(scores["given_label"].type) and not pa.types.is_nested(scores["given_label"].type):
            counted = chosen["given_label"].value_counts()
            self.classes.update({str(c["values"].as_py()): c["counts"].as_py() for c in counted})

    def row(self, names: Sequence[str], everything: _Total, spans: Sequence[_Span], stable: float) -> dict[str, Any]:
        coverage = self.rows / everything.rows
        share = self.influence / (everything.influence or 1.0)
        sides = zip(self.box.low, self.box.high, spans, strict=True)
        volume = float(np.prod([span.share(low, high) for low, high, span in sides]))
        return {
            "rule": self.box.sentence(names),
            "rows": self.rows,
            "coverage": coverage,
            "influence_share": share,
            "lift": share / coverage if coverage else float("nan"),
            "density": coverage / volume if volume else float("nan"),
            "loo_margin": self.margin / self.margins if self.margins else float("nan"),
            **{name.replace("-", "_"): self.kinds[name] / max(self.rows, 1) for name in KINDS},
            "classes": json.dumps(dict(self.classes.most_common())),
            "stability": stable,
        }


KINDS = ("mislabeled", "under-represented", "boundary")
RULES = {
    "rule": pa.string(), "rows": pa.int64(),
    **{name: pa.float64() for name in ("coverage", "influence_share", "lift", "density", "loo_margin", "mislabeled",
                                       "under_represented", "boundary")},
    "classes": pa.string(), "stability": pa.float64(),
}  # fmt: skip
CLUSTERS = {
    "rows": pa.int64(), "influence_share": pa.float64(), "representative": None, "extent": pa.string(),
    "classes": pa.string(), "density": pa.float64(),
}  # fmt: skip


@dataclass(frozen=True)
class _Span:
    """The values of a column: from `least` to `most`, so many `distinct` ones."""

    least: float
    most: float
    distinct: int

    def share(self, low: float, high: float) -> float:
        """Of the span, the part between two bounds; a single value counts as one of the distinct ones."""
        span = self.most - self.least
        part = (min(high, self.most) - max(low, self.least)) / span if span else 1.0
        return part if part > 0 else 1 / self.distinct


def _table(rows: list[dict[str, Any]], schema: dict[str, Any]) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in schema.items()})


def _clusters(best: list[dict[str, Any]], X: Floats, names: Sequence[str], influence: float) -> pa.Table:
    """Clusters of the most influential samples, columns scaled to their spans."""
    low, span = X.min(0), np.maximum(X.max(0) - X.min(0), 1e-300)
    points = (np.stack([row["x"] for row in best]) - low) / span
    size = max(5, len(best) // 50)
    labels = np.zeros(len(best), np.int64)
    if len(best) > size:
        settings: dict[str, Any] = {"min_cluster_size": size, "copy": True}
        labels = HDBSCAN(**settings).fit_predict(points)
    found: list[dict[str, Any]] = []
    for label in sorted(set(labels.tolist()) - {-1}):
        members = [row for row, other in zip(best, labels, strict=True) if other == label]
        inside = np.stack([row["x"] for row in members])
        a, b = np.quantile(inside, 0.05, axis=0), np.quantile(inside, 0.95, axis=0)
        pairs = Counter(f"{row['given_label']} → {row['suggested_label']}" for row in members)
        found.append(
            {
                "rows": len(members),
                "influence_share": sum(row["cooks_distance"] for row in members) / (influence or 1.0),
                "representative": members[0]["id"],
                "extent": Box(tuple(a.tolist()), tuple(b.tolist())).sentence(names),
                "classes": json.dumps(dict(pairs.most_common(6))),
                "density": _density(X, a, b, span),
            }
        )
    return _table(sorted(found, key=lambda row: -row["influence_share"]), CLUSTERS)


def _density(X: Floats, low: Floats, high: Floats, span: Floats) -> float:
    """Samples per volume in a box over those in one of twice its sides about the same middle."""
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, span / 200)
    near = (np.abs(X - middle) <= half).all(1).sum()
    around = (np.abs(X - middle) <= 2 * half).all(1).sum()
    return float(near / around * 2.0 ** X.shape[1]) if around else float("nan")
