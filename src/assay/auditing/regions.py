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

from ..errors import ShapeError, SourceError
from ..explore.boxes import Box, BoxSearch, stability
from ..explore.spans import Span, density, volume
from ..sources.choose import index_columns, is_numeric
from ..sources.convert import some
from ..sources.source import Source
from ..sources.table import TableSource
from .folder import Folder

ROWS = 100_000  # of all samples, drawn evenly, among which boxes are sought
TOP = 5_000  # of the most influential, at most, that are clustered
TOP_SHARE = 0.01
SCORES = (
    "row", "id", "given_label", "suggested_label", "predicted_label", "cooks_distance", "loo_margin", "kind",
    "held_out",
)  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Regions:
    """Where the influence is, over the numeric `columns` of an audit's source.

    - `rules`: one row a box, the one with most excess first: `rule` in words, `rows`, `coverage` (share of the
      samples), `influence_share` (of all Cook's distance), `lift` (the latter over the former), `density` (samples per
      volume of the box over that of everywhere; the cells of a grid's points fill its volume), `loo_margin` (mean),
      `mislabeled`, `under_represented`, `boundary` (shares of its rows), `classes` (rows by label, JSON), `stability`
      (mean overlap with the boxes of bootstrap resamples, 0–1).
    - `clusters`: one row a cluster of the most influential samples: `rows`, `influence_share`, `representative` (id of
      its most influential), `extent` in words, `classes` in conflict (given → suggested, JSON), `density` (samples per
      volume in its extent over that of twice the extent).
    - `boxes`: the rules as boxes, in the same order.

    Held-out samples (weight zero) count in none of it.
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
    """Two passes over columns and scores, `ROWS` samples in memory; raises as `numeric_columns` and `parts` do."""
    names = numeric_columns(source, columns)
    X, influence, best = _sample(source, folder, names, seed)
    search = BoxSearch(boxes=top, seed=seed)
    boxes = search.find(X, influence)
    stable = stability(search, X, influence, boxes, resamples=resamples) if resamples else [float("nan")] * len(boxes)
    totals = [_Total(box) for box in boxes]
    everything = _Total(Box((-np.inf,) * len(names), (np.inf,) * len(names)))
    for part, scores in trained_parts(source, folder, names):
        for total in (*totals, everything):
            total.add(part, scores)
    spans = [Span.of(x) for x in X.T]
    rules = [total.row(names, everything, spans, s) for total, s in zip(totals, stable, strict=True)]
    return Regions(names, _table(rules, RULES), _clusters(best, X, names, spans, everything.influence), tuple(boxes))


def numeric_columns(source: Source, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The numeric columns of a source's own, or those `asked` for; not its label, id, weight, embedding, nor an index.

    Those audited, where columns were (not an embedding). Raises `ShapeError` where there are none, or one asked for is
    not numeric or not there.
    """
    if not isinstance(source, TableSource):
        raise ShapeError("regions are sought over the columns of a table, and these samples are none")
    if isinstance(asked, str) or (asked is not None and not asked):
        raise ShapeError(f"columns={asked!r}; give a list of one or more names")
    choice, schema = source.choice, source.store.schema
    taken = {*choice.labels, choice.id, choice.weight, choice.embedding}
    usable = [field.name for field in schema if is_numeric(field.type) and field.name not in taken]
    if asked is None:
        if not usable:
            raise ShapeError(
                "the audited data have no numeric columns beside an embedding; name none, or audit a table"
            )
        left_out = set(index_columns(schema)) - set(choice.features)
        audited = [name for name in usable if name in choice.features]
        return tuple(audited or [name for name in usable if name not in left_out])
    if bad := [name for name in asked if name not in usable]:
        found = "is not numeric" if bad[0] in schema.names else "is not there"
        raise ShapeError(f"column {bad[0]!r} {found}; the numeric columns are {some(usable)}")
    return tuple(dict.fromkeys(asked))


def parts(source: Source, folder: Folder, names: Sequence[str]) -> Iterator[tuple[Floats, pa.Table]]:
    """The columns `[b, d]` and the scores of the same rows, shard by shard.

    Raises `SourceError` naming the row where a column has no finite value.
    """
    assert isinstance(source, TableSource)
    start = 0
    for shard in folder.shards():
        scores = pq.read_table(shard, columns=list(SCORES))
        stop = start + len(scores)
        read = source.store.read(names, start, stop, 65_536) if names else ()
        X = np.concatenate([np.empty((0 if names else len(scores), len(names))), *(_floats(b, names) for b in read)])
        if len(bad := np.argwhere(~np.isfinite(X))):
            row, j = bad[0].tolist()
            raise SourceError(
                f"{source.where(start + row)}: column {names[j]!r} is {X[row, j]}; fill it in, or leave the column out "
                "(columns=, --columns)"
            )
        yield X, scores
        start = stop


def trained_parts(source: Source, folder: Folder, names: Sequence[str]) -> Iterator[tuple[Floats, pa.Table]]:
    """`parts` without the held-out samples."""
    for X, scores in parts(source, folder, names):
        seen = ~scores["held_out"].to_numpy()
        yield X[seen], scores.filter(pa.array(seen))


def drawn(n: int, size: int, seed: int) -> NDArray[np.int64]:
    """So many of n positions, sorted; they do not depend on how the rows are cut into shards."""
    return np.sort(np.random.default_rng(seed).choice(n, min(n, size), replace=False, shuffle=False))


def among(positions: NDArray[np.int64], scores: pa.Table) -> NDArray[np.bool_]:
    """Which of these rows (in order) are at one of the positions (sorted)."""
    rows = scores["row"].to_numpy()
    if not len(rows):
        return np.zeros(0, bool)
    near = positions[np.searchsorted(positions, rows[0]) : np.searchsorted(positions, rows[-1], side="right")]
    return np.isin(rows, near, assume_unique=True)


def _floats(batch: pa.RecordBatch, names: Sequence[str]) -> Floats:
    columns = [np.asarray(batch.column(name).to_numpy(zero_copy_only=False), dtype=np.float64) for name in names]
    return np.stack(columns, 1)


def _sample(
    source: Source, folder: Folder, names: Sequence[str], seed: int
) -> tuple[Floats, Floats, list[dict[str, Any]]]:
    """Evenly drawn rows with their influence, and the most influential rows with their values."""
    n = len(source)
    keep = min(TOP, max(20, int(TOP_SHARE * n)))
    positions = drawn(n, ROWS, seed)
    values: list[Floats] = []
    influences: list[Floats] = []
    best: list[dict[str, Any]] = []
    for X, scores in trained_parts(source, folder, names):
        influence = scores["cooks_distance"].to_numpy()
        chosen = among(positions, scores)
        values.append(X[chosen])
        influences.append(influence[chosen])
        first = influence.argsort(kind="stable")[::-1][:keep]
        if len(best) == keep:
            first = first[influence[first] > best[-1]["cooks_distance"]]
        rows = scores.take(pa.array(first)).to_pylist()
        best += [{**row, "x": X[i]} for row, i in zip(rows, first, strict=True)]
        best = sorted(best, key=lambda row: (-row["cooks_distance"], row["row"]))[:keep]
    return np.concatenate(values), np.concatenate(influences), best


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

    def row(self, names: Sequence[str], everything: _Total, spans: Sequence[Span], stable: float) -> dict[str, Any]:
        coverage = self.rows / everything.rows
        share = self.influence / (everything.influence or 1.0)
        filled = volume(spans, self.box.low, self.box.high)
        return {
            "rule": self.box.sentence(names),
            "rows": self.rows,
            "coverage": coverage,
            "influence_share": share,
            "lift": share / coverage if coverage else float("nan"),
            "density": coverage / filled if filled else float("nan"),
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


def _table(rows: list[dict[str, Any]], schema: dict[str, Any]) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in schema.items()})


def _clusters(
    best: list[dict[str, Any]], X: Floats, names: Sequence[str], spans: Sequence[Span], influence: float
) -> pa.Table:
    """Clusters of the most influential samples, columns scaled to their spans."""
    from sklearn.cluster import HDBSCAN

    points = np.stack([row["x"] for row in best]) / [span.length for span in spans]
    size = max(5, len(best) // 50)
    labels = np.zeros(len(best), np.int64)
    if len(best) > size:
        settings: dict[str, Any] = {"min_cluster_size": size, "copy": True}
        labels = HDBSCAN(**settings).fit_predict(points)
    found: list[dict[str, Any]] = []
    for label in sorted(set(labels.tolist()) - {-1}):
        members = [row for row, other in zip(best, labels, strict=True) if other == label]
        inside = np.stack([row["x"] for row in members])
        a, b = np.quantile(inside, [0.05, 0.95], axis=0, method="nearest")
        pairs = Counter(f"{row['given_label']} → {row['suggested_label']}" for row in members)
        found.append(
            {
                "rows": len(members),
                "influence_share": sum(row["cooks_distance"] for row in members) / (influence or 1.0),
                "representative": members[0]["id"],
                "extent": Box(tuple(a.tolist()), tuple(b.tolist())).sentence(names),
                "classes": json.dumps(dict(pairs.most_common(6))),
                "density": density(X, spans, a, b),
            }
        )
    return _table(sorted(found, key=lambda row: -row["influence_share"]), CLUSTERS)
